// Lists the rows whose nearest centroid may have changed: those whose mark the centroids have passed on their way.
//
// until     n_rows float32, marks
// list      n_rows u32; the order of entries is not fixed, and nothing depends on it
// n_listed  how many there are, 0 before the launch
#pragma once
#include "lloyd_pass.cuh"

struct StaleSet {
    const float* until;
    u32* list;
    u32* n_listed;
    float way;
    u32 padding;
};

struct StaleRows {
    u32 n_rows;
    u32 padding;
    StaleSet sets[SETS_MAX];
};

static_assert(sizeof(StaleSet) == 32 && sizeof(StaleRows) == 8 + 32 * SETS_MAX, "the host has the same structures");

/// Block y has a set; a warp takes 512 rows at a time, so that the counter they all share is seldom asked.
extern "C" __global__ void __launch_bounds__(THREADS) list_stale(const __grid_constant__ StaleRows all) {
    const StaleSet& stale = all.sets[blockIdx.y];
    constexpr int ROUNDS = 16;
    constexpr u32 ROWS = ROUNDS * LANES;
    const u32 lane = threadIdx.x % LANES;
    const u32 n_groups = (all.n_rows + ROWS - 1) / ROWS;
    for (u32 group = blockIdx.x * WARPS + threadIdx.x / LANES; group < n_groups; group += gridDim.x * WARPS) {
        u32 first = group * ROWS + lane;
        float until[ROUNDS];
#pragma unroll
        for (int round = 0; round < ROUNDS; ++round) {
            u32 row = first + round * LANES;
            until[round] = row < all.n_rows ? stale.until[row] : INFINITY;
        }
        u32 found[ROUNDS], n_found = 0;
#pragma unroll
        for (int round = 0; round < ROUNDS; ++round) {
            // Not a number is not fresh.
            found[round] = __ballot_sync(ALL_LANES, !(until[round] > stale.way));
            n_found += __popc(found[round]);
        }
        u32 place = 0;
        if (lane == 0 && n_found != 0) place = atomicAdd(stale.n_listed, n_found);
        place = __shfl_sync(ALL_LANES, place, 0);
#pragma unroll
        for (int round = 0; round < ROUNDS; ++round) {
            if (found[round] >> lane & 1) stale.list[place + __popc(found[round] & ((1u << lane) - 1))] = first + round * LANES;
            place += __popc(found[round]);
        }
    }
}
