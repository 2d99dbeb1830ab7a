//! Squared distances to the nearest of some centroids, once there is one more.

use super::assign::squared_distance;
use super::isa::{Isa, Kernel};
use super::vector::Vector;
use shoal_domain::Centroids;

/// For each row of `points` the smaller of `nearest`, a squared distance, and that to the row `other` of them.
pub(crate) fn nearer_squares(points: &Centroids, nearest: &[f64], other: usize) -> Vec<f64> {
    Isa::detect().run(NearerSquares { points, nearest, other: points.row(other) })
}

struct NearerSquares<'a> {
    points: &'a Centroids,
    nearest: &'a [f64],
    other: &'a [f32],
}

impl Kernel for NearerSquares<'_> {
    type Output = Vec<f64>;

    #[inline(always)]
    unsafe fn run<V: Vector, const N: usize, const G: usize>(self) -> Vec<f64> {
        let nearer = |(point, nearest): (&[f32], &f64)| nearest.min(squared_distance(point, self.other));
        self.points.rows().zip(self.nearest).map(nearer).collect()
    }
}
