//! Float32 vectors of an instruction set's own width, as few operations as the kernels need.
//!
//! A kernel is written once over [`Vector`] and compiled once for each instruction set, inside a function that enables
//! it. Compilers do find such loops by themselves, but not reliably: a small change of the source turned one vector
//! instruction into sixteen scalar ones.

/// So many float32 lanes that go through every operation together.
///
/// # Safety
///
/// All methods may only be called where the instruction set of the implementing type is enabled, and are inlined into
/// the function that enables it.
pub(super) trait Vector: Copy {
    /// Lanes of one vector.
    const LANES: usize;

    /// The same number in all lanes.
    unsafe fn splat(value: f32) -> Self;
    /// LANES numbers from memory.
    unsafe fn load(from: *const f32) -> Self;
    /// LANES numbers to memory.
    unsafe fn store(self, to: *mut f32);
    /// `self * factor + addend`, fused where the instruction set fuses.
    unsafe fn multiply_add(self, factor: Self, addend: Self) -> Self;
    /// The larger one of each lane; neither is NaN.
    unsafe fn max(self, other: Self) -> Self;
    /// The smaller one of each lane; neither is NaN.
    unsafe fn min(self, other: Self) -> Self;
    /// In each lane `yes` where `self > other`, elsewhere `no`.
    unsafe fn select_greater(self, other: Self, yes: Self, no: Self) -> Self;
}

/// One lane after the other, for every machine.
#[derive(Clone, Copy)]
pub(super) struct Plain([f32; 8]);

impl Vector for Plain {
    const LANES: usize = 8;

    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        Self([value; 8])
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: the caller has LANES numbers there; an array of f32 has the alignment of f32.
        Self(unsafe { from.cast::<[f32; 8]>().read() })
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: the caller has room for LANES numbers there.
        unsafe { to.cast::<[f32; 8]>().write(self.0) }
    }

    #[inline(always)]
    unsafe fn multiply_add(self, factor: Self, addend: Self) -> Self {
        // Not `mul_add`: without the instruction that is a library call for each lane.
        Self(std::array::from_fn(|lane| self.0[lane] * factor.0[lane] + addend.0[lane]))
    }

    #[inline(always)]
    unsafe fn max(self, other: Self) -> Self {
        Self(std::array::from_fn(|lane| self.0[lane].max(other.0[lane])))
    }

    #[inline(always)]
    unsafe fn min(self, other: Self) -> Self {
        Self(std::array::from_fn(|lane| self.0[lane].min(other.0[lane])))
    }

    #[inline(always)]
    unsafe fn select_greater(self, other: Self, yes: Self, no: Self) -> Self {
        let choose = |lane: usize| if self.0[lane] > other.0[lane] { yes.0[lane] } else { no.0[lane] };
        Self(std::array::from_fn(choose))
    }
}

/// Implements [`Vector`] by intrinsics, one a method.
#[cfg(target_arch = "x86_64")]
macro_rules! vector_of_intrinsics {
    ($name:ident($register:ty), $lanes:literal, $splat:ident, $load:ident, $store:ident, $fma:ident, $max:ident, $min:ident,
     |$a:ident, $b:ident, $yes:ident, $no:ident| $select:expr) => {
        #[derive(Clone, Copy)]
        pub(in crate::cpu) struct $name($register);

        impl Vector for $name {
            const LANES: usize = $lanes;

            #[inline(always)]
            unsafe fn splat(value: f32) -> Self {
                // SAFETY: the caller has enabled the instruction set (see the trait); so in all methods below.
                Self(unsafe { $splat(value) })
            }

            #[inline(always)]
            unsafe fn load(from: *const f32) -> Self {
                // SAFETY: the caller has LANES numbers there; the instruction needs no alignment.
                Self(unsafe { $load(from) })
            }

            #[inline(always)]
            unsafe fn store(self, to: *mut f32) {
                // SAFETY: the caller has room for LANES numbers there; the instruction needs no alignment.
                unsafe { $store(to, self.0) }
            }

            #[inline(always)]
            unsafe fn multiply_add(self, factor: Self, addend: Self) -> Self {
                // SAFETY: see `splat`.
                Self(unsafe { $fma(self.0, factor.0, addend.0) })
            }

            #[inline(always)]
            unsafe fn max(self, other: Self) -> Self {
                // SAFETY: see `splat`.
                Self(unsafe { $max(self.0, other.0) })
            }

            #[inline(always)]
            unsafe fn min(self, other: Self) -> Self {
                // SAFETY: see `splat`.
                Self(unsafe { $min(self.0, other.0) })
            }

            #[inline(always)]
            unsafe fn select_greater(self, other: Self, yes: Self, no: Self) -> Self {
                let ($a, $b, $yes, $no) = (self.0, other.0, yes.0, no.0);
                // SAFETY: see `splat`.
                Self(unsafe { $select })
            }
        }
    };
}

#[cfg(target_arch = "x86_64")]
pub(in crate::cpu) use x86::{Avx2, Avx512};

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::Vector;
    use std::arch::x86_64::*;

    vector_of_intrinsics!(
        Avx512(__m512),
        16,
        _mm512_set1_ps,
        _mm512_loadu_ps,
        _mm512_storeu_ps,
        _mm512_fmadd_ps,
        _mm512_max_ps,
        _mm512_min_ps,
        |a, b, yes, no| _mm512_mask_blend_ps(_mm512_cmp_ps_mask::<_CMP_GT_OQ>(a, b), no, yes)
    );

    vector_of_intrinsics!(
        Avx2(__m256),
        8,
        _mm256_set1_ps,
        _mm256_loadu_ps,
        _mm256_storeu_ps,
        _mm256_fmadd_ps,
        _mm256_max_ps,
        _mm256_min_ps,
        |a, b, yes, no| _mm256_blendv_ps(no, yes, _mm256_cmp_ps::<_CMP_GT_OQ>(a, b))
    );
}
