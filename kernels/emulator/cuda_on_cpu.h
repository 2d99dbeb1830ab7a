// The part of CUDA that the kernels use, on a CPU: the same source runs without a GPU, slowly and in full.
//
// A launch runs block after block. The threads of a block are fibers of one system thread; a fiber runs until it has to
// wait for its warp or its block, so there are no data races to be found here (compute-sanitizer does that on a GPU),
// but a barrier that not all threads reach, a wrong lane, a wrong index are. Shared memory is filled with noise before
// each block, since on a GPU it holds whatever was there.
#pragma once
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>

using u16 = std::uint16_t;
using u32 = std::uint32_t;
using u64 = unsigned long long;
using i64 = long long;

#define __global__
#define __device__
#define __shared__
#define __grid_constant__
#define __launch_bounds__(...)

struct alignas(8) float2 { float x, y; };
struct alignas(16) float4 { float x, y, z, w; };
struct alignas(8) uint2 { u32 x, y; };
struct alignas(16) uint4 { u32 x, y, z, w; };
struct Place { u32 x, y, z; };

inline uint4 make_uint4(u32 x, u32 y, u32 z, u32 w) { return {x, y, z, w}; }
inline uint2 make_uint2(u32 x, u32 y) { return {x, y}; }
inline float2 make_float2(float x, float y) { return {x, y}; }
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }

/// Where the running fiber is in its launch.
extern thread_local Place threadIdx, blockIdx, gridDim;
extern thread_local uint4* shared_memory;

/// Waits for all threads of the warp, or of the block.
void wait_for_warp();
void wait_for_block();

/// Gives `bytes` to the warp and waits until all lanes have given theirs; what lane 0 gave is at the result, that of lane
/// n at n times GIFT_BYTES after it. It lasts until the lanes give something for the second time from now.
constexpr std::size_t GIFT_BYTES = 32;
const unsigned char* give_to_warp(const void* gift, std::size_t bytes);

template <typename T>
T from_lane(T value, u32 lane) {
    static_assert(sizeof(T) <= GIFT_BYTES, "a gift has a limit");
    const unsigned char* gifts = give_to_warp(&value, sizeof(T));
    T result;
    std::memcpy(&result, gifts + lane % 32 * GIFT_BYTES, sizeof(T));
    return result;
}

void check_mask(u32 mask);

inline void __syncthreads() { wait_for_block(); }
bool any_in_block(bool is_set);
inline int __syncthreads_or(int is_set) { return any_in_block(is_set != 0); }
inline void __syncwarp() { wait_for_warp(); }
template <typename T>
T __shfl_sync(u32 mask, T value, u32 lane) {
    check_mask(mask);
    return from_lane(value, lane);
}
template <typename T>
T __shfl_xor_sync(u32 mask, T value, u32 distance) {
    check_mask(mask);
    return from_lane(value, threadIdx.x % 32 ^ distance);
}
inline u32 __ballot_sync(u32 mask, bool is_set) {
    check_mask(mask);
    u32 given = is_set ? 1 : 0, ballot = 0;
    const unsigned char* gifts = give_to_warp(&given, sizeof given);
    for (u32 lane = 0; lane < 32; ++lane) ballot |= u32{gifts[lane * GIFT_BYTES]} << lane;
    return ballot;
}

inline int __popc(u32 bits) { return __builtin_popcount(bits); }
inline int __ffs(u32 bits) { return __builtin_ffs(static_cast<int>(bits)); }
inline int __ffsll(i64 bits) { return __builtin_ffsll(bits); }

template <typename T>
T atomicAdd(T* to, T value) {
    T old = *to;
    *to = old + value;
    return old;
}

inline u32 min(u32 a, u32 b) { return a < b ? a : b; }
inline u32 max(u32 a, u32 b) { return a > b ? a : b; }
inline float rsqrtf(float value) { return 1.0f / std::sqrt(value); }
inline float __fadd_rn(float a, float b) { return a + b; }
inline float __fsub_rn(float a, float b) { return a - b; }
inline float __fmul_rn(float a, float b) { return a * b; }
inline float __fmaf_rn(float a, float b, float c) { return std::fma(a, b, c); }
inline double __dadd_rn(double a, double b) { return a + b; }
inline double __dsub_rn(double a, double b) { return a - b; }
inline double __dmul_rn(double a, double b) { return a * b; }
inline double __ddiv_rn(double a, double b) { return a / b; }
inline double __dsqrt_rn(double a) { return std::sqrt(a); }
inline int __float2int_rn(float value) { return static_cast<int>(std::nearbyint(value)); }
inline u32 __float_as_uint(float value) {
    u32 bits;
    std::memcpy(&bits, &value, sizeof bits);
    return bits;
}
using std::fma;

// The second bodies of device.cuh.

inline u16 bits_of_half(float value) {
    _Float16 half = static_cast<_Float16>(value);
    u16 bits;
    std::memcpy(&bits, &half, sizeof bits);
    return bits;
}
inline float half_of_bits(u32 bits) {
    u16 lower = static_cast<u16>(bits);
    _Float16 half;
    std::memcpy(&half, &lower, sizeof half);
    return static_cast<float>(half);
}
inline u32 pack_halves(float first, float second) { return bits_of_half(first) | u32{bits_of_half(second)} << 16; }
inline float2 unpack_halves(u32 packed) { return {half_of_bits(packed), half_of_bits(packed >> 16)}; }

inline void multiply_tile(float (&sums)[4], const u32 (&a)[4], u32 b_first, u32 b_second) {
    const u32 given[6] = {a[0], a[1], a[2], a[3], b_first, b_second};
    const unsigned char* gifts = give_to_warp(given, sizeof given);
    auto word = [&](u32 lane, u32 idx) {
        u32 word;
        std::memcpy(&word, gifts + lane * GIFT_BYTES + idx * 4, sizeof word);
        return word;
    };
    const u32 lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
    for (u32 idx = 0; idx < 4; ++idx) {
        const u32 lower_row = idx / 2, column = 2 * t + idx % 2;
        double sum = 0;
        for (u32 quad = 0; quad < 4; ++quad) {
            for (u32 half = 0; half < 2; ++half) {
                float2 row = unpack_halves(word(g * 4 + quad, 2 * half + lower_row));
                float2 col = unpack_halves(word(column * 4 + quad, 4 + half));
                sum += double{row.x} * col.x + double{row.y} * col.y;
            }
        }
        sums[idx] = static_cast<float>(sums[idx] + sum);
    }
}

inline void add_to_global(u64* to, u64 value) { *to += value; }
inline void copy_in_background(uint4* shared, const uint4* global) { *shared = *global; }
inline void close_copies() {}
template <int PENDING>
void wait_for_copies() {}
inline float4 load_four(const float* values) { return *reinterpret_cast<const float4*>(values); }
inline uint4 load_words(const uint4* words) { return *words; }
inline uint2 load_words(const uint2* words) { return *words; }
inline float2 load_two(const float2* values) { return *values; }
inline float root_of_normal(float square) { return std::sqrt(square); }
