//! How rows that changed their cluster are summed: what a block takes of features, and what the launch is told.

use crate::gpu::Buffer;
use crate::gpu::{GpuError, Launch, NULL};
use crate::rows::DeviceRows;
use bytemuck::{Pod, Zeroable};

/// A launch, as kernels/moves.cu has it.
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct Moves {
    rows: u64,
    row_weights: u64,
    per_unit: u64,
    moves: u64,
    n_moves: u64,
    sums: u64,
    weights: u64,
    n_segments: u32,
    room: u32,
    stride: u32,
    n_features: u32,
    n_clusters: u32,
    width: u32,
    has_one_limb: u32,
    with_sums: u32,
}

const _: () = assert!(size_of::<Moves>() == 88);

/// Words of a move.
pub(crate) const MOVE_WORDS: usize = 3;
/// Features that a block may take, the most first. Eight of a row are a sector of memory.
const WIDTHS: [usize; 3] = [32, 16, NARROWEST];
const NARROWEST: usize = 8;
/// Blocks that share a multiprocessor, if their sums let them.
const BLOCKS: usize = 4;

/// Moves of one set, in segments of `room`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct MovesOfSet {
    pub(crate) moves: u64,
    /// How many each segment has.
    pub(crate) n_moves: u64,
    pub(crate) n_segments: u32,
    pub(crate) room: usize,
    pub(crate) n_clusters: usize,
    /// Where they are added: sums, if those are wanted, and weights.
    pub(crate) sums: Option<u64>,
    pub(crate) weights: u64,
}

/// Shared memory of a block for so many clusters: their counts, and what is pending of `width` features; limbs, each in one
/// word or in two.
fn shared_bytes(rows: &DeviceRows, n_clusters: usize, width: usize) -> usize {
    let per_cluster = if rows.weights.is_some() { 4 + 4 * width } else { 2 + 2 * width };
    n_clusters * per_cluster * size_of::<u32>()
}

/// Whether the counts of so many clusters fit a block's shared memory; their sums need not.
pub(crate) fn fits(rows: &DeviceRows, n_clusters: usize) -> bool {
    shared_bytes(rows, n_clusters, 0) <= rows.gpu.shared_bytes_max()
}

/// Starts the kernel that adds the moves of a set, whose counts fit.
pub(crate) fn launch(rows: &DeviceRows, set: &MovesOfSet) -> Result<(), GpuError> {
    let gpu = rows.gpu.as_ref();
    let is_weighted = rows.weights.is_some();
    let n_features = if set.sums.is_some() { rows.n_features } else { 0 };
    let bytes = |width: usize| shared_bytes(rows, set.n_clusters, width);
    let all = gpu.shared_bytes_max();
    // The widest slice that is not mostly empty, and of which several blocks fit; otherwise the narrowest, if one fits.
    let enough = WIDTHS.into_iter().find(|width| *width < 2 * n_features.max(NARROWEST)).unwrap_or(NARROWEST);
    let mut widths = WIDTHS.into_iter().filter(|width| *width <= enough);
    let fitting = widths.find(|width| bytes(*width) <= all / BLOCKS);
    let shared = fitting.or(Some(NARROWEST).filter(|width| bytes(*width) <= all));
    let in_global = shared.is_none() && n_features > 0;
    let (width, shared_bytes) = match shared {
        _ if n_features == 0 => (NARROWEST, bytes(0)),
        Some(width) => (width, bytes(width)),
        None => (enough, bytes(0)),
    };
    let kernel = match (is_weighted, in_global) {
        (false, false) => "add_moves",
        (true, false) => "add_moves_weighted",
        (false, true) => "add_moves_in_global",
        (true, true) => "add_moves_weighted_in_global",
    };
    let n_slices = n_features.div_ceil(width).max(1) as u32;
    let n_blocks = gpu.n_processors() * gpu.blocks_together(kernel, shared_bytes)?.max(1);
    // Several blocks share a segment, so that all of the GPU has something to do.
    let n_parts = (n_blocks / n_slices / set.n_segments).max(1);
    let grid = (n_parts * set.n_segments, n_slices);
    let moves = Moves {
        rows: rows.values.address(),
        row_weights: rows.weights.as_ref().map_or(NULL, Buffer::address),
        per_unit: rows.per_unit.address(),
        moves: set.moves,
        n_moves: set.n_moves,
        sums: set.sums.unwrap_or(NULL),
        weights: set.weights,
        n_segments: set.n_segments,
        room: set.room as u32,
        stride: rows.stride as u32,
        n_features: rows.n_features as u32,
        n_clusters: set.n_clusters as u32,
        width: width as u32,
        has_one_limb: u32::from(rows.sum_limbs() == 1),
        with_sums: u32::from(set.sums.is_some()),
    };
    let launch = Launch { kernel, grid, shared_bytes, parameters: bytemuck::bytes_of(&moves) };
    // SAFETY: the structure is the kernel's; its addresses are those of buffers that the caller holds.
    unsafe { gpu.launch(&launch) }
}
