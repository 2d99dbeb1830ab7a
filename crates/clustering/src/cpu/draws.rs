//! Random draws of rows: exponential races, with what earlier ones have found out about distances.
//!
//! Seeding draws round after round, each time far from all rows drawn before. So a shard remembers each row's squared
//! distance to the nearest of them, and a draw measures only the distances to those that are new. The memory is a prefix
//! of the question or it is not used, and so it does not show in an answer.

use super::assign::{Assign, Nearest};
use super::isa::{Isa, Kernel};
use super::packed::PackedCentroids;
use super::vector::Vector;
use crate::answers::{Picked, PickedRow};
use crate::questions::Draw;
use rayon::prelude::*;
use shoal_domain::{Block, Centroids};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

/// Rows whose random numbers are computed together.
const TOGETHER: usize = 16;

/// Each row's squared distance to the nearest of some points.
struct Nearby {
    /// n_points x n_features.
    points: Vec<f32>,
    /// One vector a block; infinite where there are no points yet.
    squares: Vec<Vec<f64>>,
}

/// What draws have found out.
pub(super) struct DrawMemory {
    /// Locked to take one out and to put it back.
    held: Mutex<Vec<Nearby>>,
    n_max: usize,
}

impl DrawMemory {
    pub(super) fn new(blocks: &[Block], bytes_max: usize) -> Self {
        let n_rows: usize = blocks.iter().map(Block::n_rows).sum();
        Self { held: Mutex::default(), n_max: bytes_max / (n_rows * size_of::<f64>()).max(1) }
    }

    /// The memory whose points are the longest beginning of the given ones.
    fn take(&self, points: &[f32], blocks: &[Block]) -> Nearby {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let known = (0..held.len()).filter(|idx| points.starts_with(&held[*idx].points));
        match known.max_by_key(|idx| held[*idx].points.len()) {
            Some(idx) => held.swap_remove(idx),
            None => {
                let infinite = |block: &Block| vec![f64::INFINITY; block.n_rows()];
                Nearby { points: Vec::new(), squares: blocks.iter().map(infinite).collect() }
            }
        }
    }

    /// Keeps a memory if there is room. Starts come by turns, so to let go of another one for it would help none.
    fn put_back(&self, nearby: Nearby) {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if held.len() < self.n_max {
            held.push(nearby);
        }
    }

    /// Forgets everything.
    pub(super) fn clear(&self) {
        self.held.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Draws rows, on all threads of the pool that this is called in.
    pub(super) fn draw(&self, draw: &Draw, blocks: &[Block], isa: Isa) -> Picked {
        let latest = Latest::default();
        let parts: Vec<Picked> = match &draw.far_from {
            None => {
                let race = |mut picked: Picked, block: &Block| {
                    isa.run(Race { draw, block, squares: None, picked: &mut picked, latest: &latest });
                    picked
                };
                blocks.par_iter().fold(|| Picked::new(draw.n), race).collect()
            }
            Some(points) => {
                let mut nearby = self.take(points.values(), blocks);
                let parts = nearby.race(points, draw, blocks, isa, &latest);
                self.put_back(nearby);
                parts
            }
        };
        Picked::of_parts(draw.n, parts)
    }
}

impl Nearby {
    /// Measures the distances to the points that are new, and lets all rows race.
    fn race(&mut self, points: &Centroids, draw: &Draw, blocks: &[Block], isa: Isa, latest: &Latest) -> Vec<Picked> {
        let new = points.values()[self.points.len()..].chunks_exact(points.n_features());
        let new = (new.len() > 0).then(|| Centroids::from_rows(new).expect("some of the points are points"));
        let packed = new.as_ref().map(PackedCentroids::new);
        let scratch = || (Nearest::default(), Picked::new(draw.n));
        let race = |(mut nearest, mut picked), (block, squares): (&Block, &mut Vec<f64>)| {
            if let Some(packed) = &packed {
                isa.run(Assign { packed, block, nearest: &mut nearest });
                let closer = |(square, new): (&mut f64, &f64)| *square = square.min(*new);
                squares.iter_mut().zip(nearest.squares()).for_each(closer);
            }
            isa.run(Race { draw, block, squares: Some(squares), picked: &mut picked, latest });
            (nearest, picked)
        };
        let parts = blocks.par_iter().zip(self.squares.par_iter_mut()).fold(scratch, race);
        let parts = parts.map(|(_, picked)| picked).collect();
        self.points = points.values().to_vec();
        parts
    }
}

/// The latest arrival that may still be among the first, as far as any thread knows: one that has as many rows as are
/// wanted tells the others, which would each have to find so many of their own otherwise.
struct Latest(AtomicU64);

impl Default for Latest {
    fn default() -> Self {
        Self(AtomicU64::new(f64::INFINITY.to_bits()))
    }
}

impl Latest {
    fn get(&self) -> f64 {
        f64::from_bits(self.0.load(Ordering::Relaxed))
    }

    fn tell(&self, arrival: f64) {
        // The bits of numbers that are not negative are in their order.
        if arrival >= 0.0 {
            self.0.fetch_min(arrival.to_bits(), Ordering::Relaxed);
        }
    }
}

/// The rows of a block draw their arrival times, and the earliest are kept.
struct Race<'a> {
    draw: &'a Draw,
    block: &'a Block,
    /// A row's chance is its weight times this, or its weight alone.
    squares: Option<&'a [f64]>,
    picked: &'a mut Picked,
    latest: &'a Latest,
}

impl Kernel for Race<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector, const N: usize, const G: usize>(self) {
        let Self { draw, block, squares, picked, latest } = self;
        let n_rows = block.n_rows();
        let of_others = latest.get();
        for first in (0..n_rows).step_by(TOGETHER) {
            let row = |lane: usize| block.data_set_row((first + lane).min(n_rows - 1));
            let uniforms: [f64; TOGETHER] = match block.kept() {
                None if row(0).is_multiple_of(2) => draw.stream.uniforms_from(row(0)),
                // Rows that were left out leave gaps.
                _ => std::array::from_fn(|lane| draw.stream.uniform(row(lane))),
            };
            for (row_idx, uniform) in (first..n_rows).zip(uniforms) {
                let weight = if draw.ignore_weights { 1.0 } else { block.weight(row_idx) as f64 };
                let chance = weight * squares.map_or(1.0, |squares| squares[row_idx]);
                // -ln u is at least 1 - u, so most rows are known to be late without a logarithm. The factor is for the
                // rounding of both.
                if 1.0 - uniform > picked.latest().min(of_others) * chance * (1.0 + 1e-9) {
                    continue;
                }
                let (row, order) =
                    (block.data_set_row(row_idx), draw.stream.arrival(block.data_set_row(row_idx), chance));
                picked.offer(order, row, || PickedRow {
                    order,
                    row,
                    cluster: 0,
                    target: 0,
                    weight: block.weight(row_idx),
                    values: block.row(row_idx).to_vec(),
                });
            }
        }
        latest.tell(picked.latest());
    }
}
