// Sums of rows by cluster, exact.
//
// A prepared value is an integer of at most 40 bits times its column's unit. It is taken apart into a low limb of 21 bits
// and a high one of 20, each with its sign, and a block adds them in shared memory in 32 bits, where no order of additions
// makes a difference. Before they could run over, a block empties them into sums of 64 bits of its own, and at its end adds
// those to the sums of all blocks.
#pragma once
#include "lloyd_pass.cuh"

constexpr int LIMB_BITS = 21;
/// Rows that a block may add to a sum, or take from it, before it empties the limbs.
constexpr u32 ROWS_BETWEEN_EMPTYINGS = (1u << (31 - LIMB_BITS + 1)) - 1;

/// A row that a warp has to bring to its cluster.
struct Move {
    u32 row;
    u32 to;
    u32 from;  // NOWHERE if it was in none
};

struct Limbs {
    int low;
    int high;
};

/// The limbs of a value times 1 / unit. All operations are exact: of whole numbers, by powers of two.
__device__ inline Limbs limbs_of(float value, float per_unit) {
    constexpr float ORIGIN = 12582912.0f;  // 1.5 x 2^23, around which neighbouring float32 are 1 apart
    constexpr float HIGH_UNIT = 1 << LIMB_BITS;
    float integer = value * per_unit;
    float high = __fmaf_rn(integer, 1.0f / HIGH_UNIT, ORIGIN);
    float low = __fadd_rn(__fmaf_rn(__fadd_rn(high, -ORIGIN), -HIGH_UNIT, integer), ORIGIN);
    const int origin_bits = static_cast<int>(__float_as_uint(ORIGIN));
    return {static_cast<int>(__float_as_uint(low)) - origin_bits, static_cast<int>(__float_as_uint(high)) - origin_bits};
}

__device__ inline i64 whole(Limbs limbs) { return static_cast<i64>(limbs.high) * (1 << LIMB_BITS) + limbs.low; }

/// Adds a value's limbs to a sum, or takes them away.
__device__ inline void add_limbs(const LloydPass& pass, const LloydSet& set, u32 value, Limbs limbs, u32 row) {
    const u32 n_values = set.n_clusters * pass.n_features;
    if (pass.row_weights != nullptr) {
        // Of at most 53 bits each.
        i64 weight = static_cast<i64>(pass.row_weights[row]);
        add_in_global(set.sums + value, n_values, limbs.low * weight, false);
        add_in_global(set.sums + 2 * n_values + value, n_values, limbs.high * weight, false);
    } else if (set.shared_sums != NOWHERE) {
        u32* sums = reinterpret_cast<u32*>(shared_memory) + set.shared_sums + value;
        atomicAdd(sums, static_cast<u32>(limbs.low));
        atomicAdd(sums + n_values, static_cast<u32>(limbs.high));
    } else {
        add_in_global(set.sums + value, n_values, whole(limbs), pass.has_one_limb != 0);
    }
}

/// Adds the listed rows to the sums of their clusters and takes them out of those they were in; lanes go over features.
__device__ inline void move_rows(const LloydPass& pass, const LloydSet& set, const Move* moves, u32 n_moves) {
    const u32 lane = threadIdx.x % LANES;
    u32 width = LANES;  // lanes of a row: as few as hold its features, so that several short rows go together
    while (width / 2 >= pass.n_features) width /= 2;
    const u32 rows_together = LANES / width;
    constexpr u32 IN_FLIGHT = 8;
    for (u32 feature = lane % width; feature < pass.n_features; feature += width) {
        const float per_unit = pass.per_unit[feature];
        for (u32 first = lane / width; first < n_moves; first += IN_FLIGHT * rows_together) {
            float values[IN_FLIGHT];
#pragma unroll
            for (u32 idx = 0; idx < IN_FLIGHT; ++idx) {
                u32 move = first + idx * rows_together;
                values[idx] = move < n_moves ? pass.rows[static_cast<size_t>(moves[move].row) * pass.stride + feature] : 0;
            }
#pragma unroll
            for (u32 idx = 0; idx < IN_FLIGHT; ++idx) {
                if (first + idx * rows_together >= n_moves) break;
                const Move& move = moves[first + idx * rows_together];
                Limbs limbs = limbs_of(values[idx], per_unit);
                add_limbs(pass, set, move.to * pass.n_features + feature, limbs, move.row);
                if (move.from == NOWHERE) continue;
                add_limbs(pass, set, move.from * pass.n_features + feature, {-limbs.low, -limbs.high}, move.row);
            }
        }
    }
}

/// Counts a row in its cluster, and no more in the one it was in.
__device__ inline void move_weight(const LloydPass& pass, const LloydSet& set, const Move& move) {
    if (set.shared_counts != NOWHERE) {
        u32* counts = reinterpret_cast<u32*>(shared_memory) + set.shared_counts;
        atomicAdd(counts + move.to, 1u);
        if (move.from != NOWHERE) atomicAdd(counts + move.from, ~0u);
    } else {
        add_to_global(set.weights + move.to, 1);
        if (move.from != NOWHERE) add_to_global(set.weights + move.from, ~u64{0});
    }
    if (pass.row_weights == nullptr) return;
    i64 weight = static_cast<i64>(pass.row_weights[move.row]);
    add_in_global(set.weights + set.n_clusters + move.to, set.n_clusters, weight, false);
    if (move.from != NOWHERE) add_in_global(set.weights + set.n_clusters + move.from, set.n_clusters, -weight, false);
}

/// Empties the limbs in shared memory: into the block's own sums, or with those into the sums of all blocks. `is_first`:
/// the block has no sums of its own yet. All threads of the block, between barriers.
__device__ inline void empty_limbs(const LloydPass& pass, bool is_first, bool is_last) {
    u32* words = reinterpret_cast<u32*>(shared_memory);
    for (u32 idx = 0; idx < pass.n_sets; ++idx) {
        const LloydSet& set = pass.sets[idx];
        if (is_last && set.shared_counts != NOWHERE) {
            for (u32 cluster = threadIdx.x; cluster < set.n_clusters; cluster += THREADS) {
                int count = static_cast<int>(words[set.shared_counts + cluster]);
                if (count != 0) add_to_global(set.weights + cluster, static_cast<u64>(static_cast<i64>(count)));
            }
        }
        if (set.shared_sums == NOWHERE) continue;
        const u32 n_values = set.n_clusters * pass.n_features;
        i64* own = set.block_sums + static_cast<size_t>(blockIdx.x) * n_values;
        for (u32 value = threadIdx.x; value < n_values; value += THREADS) {
            u32* limbs = words + set.shared_sums + value;
            i64 sum = whole({static_cast<int>(limbs[0]), static_cast<int>(limbs[n_values])});
            limbs[0] = limbs[n_values] = 0;
            if (!is_first) sum += own[value];
            if (!is_last) {
                own[value] = sum;
            } else if (sum != 0) {
                add_in_global(set.sums + value, n_values, sum, pass.has_one_limb != 0);
            }
        }
    }
}
