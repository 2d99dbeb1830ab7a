// A Lloyd pass: each row's nearest centroid, in one read of the rows, and which rows changed theirs.
//
// `lloyd_*` compares rows in float16 and settles those whose winner leads by more than the error that the host bounds
// (`lead_per_norm`, `lead_min`). `exact_*` looks at the few rows that are left with twice the digits, and by float64 distances
// where those do not tell either. So labels are the float64 argmin, the lowest centroid on ties, as on every other engine.
// What moves is then summed by moves.cu.
#pragma once
#include "settle.cuh"

/// Rows that a block goes over: all, those of a list, or with IS_EXACT those that the block has left in the first kernel.
struct RowList {
    const u32* rows;  // null: a row is its own number
    u32 n;
    u32 first_group;
    u32 groups_apart;

    __device__ u32 at(u32 idx, bool& exists) const {
        exists = idx < n;
        if (!exists) return 0;
        return rows == nullptr ? idx : rows[idx];
    }
};

template <int PARTS>
__device__ inline RowList row_list(const LloydPass& pass) {
    if (PARTS == 2) {
        const LloydSet& set = pass.sets[0];
        return {set.unsure + static_cast<size_t>(blockIdx.x) * pass.room, set.n_unsure[blockIdx.x], 0, 1};
    }
    if (pass.list == nullptr) return {nullptr, pass.n_rows, blockIdx.x, gridDim.x};
    return {pass.list, *pass.n_listed, blockIdx.x, gridDim.x};
}

/// Gives each lane the rows of its quad, from what the lanes of the quad have: slot t is the row of thread t.
template <int TILES>
__device__ inline void rows_of_quad(const float* (&rows)[2 * TILES], const LloydPass& pass, u32 row, bool exists) {
#pragma unroll
    for (u32 slot = 0; slot < 2 * TILES; ++slot) {
        u32 source = (threadIdx.x & (LANES - 4)) + slot;
        u32 row_there = __shfl_sync(ALL_LANES, exists ? row : NOWHERE, source);
        rows[slot] = row_there == NOWHERE ? nullptr : pass.rows + static_cast<size_t>(row_there) * pass.stride;
    }
}

/// The whole pass. IS_STREAMED: there is one set, and its fragments do not fit into shared memory.
template <int STEPS, int TILES, int PARTS, bool IS_STREAMED>
__device__ inline void lloyd_pass(const LloydPass& pass) {
    constexpr u32 ROWS = 16 * TILES, ROWS_OF_BLOCK = ROWS * WARPS;
    const RowList list = row_list<PARTS>(pass);
    if (PARTS == 2 && list.n == 0) return;
    Counters* counters = reinterpret_cast<Counters*>(shared_memory);
    const float* words = reinterpret_cast<const float*>(shared_memory);
    for (u32 idx = threadIdx.x; idx < pass.n_sets; idx += THREADS) {
        counters[idx] = {0, PARTS == 1 ? 0 : pass.sets[idx].n_moves[blockIdx.x]};
    }
    if constexpr (!IS_STREAMED) {
        for (u32 idx = 0; idx < pass.n_sets; ++idx) {
            const LloydSet& set = pass.sets[idx];
            fetch_tiles<STEPS, PARTS>(shared_memory + set.shared_fragments,
                                      reinterpret_cast<float*>(shared_memory) + set.shared_norms, set, 0, set.n_tiles);
        }
        wait_for_copies<0>();
    }
    __syncthreads();
    const u32 n_groups = (list.n + ROWS_OF_BLOCK - 1) / ROWS_OF_BLOCK;
    // Thread t of quad g has row 8t + g of its warp.
    const u32 lane = threadIdx.x % LANES, warp = threadIdx.x / LANES;
    const u32 own = warp * ROWS + lane % 4 * 8 + lane / 4;
    const bool has_row = lane % 4 < 2 * TILES;
    uint4* stage = PARTS == 1 && pass.shared_stage != NOWHERE
                       ? shared_memory + pass.shared_stage + warp * (2 * TILES * STEPS * LANES)
                       : nullptr;
    bool exists, exists_next;
    u32 row = list.at(list.first_group * ROWS_OF_BLOCK + own, exists);
    const float* rows[2 * TILES];
    rows_of_quad<TILES>(rows, pass, row, exists && has_row);
    if (stage != nullptr) stage_rows<STEPS, TILES>(stage, pass, rows);
    close_copies();
    u32 row_next = list.at((list.first_group + list.groups_apart) * ROWS_OF_BLOCK + own, exists_next);
    u32 before = label_before(pass.sets[0], row, exists && has_row);
    for (u32 group = list.first_group; group < n_groups; group += list.groups_apart) {
        HalfRows<STEPS, TILES, PARTS> half;
        wait_for_copies<0>();
        half.load(pass, rows, stage);
        // While these rows are compared the next ones are on their way, and the numbers of those after them.
        bool exists_now = exists && has_row;
        u32 row_now = row;
        row = row_next, exists = exists_next;
        rows_of_quad<TILES>(rows, pass, row, exists && has_row);
        if (stage != nullptr) stage_rows<STEPS, TILES>(stage, pass, rows);
        close_copies();
        row_next = list.at((group + 2 * list.groups_apart) * ROWS_OF_BLOCK + own, exists_next);
        for (u32 idx = 0; idx < pass.n_sets; ++idx) {
            const LloydSet& set = pass.sets[idx];
            u32 before_now = before;
            before = idx + 1 < pass.n_sets ? label_before(pass.sets[idx + 1], row_now, exists_now)
                                           : label_before(pass.sets[0], row, exists && has_row);
            Nearest<TILES, PARTS> nearest;
            nearest.clear();
            if constexpr (IS_STREAMED) {
                compare_streamed<STEPS, TILES, PARTS>(nearest, half, pass, set);
            } else {
                compare<STEPS, TILES, PARTS>(nearest, half, shared_memory + set.shared_fragments, words + set.shared_norms, 0,
                                             set.n_tiles);
            }
            nearest.finish();
            settle<PARTS>(pass, set, found_by_lane(nearest, half, row_now, exists_now, before_now), counters[idx]);
        }
    }
    __syncthreads();
    for (u32 idx = threadIdx.x; idx < pass.n_sets; idx += THREADS) {
        if (PARTS == 1) pass.sets[idx].n_unsure[blockIdx.x] = counters[idx].n_unsure;
        pass.sets[idx].n_moves[blockIdx.x] = counters[idx].n_moves;
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
LLOYD_KERNELS(96, 2, 1, 1, 1)
LLOYD_KERNELS(128, 2, 1, 1, 1)
LLOYD_KERNELS(192, 1, 1, 1, 1)
LLOYD_KERNELS(256, 1, 1, 1, 1)
