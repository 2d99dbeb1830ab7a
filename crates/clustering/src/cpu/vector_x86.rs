//! The vectors of x86-64: AVX2 with FMA, and AVX-512.

use super::doubles::x86::{Avx2Doubles, Avx512Doubles};
use super::vector::{Vector, intrinsics};
use std::arch::x86_64::*;

/// Asks for a cache line.
#[inline(always)]
pub(super) fn prefetch(address: *const f32) {
    // SAFETY: a prefetch of any address is harmless.
    unsafe { _mm_prefetch::<_MM_HINT_T1>(address.cast()) }
}

/// 16 lanes.
#[derive(Clone, Copy)]
pub(super) struct Avx512(__m512);

impl Vector for Avx512 {
    const LANES: usize = 16;

    intrinsics!(
        _mm512_set1_ps,
        _mm512_loadu_ps,
        _mm512_storeu_ps,
        _mm512_add_ps,
        _mm512_sub_ps,
        _mm512_mul_ps,
        _mm512_fmadd_ps,
        _mm512_max_ps,
        _mm512_min_ps,
        __m512i,
        _mm512_add_epi32,
        Avx512Doubles,
        prefetch
    );

    type Mask = __mmask16;

    /// By Goldschmidt's iteration (1964) from the estimate, and Markstein's last step (IBM J. Res. Dev. 1990), which rounds correctly because the
    /// remainder `x - g^2` is exact. Nine instructions that pairs of units share out, where the instruction for the square
    /// root keeps one unit busy for twelve cycles.
    #[inline(always)]
    unsafe fn sqrt(self) -> Self {
        // SAFETY: see `splat`.
        unsafe {
            let half = _mm512_set1_ps(0.5);
            let estimate = _mm512_rsqrt14_ps(self.0);
            let root = _mm512_mul_ps(self.0, estimate);
            let half_inverse = _mm512_mul_ps(estimate, half);
            let error = _mm512_fnmadd_ps(half_inverse, root, half);
            let root = _mm512_fmadd_ps(root, error, root);
            let half_inverse = _mm512_fmadd_ps(half_inverse, error, half_inverse);
            let remainder = _mm512_fnmadd_ps(root, root, self.0);
            Self(_mm512_fmadd_ps(remainder, half_inverse, root))
        }
    }

    #[inline(always)]
    unsafe fn is_within(self, low: Self, high: Self) -> Self::Mask {
        // SAFETY: see `splat`.
        unsafe {
            let above = _mm512_cmp_ps_mask::<_CMP_GE_OQ>(self.0, low.0);
            _mm512_mask_cmp_ps_mask::<_CMP_LE_OQ>(above, self.0, high.0)
        }
    }

    #[inline(always)]
    unsafe fn bits(mask: Self::Mask) -> u32 {
        u32::from(mask)
    }

    #[inline(always)]
    unsafe fn integers_where(self, mask: Self::Mask) -> Self::Integers {
        // SAFETY: see `splat`.
        unsafe { _mm512_maskz_cvtps_epi32(mask, self.0) }
    }

    #[inline(always)]
    unsafe fn store_u32(self, to: *mut u32) {
        // SAFETY: the caller has room for LANES numbers there, and has enabled the instruction set.
        unsafe { _mm512_storeu_si512(to.cast(), _mm512_cvtps_epi32(self.0)) }
    }

    #[inline(always)]
    unsafe fn select_greater(self, other: Self, yes: Self, no: Self) -> Self {
        // SAFETY: see `splat`.
        Self(unsafe { _mm512_mask_blend_ps(_mm512_cmp_ps_mask::<_CMP_GT_OQ>(self.0, other.0), no.0, yes.0) })
    }

    #[inline(always)]
    unsafe fn greater(self, other: Self) -> u32 {
        // SAFETY: see `splat`.
        u32::from(unsafe { _mm512_cmp_ps_mask::<_CMP_GT_OQ>(self.0, other.0) })
    }

    #[inline(always)]
    unsafe fn reciprocal_sqrt_estimate(self) -> Self {
        // SAFETY: see `splat`.
        Self(unsafe { _mm512_rsqrt14_ps(self.0) })
    }

    #[inline(always)]
    unsafe fn transpose(rows: &[*const f32], n_features: usize, to: *mut f32, stride: usize) {
        assert!(rows.len() == Self::LANES);
        for feature in (0..n_features).step_by(Self::LANES) {
            let n = (n_features - feature).min(Self::LANES);
            let mask = (u32::MAX >> (32 - n)) as __mmask16;
            // SAFETY: the mask keeps loads within the `n_features` numbers of each row, and the loop stores within
            // columns of `stride` numbers, both of which the caller has.
            unsafe {
                let row = |lane: usize| _mm512_maskz_loadu_ps(mask, rows[lane].add(feature));
                let columns = transposed_16(std::array::from_fn(row));
                // A fixed number of rounds, so that the columns stay in registers.
                for (column, values) in columns.into_iter().enumerate() {
                    if column < n {
                        _mm512_storeu_ps(to.add((feature + column) * stride), values);
                    }
                }
            }
        }
    }
}

/// Transposes 16 x 16 numbers in four rounds, each of which exchanges halves of twice the size.
#[inline(always)]
unsafe fn transposed_16(r: [__m512; 16]) -> [__m512; 16] {
    // SAFETY: the caller has enabled AVX-512.
    unsafe {
        let pairs = |i: usize| match i % 2 {
            0 => _mm512_unpacklo_ps(r[i], r[i + 1]),
            _ => _mm512_unpackhi_ps(r[i - 1], r[i]),
        };
        let t: [__m512; 16] = std::array::from_fn(pairs);
        let pd = |v: __m512| _mm512_castps_pd(v);
        let fours = |i: usize| {
            let base = i / 4 * 4;
            let (low, high) = (base + (i % 4) / 2, base + (i % 4) / 2 + 2);
            _mm512_castpd_ps(match i % 2 {
                0 => _mm512_unpacklo_pd(pd(t[low]), pd(t[high])),
                _ => _mm512_unpackhi_pd(pd(t[low]), pd(t[high])),
            })
        };
        let r: [__m512; 16] = std::array::from_fn(fours);
        let eights = |i: usize| {
            let (low, high) = (i / 8 * 8 + i % 4, i / 8 * 8 + i % 4 + 4);
            match i % 8 / 4 {
                0 => _mm512_shuffle_f32x4::<0x88>(r[low], r[high]),
                _ => _mm512_shuffle_f32x4::<0xdd>(r[low], r[high]),
            }
        };
        let t: [__m512; 16] = std::array::from_fn(eights);
        // After the third round column c's quarters lie in t[c % 4 + (c / 4 % 2) * 4] and eight further on.
        let columns = |c: usize| {
            let low = c % 4 + c / 4 % 2 * 4;
            match c / 8 {
                0 => _mm512_shuffle_f32x4::<0x88>(t[low], t[low + 8]),
                _ => _mm512_shuffle_f32x4::<0xdd>(t[low], t[low + 8]),
            }
        };
        std::array::from_fn(columns)
    }
}

/// 8 lanes.
#[derive(Clone, Copy)]
pub(super) struct Avx2(__m256);

impl Vector for Avx2 {
    const LANES: usize = 8;

    intrinsics!(
        _mm256_set1_ps,
        _mm256_loadu_ps,
        _mm256_storeu_ps,
        _mm256_add_ps,
        _mm256_sub_ps,
        _mm256_mul_ps,
        _mm256_fmadd_ps,
        _mm256_max_ps,
        _mm256_min_ps,
        __m256i,
        _mm256_add_epi32,
        Avx2Doubles,
        prefetch
    );

    type Mask = __m256;

    #[inline(always)]
    unsafe fn sqrt(self) -> Self {
        // SAFETY: see `splat`.
        Self(unsafe { _mm256_sqrt_ps(self.0) })
    }

    #[inline(always)]
    unsafe fn is_within(self, low: Self, high: Self) -> Self::Mask {
        // SAFETY: see `splat`.
        unsafe {
            let above = _mm256_cmp_ps::<_CMP_GE_OQ>(self.0, low.0);
            _mm256_and_ps(above, _mm256_cmp_ps::<_CMP_LE_OQ>(self.0, high.0))
        }
    }

    #[inline(always)]
    unsafe fn bits(mask: Self::Mask) -> u32 {
        // SAFETY: see `splat`.
        unsafe { _mm256_movemask_ps(mask) as u32 }
    }

    #[inline(always)]
    unsafe fn integers_where(self, mask: Self::Mask) -> Self::Integers {
        // SAFETY: see `splat`.
        unsafe { _mm256_and_si256(_mm256_cvtps_epi32(self.0), _mm256_castps_si256(mask)) }
    }

    #[inline(always)]
    unsafe fn store_u32(self, to: *mut u32) {
        // SAFETY: the caller has room for LANES numbers there, and has enabled the instruction set.
        unsafe { _mm256_storeu_si256(to.cast(), _mm256_cvtps_epi32(self.0)) }
    }

    #[inline(always)]
    unsafe fn select_greater(self, other: Self, yes: Self, no: Self) -> Self {
        // SAFETY: see `splat`.
        Self(unsafe { _mm256_blendv_ps(no.0, yes.0, _mm256_cmp_ps::<_CMP_GT_OQ>(self.0, other.0)) })
    }

    #[inline(always)]
    unsafe fn greater(self, other: Self) -> u32 {
        // SAFETY: see `splat`.
        unsafe { _mm256_movemask_ps(_mm256_cmp_ps::<_CMP_GT_OQ>(self.0, other.0)) as u32 }
    }

    #[inline(always)]
    unsafe fn reciprocal_sqrt_estimate(self) -> Self {
        // SAFETY: see `splat`.
        Self(unsafe { _mm256_rsqrt_ps(self.0) })
    }

    #[inline(always)]
    unsafe fn transpose(rows: &[*const f32], n_features: usize, to: *mut f32, stride: usize) {
        assert!(rows.len() == Self::LANES);
        for feature in (0..n_features).step_by(Self::LANES) {
            let n = (n_features - feature).min(Self::LANES);
            // SAFETY: as for AVX-512.
            unsafe {
                let lanes = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
                let mask = _mm256_cmpgt_epi32(_mm256_set1_epi32(n as i32), lanes);
                let row = |lane: usize| _mm256_maskload_ps(rows[lane].add(feature), mask);
                let columns = transposed_8(std::array::from_fn(row));
                for (column, values) in columns.into_iter().enumerate() {
                    if column < n {
                        _mm256_storeu_ps(to.add((feature + column) * stride), values);
                    }
                }
            }
        }
    }
}

/// Transposes 8 x 8 numbers in three rounds.
#[inline(always)]
unsafe fn transposed_8(r: [__m256; 8]) -> [__m256; 8] {
    // SAFETY: the caller has enabled AVX2.
    unsafe {
        let pairs = |i: usize| match i % 2 {
            0 => _mm256_unpacklo_ps(r[i], r[i + 1]),
            _ => _mm256_unpackhi_ps(r[i - 1], r[i]),
        };
        let t: [__m256; 8] = std::array::from_fn(pairs);
        let pd = |v: __m256| _mm256_castps_pd(v);
        let fours = |i: usize| {
            let base = i / 4 * 4;
            let (low, high) = (base + (i % 4) / 2, base + (i % 4) / 2 + 2);
            _mm256_castpd_ps(match i % 2 {
                0 => _mm256_unpacklo_pd(pd(t[low]), pd(t[high])),
                _ => _mm256_unpackhi_pd(pd(t[low]), pd(t[high])),
            })
        };
        let r: [__m256; 8] = std::array::from_fn(fours);
        let columns = |c: usize| match c / 4 {
            0 => _mm256_permute2f128_ps::<0x20>(r[c], r[c + 4]),
            _ => _mm256_permute2f128_ps::<0x31>(r[c - 4], r[c]),
        };
        std::array::from_fn(columns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of all numbers: roots of numbers four times as large are twice as large, so two binades stand for all.
    #[test]
    fn square_roots_are_rounded_correctly() {
        if !crate::cpu::Isa::Avx512.is_available() {
            println!("not tested: this machine has no AVX-512");
            return;
        }
        // SAFETY: just seen.
        unsafe { all_square_roots() }
    }

    #[target_feature(enable = "avx512f")]
    fn all_square_roots() {
        for scale in [2f32.powi(28), 2f32.powi(48), 1.0] {
            for first in (1f32.to_bits()..4f32.to_bits()).step_by(16) {
                let values: [f32; 16] = std::array::from_fn(|lane| f32::from_bits(first + lane as u32) * scale);
                let mut roots = [0.0; 16];
                // SAFETY: AVX-512 is enabled, and there are 16 numbers each.
                unsafe { Avx512::load(values.as_ptr()).sqrt().store(roots.as_mut_ptr()) };
                let expected = values.map(f32::sqrt);
                assert!(roots.map(f32::to_bits) == expected.map(f32::to_bits), "{values:?}: {roots:?}");
            }
        }
    }
}
