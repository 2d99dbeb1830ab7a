//! The silhouettes of all rows of a shard: every pair of rows once, cluster after cluster.

use crate::gpu::{Buffer, Gpu, GpuError, Launch};
use crate::rows::DeviceRows;
use bytemuck::{Pod, Zeroable};
use rayon::prelude::*;
use shoal_clustering::cpu::ClusterOrder;
use shoal_clustering::pairs::PairScale;
use shoal_clustering::silhouette::{Silhouettes, mean_distance};
use shoal_clustering::{ClusteringError, PairQuestion};
use std::ops::Range;

/// The kernel that compares rows of two clusters, as kernels/pairs.cu has it.
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct Pairs {
    rows: u64,
    order: u64,
    origin: u64,
    x_sums: u64,
    y_sums: u64,
    x_aside: u64,
    y_aside: u64,
    unit: f64,
    per_unit: f32,
    stride: u32,
    n_features: u32,
    x_first: u32,
    x_n: u32,
    y_first: u32,
    y_n: u32,
    tiles_together: u32,
    is_same: u32,
    padding: u32,
}

const _: () = assert!(size_of::<Pairs>() == 104);

/// Rows that a block compares with as many others.
const TILE: usize = 128;
/// Shared memory of a block: 32 features and the norm of two tiles.
const SHARED_BYTES: usize = 2 * (32 + 1) * TILE * size_of::<f32>();
/// Tiles that a block compares one after the other, so that what it adds at its end does not count.
const TILES_TOGETHER_MAX: usize = 64;
/// Sums of rows of one cluster, to every other cluster, that are held at a time; three numbers each.
const SUMS_MAX: usize = 16 << 20;

/// Sums of distances, one a row: integers of a pair scale, and two limbs in units of the question.
struct RowSums(Buffer<u64>);

impl RowSums {
    fn new(gpu: &std::sync::Arc<dyn Gpu>, n_rows: usize) -> Result<Self, GpuError> {
        let buffer = Buffer::new(gpu, 3 * n_rows)?;
        buffer.clear()?;
        Ok(Self(buffer))
    }

    fn read(&self) -> Result<Vec<u64>, GpuError> {
        self.0.read(0, self.0.len())
    }
}

/// The sums of `n` rows, of which `numbers` begin at `first`, in units of the question.
fn total(numbers: &[u64], n: usize, first: usize, row: usize, shift: u32) -> i128 {
    let number = |limb: usize| i128::from(numbers[3 * first + limb * n + row]);
    (number(0) << shift) + number(1) + (number(2) << 32)
}

/// The silhouettes of all rows, in the order that their labels give.
pub(crate) fn silhouettes(
    rows: &DeviceRows,
    order: &ClusterOrder,
    question: &PairQuestion,
    on_done: &mut dyn FnMut(f64) -> Result<(), ClusteringError>,
) -> Result<Silhouettes, ClusteringError> {
    let comparing = Comparing::new(rows, order, question).map_err(ClusteringError::rows)?;
    let n_rows = rows.n_rows;
    let (mut within, mut nearest) = (vec![0.0; n_rows], vec![f64::INFINITY; n_rows]);
    let mut n_pairs_done = 0.0;
    for from in 0..order.clusters().len() {
        comparing.cluster(from, &mut within, &mut nearest).map_err(ClusteringError::rows)?;
        let own = &order.clusters()[from];
        n_pairs_done += own.len() as f64 * ((n_rows - own.end) as f64 + own.len() as f64 / 2.0);
        on_done((2.0 * n_pairs_done / (n_rows as f64).powi(2)).min(1.0))?;
    }
    Ok(order.silhouettes(|position| (within[position], nearest[position])))
}

/// Comparisons of the rows of clusters.
struct Comparing<'a> {
    rows: &'a DeviceRows,
    clusters: &'a [Range<usize>],
    question: &'a PairQuestion,
    /// The rows by cluster.
    order: Buffer<u32>,
    /// n_clusters x n_features.
    centroids: Buffer<f32>,
}

impl<'a> Comparing<'a> {
    fn new(rows: &'a DeviceRows, order: &'a ClusterOrder, question: &'a PairQuestion) -> Result<Self, GpuError> {
        let numbers: Vec<u32> = order.rows().map(|row| row as u32).collect();
        let centroids = Buffer::of(&rows.gpu, question.centroids.values())?;
        let order_there = Buffer::of(&rows.gpu, &numbers)?;
        Ok(Self { rows, clusters: order.clusters(), question, order: order_there, centroids })
    }

    /// Compares the rows of a cluster with each other and with those of all later clusters, and takes over what that
    /// tells of either.
    fn cluster(&self, from: usize, within: &mut [f64], nearest: &mut [f64]) -> Result<(), GpuError> {
        let own = self.clusters[from].clone();
        let later = own.end..self.rows.n_rows;
        let others: Vec<usize> = (from + 1..self.clusters.len()).filter(|to| !self.clusters[*to].is_empty()).collect();
        if own.is_empty() {
            return Ok(());
        }
        let unit = self.question.unit;
        let of_own = RowSums::new(&self.rows.gpu, own.len())?;
        self.compare(from, own.clone(), from, (&of_own, 0, own.len()), (&of_own, 0, own.len()))?;
        let of_later = RowSums::new(&self.rows.gpu, later.len())?;
        let rows_together = (SUMS_MAX / others.len().max(1)).max(TILE);
        for first in own.clone().step_by(rows_together) {
            let part = first..(first + rows_together).min(own.end);
            let n = part.len();
            let of_part = RowSums::new(&self.rows.gpu, n * others.len())?;
            for (idx, to) in others.iter().enumerate() {
                let there = &self.clusters[*to];
                let y_sums = (&of_later, there.start - later.start, there.len());
                self.compare(from, part.clone(), *to, (&of_part, idx * n, n), y_sums)?;
            }
            let numbers = of_part.read()?;
            nearest[part].par_iter_mut().enumerate().for_each(|(row, nearest)| {
                for (idx, to) in others.iter().enumerate() {
                    let shift = PairScale::new(self.question, from, *to).shift();
                    let sum = total(&numbers, n, idx * n, row, shift);
                    *nearest = nearest.min(mean_distance(sum, unit, self.clusters[*to].len() as u64));
                }
            });
        }
        let numbers = of_own.read()?;
        let shift = PairScale::new(self.question, from, from).shift();
        within[own.clone()].par_iter_mut().enumerate().for_each(|(row, within)| {
            *within = mean_distance(total(&numbers, own.len(), 0, row, shift), unit, (own.len() as u64).max(2) - 1);
        });
        let numbers = of_later.read()?;
        for to in others {
            let there = self.clusters[to].clone();
            let (first, n) = (there.start - later.start, there.len());
            let shift = PairScale::new(self.question, from, to).shift();
            nearest[there].par_iter_mut().enumerate().for_each(|(row, nearest)| {
                *nearest = nearest.min(mean_distance(total(&numbers, n, first, row, shift), unit, own.len() as u64));
            });
        }
        Ok(())
    }

    /// Starts the comparison of some rows of one cluster with all of another. Sums of each side are of so many rows, from
    /// the given one on.
    fn compare(
        &self,
        from: usize,
        part: Range<usize>,
        to: usize,
        (x_sums, x_at, x_n): (&RowSums, usize, usize),
        (y_sums, y_at, y_n): (&RowSums, usize, usize),
    ) -> Result<(), GpuError> {
        let scale = PairScale::new(self.question, from, to);
        let there = &self.clusters[to];
        let (x_tiles, y_tiles) = (x_n.div_ceil(TILE), y_n.div_ceil(TILE));
        // Enough blocks for the whole GPU, and not more than it takes.
        let blocks_wanted = rows_of_grid(self.rows.gpu.n_processors());
        let tiles_together = (x_tiles * y_tiles / blocks_wanted).clamp(1, TILES_TOGETHER_MAX);
        let n_features = self.rows.n_features;
        let pairs = Pairs {
            rows: self.rows.values.address(),
            order: self.order.address(),
            origin: self.centroids.at(from.min(to) * n_features),
            x_sums: x_sums.0.at(3 * x_at),
            y_sums: y_sums.0.at(3 * y_at),
            x_aside: x_sums.0.at(3 * x_at + x_n),
            y_aside: y_sums.0.at(3 * y_at + y_n),
            unit: self.question.unit,
            per_unit: scale.per_unit(),
            stride: self.rows.stride as u32,
            n_features: n_features as u32,
            x_first: part.start as u32,
            x_n: x_n as u32,
            y_first: there.start as u32,
            y_n: y_n as u32,
            tiles_together: tiles_together as u32,
            is_same: u32::from(from == to),
            padding: 0,
        };
        let grid = (x_tiles as u32, y_tiles.div_ceil(tiles_together) as u32);
        let parameters = bytemuck::bytes_of(&pairs);
        let launch = Launch { kernel: "add_pairs", grid, shared_bytes: SHARED_BYTES, parameters };
        // SAFETY: the structure is the kernel's; there are three numbers for each row of either side.
        unsafe { self.rows.gpu.launch(&launch) }
    }
}

/// Blocks that keep a GPU busy to the end.
fn rows_of_grid(n_processors: u32) -> usize {
    16 * n_processors as usize
}
