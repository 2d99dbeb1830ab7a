// The two nearest centroids of rows, by their nearness, from tensor cores.
//
// Nearness is s = x . c - |c|^2 / 2, the largest for the nearest centroid. x and c, times a power of two, are each split
// into two float16 parts, and three of the four products of parts are added in float32. A warp takes 32 rows at a time (16
// where n_features > 128): thread t of a quad holds four neighbouring features of a row in each step of 16, which is one
// 16-byte load and, since the order of features does not matter to a dot product, also just what a tile product wants.
#pragma once
#include "distance.cuh"
#include "lloyd_pass.cuh"

/// Rows of a warp, split into float16 parts, laid out for `multiply_tile`.
template <int STEPS, int TILES>
struct SplitRows {
    u32 high[TILES][STEPS][4];
    u32 low[TILES][STEPS][4];
    float norms[2 * TILES];  // scaled, the sum of this thread's features until `finish`
};

/// The best two centroids of the rows that a thread sees: rows g and g + 8 of each tile.
template <int TILES>
struct BestTwo {
    float first[2 * TILES];
    float second[2 * TILES];
    u32 winner[2 * TILES];

    __device__ void clear() {
#pragma unroll
        for (int slot = 0; slot < 2 * TILES; ++slot) {
            first[slot] = second[slot] = -INFINITY;
            winner[slot] = 0;
        }
    }

    __device__ void offer(int slot, float nearness, u32 cluster) {
        second[slot] = fmaxf(second[slot], fminf(first[slot], nearness));
        if (nearness > first[slot]) {
            first[slot] = nearness;
            winner[slot] = cluster;
        }
    }

    /// Brings together what the four threads of a quad have found.
    __device__ void finish() {
#pragma unroll
        for (int slot = 0; slot < 2 * TILES; ++slot) {
#pragma unroll
            for (int distance = 1; distance <= 2; distance *= 2) {
                float other_first = __shfl_xor_sync(ALL_LANES, first[slot], distance);
                float other_second = __shfl_xor_sync(ALL_LANES, second[slot], distance);
                u32 other_winner = __shfl_xor_sync(ALL_LANES, winner[slot], distance);
                second[slot] = fmaxf(fmaxf(second[slot], other_second), fminf(first[slot], other_first));
                if (other_first > first[slot]) {
                    first[slot] = other_first;
                    winner[slot] = other_winner;
                }
            }
        }
    }
};

template <int STEPS, int TILES>
__device__ inline void load_rows(SplitRows<STEPS, TILES>& split, const LloydPass& pass, const float* const (&rows)[2 * TILES]) {
    const int t = threadIdx.x % 4;
#pragma unroll
    for (int tile = 0; tile < TILES; ++tile) {
#pragma unroll
        for (int half = 0; half < 2; ++half) {
            const float* row = rows[2 * tile + half];
            float4 values[STEPS];
#pragma unroll
            for (int step = 0; step < STEPS; ++step) {
                bool exists = row != nullptr && 16 * step + 4 * t < pass.stride;
                values[step] = exists ? load_four(row + 16 * step + 4 * t) : make_float4(0, 0, 0, 0);
            }
            float norm = 0;
#pragma unroll
            for (int step = 0; step < STEPS; ++step) {
                float x = values[step].x * pass.scale, y = values[step].y * pass.scale;
                float z = values[step].z * pass.scale, w = values[step].w * pass.scale;
                norm += x * x + y * y + (z * z + w * w);
                u32 front = pack_halves(x, y), back = pack_halves(z, w);
                float2 front_values = unpack_halves(front), back_values = unpack_halves(back);
                split.high[tile][step][half] = front;
                split.high[tile][step][2 + half] = back;
                split.low[tile][step][half] = pack_halves(x - front_values.x, y - front_values.y);
                split.low[tile][step][2 + half] = pack_halves(z - back_values.x, w - back_values.y);
            }
            norm += __shfl_xor_sync(ALL_LANES, norm, 1);
            norm += __shfl_xor_sync(ALL_LANES, norm, 2);
            split.norms[2 * tile + half] = norm;
        }
    }
}

/// Compares rows with the centroids of `n_tiles` tiles that lie in shared memory; the first has the number `first_tile`.
template <int STEPS, int TILES>
__device__ inline void compare(BestTwo<TILES>& best, const SplitRows<STEPS, TILES>& rows, const uint4* fragments,
                               const float* half_norms, u32 first_tile, u32 n_tiles) {
    const u32 lane = threadIdx.x % LANES;
    for (u32 tile = 0; tile < n_tiles; ++tile) {
        u32 cluster = (first_tile + tile) * 8 + lane % 4 * 2;
        float2 norms = *reinterpret_cast<const float2*>(half_norms + tile * 8 + lane % 4 * 2);
        float nearness[TILES][4];
#pragma unroll
        for (int m = 0; m < TILES; ++m) {
            nearness[m][0] = nearness[m][2] = -norms.x;
            nearness[m][1] = nearness[m][3] = -norms.y;
        }
#pragma unroll
        for (int step = 0; step < STEPS; ++step) {
            uint4 b = fragments[(tile * STEPS + step) * LANES + lane];
#pragma unroll
            for (int m = 0; m < TILES; ++m) multiply_tile(nearness[m], rows.low[m][step], b.x, b.y);
#pragma unroll
            for (int m = 0; m < TILES; ++m) multiply_tile(nearness[m], rows.high[m][step], b.z, b.w);
#pragma unroll
            for (int m = 0; m < TILES; ++m) multiply_tile(nearness[m], rows.high[m][step], b.x, b.y);
        }
#pragma unroll
        for (int m = 0; m < TILES; ++m) {
#pragma unroll
            for (int half = 0; half < 2; ++half) {
                best.offer(2 * m + half, nearness[m][2 * half], cluster);
                best.offer(2 * m + half, nearness[m][2 * half + 1], cluster + 1);
            }
        }
    }
}

/// The float64 argmin of one row, found by a whole warp.
__device__ inline u32 decide(const float* row, const LloydSet& set, u32 n_features) {
    double nearest = INFINITY;
    u32 winner = 0;
    for (u32 cluster = threadIdx.x % LANES; cluster < set.n_clusters; cluster += LANES) {
        double square = squared_distance(row, set.centroids + static_cast<size_t>(cluster) * n_features, n_features);
        if (square < nearest) {
            nearest = square;
            winner = cluster;
        }
    }
    for (int distance = 1; distance < LANES; distance *= 2) {
        double other = __shfl_xor_sync(ALL_LANES, nearest, distance);
        u32 other_winner = __shfl_xor_sync(ALL_LANES, winner, distance);
        if (other < nearest || (other == nearest && other_winner < winner)) {
            nearest = other;
            winner = other_winner;
        }
    }
    return winner;
}

/// Starts copying `n` tiles of a set, and their half norms, to shared memory.
template <int STEPS>
__device__ inline void fetch_tiles(uint4* fragments, float* norms, const LloydSet& set, u32 first, u32 n) {
    for (u32 idx = threadIdx.x; idx < n * STEPS * LANES; idx += THREADS) {
        copy_in_background(fragments + idx, set.fragments + static_cast<size_t>(first) * STEPS * LANES + idx);
    }
    for (u32 idx = threadIdx.x; idx < n * 2; idx += THREADS) {
        copy_in_background(reinterpret_cast<uint4*>(norms) + idx,
                           reinterpret_cast<const uint4*>(set.half_norms) + first * 2 + idx);
    }
    close_copies();
}

/// Compares rows with a set that is too large for shared memory: while some of its tiles are looked at, the next ones
/// are on their way. All warps of the block go together.
template <int STEPS, int TILES>
__device__ inline void compare_streamed(BestTwo<TILES>& best, const SplitRows<STEPS, TILES>& rows, const LloydPass& pass,
                                        const LloydSet& set, uint4* shared) {
    const u32 together = pass.tiles_together;
    const u32 chunk = together * (STEPS * LANES + 2);
    auto fragments = [&](u32 part) { return shared + set.shared_fragments + part % 2 * chunk; };
    auto norms = [&](u32 part) { return reinterpret_cast<float*>(fragments(part) + together * STEPS * LANES); };
    fetch_tiles<STEPS>(fragments(0), norms(0), set, 0, min(together, set.n_tiles));
    for (u32 part = 0; part * together < set.n_tiles; ++part) {
        u32 first = part * together, next = first + together;
        u32 n_next = next < set.n_tiles ? min(together, set.n_tiles - next) : 0;
        fetch_tiles<STEPS>(fragments(part + 1), norms(part + 1), set, next, n_next);
        wait_for_copies<1>();
        __syncthreads();
        compare<STEPS, TILES>(best, rows, fragments(part), norms(part), first, min(together, set.n_tiles - first));
        __syncthreads();
    }
}
