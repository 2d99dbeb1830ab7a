//! How a Lloyd pass is put to the GPU: which kernels, what lies where in shared memory, and what a launch is told.

use crate::gpu::{Gpu, GpuError, Launch, Parcel};
use crate::packed::{CertainLead, PackedCentroids, Parts, STEP};
use bytemuck::{Pod, Zeroable};
use shoal_domain::Centroids;

/// Sets of centroids of one launch.
pub(crate) const SETS_MAX: usize = 24;

/// One set of centroids, as kernels/lloyd_pass.cuh has it.
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct LloydSet {
    pub(crate) fragments: u64,
    pub(crate) half_norms: u64,
    pub(crate) centroids: u64,
    pub(crate) labels: u64,
    pub(crate) until: u64,
    pub(crate) list: u64,
    pub(crate) n_listed: u64,
    pub(crate) unsure: u64,
    pub(crate) n_unsure: u64,
    pub(crate) moves: u64,
    pub(crate) n_moves: u64,
    pub(crate) n_clusters: u32,
    pub(crate) n_tiles: u32,
    pub(crate) shared_fragments: u32,
    pub(crate) shared_norms: u32,
    pub(crate) lead: CertainLead,
    pub(crate) way: f32,
    pub(crate) is_filled: u32,
}

/// A launch, as kernels/lloyd_pass.cuh has it.
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct LloydPass {
    pub(crate) rows: u64,
    pub(crate) halves: u64,
    pub(crate) lengths: u64,
    pub(crate) n_sets: u32,
    pub(crate) n_rows: u32,
    pub(crate) stride: u32,
    pub(crate) n_features: u32,
    pub(crate) tiles_together: u32,
    pub(crate) room: u32,
    pub(crate) listed_max: u32,
    pub(crate) scale: f32,
    pub(crate) per_scale: f32,
    pub(crate) padding: u32,
    pub(crate) sets: [LloydSet; SETS_MAX],
}

const _: () = assert!(size_of::<LloydSet>() == 128 && size_of::<LloydPass>() == 64 + 128 * SETS_MAX);

/// Kernels for rows of so many features at most.
#[derive(Debug, Clone, Copy)]
struct Family {
    n_features: usize,
    /// Tiles of 16 rows that a warp takes at a time.
    tiles: usize,
    /// Blocks that share a multiprocessor: of the first kernel, and of the exact one.
    blocks: [usize; 2],
}

const fn family(n_features: usize, tiles: usize, blocks: [usize; 2]) -> Family {
    Family { n_features, tiles, blocks }
}

const FAMILIES: [Family; 8] = [
    family(16, 2, [3, 2]),
    family(32, 2, [3, 2]),
    family(48, 2, [2, 2]),
    family(64, 2, [2, 2]),
    family(96, 2, [2, 1]),
    family(128, 2, [2, 1]),
    family(192, 1, [2, 1]),
    family(256, 1, [2, 1]),
];
/// Most features of a row.
const MAX_FEATURES: usize = 256;
const WARPS: usize = 8;
/// Centroids of a tile product, and bytes of their half norms.
const TILE: usize = 8;
const NORMS_BYTES: usize = TILE * size_of::<f32>();
/// Shared memory that the system takes of each block.
const RESERVED_BYTES: usize = 1024;
/// Shared memory of a set's counters.
const COUNTERS_BYTES: usize = 2 * size_of::<u32>();
/// A streamed set's tiles in shared memory at a time, in bytes, at most; as many are on their way.
const STREAMED_BYTES_MAX: usize = 32 << 10;

/// The kernels for rows of some number of features.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LloydKernels {
    family: Family,
    /// Shared memory of a multiprocessor, as far as one block may have it.
    shared_bytes: usize,
}

/// Sets that one launch looks at, and what it keeps of them in shared memory.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    /// Numbers of the sets.
    pub(crate) sets: Vec<usize>,
    parts: Parts,
    /// Whether sets share a read of the rows; otherwise each has blocks of its own.
    is_shared: bool,
    is_streamed: bool,
    /// Fragments and norms that a block has at a time.
    fragment_bytes: usize,
}

impl Plan {
    /// Sets that a block looks at.
    fn of_block(&self) -> usize {
        if self.is_shared { self.sets.len() } else { 1 }
    }

    /// Where fragments begin.
    fn fragments_at(&self) -> usize {
        (self.of_block() * COUNTERS_BYTES).next_multiple_of(16)
    }

    fn shared_bytes(&self) -> usize {
        self.fragments_at() + self.fragment_bytes
    }
}

impl LloydKernels {
    pub(crate) fn new(n_features: usize, gpu: &dyn Gpu) -> Result<Self, GpuError> {
        let family = FAMILIES.into_iter().find(|family| family.n_features >= n_features);
        let family = family.ok_or(GpuError::TooManyFeatures { n_features, max: MAX_FEATURES })?;
        Ok(Self { family, shared_bytes: gpu.shared_bytes_max() })
    }

    /// Steps of the kernels' tile products.
    pub(crate) fn n_steps(&self) -> usize {
        self.family.n_features / STEP
    }

    /// Shared memory of a block that leaves room for the others.
    fn block_bytes(&self, parts: Parts) -> usize {
        (self.shared_bytes + RESERVED_BYTES) / self.family.blocks[parts.n_parts() - 1] - RESERVED_BYTES
    }

    /// Rows that a block of the first kernel takes at a time; those of the exact one divide them.
    fn rows_of_block(&self) -> usize {
        16 * self.family.tiles * WARPS
    }

    fn tile_bytes(&self, parts: Parts) -> usize {
        self.n_steps() * parts.step_words() * 16 + NORMS_BYTES
    }

    /// Tiles of a streamed set that lie in shared memory at a time.
    fn tiles_together(&self, parts: Parts) -> usize {
        (((self.block_bytes(parts) - 16) / 2).min(STREAMED_BYTES_MAX) / self.tile_bytes(parts)).max(1)
    }

    /// Spreads sets over launches whose blocks look at all sets of theirs: as many as shared memory holds.
    pub(crate) fn sharing(&self, sets: &[(usize, &Centroids)]) -> Vec<Plan> {
        let mut plans: Vec<Plan> = Vec::new();
        for (idx, set) in sets {
            let alone = Plan { is_shared: true, ..self.alone(*idx, set, Parts::One) };
            if let Some(last) = plans.last_mut().filter(|last| last.sets.len() < SETS_MAX) {
                let fragment_bytes = last.fragment_bytes + alone.fragment_bytes;
                let joined = Plan { sets: [&last.sets[..], &[*idx]].concat(), fragment_bytes, ..last.clone() };
                let is_streamed = last.is_streamed || alone.is_streamed;
                if !is_streamed && joined.shared_bytes() <= self.block_bytes(Parts::One) {
                    *last = joined;
                    continue;
                }
            }
            plans.push(alone);
        }
        plans
    }

    /// Spreads sets over launches in which each has blocks of its own.
    pub(crate) fn apart(&self, sets: &[(usize, &Centroids)], parts: Parts) -> Vec<Plan> {
        let mut plans: Vec<Plan> = Vec::new();
        for (idx, set) in sets {
            let alone = self.alone(*idx, set, parts);
            let alike = |plan: &&mut Plan| plan.is_streamed == alone.is_streamed && plan.sets.len() < SETS_MAX;
            match plans.iter_mut().find(alike) {
                Some(plan) => {
                    plan.sets.push(*idx);
                    plan.fragment_bytes = plan.fragment_bytes.max(alone.fragment_bytes);
                }
                None => plans.push(alone),
            }
        }
        plans
    }

    /// How a set is looked at by itself: its fragments lie in shared memory if that holds them and leaves room for the other
    /// blocks of a multiprocessor.
    fn alone(&self, idx: usize, set: &Centroids, parts: Parts) -> Plan {
        let all = set.n_clusters().div_ceil(TILE) * self.tile_bytes(parts);
        let plan = Plan { sets: vec![idx], parts, is_shared: false, is_streamed: false, fragment_bytes: all };
        match plan.shared_bytes() <= self.block_bytes(parts) {
            true => plan,
            false => {
                let fragment_bytes = 2 * self.tiles_together(parts) * self.tile_bytes(parts);
                Plan { is_streamed: true, fragment_bytes, ..plan }
            }
        }
    }

    fn kernel(&self, plan: &Plan) -> String {
        let kind = if plan.parts == Parts::One { "lloyd" } else { "exact" };
        let streamed = if plan.is_streamed { "streamed_" } else { "" };
        format!("{kind}_{streamed}{}", self.family.n_features)
    }

    /// Blocks of a plan's launch over all rows, and how many rows each of them takes at most.
    pub(crate) fn grid(&self, gpu: &dyn Gpu, plan: &Plan, n_rows: usize) -> Result<(u32, usize), GpuError> {
        let together = gpu.blocks_together(&self.kernel(plan), plan.shared_bytes())?.max(1);
        let n_groups = n_rows.div_ceil(self.rows_of_block()).max(1);
        let n_blocks = n_groups.min((gpu.n_processors() * together) as usize);
        Ok((n_blocks as u32, n_groups.div_ceil(n_blocks) * self.rows_of_block()))
    }

    /// Starts a plan's kernel for its sets, in their order.
    pub(crate) fn launch(
        &self,
        gpu: &dyn Gpu,
        plan: &Plan,
        n_blocks: u32,
        pass: LloydPass,
        sets: &[LloydSet],
    ) -> Result<(), GpuError> {
        let n_sets = plan.of_block() as u32;
        let tiles_together = self.tiles_together(plan.parts) as u32;
        let mut pass = LloydPass { n_sets, tiles_together, ..pass };
        pass.sets[..sets.len()].copy_from_slice(sets);
        let mut next_byte = plan.fragments_at();
        for set in &mut pass.sets[..sets.len()] {
            let n_tiles = set.n_tiles as usize;
            let fragment_bytes = n_tiles * (self.tile_bytes(plan.parts) - NORMS_BYTES);
            set.shared_fragments = (next_byte / 16) as u32;
            set.shared_norms = ((next_byte + fragment_bytes) / size_of::<f32>()) as u32;
            if plan.is_shared {
                next_byte += fragment_bytes + n_tiles * NORMS_BYTES;
            }
        }
        let (kernel, parameters) = (self.kernel(plan), bytemuck::bytes_of(&pass));
        let grid = (n_blocks, sets.len() as u32 / n_sets, 1);
        let launch = Launch { kernel: &kernel, grid, shared_bytes: plan.shared_bytes(), parameters };
        // SAFETY: the structure is the kernel's; its addresses are those of buffers that the caller holds.
        unsafe { gpu.launch(&launch) }
    }
}

/// Puts what launches have to know of a set's centroids, in one part and in two, into a parcel, whose first byte will be at
/// `base`. `lists` has the rest.
pub(crate) fn describe(
    centroids: &Centroids,
    packed: &[PackedCentroids; 2],
    lists: LloydSet,
    parcel: &mut Parcel,
    base: u64,
) -> [LloydSet; 2] {
    let values = base + parcel.add(centroids.values()) as u64;
    packed.each_ref().map(|packed| LloydSet {
        fragments: base + parcel.add(&packed.fragments) as u64,
        half_norms: base + parcel.add(&packed.half_norms) as u64,
        centroids: values,
        n_clusters: centroids.n_clusters() as u32,
        n_tiles: packed.n_tiles() as u32,
        lead: packed.lead,
        ..lists
    })
}

/// What [`describe`] adds to a parcel, with all that lines it up.
pub(crate) fn parcel_bytes(packed: &[PackedCentroids; 2], centroids: &Centroids) -> usize {
    let of = |packed: &PackedCentroids| size_of_val(&packed.fragments[..]) + size_of_val(&packed.half_norms[..]);
    size_of_val(centroids.values()) + packed.iter().map(of).sum::<usize>() + 5 * 16
}
