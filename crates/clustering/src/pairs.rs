//! What a pair of rows adds to the sums of distances that the silhouette is made of.
//!
//! A distance comes from float32 dot products, `|x - y|^2 = |x|^2 + |y|^2 - 2 x . y`, about a point near both rows. Where
//! that loses too many digits, because the rows are much closer to each other than to that point, and where the distance
//! is of another magnitude than its clusters let expect, the pair is put aside and computed by differences in float64.
//! All other distances are rounded to 24 bits below that magnitude, so that sums are sums of integers. What a pair adds
//! is a function of the pair alone, the same for both of its rows and on every instruction set (dot products are fused,
//! in the order of the features; square roots are correctly rounded). So sums do not depend on who adds which pairs when,
//! and every pair is computed once for both of its rows.

use crate::answers::PairQuestion;
use crate::cpu::squared_distance;

/// A squared distance counts on if it is at least this share of the sum of the two squared norms: then at most 9 of the
/// 24 bits of a float32 are lost.
pub const SHARE_MIN: f32 = 1.0 / 512.0;
/// Bits of a distance below the magnitude of its clusters.
pub const DISTANCE_BITS: i32 = 24;
/// The square of the longest distance that counts, which is 2^0.5 times the magnitude.
pub const LONGEST_SQUARED: f32 = 2.0 * (1u64 << (2 * DISTANCE_BITS)) as f32;
/// The square of the shortest, which is 2^-10 of the magnitude.
pub const SHORTEST_SQUARED: f32 = (1u64 << (2 * (DISTANCE_BITS - 10))) as f32;

/// How distances between the rows of two clusters are computed.
pub struct PairScale<'a> {
    /// The point that rows are taken relative to.
    origin: &'a [f32],
    /// Integers of the sums per prepared unit, a power of two.
    per_unit: f32,
    /// A sum of integers times 2^shift is one in the unit of the question.
    shift: u32,
}

impl<'a> PairScale<'a> {
    /// For the rows of two clusters, which may be the same.
    pub fn new(question: &'a PairQuestion, a: usize, b: usize) -> Self {
        // The same for both orders, to the last bit.
        let (a, b) = (a.min(b), a.max(b));
        let (origin, other) = (question.centroids.row(a), question.centroids.row(b));
        let mean_square = squared_distance(origin, other) + question.mean_squares[a] + question.mean_squares[b];
        // Eight times the typical distance: hardly a pair is longer, and few are shorter than a hundredth of it.
        let (_, magnitude) = libm::frexp(8.0 * mean_square.sqrt());
        let (_, unit) = libm::frexp(question.unit);
        // The unit is a power of two and so its exponent is one more than its logarithm.
        let shift = (magnitude - DISTANCE_BITS - (unit - 1)).clamp(0, 64);
        Self { origin, per_unit: libm::ldexp(1.0 / question.unit, -shift) as f32, shift: shift as u32 }
    }

    /// A row as the kernel compares it.
    pub fn place<'r>(&'r self, row: &'r [f32]) -> impl Iterator<Item = f32> + 'r {
        row.iter().zip(self.origin).map(|(value, origin)| (value - origin) * self.per_unit)
    }

    /// The point that rows are taken relative to, n_features.
    pub fn origin(&self) -> &'a [f32] {
        self.origin
    }

    /// Integers of the sums per prepared unit, a power of two.
    pub fn per_unit(&self) -> f32 {
        self.per_unit
    }

    /// A sum of integers times `2^shift` is one in the unit of the question.
    pub fn shift(&self) -> u32 {
        self.shift
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use shoal_domain::Centroids;

    /// Where the sum of three numbers is rounded to either side of a power of two, depending on their order.
    #[test]
    fn a_pair_of_clusters_has_one_scale() {
        let centroids = Centroids::new(2, 1, vec![0.0, 0.75]).expect("two centroids");
        let square = 0.75 * 0.75;
        let mut n_telling = 0;
        for step in 1..400 {
            let first = f64::from(step) * 1e-3;
            let mean_squares = vec![first, 1.0 - square - first];
            let sums = [square + mean_squares[0] + mean_squares[1], square + mean_squares[1] + mean_squares[0]];
            n_telling += usize::from(sums[0] != sums[1]);
            let question = PairQuestion { centroids: centroids.clone(), mean_squares, unit: libm::ldexp(1.0, -60) };
            let (one, other) = (PairScale::new(&question, 0, 1), PairScale::new(&question, 1, 0));
            assert_eq!((one.origin, one.per_unit, one.shift), (other.origin, other.per_unit, other.shift), "{first}");
        }
        assert!(n_telling > 0, "no order made a difference");
    }
}
