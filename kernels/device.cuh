// What kernels need of the machine, behind names that have a second body for the CPU (emulator/cuda_on_cpu.h).
#pragma once

#ifdef SHOAL_ON_CPU
#include "emulator/cuda_on_cpu.h"
#else

using u16 = unsigned short;
using u32 = unsigned int;
using u64 = unsigned long long;
using i64 = long long;

/// Two float32 rounded to float16, the first one in the lower half.
__device__ inline u32 pack_halves(float first, float second) {
    u32 packed;
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(packed) : "f"(second), "f"(first));
    return packed;
}

/// The float32 values of two float16.
__device__ inline float2 unpack_halves(u32 packed) {
    float2 values;
    asm("{\n\t.reg .f16 first, second;\n\tmov.b32 {first, second}, %2;\n\t"
        "cvt.f32.f16 %0, first;\n\tcvt.f32.f16 %1, second;\n\t}"
        : "=f"(values.x), "=f"(values.y)
        : "r"(packed));
    return values;
}

/// sums (16 x 8) += a (16 x 16) . b (16 x 8), float16 in and float32 sums, by a whole warp. With g = lane / 4 and
/// t = lane % 4, a thread holds of `a` the columns 2t, 2t + 1 of rows g and g + 8, then the columns 2t + 8, 2t + 9 of the
/// same rows; of `b` the rows 2t, 2t + 1 and then 2t + 8, 2t + 9 of column g; of `sums` the columns 2t, 2t + 1 of row g,
/// then of row g + 8.
__device__ inline void multiply_tile(float (&sums)[4], const u32 (&a)[4], u32 b_first, u32 b_second) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b_first), "r"(b_second));
}

/// Copies 16 bytes from global to shared memory in the background.
__device__ inline void copy_in_background(uint4* shared, const uint4* global) {
    u32 address = static_cast<u32>(__cvta_generic_to_shared(shared));
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(address), "l"(global) : "memory");
}

/// Closes a group of background copies.
__device__ inline void close_copies() { asm volatile("cp.async.commit_group;" ::: "memory"); }

/// Waits until at most PENDING groups of this thread's copies are not done.
template <int PENDING>
__device__ inline void wait_for_copies() {
    asm volatile("cp.async.wait_group %0;" ::"n"(PENDING) : "memory");
}

/// Four numbers, four words or two, that nobody writes during the launch.
__device__ inline float4 load_four(const float* values) { return __ldg(reinterpret_cast<const float4*>(values)); }
__device__ inline uint4 load_words(const uint4* words) { return __ldg(words); }
__device__ inline uint2 load_words(const uint2* words) { return __ldg(words); }
__device__ inline float2 load_two(const float2* values) { return __ldg(values); }

/// The square root, correctly rounded, of a number whose root and its own square are normal. It is what the compiler
/// makes of __fsqrt_rn, less the test for the other numbers.
__device__ inline float root_of_normal(float square) {
    float reciprocal;
    asm("rsqrt.approx.ftz.f32 %0, %1;" : "=f"(reciprocal) : "f"(square));
    float root = __fmul_rn(square, reciprocal);
    return __fmaf_rn(__fmaf_rn(-root, root, square), __fmul_rn(0.5f, reciprocal), root);
}

/// Adds to a number in global memory.
__device__ inline void add_to_global(u64* to, u64 value) {
    asm volatile("red.global.add.u64 [%0], %1;" ::"l"(__cvta_generic_to_global(to)), "l"(value) : "memory");
}

/// The shared memory of a launch.
extern __shared__ uint4 shared_memory[];

#endif

constexpr u32 ALL_LANES = 0xffffffffu;

/// The largest numbers of threads and lanes that kernels are written for.
constexpr int THREADS = 256;
constexpr int LANES = 32;
constexpr int WARPS = THREADS / LANES;

/// Adds a 64-bit integer to a sum in global memory: to one limb where that cannot run over, otherwise to two, the lower 32
/// bits as they are and the upper ones with their sign, so that 2^31 of them never run over.
__device__ inline void add_in_global(u64* limbs, size_t between, i64 value, bool has_one_limb) {
    if (has_one_limb) {
        add_to_global(limbs, static_cast<u64>(value));
        return;
    }
    u64 low = static_cast<u32>(value);
    i64 high = value >> 32;
    if (low != 0) add_to_global(limbs, low);
    if (high != 0) add_to_global(limbs + between, static_cast<u64>(high));
}
