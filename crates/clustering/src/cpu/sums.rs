//! Sums of rows by cluster, exact.
//!
//! A prepared value is an integer of at most 40 bits times its column's unit. Adding 1.5 x 2^52 to that integer puts it
//! into the low bits of a float64, so sums can be kept as 64-bit integers: as fast as floats, exact in any order, and a
//! row that changes its cluster is taken from one sum and added to the other without a trace.

use super::isa::Kernel;
use super::vector::Vector;
use crate::answers::Partial;
use shoal_domain::Block;

/// A float64 around which neighbours are 1 apart, so that its bits count like an integer.
const ORIGIN: f64 = 1.5 * (1u64 << 52) as f64;
/// Rows that may be added or taken away before the sums are emptied: 2^20 of 2^41 each, well below 2^63.
const MAX_PENDING: u32 = 1 << 20;

/// Columns that are added together.
const TOGETHER: usize = 8;

/// Eight numbers in one cache line, since a vector that lies across two costs as much as two.
#[derive(Debug, Clone, Copy)]
#[repr(align(64))]
struct Eight<T>([T; TOGETHER]);

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
        let rows = block.values().chunks_exact(n_features);
        if let Some(weights) = block.weights() {
            for ((row, label), weight) in rows.zip(labels).zip(weights) {
                sums.add_weighted(row, i128::from(*weight), *label, 1);
            }
            return;
        }
        sums.expect(labels.len());
        let GridSums { pending, pending_counts, per_unit, n_lines, .. } = sums;
        for (row, label) in rows.zip(labels) {
            let cluster = *label as usize;
            pending_counts[cluster] += 1;
            fold_row(&mut pending[cluster * *n_lines..][..*n_lines], row, per_unit, i64::wrapping_add);
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
        let row = |of: &Move| &block.values()[usize::from(of.row) * n_features..][..n_features];
        if let Some(weights) = block.weights() {
            for of in moves {
                let weight = i128::from(weights[usize::from(of.row)]);
                sums.add_weighted(row(of), -weight, of.from, -1);
                sums.add_weighted(row(of), weight, of.to, 1);
            }
            return;
        }
        sums.expect(2 * moves.len());
        let GridSums { pending, pending_counts, per_unit, n_lines, .. } = sums;
        for of in moves {
            let (from, to) = (of.from as usize, of.to as usize);
            pending_counts[from] -= 1;
            pending_counts[to] += 1;
            fold_row(&mut pending[from * *n_lines..][..*n_lines], row(of), per_unit, i64::wrapping_sub);
            fold_row(&mut pending[to * *n_lines..][..*n_lines], row(of), per_unit, i64::wrapping_add);
        }
    }
}

/// A row's values as integers around [`ORIGIN`], folded into sums.
///
/// A line at a time is read before it is written, so that the compiler needs no proof that sums and rows lie apart.
#[inline(always)]
fn fold_row(sums: &mut [Eight<i64>], row: &[f32], per_unit: &[Eight<f64>], fold: impl Fn(i64, i64) -> i64) {
    let mut add = |idx: usize, values: &[f32; TOGETHER]| {
        let bits = |column: usize| (f64::from(values[column]) * per_unit[idx].0[column] + ORIGIN).to_bits() as i64;
        sums[idx] = Eight(std::array::from_fn(|column| fold(sums[idx].0[column], bits(column))));
    };
    let (whole, rest) = row.as_chunks::<TOGETHER>();
    for (idx, values) in whole.iter().enumerate() {
        add(idx, values);
    }
    if !rest.is_empty() {
        let mut values = [0.0; TOGETHER];
        values[..rest.len()].copy_from_slice(rest);
        add(whole.len(), &values);
    }
}
