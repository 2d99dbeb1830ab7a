//! The nearest centroid of rows: the one kernel behind every question about centroids.
//!
//! Rows are taken in tiles of a few vectors, transposed so that a vector lane is a row, and compared with a few centroids
//! at a time by their nearness, `x . c - |c|^2 / 2`. Its largest value belongs to the nearest centroid, since |x|^2 is the
//! same for all of them. Nearness is float32. The winner is believed only if it leads the second by more than the rounding
//! errors can explain; otherwise the row is decided by float64 distances, the lowest centroid on ties. So labels are the
//! float64 argmin on every instruction set.

#![allow(clippy::needless_range_loop, reason = "several arrays of vectors go by one index")]

use super::isa::Kernel;
use super::packed::{GROUP, Group, PackedCentroids};
use super::vector::{LINE, Line, Vector};
use shoal_domain::{BLOCK_ROWS, Block};

/// Most rows of a tile.
pub(super) const MAX_TILE: usize = 48;
/// Most lanes of a vector.
const MAX_LANES: usize = 16;
const PADDED_ROWS: usize = BLOCK_ROWS + MAX_TILE;
/// How far ahead rows are asked for: what the memory of current machines delivers while a tile of few features is looked at.
const BYTES_AHEAD: usize = 8 << 10;

/// How far a winner is ahead, in one of two ways; 0 where the row had to be decided in float64.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ahead {
    /// A lower bound of half the difference of the squared distances to the second and to the nearest centroid.
    Lead,
    /// A lower bound of the difference of the distances themselves.
    Gap,
}

/// What was found for some rows of a block, in the order in which they were given. Kept between blocks.
pub(super) struct Found {
    /// The nearest centroid.
    pub(super) labels: Box<[u32; PADDED_ROWS]>,
    /// How far it is ahead.
    pub(super) ahead: Box<[f32; PADDED_ROWS]>,
    /// A tile, n_features x rows of the tile.
    tile: Vec<Line>,
}

impl Default for Found {
    fn default() -> Self {
        Self { labels: Box::new([0; PADDED_ROWS]), ahead: Box::new([0.0; PADDED_ROWS]), tile: Vec::new() }
    }
}

/// Finds the nearest centroids of the listed rows of a block.
pub(super) struct FindNearest<'a> {
    pub(super) packed: &'a PackedCentroids<'a>,
    pub(super) block: &'a Block,
    /// Rows of the block, at most BLOCK_ROWS.
    pub(super) rows: &'a [u16],
    pub(super) ahead: Ahead,
    pub(super) found: &'a mut Found,
}

impl Kernel for FindNearest<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector, const N: usize, const G: usize>(self) {
        let Self { packed, block, rows, ahead, found } = self;
        let n_features = packed.n_features();
        assert!(block.n_features() == n_features && rows.len() <= BLOCK_ROWS && V::LANES * N <= MAX_TILE);
        assert!(rows.iter().fold(0, |last, row| last.max(usize::from(*row) + 1)) <= block.n_rows());
        found.tile.resize(n_features * MAX_TILE / LINE, Line([0.0; LINE]));
        let tiles_ahead = (BYTES_AHEAD / (n_features * size_of::<f32>() * V::LANES * N)).max(1);
        let mut first = 0;
        while first < rows.len() {
            // What a whole tile would waste on a short rest, single vectors save.
            let n_left = rows.len() - first;
            let next = (first + tiles_ahead * V::LANES * N).min(rows.len());
            let tile = Tile { packed, block, rows: &rows[first..], next: &rows[next..] };
            // SAFETY: the caller has enabled V; the outputs have room for a tile more than a block has rows.
            unsafe {
                if n_left > V::LANES * (N - 1) {
                    tile.find::<V, N, G>(ahead, &mut found.tile, &mut found.labels[first..], &mut found.ahead[first..]);
                    first += V::LANES * N;
                } else {
                    tile.find::<V, 1, G>(ahead, &mut found.tile, &mut found.labels[first..], &mut found.ahead[first..]);
                    first += V::LANES;
                }
            }
        }
    }
}

/// A tile's worth of rows.
struct Tile<'a> {
    packed: &'a PackedCentroids<'a>,
    block: &'a Block,
    /// This tile's rows and those that follow.
    rows: &'a [u16],
    /// The rows of the tile to be asked for, one of the next ones, and those that follow.
    next: &'a [u16],
}

impl Tile<'_> {
    /// Finds the nearest centroids of N vectors of rows.
    ///
    /// # Safety
    ///
    /// V is enabled, all rows are rows of the block, `tile` holds n_features x MAX_TILE numbers.
    #[inline(always)]
    unsafe fn find<V: Vector, const N: usize, const G: usize>(
        &self,
        ahead: Ahead,
        tile: &mut [Line],
        labels: &mut [u32],
        leads: &mut [f32],
    ) {
        let n_rows = self.rows.len().min(V::LANES * N);
        assert!(labels.len() >= V::LANES * N && leads.len() >= V::LANES * N);
        let mut is_certain = [0u32; N];
        // SAFETY: see above; the outputs were just measured.
        unsafe {
            self.transpose::<V, N>(tile);
            let best = best_of::<V, N, G>(self.packed, tile, self.next_values(V::LANES * N));
            for n in 0..N {
                let (norm, first, second) = (best.norms[n], best.firsts[n], best.seconds[n]);
                let error = norm.multiply_add(V::splat(self.packed.lead_per_norm), V::splat(self.packed.lead_min));
                let lead = first.subtract(second);
                // Numbers beyond the range of float32 make the error infinite or NaN, and nothing leads by more.
                is_certain[n] = lead.greater(error);
                let lead = lead.subtract(error);
                let lead = match ahead {
                    Ahead::Lead => lead,
                    Ahead::Gap => {
                        // d2 - d1 = (d2^2 - d1^2) / (d2 + d1), and (d2 + d1)^2 <= 2 (d2^2 + d1^2), which is four times
                        // |x|^2 - s1 - s2. The error keeps that from being taken too small; the estimate's own error is
                        // taken off.
                        let mean_square = norm.subtract(first).subtract(second).add(error.add(error));
                        let mean_square = mean_square.max(V::splat(f32::MIN_POSITIVE));
                        let gap = lead.multiply(mean_square.reciprocal_sqrt_estimate());
                        gap.multiply(V::splat(1.0 - 1.0 / 1024.0))
                    }
                };
                best.winners[n].store_u32(labels.as_mut_ptr().add(n * V::LANES));
                lead.store(leads.as_mut_ptr().add(n * V::LANES));
            }
        }
        for n in 0..N {
            let mut uncertain = !is_certain[n] & (u32::MAX >> (32 - V::LANES));
            while uncertain != 0 {
                let idx = n * V::LANES + uncertain.trailing_zeros() as usize;
                uncertain &= uncertain - 1;
                if idx < n_rows {
                    // SAFETY: V is enabled.
                    labels[idx] = unsafe { self.packed.decide::<V>(self.block.row(usize::from(self.rows[idx]))) };
                    leads[idx] = 0.0;
                }
            }
        }
    }

    /// Writes the rows as columns, n_features x (N x LANES); lanes without a row repeat the last one.
    #[inline(always)]
    unsafe fn transpose<V: Vector, const N: usize>(&self, tile: &mut [Line]) {
        let n_features = self.packed.n_features();
        let values = self.block.values().as_ptr();
        let last = self.rows.len() - 1;
        for n in 0..N {
            let mut rows = [values; MAX_LANES];
            for lane in 0..V::LANES {
                // SAFETY: all rows are rows of the block.
                rows[lane] =
                    unsafe { values.add(usize::from(self.rows[(n * V::LANES + lane).min(last)]) * n_features) };
            }
            // SAFETY: the rows hold n_features numbers, the tile n_features x MAX_TILE.
            unsafe {
                V::transpose(
                    &rows[..V::LANES],
                    n_features,
                    tile.as_mut_ptr().cast::<f32>().add(n * V::LANES),
                    V::LANES * N,
                );
            }
        }
    }

    /// The values of that tile, if its rows lie side by side; others are found by nobody in time.
    fn next_values(&self, n_rows: usize) -> &[f32] {
        let n_features = self.packed.n_features();
        match &self.next[..self.next.len().min(n_rows)] {
            [first, .., last] if (*first..*first + n_rows as u16).contains(last) => {
                &self.block.values()[usize::from(*first) * n_features..(usize::from(*last) + 1) * n_features]
            }
            _ => &[],
        }
    }
}

/// What is found for each lane of a tile.
struct Best<V, const N: usize> {
    /// The largest nearness.
    firsts: [V; N],
    /// The second largest.
    seconds: [V; N],
    /// The centroid with the largest nearness. As float32, which counts exactly far beyond the most clusters there may be.
    winners: [V; N],
    /// Squared norm of the row.
    norms: [V; N],
}

/// Compares all centroids with a tile of n_features x (N x LANES) numbers, and asks the memory for `next` on the way.
///
/// # Safety
///
/// The caller has enabled the instruction set of V, and the tile is whole.
#[inline(always)]
unsafe fn best_of<V: Vector, const N: usize, const G: usize>(
    packed: &PackedCentroids<'_>,
    tile: &[Line],
    next: &[f32],
) -> Best<V, N> {
    const { assert!(GROUP.is_multiple_of(G)) };
    let n_features = packed.n_features();
    assert!(tile.len() * LINE >= n_features * N * V::LANES);
    // SAFETY: V is enabled; the tile is whole.
    unsafe {
        let mut best = Best {
            firsts: [V::splat(f32::NEG_INFINITY); N],
            seconds: [V::splat(f32::NEG_INFINITY); N],
            winners: [V::splat(0.0); N],
            norms: [V::splat(0.0); N],
        };
        for feature in 0..n_features {
            let columns = columns::<V, N>(tile, feature);
            for n in 0..N {
                best.norms[n] = columns[n].multiply_add(columns[n], best.norms[n]);
            }
        }
        // What comes next is asked for bit by bit, since memory answers only so many requests at a time.
        let mut next = next.chunks(next.len().div_ceil(packed.n_groups()).next_multiple_of(LINE).max(LINE));
        for group in packed.groups() {
            for value in next.next().unwrap_or(&[]).iter().step_by(LINE) {
                V::prefetch(value);
            }
            let mut first = 0;
            while first < group.n_centroids {
                // Half a group of few centroids costs half.
                if group.n_centroids - first <= GROUP / 2 {
                    best.compare_group::<{ GROUP / 2 }>(tile, &group, first);
                    first += GROUP / 2;
                } else {
                    best.compare_group::<G>(tile, &group, first);
                    first += G;
                }
            }
        }
        best
    }
}

/// One feature of all rows of a tile.
#[inline(always)]
unsafe fn columns<V: Vector, const N: usize>(tile: &[Line], feature: usize) -> [V; N] {
    // SAFETY: the caller has enabled V, and the tile holds n_features x N x LANES numbers.
    std::array::from_fn(|n| unsafe { V::load(tile.as_ptr().cast::<f32>().add((feature * N + n) * V::LANES)) })
}

impl<V: Vector, const N: usize> Best<V, N> {
    /// Compares G centroids of a group, from `first` on.
    ///
    /// # Safety
    ///
    /// As for [`best_of`].
    #[inline(always)]
    unsafe fn compare_group<const G: usize>(&mut self, tile: &[Line], group: &Group<'_>, first: usize) {
        // SAFETY: V is enabled, the tile is whole.
        unsafe {
            let mut nearness: [[V; N]; G] = std::array::from_fn(|idx| [V::splat(-group.half_norms[first + idx]); N]);
            for (feature, centroids) in group.values.iter().enumerate() {
                let columns = columns::<V, N>(tile, feature);
                for idx in 0..G {
                    let centroid = V::splat(centroids[first + idx]);
                    for n in 0..N {
                        nearness[idx][n] = centroid.multiply_add(columns[n], nearness[idx][n]);
                    }
                }
            }
            for (idx, nearness) in nearness.into_iter().enumerate() {
                let cluster = V::splat((group.first + first + idx) as f32);
                for n in 0..N {
                    self.winners[n] = nearness[n].select_greater(self.firsts[n], cluster, self.winners[n]);
                    self.seconds[n] = self.seconds[n].max(self.firsts[n].min(nearness[n]));
                    self.firsts[n] = self.firsts[n].max(nearness[n]);
                }
            }
        }
    }
}
