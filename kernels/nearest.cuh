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
};

/// What was found for one row.
struct Best {
    float first;
    float second;
    float third;
    u32 winner;
    u32 runner_up;
};

template <typename T>
__device__ inline T chosen(bool is_second, T first, T second) {
    return is_second ? second : first;
}

/// Adds what another thread has found for the same row.
template <int TILES, int PARTS>
__device__ inline void merge_slot(Nearest<TILES, PARTS>& nearest, int slot, const Best& other) {
    nearest.offer(slot, other.first, other.winner);
    if (PARTS == 2) {
        nearest.offer(slot, other.second, other.runner_up);
        nearest.third[slot] = fmaxf(nearest.third[slot], other.third);
    } else {
        nearest.second[slot] = fmaxf(nearest.second[slot], other.second);
    }
}

/// Brings together what the four threads of a quad have found, so that thread t is left with the row of slot t. In a step
/// each gives half of its slots to the thread `distance` away and takes over the other half; with one tile threads 2 and 3
/// end with the rows of threads 0 and 1.
template <int TILES, int PARTS>
__device__ inline Best best_of_own_row(Nearest<TILES, PARTS>& nearest) {
    constexpr int SLOTS = 2 * TILES;
#pragma unroll
    for (int kept = SLOTS; kept > 1; kept /= 2) {
        const int distance = kept / 2;
        const bool is_upper = (threadIdx.x & distance) != 0;
#pragma unroll
        for (int slot = 0; slot < distance; ++slot) {
            const int other = slot + distance;
            Best taken{};
            auto exchange = [&](auto& values) {
                auto given = chosen(!is_upper, values[slot], values[other]);
                values[slot] = chosen(is_upper, values[slot], values[other]);
                return __shfl_xor_sync(ALL_LANES, given, distance);
            };
            taken.first = exchange(nearest.first), taken.second = exchange(nearest.second);
            taken.winner = exchange(nearest.winner);
            if (PARTS == 2) taken.third = exchange(nearest.third), taken.runner_up = exchange(nearest.runner_up);
            merge_slot(nearest, slot, taken);
        }
    }
    if (TILES == 1) {
        auto there = [](auto value) { return __shfl_xor_sync(ALL_LANES, value, 2); };
        Best taken{there(nearest.first[0]), there(nearest.second[0]), 0, there(nearest.winner[0]), 0};
        if (PARTS == 2) taken.third = there(nearest.third[0]), taken.runner_up = there(nearest.runner_up[0]);
        merge_slot(nearest, 0, taken);
    }
    return {nearest.first[0], nearest.second[0], nearest.third[0], nearest.winner[0], nearest.runner_up[0]};
}

/// The sum of what the four threads of a quad have.
__device__ inline float sum_of_quad(float value) {
    value += __shfl_xor_sync(ALL_LANES, value, 1);
    return value + __shfl_xor_sync(ALL_LANES, value, 2);
}

/// Splits four values into float16 parts, each the float16 nearest to what those before leave; adds to the squared norm of
/// the values and of what all parts leave.
template <int PARTS>
__device__ inline void split(uint2 (&parts)[PARTS], float4 values, float scale, float& norm, float& residual) {
    float x = values.x * scale, y = values.y * scale, z = values.z * scale, w = values.w * scale;
    norm += x * x + y * y + (z * z + w * w);
#pragma unroll
    for (int part = 0; part < PARTS; ++part) {
        parts[part] = make_uint2(pack_halves(x, y), pack_halves(z, w));
        float2 front = unpack_halves(parts[part].x), back = unpack_halves(parts[part].y);
        x -= front.x, y -= front.y, z -= back.x, w -= back.y;
    }
    residual += x * x + y * y + (z * z + w * w);
}

/// What a row's error depends on: its squared norm, scaled, and the length of what its parts leave.
struct Lengths {
    float norm;
    float residual;
};

/// Rows of a warp, laid out for `multiply_tile`.
template <int STEPS, int TILES, int PARTS>
struct HalfRows {
    u32 parts[PARTS][TILES][STEPS][4];

    __device__ void put(int part, int slot, int step, uint2 words) {
        parts[part][slot / 2][step][slot % 2] = words.x;
        parts[part][slot / 2][step][2 + slot % 2] = words.y;
    }

    /// Loads the float16 of rows; zeros where there is none. Clearing words by a mask also gives each its register: those of
    /// one load lie side by side, and a tile product wants those of two rows so.
    __device__ void load(const LloydPass& pass, const u32 (&rows)[2 * TILES]) {
        static_assert(PARTS == 1, "one part lies in memory");
        const u32 t = threadIdx.x % 4;
#pragma unroll
        for (int slot = 0; slot < 2 * TILES; ++slot) {
            const bool exists = rows[slot] != NOWHERE;
            const u32 mask = exists ? ~0u : 0u;
            const uint4* row = pass.halves + static_cast<size_t>(exists ? rows[slot] : 0) * (2 * STEPS);
#pragma unroll
            for (int pair = 0; pair < STEPS / 2; ++pair) {
                uint4 words = load_words(row + 4 * pair + t);
                put(0, slot, 2 * pair, make_uint2(words.x & mask, words.y & mask));
                put(0, slot, 2 * pair + 1, make_uint2(words.z & mask, words.w & mask));
            }
            if constexpr (STEPS % 2 == 1) {
                uint2 words = load_words(reinterpret_cast<const uint2*>(row + 2 * (STEPS - 1)) + t);
                put(0, slot, STEPS - 1, make_uint2(words.x & mask, words.y & mask));
            }
        }
    }

    /// Splits float32 rows; those of thread t's own slot have the lengths that come back.
    __device__ Lengths split_rows(const LloydPass& pass, const u32 (&rows)[2 * TILES]) {
        const u32 t = threadIdx.x % 4;
        Lengths own{};
#pragma unroll
        for (int slot = 0; slot < 2 * TILES; ++slot) {
            const float* row = pass.rows + static_cast<size_t>(rows[slot] != NOWHERE ? rows[slot] : 0) * pass.stride;
            float4 values[STEPS];
#pragma unroll
            for (int step = 0; step < STEPS; ++step) {
                bool exists = rows[slot] != NOWHERE && 16 * step + 4 * t < pass.stride;
                values[step] = exists ? load_four(row + 16 * step + 4 * t) : make_float4(0, 0, 0, 0);
            }
            float norm = 0, residual = 0;
#pragma unroll
            for (int step = 0; step < STEPS; ++step) {
                uint2 words[PARTS];
                split<PARTS>(words, values[step], pass.scale, norm, residual);
#pragma unroll
                for (int part = 0; part < PARTS; ++part) put(part, slot, step, words[part]);
            }
            norm = sum_of_quad(norm), residual = sum_of_quad(residual);
            if (t == static_cast<u32>(slot)) own = {norm, sqrtf(residual)};
        }
        return own;
    }
};

/// 16-byte words of a step of a tile of centroids.
template <int PARTS>
constexpr u32 STEP_WORDS = LANES / 2 * PARTS;

/// Compares rows with the centroids of `n_tiles` tiles that lie in shared memory; the first has the number `first_tile`.
template <int STEPS, int TILES, int PARTS>
__device__ inline void compare(Nearest<TILES, PARTS>& nearest, const HalfRows<STEPS, TILES, PARTS>& rows,
                               const uint4* fragments, const float* half_norms, u32 first_tile, u32 n_tiles) {
    const u32 lane = threadIdx.x % LANES;
    // With many features the products of two tiles are under way at a time, so that none waits for the one before.
    [[maybe_unused]] constexpr int TOGETHER = STEPS >= 4 && PARTS == 1 ? 2 : 1;
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
