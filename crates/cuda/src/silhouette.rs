//! The silhouettes of all rows of a shard: every pair of rows once, cluster after cluster.

use crate::gpu::{Buffer, Gpu, GpuError, Launch, THREADS};
use crate::rows::DeviceRows;
use bytemuck::{Pod, Zeroable};
use rayon::prelude::*;
use shoal_clustering::cpu::{ClusterOrder, CpuDevice};
use shoal_clustering::pairs::PairScale;
use shoal_clustering::silhouette::{Silhouettes, mean_distance};
use shoal_clustering::{ClusteringError, PairQuestion};
use std::ops::Range;

/// The kernel that lays rows out, as kernels/pairs.cu has it.
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct PlacedRows {
    rows: u64,
    order: u64,
    origin: u64,
    placed: u64,
    norms: u64,
    per_unit: f32,
    stride: u32,
    n_features: u32,
    n: u32,
}

/// One side of a comparison, as kernels/pairs.cu has it.
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct Side {
    placed: u64,
    norms: u64,
    order: u64,
    sums: u64,
    aside: u64,
    aside_apart: u32,
    n: u32,
}

/// The kernel that compares rows of two clusters, as kernels/pairs.cu has it.
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct Pairs {
    x: Side,
    y: Side,
    rows: u64,
    unit: f64,
    stride: u32,
    n_features: u32,
    tiles_together: u32,
    is_same: u32,
}

const _: () = assert!(size_of::<Side>() == 48 && size_of::<Pairs>() == 128 && size_of::<PlacedRows>() == 56);

/// Rows that a block compares with as many others.
const TILE: usize = 128;
/// Shared memory of a block: two stages of 32 features and the norm of two tiles.
const SHARED_BYTES: usize = 2 * 2 * (32 + 1) * TILE * size_of::<f32>();
/// Tiles that a block compares one after the other, so that what it adds at its end does not count.
const TILES_TOGETHER_MAX: usize = 64;
/// Rows of a cluster that are laid out at a time.
const PANEL_ROWS: usize = 2048 * TILE;
/// Sums of a panel's rows to every other cluster, three numbers each.
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
    cpu: &CpuDevice,
    order: &ClusterOrder,
    question: &PairQuestion,
    on_done: &mut dyn FnMut(f64) -> Result<(), ClusteringError>,
) -> Result<Silhouettes, ClusteringError> {
    let comparing = Comparing::new(rows, cpu, order, question)?;
    let n_rows = rows.n_rows;
    let (mut within, mut nearest) = (vec![0.0; n_rows], vec![f64::INFINITY; n_rows]);
    let mut n_pairs_done = 0.0;
    for from in 0..order.clusters().len() {
        comparing.cluster(from, &mut within, &mut nearest)?;
        let own = &order.clusters()[from];
        n_pairs_done += own.len() as f64 * ((n_rows - own.end) as f64 + own.len() as f64 / 2.0);
        on_done((2.0 * n_pairs_done / (n_rows as f64).powi(2)).min(1.0))?;
    }
    Ok(order.silhouettes(|position| (within[position], nearest[position])))
}

/// Comparisons of the rows of clusters.
struct Comparing<'a> {
    rows: &'a DeviceRows,
    /// Whose threads turn sums into means.
    cpu: &'a CpuDevice,
    clusters: &'a [Range<usize>],
    question: &'a PairQuestion,
    /// The rows by cluster.
    order: Buffer<u32>,
    /// n_clusters x n_features.
    centroids: Buffer<f32>,
    /// Where a panel of either side is laid out.
    panels: [Panel; 2],
}

/// Room for the rows of a panel, laid out, and their norms.
struct Panel {
    placed: Buffer<f32>,
    norms: Buffer<f32>,
}

impl Panel {
    fn new(rows: &DeviceRows, n_rows: usize) -> Result<Self, GpuError> {
        let n_rows = n_rows.next_multiple_of(TILE);
        let placed = Buffer::new(&rows.gpu, n_rows * rows.n_features)?;
        Ok(Self { placed, norms: Buffer::new(&rows.gpu, n_rows)? })
    }
}

/// Sums of some rows that lie one after the other among those of a group.
#[derive(Clone, Copy)]
struct SumsAt<'a> {
    sums: &'a RowSums,
    /// The group's first row, and how many it has.
    first: usize,
    n: usize,
    /// The first of the rows within the group.
    row: usize,
}

impl<'a> Comparing<'a> {
    fn new(
        rows: &'a DeviceRows,
        cpu: &'a CpuDevice,
        order: &'a ClusterOrder,
        question: &'a PairQuestion,
    ) -> Result<Self, GpuError> {
        let numbers: Vec<u32> = order.rows().map(|row| row as u32).collect();
        let clusters = order.clusters();
        let n_rows = clusters.iter().map(Range::len).max().unwrap_or(0).min(PANEL_ROWS);
        Ok(Self {
            rows,
            cpu,
            clusters,
            question,
            order: Buffer::of(&rows.gpu, &numbers)?,
            centroids: Buffer::of(&rows.gpu, question.centroids.values())?,
            panels: [Panel::new(rows, n_rows)?, Panel::new(rows, n_rows)?],
        })
    }

    /// Works on numbers of rows, each with its place.
    fn each(&self, values: &mut [f64], work: impl Fn(usize, &mut f64) + Sync) {
        self.cpu.install(|| values.par_iter_mut().enumerate().for_each(|(row, value)| work(row, value)));
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
        let of_own = RowSums::new(&self.rows.gpu, own.len())?;
        let of_later = RowSums::new(&self.rows.gpu, later.len())?;
        let at = |sums, group: &Range<usize>, base: usize, row: usize| SumsAt {
            sums,
            first: group.start - base,
            n: group.len(),
            row: row - group.start,
        };
        let rows_together = (SUMS_MAX / others.len().max(1)).clamp(TILE, PANEL_ROWS) / TILE * TILE;
        for part in panels(&own, rows_together) {
            let own_sums = |row| at(&of_own, &own, own.start, row);
            for other in panels(&own, rows_together).filter(|other| other.start >= part.start) {
                let both = [own_sums(part.start), own_sums(other.start)];
                self.compare((from, from), [part.clone(), other], both)?;
            }
            let n = part.len();
            let of_part = RowSums::new(&self.rows.gpu, n * others.len())?;
            for (idx, to) in others.iter().enumerate() {
                let there = &self.clusters[*to];
                let x_sums = SumsAt { sums: &of_part, first: idx * n, n, row: 0 };
                for other in panels(there, PANEL_ROWS) {
                    let y_sums = at(&of_later, there, later.start, other.start);
                    self.compare((from, *to), [part.clone(), other], [x_sums, y_sums])?;
                }
            }
            let numbers = of_part.read()?;
            self.each(&mut nearest[part], |row, nearest| {
                for (idx, to) in others.iter().enumerate() {
                    *nearest = nearest.min(self.mean(&numbers, (n, idx * n, row), (from, *to), *to));
                }
            });
        }
        let numbers = of_own.read()?;
        self.each(&mut within[own.clone()], |row, within| {
            *within = self.mean(&numbers, (own.len(), 0, row), (from, from), from);
        });
        let numbers = of_later.read()?;
        for to in others {
            let there = self.clusters[to].clone();
            let (first, n) = (there.start - later.start, there.len());
            self.each(&mut nearest[there], |row, nearest| {
                *nearest = nearest.min(self.mean(&numbers, (n, first, row), (from, to), from));
            });
        }
        Ok(())
    }

    /// The mean distance of a row to the rows of a cluster, from its sum; that to its own cluster leaves out itself, whose
    /// distance is 0.
    fn mean(&self, numbers: &[u64], (n, first, row): (usize, usize, usize), pair: (usize, usize), to: usize) -> f64 {
        let shift = PairScale::new(self.question, pair.0, pair.1).shift();
        let n_others = self.clusters[to].len() as u64;
        let n_others = if pair.0 == pair.1 { n_others.max(2) - 1 } else { n_others };
        mean_distance(total(numbers, n, first, row, shift), self.question.unit, n_others)
    }

    /// Starts the comparison of some rows of one cluster with some of another, or of the same.
    fn compare(
        &self,
        (from, to): (usize, usize),
        rows: [Range<usize>; 2],
        sums: [SumsAt<'_>; 2],
    ) -> Result<(), GpuError> {
        let scale = PairScale::new(self.question, from, to);
        let is_same = rows[0] == rows[1];
        let [x_tiles, y_tiles] = rows.each_ref().map(|rows| rows.len().div_ceil(TILE));
        // Enough blocks for the whole GPU, and not more than it takes.
        let blocks_wanted = blocks_wanted(self.rows.gpu.n_processors());
        let tiles_together = (x_tiles * y_tiles / blocks_wanted).clamp(1, TILES_TOGETHER_MAX);
        let origin = self.centroids.at(from.min(to) * self.rows.n_features);
        let mut sides = [Side::zeroed(); 2];
        for (idx, (rows, at)) in rows.iter().zip(sums).enumerate() {
            let panel = &self.panels[if is_same { 0 } else { idx }];
            if !(is_same && idx == 1) {
                self.place(panel, rows, origin, scale.per_unit())?;
            }
            let numbers = &at.sums.0;
            sides[idx] = Side {
                placed: panel.placed.address(),
                norms: panel.norms.address(),
                order: self.order.at(rows.start),
                sums: numbers.at(3 * at.first + at.row),
                aside: numbers.at(3 * at.first + at.n + at.row),
                aside_apart: at.n as u32,
                n: rows.len() as u32,
            };
        }
        let pairs = Pairs {
            x: sides[0],
            y: sides[1],
            rows: self.rows.values.address(),
            unit: self.question.unit,
            stride: self.rows.stride as u32,
            n_features: self.rows.n_features as u32,
            tiles_together: tiles_together as u32,
            is_same: u32::from(is_same),
        };
        let grid = (x_tiles as u32, y_tiles.div_ceil(tiles_together) as u32);
        let parameters = bytemuck::bytes_of(&pairs);
        let launch = Launch { kernel: "add_pairs", grid, shared_bytes: SHARED_BYTES, parameters };
        // SAFETY: the structure is the kernel's; there are three numbers for each row of either side.
        unsafe { self.rows.gpu.launch(&launch) }
    }

    /// Lays rows out in a panel.
    fn place(&self, panel: &Panel, rows: &Range<usize>, origin: u64, per_unit: f32) -> Result<(), GpuError> {
        let places = PlacedRows {
            rows: self.rows.values.address(),
            order: self.order.at(rows.start),
            origin,
            placed: panel.placed.address(),
            norms: panel.norms.address(),
            per_unit,
            stride: self.rows.stride as u32,
            n_features: self.rows.n_features as u32,
            n: rows.len() as u32,
        };
        let n_blocks = rows.len().next_multiple_of(TILE).div_ceil(THREADS as usize) as u32;
        let parameters = bytemuck::bytes_of(&places);
        let launch = Launch { kernel: "place_rows", grid: (n_blocks, 1), shared_bytes: 0, parameters };
        // SAFETY: the structure is the kernel's; a panel has room for the rows in whole tiles.
        unsafe { self.rows.gpu.launch(&launch) }
    }
}

/// Cuts a range of rows into panels.
fn panels(rows: &Range<usize>, n_rows: usize) -> impl Iterator<Item = Range<usize>> + use<> {
    let end = rows.end;
    rows.clone().step_by(n_rows).map(move |first| first..(first + n_rows).min(end))
}

/// Blocks that keep a GPU busy to the end.
fn blocks_wanted(n_processors: u32) -> usize {
    16 * n_processors as usize
}
