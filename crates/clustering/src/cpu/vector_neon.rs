//! The vectors of aarch64: NEON, which every such processor has.

use super::doubles::neon::NeonDoubles;
use super::vector::{Vector, intrinsics};
use std::arch::aarch64::*;

/// 4 lanes.
#[derive(Clone, Copy)]
pub(super) struct Neon(float32x4_t);

/// `a * b + c`, in the order of arguments that other instruction sets have.
#[inline(always)]
unsafe fn multiply_add(a: float32x4_t, b: float32x4_t, c: float32x4_t) -> float32x4_t {
    // SAFETY: the caller has enabled NEON.
    unsafe { vfmaq_f32(c, a, b) }
}

/// Asks for a cache line.
#[inline(always)]
fn prefetch(address: *const f32) {
    // SAFETY: a prefetch of any address is harmless, and changes nothing that the compiler knows of.
    unsafe { std::arch::asm!("prfm pldl2keep, [{}]", in(reg) address, options(nostack, readonly, preserves_flags)) }
}

/// One bit a lane of a comparison.
#[inline(always)]
unsafe fn bits_of(mask: uint32x4_t) -> u32 {
    const LANE_BITS: [u32; 4] = [1, 2, 4, 8];
    // SAFETY: the caller has enabled NEON; there are four numbers.
    unsafe { vaddvq_u32(vandq_u32(mask, vld1q_u32(LANE_BITS.as_ptr()))) }
}

impl Vector for Neon {
    const LANES: usize = 4;

    intrinsics!(
        vdupq_n_f32,
        vld1q_f32,
        vst1q_f32,
        vaddq_f32,
        vsubq_f32,
        vmulq_f32,
        multiply_add,
        vmaxq_f32,
        vminq_f32,
        int32x4_t,
        vaddq_s32,
        NeonDoubles,
        prefetch
    );

    type Mask = uint32x4_t;

    #[inline(always)]
    unsafe fn sqrt(self) -> Self {
        // SAFETY: see `splat`.
        Self(unsafe { vsqrtq_f32(self.0) })
    }

    #[inline(always)]
    unsafe fn is_within(self, low: Self, high: Self) -> Self::Mask {
        // SAFETY: see `splat`.
        unsafe { vandq_u32(vcgeq_f32(self.0, low.0), vcleq_f32(self.0, high.0)) }
    }

    #[inline(always)]
    unsafe fn bits(mask: Self::Mask) -> u32 {
        // SAFETY: see `splat`.
        unsafe { bits_of(mask) }
    }

    #[inline(always)]
    unsafe fn integers_where(self, mask: Self::Mask) -> Self::Integers {
        // SAFETY: see `splat`.
        unsafe { vandq_s32(vcvtnq_s32_f32(self.0), vreinterpretq_s32_u32(mask)) }
    }

    #[inline(always)]
    unsafe fn store_u32(self, to: *mut u32) {
        // SAFETY: the caller has room for LANES numbers there, and has enabled the instruction set.
        unsafe { vst1q_u32(to, vcvtq_u32_f32(self.0)) }
    }

    #[inline(always)]
    unsafe fn select_greater(self, other: Self, yes: Self, no: Self) -> Self {
        // SAFETY: see `splat`.
        Self(unsafe { vbslq_f32(vcgtq_f32(self.0, other.0), yes.0, no.0) })
    }

    #[inline(always)]
    unsafe fn greater(self, other: Self) -> u32 {
        // SAFETY: see `splat`.
        unsafe { bits_of(vcgtq_f32(self.0, other.0)) }
    }

    #[inline(always)]
    unsafe fn reciprocal_sqrt_estimate(self) -> Self {
        // The instruction's estimate has eight bits; a step of Newton's iteration doubles them.
        // SAFETY: see `splat`.
        unsafe {
            let estimate = vrsqrteq_f32(self.0);
            Self(vmulq_f32(estimate, vrsqrtsq_f32(vmulq_f32(self.0, estimate), estimate)))
        }
    }

    #[inline(always)]
    unsafe fn transpose(rows: &[*const f32], n_features: usize, to: *mut f32, stride: usize) {
        assert!(rows.len() == Self::LANES);
        for feature in (0..n_features).step_by(Self::LANES) {
            let n = (n_features - feature).min(Self::LANES);
            // SAFETY: the caller has `n_features` numbers in each row, and columns of `stride` numbers at `to`; no more
            // than the `n` that are left of a row are read, and so many columns are written.
            unsafe {
                let row = |lane: usize| {
                    let from = rows[lane].add(feature);
                    let mut rest = [0.0; Self::LANES];
                    if n < Self::LANES {
                        std::ptr::copy_nonoverlapping(from, rest.as_mut_ptr(), n);
                        return vld1q_f32(rest.as_ptr());
                    }
                    vld1q_f32(from)
                };
                let columns = transposed_4(std::array::from_fn(row));
                for (column, values) in columns.into_iter().enumerate().take(n) {
                    vst1q_f32(to.add((feature + column) * stride), values);
                }
            }
        }
    }
}

/// Transposes 4 x 4 numbers in two rounds.
#[inline(always)]
unsafe fn transposed_4(r: [float32x4_t; 4]) -> [float32x4_t; 4] {
    // SAFETY: the caller has enabled NEON.
    unsafe {
        let pairs = |i: usize| match i % 2 {
            0 => vreinterpretq_f64_f32(vtrn1q_f32(r[i], r[i + 1])),
            _ => vreinterpretq_f64_f32(vtrn2q_f32(r[i - 1], r[i])),
        };
        let t: [float64x2_t; 4] = std::array::from_fn(pairs);
        let columns = |c: usize| match c / 2 {
            0 => vreinterpretq_f32_f64(vtrn1q_f64(t[c], t[c + 2])),
            _ => vreinterpretq_f32_f64(vtrn2q_f64(t[c - 2], t[c])),
        };
        std::array::from_fn(columns)
    }
}
