//! Float32 vectors of an instruction set's own width, as few operations as the kernels need.
//!
//! A kernel is written once over [`Vector`] and compiled once for each instruction set, inside a function that enables
//! it ([`super::isa`]). Compilers do find such loops by themselves, but not reliably: a small change of the source turned
//! one vector instruction into sixteen scalar ones.

use super::doubles::{Doubles, PlainDoubles};

/// Numbers of a cache line.
pub(super) const LINE: usize = 16;

/// Sixteen numbers in one cache line: a vector that lies across two costs as much as two.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(64))]
pub(super) struct Line(pub(super) [f32; LINE]);

/// So many float32 lanes that go through every operation together.
///
/// # Safety
///
/// All methods may only be called where the instruction set of the implementing type is enabled, and are inlined into
/// the function that enables it. Pointers must be good for as many numbers as the method says; they need no alignment
/// beyond that of their type.
pub(super) trait Vector: Copy {
    /// Lanes of one vector.
    const LANES: usize;
    /// LANES whole numbers of 32 bits.
    type Integers: Copy;
    /// Its float64 vectors.
    type Doubles: Doubles;
    /// LANES answers to a question.
    type Mask: Copy;

    /// The same number in all lanes.
    unsafe fn splat(value: f32) -> Self;
    /// LANES numbers from memory.
    unsafe fn load(from: *const f32) -> Self;
    /// LANES numbers to memory.
    unsafe fn store(self, to: *mut f32);
    /// Stores whole numbers from 0 to 2^24 as such.
    unsafe fn store_u32(self, to: *mut u32);
    /// `self + other`.
    unsafe fn add(self, other: Self) -> Self;
    /// `self - other`.
    unsafe fn subtract(self, other: Self) -> Self;
    /// `self * other`.
    unsafe fn multiply(self, other: Self) -> Self;
    /// `self * factor + addend`, fused where the instruction set fuses.
    unsafe fn multiply_add(self, factor: Self, addend: Self) -> Self;
    /// The larger one of each lane; neither is NaN.
    unsafe fn max(self, other: Self) -> Self;
    /// The smaller one of each lane; neither is NaN.
    unsafe fn min(self, other: Self) -> Self;
    /// In each lane `yes` where `self > other`, elsewhere `no`.
    unsafe fn select_greater(self, other: Self, yes: Self, no: Self) -> Self;
    /// One bit a lane, the lowest for the first: whether `self > other`, which NaN never is.
    unsafe fn greater(self, other: Self) -> u32;
    /// `1 / sqrt(self)` to a relative error of 2^-11: good for bounds, and different on each instruction set.
    unsafe fn reciprocal_sqrt_estimate(self) -> Self;
    /// Writes LANES rows of `n_features` numbers as columns: `to[feature * stride + lane] = rows[lane][feature]`.
    unsafe fn transpose(rows: &[*const f32], n_features: usize, to: *mut f32, stride: usize);
    /// `self * factor + addend`, rounded once on every instruction set, at whatever cost.
    unsafe fn fused_multiply_add(self, factor: Self, addend: Self) -> Self;
    /// The square root, correctly rounded, of normal numbers whose own squares are; of others anything.
    unsafe fn sqrt(self) -> Self;
    /// Whether `low <= self <= high`, which NaN never is.
    unsafe fn is_within(self, low: Self, high: Self) -> Self::Mask;
    /// One bit a lane, the lowest for the first.
    unsafe fn bits(mask: Self::Mask) -> u32;
    /// The nearest whole numbers, halves to even, where `mask` says yes; elsewhere 0.
    unsafe fn integers_where(self, mask: Self::Mask) -> Self::Integers;
    /// LANES whole numbers from memory.
    unsafe fn load_integers(from: *const i32) -> Self::Integers;
    /// LANES whole numbers to memory.
    unsafe fn store_integers(integers: Self::Integers, to: *mut i32);
    /// `a + b`.
    unsafe fn add_integers(a: Self::Integers, b: Self::Integers) -> Self::Integers;
    /// Asks for the cache line of an address, which need not be a good one.
    unsafe fn prefetch(address: *const f32);
}

/// The methods of [`Vector`] that are one intrinsic each on every instruction set that has vectors.
macro_rules! intrinsics {
    ($splat:ident, $load:ident, $store:ident, $add:ident, $sub:ident, $mul:ident, $fma:ident, $max:ident, $min:ident,
     $integers:ty, $add_integers:ident, $doubles:ty, $prefetch:ident) => {
        type Integers = $integers;
        type Doubles = $doubles;

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
        unsafe fn fused_multiply_add(self, factor: Self, addend: Self) -> Self {
            // SAFETY: see `splat`.
            unsafe { self.multiply_add(factor, addend) }
        }

        #[inline(always)]
        unsafe fn load_integers(from: *const i32) -> Self::Integers {
            // SAFETY: the caller has LANES numbers there; the pointer is read without regard to alignment.
            unsafe { from.cast::<Self::Integers>().read_unaligned() }
        }

        #[inline(always)]
        unsafe fn store_integers(integers: Self::Integers, to: *mut i32) {
            // SAFETY: the caller has room for LANES numbers there; as above.
            unsafe { to.cast::<Self::Integers>().write_unaligned(integers) }
        }

        #[inline(always)]
        unsafe fn add_integers(a: Self::Integers, b: Self::Integers) -> Self::Integers {
            // SAFETY: see `splat`.
            unsafe { $add_integers(a, b) }
        }

        #[inline(always)]
        unsafe fn prefetch(address: *const f32) {
            $prefetch(address)
        }
    };
}

pub(super) use intrinsics;

/// One lane after the other, for every machine; the compiler's own vectors where it finds them.
#[derive(Clone, Copy)]
pub(super) struct Plain([f32; 8]);

impl Plain {
    #[inline(always)]
    fn each(self, other: Self, operation: impl Fn(f32, f32) -> f32) -> Self {
        Self(std::array::from_fn(|lane| operation(self.0[lane], other.0[lane])))
    }
}

impl Vector for Plain {
    const LANES: usize = 8;
    type Integers = [i32; 8];
    type Doubles = PlainDoubles;
    type Mask = [bool; 8];

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
    unsafe fn store_u32(self, to: *mut u32) {
        // SAFETY: as above.
        unsafe { to.cast::<[u32; 8]>().write(self.0.map(|value| value as u32)) }
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
    unsafe fn multiply_add(self, factor: Self, addend: Self) -> Self {
        // Not `mul_add`, which is a library call for each lane where the target has no such instruction.
        Self(std::array::from_fn(|lane| self.0[lane] * factor.0[lane] + addend.0[lane]))
    }

    #[inline(always)]
    unsafe fn max(self, other: Self) -> Self {
        self.each(other, f32::max)
    }

    #[inline(always)]
    unsafe fn min(self, other: Self) -> Self {
        self.each(other, f32::min)
    }

    #[inline(always)]
    unsafe fn select_greater(self, other: Self, yes: Self, no: Self) -> Self {
        let choose = |lane: usize| if self.0[lane] > other.0[lane] { yes.0[lane] } else { no.0[lane] };
        Self(std::array::from_fn(choose))
    }

    #[inline(always)]
    unsafe fn greater(self, other: Self) -> u32 {
        (0..Self::LANES).fold(0, |mask, lane| mask | u32::from(self.0[lane] > other.0[lane]) << lane)
    }

    #[inline(always)]
    unsafe fn reciprocal_sqrt_estimate(self) -> Self {
        Self(self.0.map(|value| 1.0 / value.sqrt()))
    }

    #[inline(always)]
    unsafe fn transpose(rows: &[*const f32], n_features: usize, to: *mut f32, stride: usize) {
        for (lane, row) in rows.iter().enumerate() {
            for feature in 0..n_features {
                // SAFETY: the caller has `n_features` numbers in each row, and columns of `stride` numbers at `to`.
                unsafe { *to.add(feature * stride + lane) = *row.add(feature) }
            }
        }
    }

    #[inline(always)]
    unsafe fn prefetch(_: *const f32) {}

    #[inline(always)]
    unsafe fn fused_multiply_add(self, factor: Self, addend: Self) -> Self {
        Self(std::array::from_fn(|lane| self.0[lane].mul_add(factor.0[lane], addend.0[lane])))
    }

    #[inline(always)]
    unsafe fn sqrt(self) -> Self {
        Self(self.0.map(f32::sqrt))
    }

    #[inline(always)]
    unsafe fn is_within(self, low: Self, high: Self) -> Self::Mask {
        std::array::from_fn(|lane| self.0[lane] >= low.0[lane] && self.0[lane] <= high.0[lane])
    }

    #[inline(always)]
    unsafe fn bits(mask: Self::Mask) -> u32 {
        (0..Self::LANES).fold(0, |bits, lane| bits | u32::from(mask[lane]) << lane)
    }

    #[inline(always)]
    unsafe fn integers_where(self, mask: Self::Mask) -> Self::Integers {
        let nearest = |lane: usize| if mask[lane] { self.0[lane].round_ties_even() as i32 } else { 0 };
        std::array::from_fn(nearest)
    }

    #[inline(always)]
    unsafe fn load_integers(from: *const i32) -> Self::Integers {
        // SAFETY: the caller has LANES numbers there.
        unsafe { from.cast::<[i32; 8]>().read() }
    }

    #[inline(always)]
    unsafe fn store_integers(integers: Self::Integers, to: *mut i32) {
        // SAFETY: the caller has room for LANES numbers there.
        unsafe { to.cast::<[i32; 8]>().write(integers) }
    }

    #[inline(always)]
    unsafe fn add_integers(a: Self::Integers, b: Self::Integers) -> Self::Integers {
        std::array::from_fn(|lane| a[lane].wrapping_add(b[lane]))
    }
}
