// What follows from a row's nearest centroids: whether they are certain, what is remembered, what moves.
#pragma once
#include "nearest.cuh"

/// Relative slack of a mark; the same on every engine.
constexpr float SLACK = 1.0f / (1 << 20);
constexpr float SMALLEST_NORMAL = 1.17549435e-38f;

/// A row of a lane.
struct OwnRow {
    u32 row;
    bool exists;
    u32 before;  // the label that it had
    float norm;
    float length;
    float residual;
};

/// The float64 argmin of one row, found by a whole warp: eight lanes take a centroid, each every eighth feature, so that
/// additions are those of `squared_distance`.
__device__ inline u32 decide(const float* row, const LloydSet& set, u32 n_features) {
    const u32 lane = threadIdx.x % LANES, part = lane % 8;
    double nearest = INFINITY;
    u32 winner = 0;
    for (u32 first = 0; first < set.n_clusters; first += LANES / 8) {
        const u32 cluster = first + lane / 8;
        double sum = 0;
        if (cluster < set.n_clusters) {
            const float* centroid = set.centroids + static_cast<size_t>(cluster) * n_features;
            for (u32 feature = part; feature < n_features; feature += 8) {
                double difference = __dsub_rn(row[feature], centroid[feature]);
                sum = __dadd_rn(sum, __dmul_rn(difference, difference));
            }
        }
        for (int distance = 4; distance >= 1; distance /= 2) {
            sum = __dadd_rn(sum, __shfl_xor_sync(ALL_LANES, sum, distance));
        }
        if (cluster < set.n_clusters && sum < nearest) {
            nearest = sum;
            winner = cluster;
        }
    }
    for (int distance = 8; distance < LANES; distance *= 2) {
        double other = __shfl_xor_sync(ALL_LANES, nearest, distance);
        u32 other_winner = __shfl_xor_sync(ALL_LANES, winner, distance);
        if (other < nearest || (other == nearest && other_winner < winner)) {
            nearest = other;
            winner = other_winner;
        }
    }
    return winner;
}

/// The nearer of two centroids in float64, the lower one on ties, found by a whole warp: eight lanes for either, as above.
__device__ inline u32 decide_between(const float* row, const LloydSet& set, u32 n_features, u32 a, u32 b) {
    const u32 lane = threadIdx.x % LANES;
    const float* centroid = set.centroids + static_cast<size_t>(lane % 16 < 8 ? a : b) * n_features;
    double sum = 0;
    for (u32 feature = lane % 8; feature < n_features; feature += 8) {
        double difference = __dsub_rn(row[feature], centroid[feature]);
        sum = __dadd_rn(sum, __dmul_rn(difference, difference));
    }
    for (int distance = 4; distance >= 1; distance /= 2) sum = __dadd_rn(sum, __shfl_xor_sync(ALL_LANES, sum, distance));
    double to_a = __shfl_sync(ALL_LANES, sum, 0), to_b = __shfl_sync(ALL_LANES, sum, 8);
    return to_a < to_b || (to_a == to_b && a < b) ? a : b;
}

/// The label that a row had, NOWHERE if none is known. Asked for early, since memory takes its time.
__device__ inline u32 label_before(const LloydSet& set, u32 row, bool exists) {
    return exists && set.is_filled != 0 ? set.labels[row] : NOWHERE;
}

/// Remembers a row's label and its mark.
__device__ inline void remember(const LloydSet& set, u32 row, u32 label, float gap) {
    if (set.labels == nullptr) return;
    set.labels[row] = static_cast<u16>(label);
    set.until[row] = (gap + set.way) * (1.0f - SLACK);
}

/// Appends an entry of each lane that has one to the block's part of a list in global memory, `n` being in shared memory.
template <typename T>
__device__ inline void append(T* list, u32* n, bool has_entry, const T& entry) {
    const u32 lane = threadIdx.x % LANES;
    u32 entries = __ballot_sync(ALL_LANES, has_entry);
    if (entries == 0) return;
    u32 place = 0;
    if (lane == 0) place = atomicAdd(n, static_cast<u32>(__popc(entries)));
    place = __shfl_sync(ALL_LANES, place, 0) + __popc(entries & ((1u << lane) - 1));
    if (has_entry) list[place] = entry;
}

/// How many entries a block has put down for a set, in shared memory.
struct Counters {
    u32 n_unsure;
    u32 n_moves;
};

/// What comes after a warp's rows have been compared with a set. With PARTS == 1 the rows whose winner is not certain are
/// put down for the exact kernel; with PARTS == 2 they are decided here, by float64 distances.
template <int PARTS>
__device__ inline void settle(const LloydPass& pass, const LloydSet& set, const OwnRow& own, const Best& best, Counters& counters) {
    const size_t first_of_block = static_cast<size_t>(blockIdx.x) * pass.room;
    float error = fmaf(own.norm, set.lead_per_norm, set.lead_min);
    error += set.lead_per_residual * own.residual + set.lead_per_length * own.length;
    float lead = best.first - best.second;
    // Numbers beyond the range of float32 make the error infinite or NaN, and nothing leads by more.
    bool is_certain = lead > error;
    bool is_unsure = own.exists && !is_certain;
    u32 label = best.winner;
    if constexpr (PARTS == 1) {
        append(set.unsure + first_of_block, &counters.n_unsure, is_unsure, own.row);
    } else {
        // Mostly no third centroid is as near, so that two distances tell.
        bool are_two = best.first - best.third > error;
        u32 undecided = __ballot_sync(ALL_LANES, is_unsure);
        while (undecided != 0) {
            u32 source = static_cast<u32>(__ffs(undecided)) - 1;
            const float* row = pass.rows + static_cast<size_t>(__shfl_sync(ALL_LANES, own.row, source)) * pass.stride;
            u32 a = __shfl_sync(ALL_LANES, best.winner, source), b = __shfl_sync(ALL_LANES, best.runner_up, source);
            bool are_two_there = __shfl_sync(ALL_LANES, are_two ? 1 : 0, source) != 0;
            u32 decided = are_two_there ? decide_between(row, set, pass.n_features, a, b) : decide(row, set, pass.n_features);
            if (threadIdx.x % LANES == source) label = decided;
            undecided &= undecided - 1;
        }
    }
    bool is_settled = own.exists && (PARTS == 2 || is_certain);
    if (is_settled) {
        // d2 - d1 = (d2^2 - d1^2) / (d2 + d1), and (d2 + d1)^2 is at most four times |x|^2 - s1 - s2. The error keeps that
        // from being taken too small; the estimate's own error is taken off.
        float mean_square = fmaxf(own.norm - best.first - best.second + (error + error), SMALLEST_NORMAL);
        float gap = (lead - error) * rsqrtf(mean_square) * (1.0f - 1.0f / 1024.0f) * pass.per_scale;
        remember(set, own.row, label, is_certain ? gap : 0.0f);
    }
    bool has_moved = is_settled && own.before != label;
    append(set.moves + first_of_block, &counters.n_moves, has_moved, Move{own.row, label, own.before});
}
