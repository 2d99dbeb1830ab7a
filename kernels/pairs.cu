// Distances between all rows of two clusters, summed for each row of either or of the first: what the silhouette is made of.
//
// A distance is a function of the pair alone, the same number on every engine: float32 dot products about a point near
// both rows, fused, in the order of the features; |x|^2 + |y|^2 - 2 x . y; a correctly rounded root; the nearest integer
// of the clusters' scale. Pairs whose distance that would not tell well (much closer to each other than to the point, or
// of an unexpected magnitude) are computed by differences in float64. So sums are sums of integers.
//
// Rows are first laid out by `place_rows`: about that point, in tiles of 128 rows, feature after feature. `add_pairs` then
// takes a tile of each cluster at a time, 8 x 8 pairs a thread; while one tile is compared the next is on its way. Sums of x
// stay in registers until the block is done, sums of y go to global memory once a tile.
#pragma once
#include "distance.cuh"

constexpr u32 TILE = 128;

struct PlacedRows {
    const float* rows;   // n_rows x stride
    const u32* order;    // the rows to lay out
    const float* origin; // n_features
    float* placed;       // n_tiles x n_features x TILE
    float* norms;        // n_tiles x TILE; infinite where there is no row, so that no distance counts
    float per_unit;
    u32 stride;
    u32 n_features;
    u32 n;
};

/// A thread has a row. The norm is added feature by feature, as on every other engine.
extern "C" __global__ void __launch_bounds__(THREADS) place_rows(const __grid_constant__ PlacedRows places) {
    const u32 idx = blockIdx.x * THREADS + threadIdx.x;
    if (idx / TILE >= (places.n + TILE - 1) / TILE) return;
    float* placed = places.placed + static_cast<size_t>(idx / TILE) * places.n_features * TILE + idx % TILE;
    const bool exists = idx < places.n;
    const float* row = exists ? places.rows + static_cast<size_t>(places.order[idx]) * places.stride : nullptr;
    float norm = exists ? 0.0f : INFINITY;
    for (u32 first = 0; first < places.n_features; first += 4) {
        float4 four = exists ? load_four(row + first) : make_float4(0, 0, 0, 0);
        const float values[4] = {four.x, four.y, four.z, four.w};
#pragma unroll
        for (u32 part = 0; part < 4; ++part) {
            u32 feature = first + part;
            if (feature >= places.n_features) break;
            float value = exists ? __fmul_rn(__fsub_rn(values[part], places.origin[feature]), places.per_unit) : 0;
            placed[feature * TILE] = value;
            norm = __fadd_rn(norm, __fmul_rn(value, value));
        }
    }
    places.norms[idx] = norm;
}

/// One side of a comparison.
struct Side {
    const float* placed;
    const float* norms;
    const float* rows;  // n_rows x stride
    const u32* order;   // which of the rows
    u64* sums;          // n, in integers of the scale; null where nobody asks for them
    u64* aside;         // n, and as many `aside_apart` further on: limbs in units of the question
    u32 aside_apart;
    u32 n;
};

struct Pairs {
    Side x;
    Side y;
    double unit;
    u32 stride;
    u32 n_features;
    u32 tiles_together;     // tiles of y that a block takes
    u32 is_same;            // x and y are the same rows: each pair once, a row with itself left out
};

/// Features in shared memory at a time.
constexpr u32 FEATURES = 32;
/// Bits of a distance below the magnitude of its clusters, and what follows from them; the same on every engine.
constexpr int DISTANCE_BITS = 24;
constexpr float LONGEST_SQUARED = 2.0f * (u64{1} << (2 * DISTANCE_BITS));
constexpr float SHORTEST_SQUARED = u64{1} << (2 * (DISTANCE_BITS - 10));
constexpr float SHARE_MIN = 1.0f / 512.0f;

/// Some features of a tile of either side.
struct PairStage {
    float x[FEATURES][TILE];
    float y[FEATURES][TILE];
    float x_norms[TILE];
    float y_norms[TILE];
};

/// Where a thread's 8 x 8 pairs are in a tile: a warp has 64 rows x and 32 rows y, its lanes go 8 by 4.
struct ThreadPlace {
    u32 x;
    u32 y;

    __device__ ThreadPlace() {
        const u32 warp = threadIdx.x / LANES, lane = threadIdx.x % LANES;
        x = warp % 2 * 64 + lane % 8 * 4;
        y = warp / 2 * 32 + lane / 8 * 4;
    }
    __device__ u32 x_at(u32 idx) const { return x + (idx & 4) * 8 + (idx & 3); }
    __device__ u32 y_at(u32 idx) const { return y + (idx & 4) * 4 + (idx & 3); }
};

/// What a thread has of the sums: its eight rows x in 64 bits, its eight rows y of this tile.
struct PairSums {
    u64 x[8];
    u32 y[8];
};

/// Starts to bring `n` features of two tiles.
__device__ inline void fetch_stage(PairStage& stage, const Pairs& pairs, u32 x_tile, u32 y_tile, u32 first_feature, u32 n) {
    constexpr u32 WORDS = TILE / 4;
    auto features = [&](const Side& side, u32 tile) {
        return reinterpret_cast<const uint4*>(side.placed + (static_cast<size_t>(tile) * pairs.n_features + first_feature) * TILE);
    };
    for (u32 idx = threadIdx.x; idx < n * WORDS; idx += THREADS) {
        copy_in_background(reinterpret_cast<uint4*>(stage.x) + idx, features(pairs.x, x_tile) + idx);
        copy_in_background(reinterpret_cast<uint4*>(stage.y) + idx, features(pairs.y, y_tile) + idx);
    }
    if (threadIdx.x < WORDS) {
        copy_in_background(reinterpret_cast<uint4*>(stage.x_norms) + threadIdx.x,
                           reinterpret_cast<const uint4*>(pairs.x.norms + x_tile * TILE) + threadIdx.x);
        copy_in_background(reinterpret_cast<uint4*>(stage.y_norms) + threadIdx.x,
                           reinterpret_cast<const uint4*>(pairs.y.norms + y_tile * TILE) + threadIdx.x);
    }
}

/// Goes on with dot products by `n` features, fused, in their order.
__device__ inline void add_products(float (&dots)[8][8], const PairStage& stage, const ThreadPlace& place, u32 n) {
#pragma unroll 4
    for (u32 feature = 0; feature < n; ++feature) {
        float x[8], y[8];
#pragma unroll
        for (u32 half = 0; half < 8; half += 4) {
            reinterpret_cast<float4&>(x[half]) = reinterpret_cast<const float4&>(stage.x[feature][place.x_at(half)]);
            reinterpret_cast<float4&>(y[half]) = reinterpret_cast<const float4&>(stage.y[feature][place.y_at(half)]);
        }
#pragma unroll
        for (u32 i = 0; i < 8; ++i) {
#pragma unroll
            for (u32 j = 0; j < 8; ++j) dots[i][j] = __fmaf_rn(x[i], y[j], dots[i][j]);
        }
    }
}

/// Turns dot products into distances and adds them; those to be put aside come back, one bit a pair.
__device__ inline u64 add_distances(PairSums& sums, const float (&dots)[8][8], const PairStage& stage, const ThreadPlace& place) {
    u64 aside = 0;
    u32 x_sums[8] = {0, 0, 0, 0, 0, 0, 0, 0};
#pragma unroll
    for (u32 j = 0; j < 8; ++j) {
        float y_norm = stage.y_norms[place.y_at(j)];
        u32 y_sum = 0;
#pragma unroll
        for (u32 i = 0; i < 8; ++i) {
            float norm = __fadd_rn(stage.x_norms[place.x_at(i)], y_norm);
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

/// Adds up the sums of y over the 8 lanes that share them, so that each is left with one row's; each step halves the rows
/// that a lane has. Of 64 distances, each below 2^24.6.
__device__ inline void add_y_sums(const Side& side, PairSums& sums, u32 first_y, const ThreadPlace& place) {
    const u32 lane = threadIdx.x % 8;
    u32 kept = 0;
#pragma unroll
    for (u32 n = 4; n >= 1; n /= 2) {
        bool upper = (lane & n) != 0;
#pragma unroll
        for (u32 idx = 0; idx < n; ++idx) {
            u32 given = upper ? sums.y[idx] : sums.y[idx + n];
            u32 own = upper ? sums.y[idx + n] : sums.y[idx];
            sums.y[idx] = own + __shfl_xor_sync(ALL_LANES, given, n);
        }
        kept += upper ? n : 0;
    }
    u32 y = first_y + place.y_at(kept);
    if (y < side.n && sums.y[0] != 0) add_to_global(side.sums + y, sums.y[0]);
}

/// Adds a distance that was computed by differences: at most 2^65, so in two limbs of whole numbers below 2^53.
__device__ inline void add_aside(const Side& side, u32 row, double distance) {
    double high = floor(distance * (1.0 / 4294967296.0));
    add_to_global(side.aside + row, static_cast<u64>(distance - high * 4294967296.0));
    add_to_global(side.aside + side.aside_apart + row, static_cast<u64>(high));
}

/// Computes the pairs that were put aside, with the arithmetic of every other engine.
__device__ inline void add_pairs_aside(const Pairs& pairs, u64 aside, u32 first_x, u32 first_y, const ThreadPlace& place, bool for_both) {
    while (aside != 0) {
        u32 bit = static_cast<u32>(__ffsll(static_cast<i64>(aside))) - 1;
        aside &= aside - 1;
        u32 x = first_x + place.x_at(bit % 8), y = first_y + place.y_at(bit / 8);
        if (x >= pairs.x.n || y >= pairs.y.n) continue;
        const float* x_row = pairs.x.rows + static_cast<size_t>(pairs.x.order[x]) * pairs.stride;
        const float* y_row = pairs.y.rows + static_cast<size_t>(pairs.y.order[y]) * pairs.stride;
        double square = squared_distance(x_row, y_row, pairs.n_features);
        if (square == 0) continue;
        double distance = rint(__ddiv_rn(__dsqrt_rn(square), pairs.unit));
        add_aside(pairs.x, x, distance);
        if (for_both) add_aside(pairs.y, y, distance);
    }
}

extern "C" __global__ void __launch_bounds__(THREADS, 2) add_pairs(const __grid_constant__ Pairs pairs) {
    PairStage* stages = reinterpret_cast<PairStage*>(shared_memory);
    const ThreadPlace place;
    const u32 x_tile = blockIdx.x;
    const u32 first_tile = max(blockIdx.y * pairs.tiles_together, pairs.is_same != 0 ? x_tile : 0u);
    const u32 last_tile = min((blockIdx.y + 1) * pairs.tiles_together, (pairs.y.n + TILE - 1) / TILE);
    if (first_tile >= last_tile) return;
    const u32 chunks = (pairs.n_features + FEATURES - 1) / FEATURES;
    const u32 n_stages = (last_tile - first_tile) * chunks;
    auto n_features = [&](u32 chunk) { return min(FEATURES, pairs.n_features - chunk * FEATURES); };
    auto fetch = [&](u32 stage) {
        u32 chunk = stage % chunks;
        if (stage < n_stages) {
            fetch_stage(stages[stage % 2], pairs, x_tile, first_tile + stage / chunks, chunk * FEATURES, n_features(chunk));
        }
        close_copies();
    };
    PairSums sums = {};
    float dots[8][8] = {};
    fetch(0);
    for (u32 stage = 0; stage < n_stages; ++stage) {
        fetch(stage + 1);
        wait_for_copies<1>();
        __syncthreads();
        const PairStage& here = stages[stage % 2];
        const u32 chunk = stage % chunks, y_tile = first_tile + stage / chunks;
        add_products(dots, here, place, n_features(chunk));
        if (chunk + 1 == chunks) {
            const bool for_both = pairs.y.sums != nullptr && (pairs.is_same == 0 || y_tile != x_tile);
            u64 aside = add_distances(sums, dots, here, place);
            if (for_both) add_y_sums(pairs.y, sums, y_tile * TILE, place);
            if (aside != 0) add_pairs_aside(pairs, aside, x_tile * TILE, y_tile * TILE, place, for_both);
#pragma unroll
            for (u32 pair = 0; pair < 64; ++pair) dots[pair / 8][pair % 8] = 0;
        }
        __syncthreads();
    }
#pragma unroll
    for (u32 idx = 0; idx < 8; ++idx) {
        u32 x = x_tile * TILE + place.x_at(idx);
        if (x < pairs.x.n && sums.x[idx] != 0) add_to_global(pairs.x.sums + x, sums.x[idx]);
    }
}

static_assert(sizeof(Side) == 56 && sizeof(Pairs) == 136 && sizeof(PlacedRows) == 56, "the host has the same structures");
