// The nearest centroids of rows, by their nearness, from tensor cores.
//
// Nearness is s = x . c - |c|^2 / 2, the largest for the nearest centroid. x and c, times a power of two, are rounded to
// float16 (PARTS == 1), or split into two float16 parts of which three products are taken (PARTS == 2); products are exact
// and are added in float32. A warp takes 16 rows a tile: thread t of a quad holds four neighbouring features of a row in
// each step of 16, which is one 16-byte load and, since the order of features does not matter to a dot product, also just
// what a tile product wants.
#pragma once
#include "distance.cuh"
#include "lloyd_pass.cuh"

/// The nearest centroids of the rows that a thread sees, rows g and g + 8 of each tile: with PARTS == 1 the best and how
/// near the second is; with PARTS == 2 the best two and how near the third is.
template <int TILES, int PARTS>
struct Nearest {
    float first[2 * TILES];
    float second[2 * TILES];
    float third[2 * TILES];
    u32 winner[2 * TILES];
    u32 runner_up[2 * TILES];

    __device__ void clear() {
#pragma unroll
        for (int slot = 0; slot < 2 * TILES; ++slot) {
            first[slot] = second[slot] = third[slot] = -INFINITY;
            winner[slot] = runner_up[slot] = 0;
        }
    }

    __device__ void offer(int slot, float nearness, u32 cluster) {
        bool wins = nearness > first[slot];
        float loser = fminf(first[slot], nearness);
        if (PARTS == 2) {
            u32 losing = wins ? winner[slot] : cluster;
            third[slot] = fmaxf(third[slot], fminf(second[slot], loser));
            runner_up[slot] = loser > second[slot] ? losing : runner_up[slot];
        }
        second[slot] = fmaxf(second[slot], loser);
        first[slot] = fmaxf(first[slot], nearness);
        winner[slot] = wins ? cluster : winner[slot];
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
                if (PARTS == 2) {
                    float other_third = __shfl_xor_sync(ALL_LANES, third[slot], distance);
                    u32 other_runner_up = __shfl_xor_sync(ALL_LANES, runner_up[slot], distance);
                    offer(slot, other_first, other_winner);
                    offer(slot, other_second, other_runner_up);
                    third[slot] = fmaxf(third[slot], other_third);
                } else {
                    offer(slot, other_first, other_winner);
                    second[slot] = fmaxf(second[slot], other_second);
                }
            }
        }
    }
};

/// Rows of a warp, laid out for `multiply_tile`.
template <int STEPS, int TILES, int PARTS>
struct HalfRows {
    u32 parts[PARTS][TILES][STEPS][4];
    float norms[2 * TILES];      // scaled, squared
    float residuals[2 * TILES];  // of what the parts leave, likewise

    /// Takes four features of a row.
    __device__ void take(int slot, int step, float4 values, float scale, float& norm, float& residual) {
        float x = values.x * scale, y = values.y * scale, z = values.z * scale, w = values.w * scale;
        norm += x * x + y * y + (z * z + w * w);
#pragma unroll
        for (int part = 0; part < PARTS; ++part) {
            u32 front = pack_halves(x, y), back = pack_halves(z, w);
            parts[part][slot / 2][step][slot % 2] = front;
            parts[part][slot / 2][step][2 + slot % 2] = back;
            float2 front_values = unpack_halves(front), back_values = unpack_halves(back);
            x -= front_values.x, y -= front_values.y, z -= back_values.x, w -= back_values.y;
        }
        residual += x * x + y * y + (z * z + w * w);
    }

    /// Takes rows, a null pointer being a row of zeros. Where they are staged, each thread has its own pieces there.
    __device__ void load(const LloydPass& pass, const float* const (&rows)[2 * TILES], const uint4* stage) {
        const u32 lane = threadIdx.x % LANES, t = lane % 4;
#pragma unroll
        for (int slot = 0; slot < 2 * TILES; ++slot) {
            float4 values[STEPS];
            if (stage != nullptr) {
#pragma unroll
                for (int step = 0; step < STEPS; ++step) {
                    values[step] = reinterpret_cast<const float4*>(stage)[(slot * STEPS + step) * LANES + lane];
                }
            } else {
#pragma unroll
                for (int step = 0; step < STEPS; ++step) {
                    bool exists = rows[slot] != nullptr && 16 * step + 4 * t < pass.stride;
                    values[step] = exists ? load_four(rows[slot] + 16 * step + 4 * t) : make_float4(0, 0, 0, 0);
                }
            }
            float norm = 0, residual = 0;
#pragma unroll
            for (int step = 0; step < STEPS; ++step) take(slot, step, values[step], pass.scale, norm, residual);
#pragma unroll
            for (int distance = 1; distance <= 2; distance *= 2) {
                norm += __shfl_xor_sync(ALL_LANES, norm, distance);
                residual += __shfl_xor_sync(ALL_LANES, residual, distance);
            }
            norms[slot] = norm;
            residuals[slot] = residual;
        }
    }
};

/// Starts to bring rows to where `HalfRows::load` takes them from.
template <int STEPS, int TILES>
__device__ inline void stage_rows(uint4* stage, const LloydPass& pass, const float* const (&rows)[2 * TILES]) {
    const u32 lane = threadIdx.x % LANES, t = lane % 4;
#pragma unroll
    for (int slot = 0; slot < 2 * TILES; ++slot) {
#pragma unroll
        for (int step = 0; step < STEPS; ++step) {
            // Where there is no row the address is never read.
            bool exists = rows[slot] != nullptr && 16 * step + 4 * t < pass.stride;
            const float* from = exists ? rows[slot] + 16 * step + 4 * t : pass.rows;
            copy_in_background_or_clear(stage + (slot * STEPS + step) * LANES + lane, reinterpret_cast<const uint4*>(from), exists);
        }
    }
}

/// 16-byte words of a step of a tile of centroids.
template <int PARTS>
constexpr u32 STEP_WORDS = LANES / 2 * PARTS;

/// Compares rows with the centroids of `n_tiles` tiles that lie in shared memory; the first has the number `first_tile`.
template <int STEPS, int TILES, int PARTS>
__device__ inline void compare(Nearest<TILES, PARTS>& nearest, const HalfRows<STEPS, TILES, PARTS>& rows,
                               const uint4* fragments, const float* half_norms, u32 first_tile, u32 n_tiles) {
    const u32 lane = threadIdx.x % LANES;
    // With many features the products of two tiles are under way at a time, so that none waits for the one before.
    [[maybe_unused]] constexpr int TOGETHER = STEPS >= 4 ? 2 : 1;
#pragma unroll TOGETHER
    for (u32 tile = 0; tile < n_tiles; ++tile) {
        u32 cluster = (first_tile + tile) * 8 + lane % 4 * 2;
        float2 norms = *reinterpret_cast<const float2*>(half_norms + tile * 8 + lane % 4 * 2);
        // Small products are added apart from the large ones.
        constexpr int KINDS = PARTS == 1 ? 1 : 3;
        float sums[KINDS][TILES][4] = {};
#pragma unroll
        for (int m = 0; m < TILES; ++m) {
            sums[0][m][0] = sums[0][m][2] = -norms.x;
            sums[0][m][1] = sums[0][m][3] = -norms.y;
        }
#pragma unroll
        for (int step = 0; step < STEPS; ++step) {
            const uint4* words = fragments + (tile * STEPS + step) * STEP_WORDS<PARTS>;
            if constexpr (PARTS == 1) {
                uint2 b = reinterpret_cast<const uint2*>(words)[lane];
#pragma unroll
                for (int m = 0; m < TILES; ++m) multiply_tile(sums[0][m], rows.parts[0][m][step], b.x, b.y);
            } else {
                uint4 b = words[lane];
#pragma unroll
                for (int m = 0; m < TILES; ++m) {
                    multiply_tile(sums[0][m], rows.parts[0][m][step], b.x, b.y);
                    multiply_tile(sums[1][m], rows.parts[1][m][step], b.x, b.y);
                    multiply_tile(sums[2][m], rows.parts[0][m][step], b.z, b.w);
                }
            }
        }
#pragma unroll
        for (int slot = 0; slot < 2 * TILES; ++slot) {
#pragma unroll
            for (int column = 0; column < 2; ++column) {
                const int idx = slot % 2 * 2 + column;
                float nearness = sums[0][slot / 2][idx];
                if constexpr (PARTS == 2) nearness += sums[1][slot / 2][idx] + sums[2][slot / 2][idx];
                nearest.offer(slot, nearness, cluster + column);
            }
        }
    }
}

/// Starts copying `n` tiles of a set, and their half norms, to shared memory.
template <int STEPS, int PARTS>
__device__ inline void fetch_tiles(uint4* fragments, float* norms, const LloydSet& set, u32 first, u32 n) {
    constexpr u32 WORDS = STEPS * STEP_WORDS<PARTS>;
    for (u32 idx = threadIdx.x; idx < n * WORDS; idx += THREADS) {
        copy_in_background(fragments + idx, set.fragments + static_cast<size_t>(first) * WORDS + idx);
    }
    for (u32 idx = threadIdx.x; idx < n * 2; idx += THREADS) {
        copy_in_background(reinterpret_cast<uint4*>(norms) + idx,
                           reinterpret_cast<const uint4*>(set.half_norms) + first * 2 + idx);
    }
    close_copies();
}

/// Compares rows with a set that is too large for shared memory: while some of its tiles are looked at, the next ones
/// are on their way. All warps of the block go together.
template <int STEPS, int TILES, int PARTS>
__device__ inline void compare_streamed(Nearest<TILES, PARTS>& nearest, const HalfRows<STEPS, TILES, PARTS>& rows,
                                        const LloydPass& pass, const LloydSet& set) {
    const u32 together = pass.tiles_together;
    constexpr u32 WORDS = STEPS * STEP_WORDS<PARTS>;
    auto fragments = [&](u32 part) { return shared_memory + set.shared_fragments + part % 2 * together * (WORDS + 2); };
    auto norms = [&](u32 part) { return reinterpret_cast<float*>(fragments(part) + together * WORDS); };
    fetch_tiles<STEPS, PARTS>(fragments(0), norms(0), set, 0, min(together, set.n_tiles));
    for (u32 part = 0; part * together < set.n_tiles; ++part) {
        u32 first = part * together, next = first + together;
        u32 n_next = next < set.n_tiles ? min(together, set.n_tiles - next) : 0;
        fetch_tiles<STEPS, PARTS>(fragments(part + 1), norms(part + 1), set, next, n_next);
        wait_for_copies<1>();
        __syncthreads();
        compare<STEPS, TILES, PARTS>(nearest, rows, fragments(part), norms(part), first, min(together, set.n_tiles - first));
        __syncthreads();
    }
}
