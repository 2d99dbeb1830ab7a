//! How rows that changed their cluster are summed: what a block takes of features, and what the launch is told.

use crate::gpu::{Buffer, GpuError, Launch, NULL};
use crate::lloyd::SETS_MAX;
use crate::rows::DeviceRows;
use bytemuck::{Pod, Zeroable};

/// Moves of one set, as kernels/moves.cu has them.
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct MovesOfSet {
    pub(crate) moves: u64,
    /// How many each segment has.
    pub(crate) n_moves: u64,
    /// Where they are added: sums, if those are wanted, and weights.
    pub(crate) sums: u64,
    pub(crate) weights: u64,
    pub(crate) n_clusters: u32,
    pub(crate) padding: u32,
}

/// A launch, as kernels/moves.cu has it.
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct Moves {
    rows: u64,
    row_weights: u64,
    per_unit: u64,
    n_segments: u32,
    room: u32,
    stride: u32,
    n_features: u32,
    width: u32,
    has_one_limb: u32,
    with_sums: u32,
    padding: u32,
    sets: [MovesOfSet; SETS_MAX],
}

const _: () = assert!(size_of::<MovesOfSet>() == 40 && size_of::<Moves>() == 56 + 40 * SETS_MAX);

/// Words of a move.
pub(crate) const MOVE_WORDS: usize = 3;
/// Features that a block may take, the most first. Eight of a row are a sector of memory.
const WIDTHS: [usize; 3] = [32, 16, NARROWEST];
const NARROWEST: usize = 8;
/// Blocks that share a multiprocessor, if their sums let them.
const BLOCKS: usize = 4;

/// How moves lie in memory: each set's in so many segments of `room`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Segments {
    pub(crate) n: u32,
    pub(crate) room: usize,
}

/// What a block takes of a set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Slice {
    width: usize,
    /// The sums do not fit shared memory.
    in_global: bool,
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

/// The widest slice that is not mostly empty, and of which several blocks fit; otherwise the narrowest, if one fits.
fn slice(rows: &DeviceRows, n_clusters: usize, n_features: usize) -> Slice {
    let bytes = |width: usize| shared_bytes(rows, n_clusters, width);
    let all = rows.gpu.shared_bytes_max();
    let enough = WIDTHS.into_iter().find(|width| *width < 2 * n_features.max(NARROWEST)).unwrap_or(NARROWEST);
    let mut widths = WIDTHS.into_iter().filter(|width| *width <= enough);
    let fitting = widths.find(|width| bytes(*width) <= all / BLOCKS);
    match fitting.or(Some(NARROWEST).filter(|width| bytes(*width) <= all)) {
        _ if n_features == 0 => Slice { width: NARROWEST, in_global: false },
        Some(width) => Slice { width, in_global: false },
        None => Slice { width: enough, in_global: true },
    }
}

/// Starts the kernels that add the moves of some sets, whose counts fit. Sets that are sliced alike share a launch.
pub(crate) fn launch(
    rows: &DeviceRows,
    segments: Segments,
    sets: &[MovesOfSet],
    with_sums: bool,
) -> Result<(), GpuError> {
    let n_features = if with_sums { rows.n_features } else { 0 };
    let mut alike: Vec<(Slice, Vec<MovesOfSet>)> = Vec::new();
    for set in sets {
        let slice = slice(rows, set.n_clusters as usize, n_features);
        match alike.iter_mut().find(|(other, sets)| *other == slice && sets.len() < SETS_MAX) {
            Some((_, sets)) => sets.push(*set),
            None => alike.push((slice, vec![*set])),
        }
    }
    alike.iter().try_for_each(|(slice, sets)| launch_alike(rows, segments, *slice, sets, n_features))
}

fn launch_alike(
    rows: &DeviceRows,
    segments: Segments,
    slice: Slice,
    sets: &[MovesOfSet],
    n_features: usize,
) -> Result<(), GpuError> {
    let gpu = rows.gpu.as_ref();
    let with_sums = n_features > 0;
    let width_in_shared = if with_sums && !slice.in_global { slice.width } else { 0 };
    let n_clusters = sets.iter().map(|set| set.n_clusters as usize).max().unwrap_or(0);
    let shared_bytes = shared_bytes(rows, n_clusters, width_in_shared);
    let kernel = match (rows.weights.is_some(), slice.in_global) {
        (false, false) => "add_moves",
        (true, false) => "add_moves_weighted",
        (false, true) => "add_moves_in_global",
        (true, true) => "add_moves_weighted_in_global",
    };
    let n_slices = n_features.div_ceil(slice.width).max(1) as u32;
    let n_blocks = gpu.n_processors() * gpu.blocks_together(kernel, shared_bytes)?.max(1);
    // Several blocks share a segment, so that all of the GPU has something to do.
    let n_parts = (n_blocks / n_slices / segments.n / sets.len() as u32).max(1);
    let grid = (n_parts * segments.n, n_slices, sets.len() as u32);
    let mut moves = Moves {
        rows: rows.values.address(),
        row_weights: rows.weights.as_ref().map_or(NULL, Buffer::address),
        per_unit: rows.per_unit.address(),
        n_segments: segments.n,
        room: segments.room as u32,
        stride: rows.stride as u32,
        n_features: rows.n_features as u32,
        width: slice.width as u32,
        has_one_limb: u32::from(rows.sum_limbs() == 1),
        with_sums: u32::from(with_sums),
        ..Moves::zeroed()
    };
    moves.sets[..sets.len()].copy_from_slice(sets);
    let launch = Launch { kernel, grid, shared_bytes, parameters: bytemuck::bytes_of(&moves) };
    // SAFETY: the structure is the kernel's; its addresses are those of buffers that the caller holds.
    unsafe { gpu.launch(&launch) }
}
