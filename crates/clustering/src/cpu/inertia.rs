//! Inertia from sums, without looking at any row again.
//!
//! For exact arithmetic the sum of `w |x - c|^2` over the rows of a cluster is `Q - 2 c . S + W |c|^2`, where Q is the sum
//! of `w |x|^2`, S that of `w x` and W that of `w`. In floating point this form loses its digits, all of them when
//! clusters are small and far from the origin, and must not be used. Here nothing is rounded: x and w are integers times
//! powers of two, c has 24 bits, and all terms go into one superaccumulator. So the result is the inertia itself, rounded
//! once when it is read, whatever the order of rows, and it costs nothing per row after Q, which does not depend on
//! centroids.

use super::doubles::{Doubles, Eight, TOGETHER, first_eight};
use super::isa::{Isa, Kernel};
use super::vector::Vector;
use crate::answers::Partial;
use rayon::prelude::*;
use shoal_domain::prepare::GRID_BITS;
use shoal_domain::{BLOCK_ROWS, Block, Centroids, Merge, Preparation};
use shoal_stats::{ExactSum, ExactTerms};

/// So many numbers of centroids a thread deals with by itself: to wake another one takes longer.
pub const VALUES_ALONE: usize = 16 << 10;

/// Computes inertia from sums. Holds the powers of two that the integers of those sums are multiples of.
#[derive(Debug, Clone)]
pub struct ExactInertia {
    /// One a column.
    columns: Vec<i32>,
    /// 0 where there are no weights.
    weight: i32,
}

impl ExactInertia {
    /// For rows that were prepared so.
    pub fn new(preparation: &Preparation) -> Self {
        let columns = preparation.columns.iter().map(|column| column.unit_exponent).collect();
        Self { columns, weight: preparation.weight_exponent.unwrap_or(0) }
    }

    /// Adds the sum of `w |x|^2` over the rows of a block.
    pub fn add_squares(&self, block: &Block, isa: Isa, squares: &mut ExactSum) {
        match block.weights() {
            None => self.add_plain_squares(block, isa, squares),
            Some(weights) => self.add_weighted_squares(block, weights, squares),
        }
    }

    fn add_plain_squares(&self, block: &Block, isa: Isa, squares: &mut ExactSum) {
        let upper_unit = |exponent: &i32| libm::ldexp(1.0, 2 * exponent + GRID_BITS);
        let rounders: Vec<f64> =
            self.columns.iter().map(|exponent| upper_unit(exponent) * 1.5 * (1u64 << 52) as f64).collect();
        let sums = isa.run(PlainSquares { block, rounders: &rounders });
        sums.into_iter().for_each(|sum| squares.add(sum));
    }

    /// Of at most 112 bits each; the halves of so many integers are added in 128 bits.
    fn add_weighted_squares(&self, block: &Block, weights: &[u64], squares: &mut ExactSum) {
        let per_unit: Vec<f64> = self.columns.iter().map(|exponent| libm::ldexp(1.0, -exponent)).collect();
        let mut uppers = vec![0i128; self.columns.len()];
        let mut lowers = uppers.clone();
        for (row, weight) in block.values().chunks_exact(self.columns.len()).zip(weights) {
            for (column, (value, per_unit)) in row.iter().zip(&per_unit).enumerate() {
                let integer = (f64::from(*value) * per_unit) as i128;
                let square = i128::from(*weight) * integer * integer;
                uppers[column] += square >> 64;
                lowers[column] += square & i128::from(u64::MAX);
            }
        }
        for (column, exponent) in self.columns.iter().enumerate() {
            squares.add_integer(lowers[column], 2 * exponent + self.weight);
            squares.add_integer(uppers[column], 2 * exponent + self.weight + 64);
        }
    }

    /// The inertia of `partial`, whose rows are assigned to `centroids` and have the sum of squares `squares`.
    pub fn of(&self, squares: &ExactSum, partial: &Partial, centroids: &Centroids) -> ExactSum {
        let add = |mut terms: ExactTerms, cluster: usize| {
            let (centroid, weight) = (centroids.row(cluster), partial.weights[cluster]);
            for ((value, sum), exponent) in centroid.iter().zip(partial.sum(cluster)).zip(&self.columns) {
                let (mantissa, power) = decompose(*value);
                terms.add(-2 * mantissa, *sum, power + exponent + self.weight);
                terms.add(mantissa * mantissa, weight, 2 * power + self.weight);
            }
            terms
        };
        let merge = |mut terms: ExactTerms, other: ExactTerms| {
            terms.merge(other);
            terms
        };
        let terms = if centroids.values().len() <= VALUES_ALONE {
            (0..centroids.n_clusters()).fold(ExactTerms::default(), add)
        } else {
            let clusters = (0..centroids.n_clusters()).into_par_iter();
            let clusters = clusters.with_min_len((VALUES_ALONE / 2).div_ceil(self.columns.len()));
            clusters.fold(ExactTerms::default, add).reduce(ExactTerms::default, merge)
        };
        let mut inertia = terms.total();
        inertia.merge(squares.clone());
        inertia
    }
}

/// Sums of squares of a block's columns, the upper and the lower parts of eight columns after the other.
///
/// A square has up to 80 bits from its column's unit on. Rounded to the upper 40, the upper and the lower parts of a whole
/// block are each added in float64 without rounding.
struct PlainSquares<'a> {
    block: &'a Block,
    /// What rounds each column's squares when it is added and taken away again.
    rounders: &'a [f64],
}

impl Kernel for PlainSquares<'_> {
    type Output = Vec<f64>;

    #[inline(always)]
    unsafe fn run<V: Vector, const N: usize, const G: usize>(self) -> Vec<f64> {
        const { assert!(BLOCK_ROWS <= 1 << (53 - GRID_BITS), "a float64 holds the sum of a block's parts") };
        let mut sums = Vec::new();
        for (idx, of_line) in self.rounders.chunks(TOGETHER).enumerate() {
            let mut rounders = Eight([0.0; TOGETHER]);
            rounders.0[..of_line.len()].copy_from_slice(of_line);
            // SAFETY: the caller has enabled V.
            let parts = unsafe { self.parts_of::<V>(idx * TOGETHER, &rounders) };
            parts.iter().for_each(|parts| sums.extend_from_slice(&parts.0[..of_line.len()]));
        }
        sums
    }
}

impl PlainSquares<'_> {
    /// Of the columns from one on. Lanes beyond the last column add whatever follows in memory, and are of no use.
    ///
    /// # Safety
    ///
    /// The caller has enabled V.
    #[inline(always)]
    unsafe fn parts_of<V: Vector>(&self, column: usize, rounders: &Eight<f64>) -> [Eight<f64>; 2] {
        let mut parts = [Eight([0.0; TOGETHER]); 2];
        let (values, n_features) = (self.block.values(), self.rounders.len());
        for first in (0..TOGETHER).step_by(V::Doubles::LANES) {
            // SAFETY: V is enabled, and LANES divides eight.
            unsafe {
                let rounder = V::Doubles::load(rounders.0.as_ptr().add(first));
                let (mut upper, mut lower) = (V::Doubles::splat(0.0), V::Doubles::splat(0.0));
                for row in 0..self.block.n_rows() {
                    let mut end = [0.0; TOGETHER];
                    let values = first_eight(&values[row * n_features + column..], &mut end);
                    let values = V::Doubles::widen(values.as_ptr().add(first));
                    let square = values.multiply(values);
                    let rounded = square.add(rounder).subtract(rounder);
                    upper = upper.add(rounded);
                    lower = lower.add(square.subtract(rounded));
                }
                upper.store(parts[0].0.as_mut_ptr().add(first));
                lower.store(parts[1].0.as_mut_ptr().add(first));
            }
        }
        parts
    }
}

/// A float32 as `integer x 2^power`.
fn decompose(value: f32) -> (i64, i32) {
    let bits = value.to_bits();
    let biased = (bits >> 23 & 0xff) as i32;
    let fraction = i64::from(bits & 0x7f_ffff);
    // A normal number has a hidden leading bit; a subnormal one has the power of the smallest normal one.
    let (mantissa, power) = if biased == 0 { (fraction, -149) } else { (fraction | 1 << 23, biased - 150) };
    (if value.is_sign_negative() { -mantissa } else { mantissa }, power)
}
