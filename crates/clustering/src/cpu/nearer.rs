//! Squared distances to the nearest of some centroids, once there is one more.

use super::assign::squared_distance_in;
use super::isa::{Isa, Kernel};
use super::vector::Vector;
use shoal_domain::Centroids;

/// For each of `others`, rows of `points`, and each row of `points` the smaller of `nearest`, a squared distance, and that to
/// the other one.
pub(crate) fn nearer_squares(points: &Centroids, nearest: &[f64], others: &[usize]) -> Vec<Vec<f64>> {
    let mut squares = vec![nearest.to_vec(); others.len()];
    Isa::detect().run(NearerSquares { points, others, squares: &mut squares });
    squares
}

struct NearerSquares<'a> {
    points: &'a Centroids,
    others: &'a [usize],
    /// One vector for each of the others.
    squares: &'a mut [Vec<f64>],
}

impl Kernel for NearerSquares<'_> {
    type Output = ();

    /// Plain loops, since a closure given to an iterator may be compiled outside of the function that enables V.
    #[inline(always)]
    unsafe fn run<V: Vector, const N: usize, const G: usize>(self) {
        for (idx, point) in self.points.rows().enumerate() {
            for (other, squares) in self.others.iter().zip(&mut *self.squares) {
                // SAFETY: the caller has enabled V.
                let square = unsafe { squared_distance_in::<V>(point, self.points.row(*other)) };
                squares[idx] = squares[idx].min(square);
            }
        }
    }
}
