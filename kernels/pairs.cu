// Distances between all rows of two clusters, summed for each row of either: what the silhouette is made of.
//
// A distance is a function of the pair alone, the same number on every engine: float32 dot products about a point near
// both rows, fused, in the order of the features; |x|^2 + |y|^2 - 2 x . y; a correctly rounded root; the nearest integer
// of the clusters' scale. Pairs whose distance that would not tell well (much closer to each other than to the point, or
// of an unexpected magnitude) are computed by differences in float64. So sums are sums of integers.
//
// A block compares 128 rows x of one cluster with 128 rows y of another at a time, 8 x 8 a thread; sums of x stay in
// registers until the block is done, sums of y go to global memory once a tile.
#pragma once
#include "distance.cuh"

struct Pairs {
    const float* rows;      // n_rows x stride
    const u32* order;       // rows by cluster
    const float* origin;    // n_features
    u64* x_sums;            // x_n, in integers of the scale
    u64* y_sums;            // y_n; the same as x_sums where both clusters are the same
    u64* x_aside;           // 2 limbs x x_n, in units of the question: of the pairs computed by differences
    u64* y_aside;           // 2 limbs x y_n
    double unit;
    float per_unit;
    u32 stride;
    u32 n_features;
    u32 x_first;            // in `order`
    u32 x_n;
    u32 y_first;
    u32 y_n;
    u32 tiles_together;     // tiles of y that a block takes
    u32 is_same;            // x and y are the same rows: each pair once, the row with itself left out
};

constexpr u32 TILE = 128;
/// Features in shared memory at a time.
constexpr u32 FEATURES = 32;
/// Bits of a distance below the magnitude of its clusters, and what follows from them; the same on every engine.
constexpr int DISTANCE_BITS = 24;
constexpr float LONGEST_SQUARED = 2.0f * (u64{1} << (2 * DISTANCE_BITS));
constexpr float SHORTEST_SQUARED = u64{1} << (2 * (DISTANCE_BITS - 10));
constexpr float SHARE_MIN = 1.0f / 512.0f;

struct PairTiles {
    float x[FEATURES][TILE];
    float y[FEATURES][TILE];
    float x_norms[TILE];
    float y_norms[TILE];
};

/// Brings some features of a row into its column of a tile, relative to the origin, and adds to its squared norm.
__device__ inline void place_row(float (&tile)[FEATURES][TILE], float& norm, const Pairs& pairs, const float* row,
                                 u32 first_feature, u32 column) {
    for (u32 feature = 0; feature < FEATURES && first_feature + feature < pairs.n_features; ++feature) {
        float value = 0;
        if (row != nullptr) {
            value = __fmul_rn(__fsub_rn(row[first_feature + feature], pairs.origin[first_feature + feature]), pairs.per_unit);
        }
        tile[feature][column] = value;
        norm = __fadd_rn(norm, __fmul_rn(value, value));
    }
}

/// What a thread has of the sums of one tile: its eight rows x in 64 bits, its eight rows y of this tile.
struct PairSums {
    u64 x[8];
    u32 y[8];
};

/// The rows of a thread in a tile: four neighbours, and four that lie half a tile on.
__device__ inline u32 row_in_tile(u32 part, u32 idx) { return (idx & 4) * (TILE / 8) + part * 4 + (idx & 3); }

/// Adds a pair by differences, with the arithmetic of every other engine.
__device__ inline void add_aside(const Pairs& pairs, u32 x, u32 y, bool for_both) {
    const float* x_row = pairs.rows + static_cast<size_t>(pairs.order[pairs.x_first + x]) * pairs.stride;
    const float* y_row = pairs.rows + static_cast<size_t>(pairs.order[pairs.y_first + y]) * pairs.stride;
    double square = squared_distance(x_row, y_row, pairs.n_features);
    if (square == 0) return;
    // At most 2^65, so in two limbs of whole numbers below 2^53.
    double distance = rint(__ddiv_rn(__dsqrt_rn(square), pairs.unit));
    double high = floor(distance * (1.0 / 4294967296.0));
    u64 upper = static_cast<u64>(high), lower = static_cast<u64>(distance - high * 4294967296.0);
    add_to_global(pairs.x_aside + x, lower);
    add_to_global(pairs.x_aside + pairs.x_n + x, upper);
    if (for_both) {
        add_to_global(pairs.y_aside + y, lower);
        add_to_global(pairs.y_aside + pairs.y_n + y, upper);
    }
}

/// Turns dot products into distances and adds them; those to be put aside come back, one bit a pair.
__device__ inline u64 add_distances(PairSums& sums, const float (&dots)[8][8], const PairTiles& tiles, u32 x_part, u32 y_part) {
    u64 aside = 0;
    u32 x_sums[8] = {0, 0, 0, 0, 0, 0, 0, 0};
#pragma unroll
    for (u32 j = 0; j < 8; ++j) {
        float y_norm = tiles.y_norms[row_in_tile(y_part, j)];
        u32 y_sum = 0;
#pragma unroll
        for (u32 i = 0; i < 8; ++i) {
            float norm = __fadd_rn(tiles.x_norms[row_in_tile(x_part, i)], y_norm);
            float square = __fmaf_rn(dots[i][j], -2.0f, norm);
            float shortest = fmaxf(__fmul_rn(norm, SHARE_MIN), SHORTEST_SQUARED);
            bool counts = square >= shortest && square <= LONGEST_SQUARED;
            u32 distance = counts ? __float2int_rn(root_of_normal(square)) : 0;
            x_sums[i] += distance;
            y_sum += distance;
            if (!counts) aside |= u64{1} << (j * 8 + i);
        }
        sums.y[j] = y_sum;
    }
#pragma unroll
    for (u32 i = 0; i < 8; ++i) sums.x[i] += x_sums[i];
    return aside;
}

/// Adds up the sums of y over the 16 threads that share them, so that every second thread has one row's; each step halves
/// the rows that a thread is left with. Of 128 distances, each below 2^24.6.
__device__ inline void add_y_sums(const Pairs& pairs, PairSums& sums, u32 first_y, u32 x_part, u32 y_part) {
    u32 kept = 0;
#pragma unroll
    for (u32 n = 4; n >= 1; n /= 2) {
        bool upper = (x_part & (2 * n)) != 0;
#pragma unroll
        for (u32 idx = 0; idx < n; ++idx) {
            u32 given = upper ? sums.y[idx] : sums.y[idx + n];
            u32 own = upper ? sums.y[idx + n] : sums.y[idx];
            sums.y[idx] = own + __shfl_xor_sync(ALL_LANES, given, 2 * n);
        }
        kept += upper ? n : 0;
    }
    u32 sum = sums.y[0] + __shfl_xor_sync(ALL_LANES, sums.y[0], 1);
    u32 y = first_y + row_in_tile(y_part, kept);
    if (x_part % 2 == 0 && y < pairs.y_n && sum != 0) add_to_global(pairs.y_sums + y, u64{sum});
}

extern "C" __global__ void __launch_bounds__(THREADS, 2) add_pairs(const __grid_constant__ Pairs pairs) {
    PairTiles& tiles = *reinterpret_cast<PairTiles*>(shared_memory);
    const u32 x_part = threadIdx.x % 16, y_part = threadIdx.x / 16;
    const u32 first_x = blockIdx.x * TILE;
    const u32 first_tile = max(blockIdx.y * pairs.tiles_together, pairs.is_same != 0 ? blockIdx.x : 0u);
    const u32 last_tile = min((blockIdx.y + 1) * pairs.tiles_together, (pairs.y_n + TILE - 1) / TILE);
    const u32 column = threadIdx.x % TILE;
    const bool brings_y = threadIdx.x >= TILE;
    PairSums sums = {};
    for (u32 tile = first_tile; tile < last_tile; ++tile) {
        const u32 first_y = tile * TILE;
        const u32 position = (brings_y ? first_y : first_x) + column;
        const bool exists = position < (brings_y ? pairs.y_n : pairs.x_n);
        const u32 place = position + (brings_y ? pairs.y_first : pairs.x_first);
        const float* row = exists ? pairs.rows + static_cast<size_t>(pairs.order[place]) * pairs.stride : nullptr;
        float dots[8][8] = {};
        float norm = exists ? 0.0f : INFINITY;
        for (u32 first_feature = 0; first_feature < pairs.n_features; first_feature += FEATURES) {
            __syncthreads();
            place_row(brings_y ? tiles.y : tiles.x, norm, pairs, row, first_feature, column);
            if (first_feature + FEATURES >= pairs.n_features) (brings_y ? tiles.y_norms : tiles.x_norms)[column] = norm;
            __syncthreads();
            const u32 n = min(FEATURES, pairs.n_features - first_feature);
#pragma unroll 4
            for (u32 feature = 0; feature < n; ++feature) {
                float x[8], y[8];
#pragma unroll
                for (u32 half = 0; half < 2; ++half) {
                    reinterpret_cast<float4&>(x[4 * half]) = reinterpret_cast<const float4&>(tiles.x[feature][row_in_tile(x_part, 4 * half)]);
                    reinterpret_cast<float4&>(y[4 * half]) = reinterpret_cast<const float4&>(tiles.y[feature][row_in_tile(y_part, 4 * half)]);
                }
#pragma unroll
                for (u32 i = 0; i < 8; ++i) {
#pragma unroll
                    for (u32 j = 0; j < 8; ++j) dots[i][j] = __fmaf_rn(x[i], y[j], dots[i][j]);
                }
            }
        }
        const bool for_both = pairs.is_same == 0 || tile != blockIdx.x;
        u64 aside = add_distances(sums, dots, tiles, x_part, y_part);
        if (for_both) add_y_sums(pairs, sums, first_y, x_part, y_part);
        while (aside != 0) {
            u32 bit = static_cast<u32>(__ffsll(static_cast<i64>(aside))) - 1;
            aside &= aside - 1;
            u32 x = first_x + row_in_tile(x_part, bit % 8), y = first_y + row_in_tile(y_part, bit / 8);
            if (x < pairs.x_n && y < pairs.y_n) add_aside(pairs, x, y, for_both);
        }
    }
#pragma unroll
    for (u32 idx = 0; idx < 8; ++idx) {
        u32 x = first_x + row_in_tile(x_part, idx);
        if (x < pairs.x_n && sums.x[idx] != 0) add_to_global(pairs.x_sums + x, sums.x[idx]);
    }
}
