// The distance that decides, in the arithmetic that every engine has in common.
#pragma once
#include "device.cuh"

/// Squared distance in float64. Its eight lanes and their order are those of every other engine, and nothing is fused.
__device__ inline double squared_distance(const float* row, const float* centroid, u32 n_features) {
    double lanes[8] = {0, 0, 0, 0, 0, 0, 0, 0};
    u32 first = 0;
    for (; first + 8 <= n_features; first += 8) {
#pragma unroll
        for (u32 lane = 0; lane < 8; ++lane) {
            double difference = __dsub_rn(row[first + lane], centroid[first + lane]);
            lanes[lane] = __dadd_rn(lanes[lane], __dmul_rn(difference, difference));
        }
    }
#pragma unroll
    for (u32 lane = 0; lane < 8; ++lane) {
        if (first + lane < n_features) {
            double difference = __dsub_rn(row[first + lane], centroid[first + lane]);
            lanes[lane] = __dadd_rn(lanes[lane], __dmul_rn(difference, difference));
        }
    }
    double even = __dadd_rn(__dadd_rn(lanes[0], lanes[4]), __dadd_rn(lanes[2], lanes[6]));
    double odd = __dadd_rn(__dadd_rn(lanes[1], lanes[5]), __dadd_rn(lanes[3], lanes[7]));
    return __dadd_rn(even, odd);
}
