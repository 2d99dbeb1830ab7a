// A Lloyd pass: each row's nearest centroid, in one read of the rows' float16 (halves.cu), and which rows changed theirs.
//
// `lloyd_*` compares rows in float16 and settles those whose winner leads by more than the error that the host bounds
// (`lead_per_norm`, `lead_min`). `exact_*` looks at the few rows that are left with twice the digits, and by float64 distances
// where those do not tell either. So labels are the float64 argmin, the lowest centroid on ties, as on every other engine.
// What moves is then summed by moves.cu.
#pragma once
#include "settle.cuh"

/// Rows that a block goes over: all, those of a list, or those that it has left in the first kernel.
struct RowList {
    const u32* rows;  // null: a row is its own number
    u32 n;
    u32 first_group;
    u32 groups_apart;

    __device__ u32 at(u32 idx) const {
        if (idx >= n) return NOWHERE;
        return rows == nullptr ? idx : rows[idx];
    }
};

template <int PARTS>
__device__ inline RowList row_list(const LloydPass& pass, const LloydSet& set) {
    if (PARTS == 2 && set.unsure != nullptr) {
        return {set.unsure + static_cast<size_t>(blockIdx.x) * pass.room, set.n_unsure[blockIdx.x], 0, 1};
    }
    if (PARTS == 1 && set.list != nullptr) {
        u32 n_listed = *set.n_listed;
        if (n_listed <= pass.listed_max) return {set.list, n_listed, blockIdx.x, gridDim.x};
    }
    return {nullptr, pass.n_rows, blockIdx.x, gridDim.x};
}

/// Gives each lane the rows of its quad, from what the lanes of the quad have: slot t is the row of thread t.
template <int TILES>
__device__ inline void rows_of_quad(u32 (&rows)[2 * TILES], u32 own) {
#pragma unroll
    for (u32 slot = 0; slot < 2 * TILES; ++slot) {
        rows[slot] = __shfl_sync(ALL_LANES, own, (threadIdx.x & (LANES - 4)) + slot);
    }
}

/// What is known of a lane's own row before it is compared, its label under the first set among it.
template <int PARTS>
__device__ inline OwnRow own_row(const LloydPass& pass, const LloydSet& set, u32 row) {
    const bool exists = row != NOWHERE;
    OwnRow own{row, exists, label_before(set, row, exists), 0, 0, 0};
    if (PARTS == 1 && exists) {
        float2 lengths = load_two(pass.lengths + row);
        own.norm = lengths.x, own.residual = lengths.y;
    }
    return own;
}

/// The whole pass. IS_STREAMED: there is one set, and its fragments do not fit into shared memory.
template <int STEPS, int TILES, int PARTS, bool IS_STREAMED>
__device__ inline void lloyd_pass(const LloydPass& pass) {
    constexpr u32 ROWS = 16 * TILES, ROWS_OF_BLOCK = ROWS * WARPS;
    // Rows are asked for a step early where registers hold those of two steps; otherwise other blocks have work meanwhile.
    constexpr bool IS_EARLY = PARTS == 1 && STEPS <= 4;
    const LloydSet* sets = pass.sets + blockIdx.y * pass.n_sets;
    const RowList list = row_list<PARTS>(pass, sets[0]);
    const u32 n_groups = (list.n + ROWS_OF_BLOCK - 1) / ROWS_OF_BLOCK;
    Counters* counters = reinterpret_cast<Counters*>(shared_memory);
    const float* words = reinterpret_cast<const float*>(shared_memory);
    for (u32 idx = threadIdx.x; idx < pass.n_sets; idx += THREADS) {
        counters[idx] = {0, PARTS == 1 || sets[idx].unsure == nullptr ? 0 : sets[idx].n_moves[blockIdx.x]};
    }
    if (!IS_STREAMED && list.first_group < n_groups) {
        for (u32 idx = 0; idx < pass.n_sets; ++idx) {
            const LloydSet& set = sets[idx];
            fetch_tiles<STEPS, PARTS>(shared_memory + set.shared_fragments,
                                      reinterpret_cast<float*>(shared_memory) + set.shared_norms, set, 0, set.n_tiles);
        }
        wait_for_copies<0>();
    }
    __syncthreads();
    // Thread t of quad g has row 8t + g of its warp.
    const u32 lane = threadIdx.x % LANES, warp = threadIdx.x / LANES;
    const u32 place = warp * ROWS + lane % 4 * 8 + lane / 4;
    auto row_of = [&](u32 group) { return lane % 4 < 2 * TILES ? list.at(group * ROWS_OF_BLOCK + place) : NOWHERE; };
    HalfRows<STEPS, TILES, PARTS> half, half_next;
    u32 rows[2 * TILES];
    u32 row_after = row_of(list.first_group + list.groups_apart);
    OwnRow own, own_next = own_row<PARTS>(pass, sets[0], row_of(list.first_group));
    rows_of_quad<TILES>(rows, own_next.row);
    if constexpr (IS_EARLY) half_next.load(pass, rows);
    for (u32 group = list.first_group; group < n_groups; group += list.groups_apart) {
        own = own_next;
        if constexpr (IS_EARLY) half = half_next;
        if constexpr (PARTS == 1 && !IS_EARLY) half.load(pass, rows);
        if constexpr (PARTS == 2) {
            Lengths lengths = half.split_rows(pass, rows);
            own.norm = lengths.norm, own.residual = lengths.residual;
        }
        own.length = sqrtf(own.norm);
        // While these rows are compared what is known of the next ones is on its way, and the numbers of those after them.
        own_next = own_row<PARTS>(pass, sets[0], row_after);
        rows_of_quad<TILES>(rows, own_next.row);
        if constexpr (IS_EARLY) half_next.load(pass, rows);
        row_after = row_of(group + 2 * list.groups_apart);
        for (u32 idx = 0; idx < pass.n_sets; ++idx) {
            const LloydSet& set = sets[idx];
            u32 before_next = idx + 1 < pass.n_sets ? label_before(sets[idx + 1], own.row, own.exists) : NOWHERE;
            Nearest<TILES, PARTS> nearest;
            nearest.clear();
            if constexpr (IS_STREAMED) {
                compare_streamed<STEPS, TILES, PARTS>(nearest, half, pass, set);
            } else {
                compare<STEPS, TILES, PARTS>(nearest, half, shared_memory + set.shared_fragments, words + set.shared_norms, 0,
                                             set.n_tiles);
            }
            settle<PARTS>(pass, set, own, best_of_own_row(nearest), counters[idx]);
            own.before = before_next;
        }
    }
    __syncthreads();
    for (u32 idx = threadIdx.x; idx < pass.n_sets; idx += THREADS) {
        if (PARTS == 1) sets[idx].n_unsure[blockIdx.x] = counters[idx].n_unsure;
        sets[idx].n_moves[blockIdx.x] = counters[idx].n_moves;
    }
}

// `BLOCKS` of a kernel share a multiprocessor: as many as hold their rows in registers.
#define LLOYD_KERNEL(NAME, N_FEATURES, TILES, PARTS, IS_STREAMED, BLOCKS)                                              \
    extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS) NAME(const __grid_constant__ LloydPass pass) {       \
        lloyd_pass<N_FEATURES / 16, TILES, PARTS, IS_STREAMED>(pass);                                                  \
    }
#define LLOYD_KERNELS(N, TILES, BLOCKS, EXACT_TILES, EXACT_BLOCKS)                                                                \
    LLOYD_KERNEL(lloyd_##N, N, TILES, 1, false, BLOCKS)                                                                \
    LLOYD_KERNEL(lloyd_streamed_##N, N, TILES, 1, true, BLOCKS)                                                        \
    LLOYD_KERNEL(exact_##N, N, EXACT_TILES, 2, false, EXACT_BLOCKS)                                                     \
    LLOYD_KERNEL(exact_streamed_##N, N, EXACT_TILES, 2, true, EXACT_BLOCKS)

LLOYD_KERNELS(16, 2, 3, 2, 2)
LLOYD_KERNELS(32, 2, 3, 2, 2)
LLOYD_KERNELS(48, 2, 2, 1, 2)
LLOYD_KERNELS(64, 2, 2, 1, 2)
LLOYD_KERNELS(96, 2, 2, 1, 2)
LLOYD_KERNELS(128, 2, 2, 1, 2)
LLOYD_KERNELS(192, 1, 2, 1, 1)
LLOYD_KERNELS(256, 1, 2, 1, 1)
