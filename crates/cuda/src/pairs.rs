//! How pairs of rows of two clusters are put to the GPU: laid out about a point near both, compared tile by tile, summed.

use crate::gpu::{Buffer, Gpu, GpuError, Launch, NULL, THREADS};
use crate::rows::DeviceRows;
use bytemuck::{Pod, Zeroable};
use shoal_clustering::PairQuestion;
use shoal_clustering::pairs::PairScale;
use std::ops::Range;
use std::sync::Arc;

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
    rows: u64,
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
    unit: f64,
    stride: u32,
    n_features: u32,
    tiles_together: u32,
    is_same: u32,
}

const _: () = assert!(size_of::<Side>() == 56 && size_of::<Pairs>() == 136 && size_of::<PlacedRows>() == 56);

/// Rows that a block compares with as many others.
pub(crate) const TILE: usize = 128;
/// Shared memory of a block: two stages of 32 features and the norm of two tiles.
const SHARED_BYTES: usize = 2 * 2 * (32 + 1) * TILE * size_of::<f32>();
/// Tiles that a block compares one after the other, so that what it adds at its end does not count.
const TILES_TOGETHER_MAX: usize = 64;
/// Blocks that keep a multiprocessor busy to the end.
const BLOCKS_WANTED: usize = 16;
/// Rows that are laid out at a time.
pub(crate) const PANEL_ROWS: usize = 2048 * TILE;

/// Sums of distances, one a row: integers of a pair scale, and two limbs in units of the question.
pub(crate) struct RowSums(Buffer<u64>);

impl RowSums {
    pub(crate) fn new(gpu: &Arc<dyn Gpu>, n_rows: usize) -> Result<Self, GpuError> {
        let buffer = Buffer::new(gpu, 3 * n_rows)?;
        buffer.clear()?;
        Ok(Self(buffer))
    }

    pub(crate) fn read(&self) -> Result<Vec<u64>, GpuError> {
        self.0.read(0, self.0.len())
    }
}

/// The sums of `n` rows, of which `numbers` begin at `first`, in units of the question.
pub(crate) fn total(numbers: &[u64], n: usize, first: usize, row: usize, shift: u32) -> i128 {
    let number = |limb: usize| i128::from(numbers[3 * first + limb * n + row]);
    (number(0) << shift) + number(1) + (number(2) << 32)
}

/// Sums of some rows that lie one after the other among those of a group.
#[derive(Clone, Copy)]
pub(crate) struct SumsAt<'a> {
    pub(crate) sums: &'a RowSums,
    /// The group's first row, and how many it has.
    pub(crate) first: usize,
    pub(crate) n: usize,
    /// The first of the rows within the group.
    pub(crate) row: usize,
}

/// Room for the rows of a panel, laid out, and their norms.
pub(crate) struct Panel {
    placed: Buffer<f32>,
    norms: Buffer<f32>,
}

impl Panel {
    pub(crate) fn new(rows: &DeviceRows, n_rows: usize) -> Result<Self, GpuError> {
        let n_rows = n_rows.next_multiple_of(TILE);
        let placed = Buffer::new(&rows.gpu, n_rows * rows.n_features)?;
        Ok(Self { placed, norms: Buffer::new(&rows.gpu, n_rows)? })
    }
}

/// Cuts a range of rows into panels.
pub(crate) fn panels(rows: &Range<usize>, n_rows: usize) -> impl Iterator<Item = Range<usize>> + use<> {
    let end = rows.end;
    rows.clone().step_by(n_rows).map(move |first| first..(first + n_rows).min(end))
}

/// Rows that are compared: some, in an order, of n x stride values on the GPU.
#[derive(Clone, Copy)]
pub(crate) struct Compared<'a> {
    pub(crate) values: &'a Buffer<f32>,
    /// Which rows: those of a range of this order.
    pub(crate) order: &'a Buffer<u32>,
    pub(crate) first: usize,
    pub(crate) n: usize,
    /// Where they are laid out.
    pub(crate) panel: &'a Panel,
    /// Where their sums are added, if anybody asks for them.
    pub(crate) sums: Option<SumsAt<'a>>,
}

impl Compared<'_> {
    fn n_tiles(&self) -> usize {
        self.n.div_ceil(TILE)
    }

    fn side(&self) -> Side {
        let at = |at: SumsAt<'_>, limb: usize| at.sums.0.at(3 * at.first + limb * at.n + at.row);
        Side {
            placed: self.panel.placed.address(),
            norms: self.panel.norms.address(),
            rows: self.values.address(),
            order: self.order.at(self.first),
            sums: self.sums.map_or(NULL, |sums| at(sums, 0)),
            aside: self.sums.map_or(NULL, |sums| at(sums, 1)),
            aside_apart: self.sums.map_or(0, |sums| sums.n as u32),
            n: self.n as u32,
        }
    }
}

/// Comparisons of the rows of clusters.
pub(crate) struct Comparing<'a> {
    pub(crate) rows: &'a DeviceRows,
    pub(crate) question: &'a PairQuestion,
    /// n_clusters x n_features.
    centroids: Buffer<f32>,
}

impl<'a> Comparing<'a> {
    pub(crate) fn new(rows: &'a DeviceRows, question: &'a PairQuestion) -> Result<Self, GpuError> {
        Ok(Self { rows, question, centroids: Buffer::of(&rows.gpu, question.centroids.values())? })
    }

    /// The shifts of sums between rows of a cluster and of others.
    pub(crate) fn shifts(&self, from: usize, others: &[usize]) -> Vec<u32> {
        others.iter().map(|to| PairScale::new(self.question, from, *to).shift()).collect()
    }

    /// Starts the comparison of some rows of one cluster with some of another.
    pub(crate) fn compare(&self, clusters: (usize, usize), sides: [Compared<'_>; 2]) -> Result<(), GpuError> {
        sides.iter().try_for_each(|side| self.place(side, clusters))?;
        self.launch(sides, false)
    }

    /// Starts the comparison of some rows of a cluster with each other: each pair once, a row with itself left out.
    pub(crate) fn compare_with_each_other(&self, cluster: usize, rows: Compared<'_>) -> Result<(), GpuError> {
        self.place(&rows, (cluster, cluster))?;
        self.launch([rows, rows], true)
    }

    fn launch(&self, [x, y]: [Compared<'_>; 2], is_same: bool) -> Result<(), GpuError> {
        let gpu = self.rows.gpu.as_ref();
        // Enough blocks for the whole GPU, and not more than it takes.
        let blocks_wanted = BLOCKS_WANTED * gpu.n_processors() as usize;
        let tiles_together = (x.n_tiles() * y.n_tiles() / blocks_wanted).clamp(1, TILES_TOGETHER_MAX);
        let pairs = Pairs {
            x: x.side(),
            y: y.side(),
            unit: self.question.unit,
            stride: self.rows.stride as u32,
            n_features: self.rows.n_features as u32,
            tiles_together: tiles_together as u32,
            is_same: u32::from(is_same),
        };
        let grid = (x.n_tiles() as u32, y.n_tiles().div_ceil(tiles_together) as u32, 1);
        let parameters = bytemuck::bytes_of(&pairs);
        let launch = Launch { kernel: "add_pairs", grid, shared_bytes: SHARED_BYTES, parameters };
        // SAFETY: the structure is the kernel's; there are three numbers for each row of a side whose sums are asked for.
        unsafe { gpu.launch(&launch) }
    }

    /// Lays rows out in their panel, as a pair of clusters wants them.
    fn place(&self, rows: &Compared<'_>, (from, to): (usize, usize)) -> Result<(), GpuError> {
        let places = PlacedRows {
            rows: rows.values.address(),
            order: rows.order.at(rows.first),
            origin: self.centroids.at(from.min(to) * self.rows.n_features),
            placed: rows.panel.placed.address(),
            norms: rows.panel.norms.address(),
            per_unit: PairScale::new(self.question, from, to).per_unit(),
            stride: self.rows.stride as u32,
            n_features: self.rows.n_features as u32,
            n: rows.n as u32,
        };
        let n_blocks = (rows.n_tiles() * TILE).div_ceil(THREADS as usize) as u32;
        let parameters = bytemuck::bytes_of(&places);
        let launch = Launch { kernel: "place_rows", grid: (n_blocks, 1, 1), shared_bytes: 0, parameters };
        // SAFETY: the structure is the kernel's; a panel has room for the rows in whole tiles.
        unsafe { self.rows.gpu.launch(&launch) }
    }
}
