// A Lloyd pass: each row's nearest centroid, and the sums of the rows that changed theirs, in one read of the rows.
//
// Rows      n_rows x stride float32, stride a multiple of 4, zeros after n_features.
// Labels    are the float64 argmin, the lowest centroid on ties, as on every other engine: nearness in float32 has an error
//           that the host bounds (`lead_per_norm`, `lead_min`), and a winner that does not lead by more is decided by
//           float64 distances.
// Sums      of 64-bit integers: values are integers of at most 40 bits times their column's unit. Integers add to the
//           same in any order, so atomics leave no trace of it.
#pragma once
#include "settle.cuh"

/// The number of the list's entry `idx`, and whether there is one.
__device__ inline u32 row_at(const LloydPass& pass, u32 idx, u32 n, bool& exists) {
    exists = idx < n;
    if (!exists) return 0;
    return pass.list == nullptr ? idx : pass.list[idx];
}

/// The whole pass. IS_STREAMED: there is one set, and its fragments do not fit into shared memory.
template <int STEPS, int TILES, bool IS_STREAMED>
__device__ inline void lloyd_pass(const LloydPass& pass) {
    uint4* shared = shared_memory;
    u32* words = reinterpret_cast<u32*>(shared);
    Move* moves = reinterpret_cast<Move*>(words + pass.n_shared_words) + threadIdx.x / LANES * LANES;
    for (u32 idx = threadIdx.x; idx < pass.n_shared_words; idx += THREADS) words[idx] = 0;
    __syncthreads();
    if constexpr (!IS_STREAMED) {
        for (u32 idx = 0; idx < pass.n_sets; ++idx) {
            const LloydSet& set = pass.sets[idx];
            fetch_tiles<STEPS>(shared + set.shared_fragments, reinterpret_cast<float*>(words + set.shared_norms), set, 0,
                               set.n_tiles);
        }
        wait_for_copies<0>();
        __syncthreads();
    }
    constexpr u32 ROWS = 16 * TILES;
    const u32 lane = threadIdx.x % LANES, g = lane / 4, t = lane % 4;
    const u32 n = pass.list == nullptr ? pass.n_rows : *pass.n_listed;
    const u32 n_groups = (n + ROWS * WARPS - 1) / (ROWS * WARPS);
    for (u32 group = blockIdx.x; group < n_groups; group += gridDim.x) {
        const u32 first = (group * WARPS + threadIdx.x / LANES) * ROWS;
        if (!IS_STREAMED && first >= n) break;
        const float* rows[2 * TILES];
#pragma unroll
        for (int slot = 0; slot < 2 * TILES; ++slot) {
            bool exists;
            u32 row = row_at(pass, first + slot * 8 + g, n, exists);
            rows[slot] = exists ? pass.rows + static_cast<size_t>(row) * pass.stride : nullptr;
        }
        SplitRows<STEPS, TILES> split;
        load_rows<STEPS, TILES>(split, pass, rows);
        // The row of slot t of this quad is this lane's from here on.
        bool exists;
        u32 row = row_at(pass, first + t * 8 + g, n, exists);
        exists = exists && t < 2 * TILES;
        for (u32 idx = 0; idx < pass.n_sets; ++idx) {
            const LloydSet& set = pass.sets[idx];
            BestTwo<TILES> best;
            best.clear();
            if constexpr (IS_STREAMED) {
                compare_streamed<STEPS, TILES>(best, split, pass, set, shared);
            } else {
                compare<STEPS, TILES>(best, split, shared + set.shared_fragments,
                                      reinterpret_cast<const float*>(words + set.shared_norms), 0, set.n_tiles);
            }
            best.finish();
            float norm = split.norms[0], winner_nearness = best.first[0], second = best.second[0];
            u32 label = best.winner[0];
#pragma unroll
            for (u32 slot = 1; slot < 2 * TILES; ++slot) {
                norm = t == slot ? split.norms[slot] : norm;
                winner_nearness = t == slot ? best.first[slot] : winner_nearness;
                second = t == slot ? best.second[slot] : second;
                label = t == slot ? best.winner[slot] : label;
            }
            settle(pass, set, row, exists, norm, winner_nearness, second, label, moves, words);
        }
    }
    __syncthreads();
    flush(pass, words);
}

// `BLOCKS` of a kernel share a multiprocessor: as many as hold their rows in registers.
#define LLOYD_KERNEL(N_FEATURES, TILES, BLOCKS)                                                                       \
    extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS) lloyd_##N_FEATURES(                                 \
        const __grid_constant__ LloydPass pass) {                                                                     \
        lloyd_pass<N_FEATURES / 16, TILES, false>(pass);                                                              \
    }                                                                                                                 \
    extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS) lloyd_streamed_##N_FEATURES(                        \
        const __grid_constant__ LloydPass pass) {                                                                     \
        lloyd_pass<N_FEATURES / 16, TILES, true>(pass);                                                               \
    }

LLOYD_KERNEL(16, 2, 3)
LLOYD_KERNEL(32, 2, 2)
LLOYD_KERNEL(48, 2, 2)
LLOYD_KERNEL(64, 2, 2)
LLOYD_KERNEL(96, 2, 1)
LLOYD_KERNEL(128, 2, 1)
LLOYD_KERNEL(192, 1, 1)
LLOYD_KERNEL(256, 1, 1)
