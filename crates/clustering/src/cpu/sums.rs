//! Sums of rows by cluster, exact.
//!
//! A prepared value is an integer of at most 40 bits times its column's unit. Adding 1.5 x 2^52 to that integer puts it
//! into the low bits of a float64, so sums can be kept as 64-bit integers: as fast as floats, exact in any order, and a
//! row that changes its cluster is taken from one sum and added to the other without a trace.

use super::doubles::{Doubles, Eight, TOGETHER, first_eight};
use super::isa::Kernel;
use super::vector::Vector;
use crate::answers::Partial;
use shoal_domain::Block;

/// A float64 around which neighbours are 1 apart, so that its bits count like an integer.
const ORIGIN: f64 = 1.5 * (1u64 << 52) as f64;
/// Rows that may be added or taken away before the sums are emptied: 2^20 of 2^41 each, well below 2^63.
const MAX_PENDING: u32 = 1 << 20;

/// What some rows add to a partial, and what others, that left a cluster, take away.
pub(super) struct GridSums {
    n_features: usize,
    /// Lines of a row.
    n_lines: usize,
    /// 1 / unit of each column, a power of two; 0 for the columns that fill up the last line.
    per_unit: Vec<Eight<f64>>,
    /// n_clusters x n_lines, in units; the bits of [`ORIGIN`] are in them as often as `pending_counts` says.
    pending: Vec<Eight<i64>>,
    pending_counts: Vec<i64>,
    n_pending: u32,
    /// What was emptied so far.
    counts: Vec<i64>,
    weights: Vec<i128>,
    sums: Vec<i128>,
}

impl GridSums {
    /// What a thread's sums take for each number of a set of centroids, filled-up lines aside.
    pub(super) const BYTES_PER_VALUE: usize = size_of::<i64>() + size_of::<i128>();

    pub(super) fn new(n_clusters: usize, units: &[f64]) -> Self {
        let n_lines = units.len().div_ceil(TOGETHER);
        let per_unit = |line: usize| {
            Eight(std::array::from_fn(|column| units.get(line * TOGETHER + column).map_or(0.0, |unit| 1.0 / unit)))
        };
        Self {
            n_features: units.len(),
            n_lines,
            per_unit: (0..n_lines).map(per_unit).collect(),
            pending: vec![Eight([0; TOGETHER]); n_clusters * n_lines],
            pending_counts: vec![0; n_clusters],
            n_pending: 0,
            counts: vec![0; n_clusters],
            weights: vec![0; n_clusters],
            sums: vec![0; n_clusters * units.len()],
        }
    }

    /// Makes room for as many additions as a block may need.
    fn expect(&mut self, n_additions: usize) {
        if self.n_pending + n_additions as u32 > MAX_PENDING {
            self.empty();
        }
        self.n_pending += n_additions as u32;
    }

    /// A weight has 32 bits of its own, so a weighted row needs wide sums at once.
    fn add_weighted(&mut self, row: &[f32], weight: i128, cluster: u32, sign: i64) {
        let cluster = cluster as usize;
        let sums = &mut self.sums[cluster * self.n_features..(cluster + 1) * self.n_features];
        for ((sum, value), per_unit) in sums.iter_mut().zip(row).zip(self.per_unit.iter().flat_map(|line| line.0)) {
            *sum += weight * (f64::from(*value) * per_unit) as i128;
        }
        self.weights[cluster] += weight;
        self.counts[cluster] += sign;
    }

    /// Moves what is pending into the wide sums.
    fn empty(&mut self) {
        let pending = self.pending.chunks_exact(self.n_lines).zip(self.sums.chunks_exact_mut(self.n_features));
        for ((pending, sums), count) in pending.zip(&self.pending_counts) {
            let origins = count.wrapping_mul(ORIGIN.to_bits() as i64);
            for (pending, sum) in pending.iter().flat_map(|line| line.0).zip(sums) {
                *sum += i128::from(pending.wrapping_sub(origins));
            }
        }
        self.pending.fill(Eight([0; TOGETHER]));
        for (cluster, count) in self.pending_counts.iter_mut().enumerate() {
            self.counts[cluster] += *count;
            self.weights[cluster] += i128::from(*count);
            *count = 0;
        }
        self.n_pending = 0;
    }

    /// Adds everything to a partial, which must have held every row that was taken away.
    pub(super) fn add_to(mut self, partial: &mut Partial) {
        self.empty();
        for (count, more) in partial.counts.iter_mut().zip(&self.counts) {
            *count = count.checked_add_signed(*more).expect("a row leaves a cluster that it was in");
        }
        partial.weights.iter_mut().zip(&self.weights).for_each(|(weight, more)| *weight += more);
        partial.sums.iter_mut().zip(&self.sums).for_each(|(sum, more)| *sum += more);
    }
}

/// Adds all rows of a block to their clusters.
pub(super) struct AddRows<'a> {
    pub(super) sums: &'a mut GridSums,
    pub(super) block: &'a Block,
    pub(super) labels: &'a [u32],
}

impl Kernel for AddRows<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector, const N: usize, const G: usize>(self) {
        let Self { sums, block, labels } = self;
        let n_features = sums.n_features;
        let values = block.values();
        if let Some(weights) = block.weights() {
            for ((row, label), weight) in values.chunks_exact(n_features).zip(labels).zip(weights) {
                sums.add_weighted(row, i128::from(*weight), *label, 1);
            }
            return;
        }
        sums.expect(labels.len());
        let GridSums { pending, pending_counts, per_unit, n_lines, .. } = sums;
        for (row, label) in labels.iter().enumerate() {
            let cluster = *label as usize;
            pending_counts[cluster] += 1;
            let pending = &mut pending[cluster * *n_lines..][..*n_lines];
            // SAFETY: the caller has enabled V.
            unsafe { fold_row::<V, true>(pending, &values[row * n_features..], per_unit) };
        }
    }
}

/// A row that changed its cluster.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Move {
    pub(super) row: u16,
    pub(super) from: u32,
    pub(super) to: u32,
}

/// Takes rows of a block out of their clusters and adds them to others.
pub(super) struct MoveRows<'a> {
    pub(super) sums: &'a mut GridSums,
    pub(super) block: &'a Block,
    pub(super) moves: &'a [Move],
}

impl Kernel for MoveRows<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector, const N: usize, const G: usize>(self) {
        let Self { sums, block, moves } = self;
        let n_features = sums.n_features;
        let from_row = |of: &Move| &block.values()[usize::from(of.row) * n_features..];
        if let Some(weights) = block.weights() {
            for of in moves {
                let weight = i128::from(weights[usize::from(of.row)]);
                sums.add_weighted(&from_row(of)[..n_features], -weight, of.from, -1);
                sums.add_weighted(&from_row(of)[..n_features], weight, of.to, 1);
            }
            return;
        }
        sums.expect(2 * moves.len());
        let GridSums { pending, pending_counts, per_unit, n_lines, .. } = sums;
        for of in moves {
            let (from, to) = (of.from as usize, of.to as usize);
            pending_counts[from] -= 1;
            pending_counts[to] += 1;
            // SAFETY: the caller has enabled V.
            unsafe {
                fold_row::<V, false>(&mut pending[from * *n_lines..][..*n_lines], from_row(of), per_unit);
                fold_row::<V, true>(&mut pending[to * *n_lines..][..*n_lines], from_row(of), per_unit);
            }
        }
    }
}

/// Adds a row's values, as integers around [`ORIGIN`], to sums, or takes them away.
///
/// `values` begin with the row. What follows it in its last line counts nothing, since `per_unit` is 0 there.
///
/// # Safety
///
/// The caller has enabled V.
#[inline(always)]
unsafe fn fold_row<V: Vector, const IS_ADDED: bool>(sums: &mut [Eight<i64>], values: &[f32], per_unit: &[Eight<f64>]) {
    for (idx, (sums, per_unit)) in sums.iter_mut().zip(per_unit).enumerate() {
        let mut end = [0.0; TOGETHER];
        let values = first_eight(&values[idx * TOGETHER..], &mut end);
        for first in (0..TOGETHER).step_by(V::Doubles::LANES) {
            // SAFETY: all three have eight numbers, and LANES divides eight.
            unsafe {
                let values = V::Doubles::widen(values.as_ptr().add(first));
                let units = values.multiply(V::Doubles::load(per_unit.0.as_ptr().add(first)));
                let integers = units.add(V::Doubles::splat(ORIGIN));
                match IS_ADDED {
                    true => integers.add_bits(sums.0.as_mut_ptr().add(first)),
                    false => integers.subtract_bits(sums.0.as_mut_ptr().add(first)),
                }
            }
        }
    }
}
