//! Sums of distances from given rows to the rows of every cluster, for the silhouette.
//!
//! Queried rows are taken sixteen at a time, one a vector lane, and compared with every row of the block. A distance is
//! computed from the differences, without the cancellation of |x|^2 - 2xy + |y|^2, its additions in column order and
//! unfused, so that every instruction set has the same bits. It is then rounded to the grid of the question: on it a
//! float64 adds a whole block without rounding, and between blocks 128-bit integers do.

use super::Isa;
use shoal_domain::Block;

const LANES: usize = 16;

/// A question: rows and the grid of their distances.
pub(super) struct DistanceQuery<'a> {
    /// Queried rows, n_rows x n_features.
    pub(super) values: &'a [f32],
    /// Columns.
    pub(super) n_features: usize,
    /// Clusters.
    pub(super) n_clusters: usize,
    /// Distances are rounded to multiples of this power of two.
    pub(super) unit: f64,
}

impl DistanceQuery<'_> {
    /// Adds the distances to the block's rows, whose clusters are `labels`, to `sums` (n_rows x n_clusters, in units).
    pub(super) fn add(&self, block: &Block, labels: &[u16], isa: Isa, sums: &mut [i128]) {
        match isa {
            // SAFETY: an `Isa` other than Portable comes from `Isa::detect`, which saw these features on this machine.
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => unsafe { add_avx512(self, block, labels, sums) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => unsafe { add_avx2(self, block, labels, sums) },
            _ => add_tiles(self, block, labels, sums),
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2")]
fn add_avx512(query: &DistanceQuery<'_>, block: &Block, labels: &[u16], sums: &mut [i128]) {
    add_tiles(query, block, labels, sums);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn add_avx2(query: &DistanceQuery<'_>, block: &Block, labels: &[u16], sums: &mut [i128]) {
    add_tiles(query, block, labels, sums);
}

#[inline(always)]
fn add_tiles(query: &DistanceQuery<'_>, block: &Block, labels: &[u16], sums: &mut [i128]) {
    let (n_features, n_clusters) = (query.n_features, query.n_clusters);
    // Adding and subtracting 1.5 x 2^52 units leaves a multiple of the unit.
    let rounder = query.unit * 1.5 * (1u64 << 52) as f64;
    let mut tile = vec![[0.0f32; LANES]; n_features];
    let mut tile_sums = vec![[0.0f64; LANES]; n_clusters];
    let tiles = query.values.chunks(LANES * n_features).zip(sums.chunks_mut(LANES * n_clusters));
    for (rows, sums) in tiles {
        for (lane, row) in rows.chunks_exact(n_features).enumerate() {
            tile.iter_mut().zip(row).for_each(|(column, value)| column[lane] = *value);
        }
        tile_sums.fill([0.0; LANES]);
        for (row, label) in block.values().chunks_exact(n_features).zip(labels) {
            let mut squares = [0.0f32; LANES];
            for (column, value) in tile.iter().zip(row) {
                for lane in 0..LANES {
                    let difference = column[lane] - value;
                    squares[lane] += difference * difference;
                }
            }
            let cluster_sums = &mut tile_sums[*label as usize];
            for lane in 0..LANES {
                let distance = f64::from(squares[lane].sqrt());
                cluster_sums[lane] += (distance + rounder) - rounder;
            }
        }
        for (lane, sums) in sums.chunks_exact_mut(n_clusters).enumerate() {
            for (sum, tile_sums) in sums.iter_mut().zip(&tile_sums) {
                *sum += (tile_sums[lane] / query.unit) as i128;
            }
        }
    }
}
