// Sums of rows by cluster, exact: rows that changed their cluster are added to one sum and taken from another.
//
// A prepared value is an integer of at most 40 bits times its column's unit. It is taken apart into a low limb of 21 bits
// and a high one of 20, each with its sign, and blocks add limbs in shared memory, where no order of additions makes a
// difference. Before a limb could run over, a block empties all of them into the sums in global memory.
//
// A block has some of the moves of a set and a slice of the features, so that the sums of all clusters fit into its shared memory; a
// warp goes over its moves with a lane for each feature of the slice. Where there are too many clusters for that, sums are
// added in global memory at once (IN_GLOBAL).
#pragma once
#include "lloyd_pass.cuh"

/// Moves of one set.
struct MovesOfSet {
    const Move* moves;        // n_segments x room
    const u32* n_moves;       // n_segments
    u64* sums;                // 4 limbs x n_clusters x n_features: of values, or of low and of high limbs times weights
    u64* weights;             // 3 limbs x n_clusters: counts, then weights in two limbs
    u32 n_clusters;
    u32 padding;
};

struct Moves {
    const float* rows;        // n_rows x stride
    const u64* row_weights;   // null where rows have none
    const float* per_unit;    // n_features
    u32 n_segments;
    u32 room;
    u32 stride;
    u32 n_features;
    u32 width;                // features of a slice: 8, 16 or 32
    u32 has_one_limb;         // no sum of these rows needs more than 64 bits
    u32 with_sums;            // otherwise only weights are asked for
    u32 padding;
    MovesOfSet sets[SETS_MAX];  // block z has one
};

static_assert(sizeof(MovesOfSet) == 40 && sizeof(Moves) == 56 + 40 * SETS_MAX, "the host has the same structures");

constexpr int LIMB_BITS = 21;
/// Moves that a block looks at between two barriers.
constexpr u32 MOVES_TOGETHER = 512;
/// A sum that so many rows have been added to or taken from is emptied. With those of one more batch, limbs of 21 bits stay
/// below 2^31, and limbs times weights of 32 bits below 2^63.
constexpr u32 PENDING_MAX = 1023 - MOVES_TOGETHER;

struct Limbs {
    int low;
    int high;
};

/// The limbs of a value times 1 / unit. All operations are exact: of whole numbers, by powers of two.
__device__ inline Limbs limbs_of(float value, float per_unit) {
    constexpr float ORIGIN = 12582912.0f;  // 1.5 x 2^23, around which neighbouring float32 are 1 apart
    constexpr float HIGH_UNIT = 1 << LIMB_BITS;
    float integer = __fmul_rn(value, per_unit);
    float high = __fmaf_rn(integer, 1.0f / HIGH_UNIT, ORIGIN);
    float low = __fadd_rn(__fmaf_rn(__fadd_rn(high, -ORIGIN), -HIGH_UNIT, integer), ORIGIN);
    const int origin_bits = static_cast<int>(__float_as_uint(ORIGIN));
    return {static_cast<int>(__float_as_uint(low)) - origin_bits, static_cast<int>(__float_as_uint(high)) - origin_bits};
}

__device__ inline i64 whole(Limbs limbs) { return static_cast<i64>(limbs.high) * (1 << LIMB_BITS) + limbs.low; }

/// Adds a 64-bit integer to one that is kept as two halves in shared memory; the lower half tells whether it ran over.
__device__ inline void add_halves(u32* low, u32* high, i64 value) {
    u32 value_low = static_cast<u32>(value);
    u32 old = atomicAdd(low, value_low);
    atomicAdd(high, static_cast<u32>(value >> 32) + (old + value_low < old ? 1u : 0u));
}

__device__ inline i64 halves(u32 low, u32 high) { return static_cast<i64>(static_cast<u64>(high) << 32 | low); }

/// What a block has in shared memory, each array one after the other. `weights` and the second pair of limbs exist where
/// rows have weights; limbs are then halves of 64-bit integers.
struct BlockSums {
    u32* counts;
    u32* pending;
    u32* weights[2];
    u32* limbs[4];
    u32 n_values;
    u32 n_words;

    __device__ BlockSums(u32 n_clusters, u32 width, bool is_weighted) {
        u32* next = reinterpret_cast<u32*>(shared_memory);
        auto take = [&](u32 n) {
            u32* taken = next;
            next += n;
            return taken;
        };
        n_values = n_clusters * width;
        counts = take(n_clusters);
        pending = take(n_clusters);
        for (u32*& half : weights) half = take(is_weighted ? n_clusters : 0);
        for (u32 idx = 0; idx < 4; ++idx) limbs[idx] = take(idx < 2 || is_weighted ? n_values : 0);
        n_words = static_cast<u32>(next - reinterpret_cast<u32*>(shared_memory));
    }
};

/// Adds a move's value, or takes it away, where `value` is cluster x width + feature of the slice.
template <bool IS_WEIGHTED>
__device__ inline void add_limbs(const BlockSums& sums, u32 value, Limbs limbs, i64 weight) {
    if constexpr (IS_WEIGHTED) {
        add_halves(sums.limbs[0] + value, sums.limbs[1] + value, limbs.low * weight);
        add_halves(sums.limbs[2] + value, sums.limbs[3] + value, limbs.high * weight);
    } else {
        atomicAdd(sums.limbs[0] + value, static_cast<u32>(limbs.low));
        atomicAdd(sums.limbs[1] + value, static_cast<u32>(limbs.high));
    }
}

/// The same at once in global memory, where `value` is cluster x n_features + feature.
__device__ inline void add_limbs_in_global(const Moves& moves, const MovesOfSet& set, size_t value, Limbs limbs, i64 weight) {
    const size_t n_values = static_cast<size_t>(set.n_clusters) * moves.n_features;
    if (moves.row_weights != nullptr) {
        add_in_global(set.sums + value, n_values, limbs.low * weight, false);
        add_in_global(set.sums + 2 * n_values + value, n_values, limbs.high * weight, false);
    } else {
        add_in_global(set.sums + value, n_values, whole(limbs), moves.has_one_limb != 0);
    }
}

/// Counts a lane's move; whether a sum is about to be full.
template <bool IS_WEIGHTED>
__device__ inline bool count_move(const BlockSums& sums, const Move& move, i64 weight) {
    atomicAdd(sums.counts + move.to, 1u);
    bool is_full = atomicAdd(sums.pending + move.to, 1u) >= PENDING_MAX;
    if (IS_WEIGHTED) add_halves(sums.weights[0] + move.to, sums.weights[1] + move.to, weight);
    if (move.from == NOWHERE) return is_full;
    atomicAdd(sums.counts + move.from, ~0u);
    if (IS_WEIGHTED) add_halves(sums.weights[0] + move.from, sums.weights[1] + move.from, -weight);
    return atomicAdd(sums.pending + move.from, 1u) >= PENDING_MAX || is_full;
}

/// Adds the values of the moves that the lanes of a warp have. A lane without one has row 0 and weight 0, and adds nothing
/// to the first cluster; `has_from`: some of the rows were in a cluster before.
template <bool IS_WEIGHTED, bool IN_GLOBAL>
__device__ inline void add_values(const Moves& moves, const MovesOfSet& set, const BlockSums& sums, const Move& own, i64 own_weight, bool has_from) {
    constexpr u32 IN_FLIGHT = 8;
    const u32 lane = threadIdx.x % LANES, together = LANES / moves.width;
    const u32 slice_feature = lane % moves.width, feature = blockIdx.y * moves.width + slice_feature;
    const bool has_feature = feature < moves.n_features;
    // Multiplied by 0 where there is nothing to add.
    const float per_unit = has_feature ? moves.per_unit[feature] : 0;
    const float* values_of_feature = moves.rows + (has_feature ? feature : 0);
    const u32 n_apart = IN_GLOBAL ? moves.n_features : moves.width, place = IN_GLOBAL ? feature : slice_feature;
    const u32 own_to = own.to * n_apart, own_from = own.from == NOWHERE ? NOWHERE : own.from * n_apart;
    const float own_factor = own_weight != 0 ? 1.0f : 0.0f;
    for (u32 first = lane / moves.width; first < LANES; first += IN_FLIGHT * together) {
        float values[IN_FLIGHT];
#pragma unroll
        for (u32 idx = 0; idx < IN_FLIGHT; ++idx) {
            u32 row = __shfl_sync(ALL_LANES, own.row, first + idx * together);
            values[idx] = values_of_feature[static_cast<size_t>(row) * moves.stride];
        }
#pragma unroll
        for (u32 idx = 0; idx < IN_FLIGHT; ++idx) {
            const u32 source = first + idx * together;
            float factor = __shfl_sync(ALL_LANES, own_factor, source);
            u32 to = __shfl_sync(ALL_LANES, own_to, source) + place;
            u32 from = has_from ? __shfl_sync(ALL_LANES, own_from, source) : NOWHERE;
            i64 weight = IS_WEIGHTED ? __shfl_sync(ALL_LANES, own_weight, source) : 1;
            Limbs limbs = limbs_of(values[idx], per_unit * factor);
            if constexpr (IN_GLOBAL) {
                if (has_feature) add_limbs_in_global(moves, set, to, limbs, weight);
                if (has_feature && from != NOWHERE) add_limbs_in_global(moves, set, from + place, {-limbs.low, -limbs.high}, weight);
            } else {
                add_limbs<IS_WEIGHTED>(sums, to, limbs, weight);
                if (from != NOWHERE) add_limbs<IS_WEIGHTED>(sums, from + place, {-limbs.low, -limbs.high}, weight);
            }
        }
    }
}

/// Brings what a block has into global memory. All threads of the block, between barriers.
template <bool IS_WEIGHTED, bool IN_GLOBAL>
__device__ inline void empty(const Moves& moves, const MovesOfSet& set, const BlockSums& sums) {
    const size_t n_values = static_cast<size_t>(set.n_clusters) * moves.n_features;
    for (u32 cluster = threadIdx.x; cluster < set.n_clusters; cluster += THREADS) {
        int count = static_cast<int>(sums.counts[cluster]);
        if (blockIdx.y == 0 && count != 0) add_to_global(set.weights + cluster, static_cast<u64>(static_cast<i64>(count)));
        if (IS_WEIGHTED && blockIdx.y == 0) {
            i64 weight = halves(sums.weights[0][cluster], sums.weights[1][cluster]);
            add_in_global(set.weights + set.n_clusters + cluster, set.n_clusters, weight, false);
        }
        sums.counts[cluster] = sums.pending[cluster] = 0;
        if (IS_WEIGHTED) sums.weights[0][cluster] = sums.weights[1][cluster] = 0;
    }
    for (u32 value = threadIdx.x; value < sums.n_values; value += THREADS) {
        const u32 feature = blockIdx.y * moves.width + value % moves.width;
        u64* sum = set.sums + static_cast<size_t>(value / moves.width) * moves.n_features + feature;
        u32 words[4] = {sums.limbs[0][value], sums.limbs[1][value], 0, 0};
        sums.limbs[0][value] = sums.limbs[1][value] = 0;
        if (IS_WEIGHTED) {
            words[2] = sums.limbs[2][value], words[3] = sums.limbs[3][value];
            sums.limbs[2][value] = sums.limbs[3][value] = 0;
        }
        if (feature >= moves.n_features) continue;
        if (IS_WEIGHTED) {
            add_in_global(sum, n_values, halves(words[0], words[1]), false);
            add_in_global(sum + 2 * n_values, n_values, halves(words[2], words[3]), false);
        } else if ((words[0] | words[1]) != 0) {
            i64 total = whole({static_cast<int>(words[0]), static_cast<int>(words[1])});
            add_in_global(sum, n_values, total, moves.has_one_limb != 0);
        }
    }
}

template <bool IS_WEIGHTED, bool IN_GLOBAL>
__device__ inline void add_moves(const Moves& moves, const MovesOfSet& set) {
    if (set.n_moves[blockIdx.x % moves.n_segments] <= blockIdx.x / moves.n_segments * MOVES_TOGETHER) return;
    const BlockSums sums(set.n_clusters, IN_GLOBAL || moves.with_sums == 0 ? 0 : moves.width, IS_WEIGHTED);
    for (u32 idx = threadIdx.x; idx < sums.n_words; idx += THREADS) reinterpret_cast<u32*>(shared_memory)[idx] = 0;
    __syncthreads();
    constexpr u32 OF_WARP = MOVES_TOGETHER / WARPS;
    const u32 lane = threadIdx.x % LANES, warp = threadIdx.x / LANES;
    // Several blocks share a segment, each taking every so many batches of it.
    const u32 segment = blockIdx.x % moves.n_segments, part = blockIdx.x / moves.n_segments;
    const u32 n_parts = gridDim.x / moves.n_segments;
    const u32 n = set.n_moves[segment];
    const Move* list = set.moves + static_cast<size_t>(segment) * moves.room;
    for (u32 first = part * MOVES_TOGETHER; first < n; first += n_parts * MOVES_TOGETHER) {
        bool is_full = false;
        for (u32 start = first + warp * OF_WARP; start < min(n, first + (warp + 1) * OF_WARP); start += LANES) {
            Move move{0, 0, NOWHERE};
            i64 weight = 0;
            if (start + lane < n) {
                move = list[start + lane];
                weight = moves.row_weights != nullptr ? static_cast<i64>(moves.row_weights[move.row]) : 1;
                is_full |= count_move<IS_WEIGHTED>(sums, move, weight);
            }
            bool has_from = __ballot_sync(ALL_LANES, move.from != NOWHERE) != 0;
            if (moves.with_sums != 0) add_values<IS_WEIGHTED, IN_GLOBAL>(moves, set, sums, move, weight, has_from);
        }
        if (__syncthreads_or(is_full)) {
            empty<IS_WEIGHTED, IN_GLOBAL>(moves, set, sums);
            __syncthreads();
        }
    }
    __syncthreads();
    empty<IS_WEIGHTED, IN_GLOBAL>(moves, set, sums);
}

#define MOVES_KERNEL(NAME, IS_WEIGHTED, IN_GLOBAL)                                                    \
    extern "C" __global__ void __launch_bounds__(THREADS, 4) NAME(const __grid_constant__ Moves moves) { \
        add_moves<IS_WEIGHTED, IN_GLOBAL>(moves, moves.sets[blockIdx.z]);                                                     \
    }

MOVES_KERNEL(add_moves, false, false)
MOVES_KERNEL(add_moves_weighted, true, false)
MOVES_KERNEL(add_moves_in_global, false, true)
MOVES_KERNEL(add_moves_weighted_in_global, true, true)
