// Writes the float16 rows that passes compare, once when rows come to the GPU.
//
// rows      n_rows x stride float32
// halves    n_rows x n_steps x 16 float16 of rows times `scale`, a power of two; what has no feature is zero. Of each step
//           of 16 features thread t of a quad wants 4t .. 4t + 3; the pieces of two steps lie side by side, so that
//           one 16-byte load brings both, and an odd step at the end has 8-byte pieces
// lengths   n_rows x 2 float32: the squared norm of a row times `scale`, and the length of what float16 leaves of it
#pragma once
#include "nearest.cuh"

struct HalvedRows {
    const float* rows;
    uint2* halves;
    float2* lengths;
    u32 n_rows;
    u32 stride;
    u32 n_steps;
    float scale;
};

static_assert(sizeof(HalvedRows) == 40, "the host has the same structure");

/// A quad has a row.
extern "C" __global__ void __launch_bounds__(THREADS) halve_rows(const __grid_constant__ HalvedRows halved) {
    const u32 row = blockIdx.x * (THREADS / 4) + threadIdx.x / 4, t = threadIdx.x % 4;
    const bool exists = row < halved.n_rows;
    const float* values = halved.rows + static_cast<size_t>(exists ? row : 0) * halved.stride;
    uint2* halves = halved.halves + static_cast<size_t>(row) * halved.n_steps * 4;
    float norm = 0, residual = 0;
    for (u32 step = 0; step < halved.n_steps; ++step) {
        const u32 feature = 16 * step + 4 * t;
        float4 four = exists && feature < halved.stride ? load_four(values + feature) : make_float4(0, 0, 0, 0);
        uint2 words[1];
        split<1>(words, four, halved.scale, norm, residual);
        const bool is_last_odd = step + 1 == halved.n_steps && step % 2 == 0;
        const u32 place = is_last_odd ? t : 2 * t + step % 2;
        if (exists) halves[step / 2 * 8 + place] = words[0];
    }
    norm = sum_of_quad(norm), residual = sum_of_quad(residual);
    // Both are bounds of what was added with a few roundings; what follows from them has slack for that.
    if (exists && t == 0) halved.lengths[row] = make_float2(norm, sqrtf(residual));
}
