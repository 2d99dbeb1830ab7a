//! Sums of rows by cluster, exact.
//!
//! A prepared value is an integer of at most 40 bits times its column's unit. Adding 1.5 x 2^52 to that integer puts it
//! into the low bits of a float64, so sums can be kept as 64-bit integers: as fast as floats, exact in any order, and a
//! row that changes its cluster is taken from one sum and added to the other without a trace.

use crate::answers::Partial;
use shoal_domain::Block;

/// A float64 around which neighbours are 1 apart, so that its bits count like an integer.
const ORIGIN: f64 = 1.5 * (1u64 << 52) as f64;
/// Rows that may be added or taken away before the sums are emptied: 2^20 of 2^41 each, well below 2^63.
const MAX_PENDING: u32 = 1 << 20;

/// What some rows add to a partial, and what others, that left a cluster, take away.
pub(super) struct GridSums {
    n_features: usize,
    /// 1 / unit of each column, a power of two.
    per_unit: Vec<f64>,
    /// n_clusters x n_features, in units; the bits of [`ORIGIN`] are in them as often as `pending_counts` says.
    pending: Vec<i64>,
    pending_counts: Vec<i64>,
    n_pending: u32,
    /// What was emptied so far.
    counts: Vec<i64>,
    weights: Vec<i128>,
    sums: Vec<i128>,
}

impl GridSums {
    pub(super) fn new(n_clusters: usize, units: &[f64]) -> Self {
        let n_sums = n_clusters * units.len();
        Self {
            n_features: units.len(),
            per_unit: units.iter().map(|unit| 1.0 / unit).collect(),
            pending: vec![0; n_sums],
            pending_counts: vec![0; n_clusters],
            n_pending: 0,
            counts: vec![0; n_clusters],
            weights: vec![0; n_clusters],
            sums: vec![0; n_sums],
        }
    }

    /// Adds all rows of a block to their clusters.
    #[inline(always)]
    pub(super) fn add_block(&mut self, block: &Block, labels: &[u16]) {
        for (row_idx, label) in labels.iter().enumerate() {
            self.add::<1>(block, row_idx, usize::from(*label));
        }
    }

    /// Takes a row out of one cluster and adds it to another.
    #[inline(always)]
    pub(super) fn move_row(&mut self, block: &Block, row_idx: usize, from: u16, to: u16) {
        self.add::<-1>(block, row_idx, usize::from(from));
        self.add::<1>(block, row_idx, usize::from(to));
    }

    /// Adds a row, or takes it away where SIGN is -1.
    #[inline(always)]
    fn add<const SIGN: i64>(&mut self, block: &Block, row_idx: usize, cluster: usize) {
        if let Some(weights) = block.weights() {
            return self.add_weighted(
                block.row(row_idx),
                i128::from(SIGN) * i128::from(weights[row_idx]),
                cluster,
                SIGN,
            );
        }
        if self.n_pending == MAX_PENDING {
            self.empty();
        }
        self.n_pending += 1;
        self.pending_counts[cluster] += SIGN;
        let sums = &mut self.pending[cluster * self.n_features..(cluster + 1) * self.n_features];
        for ((sum, value), per_unit) in sums.iter_mut().zip(block.row(row_idx)).zip(&self.per_unit) {
            let bits = (f64::from(*value) * per_unit + ORIGIN).to_bits() as i64;
            *sum = sum.wrapping_add(SIGN.wrapping_mul(bits));
        }
    }

    /// A weight has 32 bits of its own, so a weighted row needs wide sums at once.
    fn add_weighted(&mut self, row: &[f32], weight: i128, cluster: usize, sign: i64) {
        let sums = &mut self.sums[cluster * self.n_features..(cluster + 1) * self.n_features];
        for ((sum, value), per_unit) in sums.iter_mut().zip(row).zip(&self.per_unit) {
            *sum += weight * (f64::from(*value) * per_unit) as i128;
        }
        self.weights[cluster] += weight;
        self.counts[cluster] += sign;
    }

    /// Moves what is pending into the wide sums.
    fn empty(&mut self) {
        let pending = self.pending.chunks_exact_mut(self.n_features).zip(self.sums.chunks_exact_mut(self.n_features));
        for ((pending, sums), count) in pending.zip(&self.pending_counts) {
            let origins = count.wrapping_mul(ORIGIN.to_bits() as i64);
            for (pending, sum) in pending.iter_mut().zip(sums) {
                *sum += i128::from(pending.wrapping_sub(origins));
                *pending = 0;
            }
        }
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
