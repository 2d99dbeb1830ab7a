// What follows from a row's nearest centroid: whether it is certain, what is remembered, and the sums it moves between.
#pragma once
#include "nearest.cuh"

/// Relative slack of a mark; the same on every engine.
constexpr float SLACK = 1.0f / (1 << 20);
constexpr float SMALLEST_NORMAL = 1.17549435e-38f;

/// A row that a warp has to bring to its cluster.
struct Move {
    u32 row;
    u32 to;
    u32 from;  // NOWHERE if it was in none
};

/// Adds the listed rows to the sums of their clusters and takes them out of those they were in; lanes go over features.
__device__ inline void move_rows(const LloydPass& pass, const LloydSet& set, const Move* moves, u32 n_moves, u32* shared) {
    const u32 lane = threadIdx.x % LANES;
    const size_t n_values = static_cast<size_t>(set.n_clusters) * pass.n_features;
    u32 width = LANES;  // lanes of a row: as few as hold its features, so that several short rows go together
    while (width / 2 >= pass.n_features) width /= 2;
    const u32 rows_together = LANES / width;
    constexpr int IN_FLIGHT = 4;
    for (u32 first = lane / width; first < n_moves; first += IN_FLIGHT * rows_together) {
        for (u32 feature = lane % width; feature < pass.n_features; feature += width) {
            // 1.5 x 2^52 puts a whole number into the low bits of a float64, where it counts like an integer.
            constexpr double ORIGIN = 6755399441055744.0;
            double per_unit = pass.per_unit[feature];
            float values[IN_FLIGHT];
#pragma unroll
            for (int idx = 0; idx < IN_FLIGHT; ++idx) {
                u32 move = first + idx * rows_together;
                values[idx] = move < n_moves ? pass.rows[static_cast<size_t>(moves[move].row) * pass.stride + feature] : 0;
            }
#pragma unroll
            for (int idx = 0; idx < IN_FLIGHT; ++idx) {
                u32 idx_of_move = first + idx * rows_together;
                if (idx_of_move >= n_moves) break;
                Move move = moves[idx_of_move];
                i64 integer = __double_as_longlong(fma(static_cast<double>(values[idx]), per_unit, ORIGIN)) -
                              __double_as_longlong(ORIGIN);
                size_t to = static_cast<size_t>(move.to) * pass.n_features + feature;
                size_t from = static_cast<size_t>(move.from) * pass.n_features + feature;
                if (pass.row_weights != nullptr) {
                    // Of at most 72 bits: the upper and the lower 20 bits of the value each times the weight.
                    i64 weight = static_cast<i64>(pass.row_weights[move.row]);
                    i64 low = (integer & 0xfffff) * weight, high = (integer >> 20) * weight;
                    add_in_global(set.sums + to, n_values, low);
                    add_in_global(set.sums + 2 * n_values + to, n_values, high);
                    if (move.from != NOWHERE) {
                        add_in_global(set.sums + from, n_values, -low);
                        add_in_global(set.sums + 2 * n_values + from, n_values, -high);
                    }
                } else if (set.shared_sums != NOWHERE) {
                    u32* sums = shared + set.shared_sums;
                    add_in_shared(sums + to, sums + n_values + to, integer);
                    if (move.from != NOWHERE) add_in_shared(sums + from, sums + n_values + from, -integer);
                } else {
                    add_in_global(set.sums + to, n_values, integer);
                    if (move.from != NOWHERE) add_in_global(set.sums + from, n_values, -integer);
                }
            }
        }
    }
}

/// The part of a pass that comes after a row's best two centroids are known: certainty, memory, moves. Each lane has one
/// row (with TILES == 1 every second pair of lanes has none).
__device__ inline void settle(const LloydPass& pass, const LloydSet& set, u32 row, bool exists, float norm, float first,
                              float second, u32 label, Move* moves, u32* shared) {
    const u32 lane = threadIdx.x % LANES;
    float error = fmaf(norm, set.lead_per_norm, set.lead_min);
    float lead = first - second;
    // Numbers beyond the range of float32 make the error infinite or NaN, and nothing leads by more.
    bool is_certain = lead > error;
    u32 unsure = __ballot_sync(ALL_LANES, exists && !is_certain);
    while (unsure != 0) {
        int source = __ffs(unsure) - 1;
        u32 row_there = __shfl_sync(ALL_LANES, row, source);
        u32 decided = decide(pass.rows + static_cast<size_t>(row_there) * pass.stride, set, pass.n_features);
        if (lane == static_cast<u32>(source)) label = decided;
        unsure &= unsure - 1;
    }
    u32 from = NOWHERE;
    if (exists && set.labels != nullptr) {
        // d2 - d1 = (d2^2 - d1^2) / (d2 + d1), and (d2 + d1)^2 is at most four times |x|^2 - s1 - s2. The error keeps that
        // from being taken too small; the estimate's own error is taken off.
        float mean_square = fmaxf(norm - first - second + (error + error), SMALLEST_NORMAL);
        float gap = is_certain ? (lead - error) * rsqrtf(mean_square) * (1.0f - 1.0f / 1024.0f) * pass.per_scale : 0.0f;
        if (set.is_filled) from = set.labels[row];
        set.labels[row] = static_cast<u16>(label);
        set.until[row] = (gap + set.way) * (1.0f - SLACK);
    }
    bool has_moved = exists && from != label;
    u32 moved = __ballot_sync(ALL_LANES, has_moved);
    if (moved == 0) return;
    if (has_moved) {
        moves[__popc(moved & ((1u << lane) - 1))] = Move{row, label, from};
        u32* counts = shared + set.shared_counts;
        if (set.shared_counts != NOWHERE) {
            atomicAdd(counts + label, 1u);
            if (from != NOWHERE) atomicAdd(counts + from, ~0u);
        } else {
            atomicAdd(set.weights + label, u64{1});
            if (from != NOWHERE) atomicAdd(set.weights + from, ~u64{0});
        }
        if (pass.row_weights != nullptr) {
            i64 weight = static_cast<i64>(pass.row_weights[row]);
            add_in_global(set.weights + set.n_clusters + label, set.n_clusters, weight);
            if (from != NOWHERE) add_in_global(set.weights + set.n_clusters + from, set.n_clusters, -weight);
        }
    }
    if (set.sums == nullptr) return;
    __syncwarp();
    move_rows(pass, set, moves, __popc(moved), shared);
    __syncwarp();
}

/// Adds what a block has in shared memory to the sums in global memory.
__device__ inline void flush(const LloydPass& pass, const u32* shared) {
    for (u32 idx = 0; idx < pass.n_sets; ++idx) {
        const LloydSet& set = pass.sets[idx];
        if (set.shared_counts != NOWHERE) {
            for (u32 cluster = threadIdx.x; cluster < set.n_clusters; cluster += THREADS) {
                int count = static_cast<int>(shared[set.shared_counts + cluster]);
                if (count != 0) atomicAdd(set.weights + cluster, static_cast<u64>(static_cast<i64>(count)));
            }
        }
        if (set.shared_sums == NOWHERE) continue;
        const u32 n_values = set.n_clusters * pass.n_features;
        for (u32 value = threadIdx.x; value < n_values; value += THREADS) {
            u64 low = shared[set.shared_sums + value], high = shared[set.shared_sums + n_values + value];
            add_in_global(set.sums + value, n_values, static_cast<i64>(high << 32 | low));
        }
    }
}
