//! Float64 vectors of an instruction set's own width, for sums of columns.
//!
//! Written out for the same reason as [`super::vector::Vector`]: left to themselves, compilers summed rows by gathering the
//! same column of several lines, at several times the cost.

/// Columns that are summed together: the float64 of a cache line.
pub(super) const TOGETHER: usize = 8;

/// Eight numbers in one cache line, since a vector that lies across two costs as much as two.
#[derive(Debug, Clone, Copy)]
#[repr(align(64))]
pub(super) struct Eight<T>(pub(super) [T; TOGETHER]);

/// The first eight numbers, or as many as there are and zeros, which are put into `end`.
#[inline(always)]
pub(super) fn first_eight<'a>(values: &'a [f32], end: &'a mut [f32; TOGETHER]) -> &'a [f32; TOGETHER] {
    match values.first_chunk() {
        Some(values) => values,
        None => {
            *end = [0.0; TOGETHER];
            end[..values.len()].copy_from_slice(values);
            end
        }
    }
}

/// So many float64 lanes, a divisor of eight.
///
/// # Safety
///
/// As for [`super::vector::Vector`].
pub(super) trait Doubles: Copy {
    /// Lanes of one vector.
    const LANES: usize;

    /// The same number in all lanes.
    unsafe fn splat(value: f64) -> Self;
    /// LANES numbers from memory.
    unsafe fn load(from: *const f64) -> Self;
    /// LANES numbers to memory.
    unsafe fn store(self, to: *mut f64);
    /// LANES float32 from memory, as float64.
    unsafe fn widen(from: *const f32) -> Self;
    /// `self + other`.
    unsafe fn add(self, other: Self) -> Self;
    /// `self - other`.
    unsafe fn subtract(self, other: Self) -> Self;
    /// `self * other`.
    unsafe fn multiply(self, other: Self) -> Self;
    /// Adds the bits of each lane, taken for a 64-bit integer, to LANES integers in memory; what overflows is lost.
    unsafe fn add_bits(self, to: *mut i64);
    /// Takes them away.
    unsafe fn subtract_bits(self, from: *mut i64);
}

/// [`Doubles`] of one intrinsic a method.
macro_rules! double_intrinsics {
    ($name:ident, $vector:ty, $integers:ty, $lanes:literal, $splat:ident, $load:ident, $store:ident, $widen:expr, $add:ident,
     $sub:ident, $mul:ident, $to_bits:ident, $add_bits:ident, $sub_bits:ident) => {
        #[doc = concat!(stringify!($lanes), " lanes.")]
        #[derive(Clone, Copy)]
        pub(in crate::cpu) struct $name($vector);

        impl Doubles for $name {
            const LANES: usize = $lanes;

            #[inline(always)]
            unsafe fn splat(value: f64) -> Self {
                // SAFETY: the caller has enabled the instruction set (see the trait); so in all methods below.
                Self(unsafe { $splat(value) })
            }

            #[inline(always)]
            unsafe fn load(from: *const f64) -> Self {
                // SAFETY: the caller has LANES numbers there; the instruction needs no alignment.
                Self(unsafe { $load(from) })
            }

            #[inline(always)]
            unsafe fn store(self, to: *mut f64) {
                // SAFETY: the caller has room for LANES numbers there; the instruction needs no alignment.
                unsafe { $store(to, self.0) }
            }

            #[inline(always)]
            unsafe fn widen(from: *const f32) -> Self {
                // SAFETY: the caller has LANES numbers there; the instruction needs no alignment.
                Self(unsafe { $widen(from) })
            }

            #[inline(always)]
            unsafe fn add(self, other: Self) -> Self {
                // SAFETY: see `splat`.
                Self(unsafe { $add(self.0, other.0) })
            }

            #[inline(always)]
            unsafe fn subtract(self, other: Self) -> Self {
                // SAFETY: see `splat`.
                Self(unsafe { $sub(self.0, other.0) })
            }

            #[inline(always)]
            unsafe fn multiply(self, other: Self) -> Self {
                // SAFETY: see `splat`.
                Self(unsafe { $mul(self.0, other.0) })
            }

            #[inline(always)]
            unsafe fn add_bits(self, to: *mut i64) {
                // SAFETY: the caller has LANES integers there; they are read and written without regard to alignment.
                unsafe {
                    let to = to.cast::<$integers>();
                    to.write_unaligned($add_bits(to.read_unaligned(), $to_bits(self.0)));
                }
            }

            #[inline(always)]
            unsafe fn subtract_bits(self, from: *mut i64) {
                // SAFETY: as above.
                unsafe {
                    let from = from.cast::<$integers>();
                    from.write_unaligned($sub_bits(from.read_unaligned(), $to_bits(self.0)));
                }
            }
        }
    };
}

#[cfg(target_arch = "x86_64")]
pub(super) mod x86 {
    use super::Doubles;
    use std::arch::x86_64::*;

    double_intrinsics!(
        Avx512Doubles,
        __m512d,
        __m512i,
        8,
        _mm512_set1_pd,
        _mm512_loadu_pd,
        _mm512_storeu_pd,
        |from| _mm512_cvtps_pd(_mm256_loadu_ps(from)),
        _mm512_add_pd,
        _mm512_sub_pd,
        _mm512_mul_pd,
        _mm512_castpd_si512,
        _mm512_add_epi64,
        _mm512_sub_epi64
    );

    double_intrinsics!(
        Avx2Doubles,
        __m256d,
        __m256i,
        4,
        _mm256_set1_pd,
        _mm256_loadu_pd,
        _mm256_storeu_pd,
        |from| _mm256_cvtps_pd(_mm_loadu_ps(from)),
        _mm256_add_pd,
        _mm256_sub_pd,
        _mm256_mul_pd,
        _mm256_castpd_si256,
        _mm256_add_epi64,
        _mm256_sub_epi64
    );
}

#[cfg(target_arch = "aarch64")]
pub(super) mod neon {
    use super::Doubles;
    use std::arch::aarch64::*;

    double_intrinsics!(
        NeonDoubles,
        float64x2_t,
        int64x2_t,
        2,
        vdupq_n_f64,
        vld1q_f64,
        vst1q_f64,
        |from| vcvt_f64_f32(vld1_f32(from)),
        vaddq_f64,
        vsubq_f64,
        vmulq_f64,
        vreinterpretq_s64_f64,
        vaddq_s64,
        vsubq_s64
    );
}

/// Eight numbers for every machine; the compiler's own vectors where it finds them.
#[derive(Clone, Copy)]
pub(super) struct PlainDoubles([f64; TOGETHER]);

impl PlainDoubles {
    #[inline(always)]
    fn each(self, other: Self, operation: impl Fn(f64, f64) -> f64) -> Self {
        Self(std::array::from_fn(|lane| operation(self.0[lane], other.0[lane])))
    }
}

impl Doubles for PlainDoubles {
    const LANES: usize = TOGETHER;

    #[inline(always)]
    unsafe fn splat(value: f64) -> Self {
        Self([value; TOGETHER])
    }

    #[inline(always)]
    unsafe fn load(from: *const f64) -> Self {
        // SAFETY: the caller has LANES numbers there; so in all methods below.
        Self(unsafe { from.cast::<[f64; TOGETHER]>().read() })
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f64) {
        // SAFETY: see `load`.
        unsafe { to.cast::<[f64; TOGETHER]>().write(self.0) }
    }

    #[inline(always)]
    unsafe fn widen(from: *const f32) -> Self {
        // SAFETY: see `load`.
        Self(unsafe { from.cast::<[f32; TOGETHER]>().read() }.map(f64::from))
    }

    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        self.each(other, |a, b| a + b)
    }

    #[inline(always)]
    unsafe fn subtract(self, other: Self) -> Self {
        self.each(other, |a, b| a - b)
    }

    #[inline(always)]
    unsafe fn multiply(self, other: Self) -> Self {
        self.each(other, |a, b| a * b)
    }

    #[inline(always)]
    unsafe fn add_bits(self, to: *mut i64) {
        // SAFETY: see `load`.
        unsafe {
            let to = to.cast::<[i64; TOGETHER]>();
            let sums = to.read();
            to.write(std::array::from_fn(|lane| sums[lane].wrapping_add(self.0[lane].to_bits() as i64)));
        }
    }

    #[inline(always)]
    unsafe fn subtract_bits(self, from: *mut i64) {
        // SAFETY: see `load`.
        unsafe {
            let from = from.cast::<[i64; TOGETHER]>();
            let sums = from.read();
            from.write(std::array::from_fn(|lane| sums[lane].wrapping_sub(self.0[lane].to_bits() as i64)));
        }
    }
}
