//! How a Lloyd pass is put to the GPU: which kernels, what lies where in shared memory, and what a launch is told.

use crate::gpu::{Gpu, GpuError, Launch, Parcel};
use crate::packed::{CertainLead, PackedCentroids, Parts, STEP};
use bytemuck::{Pod, Zeroable};
use shoal_domain::Centroids;

/// One set of centroids, as kernels/lloyd_pass.cuh has it.
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct LloydSet {
    pub(crate) fragments: u64,
    pub(crate) half_norms: u64,
    pub(crate) centroids: u64,
    pub(crate) labels: u64,
    pub(crate) until: u64,
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
    pub(crate) list: u64,
    pub(crate) n_listed: u64,
    pub(crate) sets: u64,
    pub(crate) n_sets: u32,
    pub(crate) n_rows: u32,
    pub(crate) stride: u32,
    pub(crate) n_features: u32,
    pub(crate) shared_stage: u32,
    pub(crate) tiles_together: u32,
    pub(crate) room: u32,
    pub(crate) scale: f32,
    pub(crate) per_scale: f32,
    pub(crate) padding: u32,
}

const _: () = assert!(size_of::<LloydSet>() == 112 && size_of::<LloydPass>() == 72);

/// The kernel that lists stale rows, as kernels/stale.cu has it.
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct StaleRows {
    pub(crate) until: u64,
    pub(crate) list: u64,
    pub(crate) n_listed: u64,
    pub(crate) n_rows: u32,
    pub(crate) way: f32,
}

/// Kernels for rows of so many features at most.
#[derive(Debug, Clone, Copy)]
struct Family {
    n_features: usize,
    /// Tiles of 16 rows that a warp takes at a time.
    tiles: usize,
    /// Blocks that share a multiprocessor.
    blocks: usize,
}

const fn family(n_features: usize, tiles: usize, blocks: usize) -> Family {
    Family { n_features, tiles, blocks }
}

const FAMILIES: [Family; 8] = [
    family(16, 2, 3),
    family(32, 2, 3),
    family(48, 2, 2),
    family(64, 2, 2),
    family(96, 2, 1),
    family(128, 2, 1),
    family(192, 1, 1),
    family(256, 1, 1),
];
/// Most features of a row.
const MAX_FEATURES: usize = 256;
const WARPS: usize = 8;
/// Centroids of a tile product, and bytes of their half norms.
const TILE: usize = 8;
const NORMS_BYTES: usize = TILE * size_of::<f32>();
/// Shared memory that the system takes of each block.
const RESERVED_BYTES: usize = 1024;
/// A streamed set's tiles in shared memory at a time, in bytes, at most; as many are on their way.
const STREAMED_BYTES_MAX: usize = 32 << 10;
/// What stands for no place in shared memory.
const NOWHERE: u32 = u32::MAX;

/// The kernels for rows of some number of features.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LloydKernels {
    family: Family,
    /// Shared memory that a block may take, first so that as many as can share a multiprocessor.
    shared_bytes: [usize; 2],
}

/// Sets that one launch looks at, and what it keeps of them in shared memory.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    /// Numbers of the sets.
    pub(crate) sets: Vec<usize>,
    parts: Parts,
    /// Bytes of fragments and norms.
    fragment_bytes: usize,
    is_streamed: bool,
    stage_bytes: usize,
}

impl Plan {
    /// Before it there are two counters for each set.
    fn stage_at(&self) -> usize {
        (self.sets.len() * 2 * size_of::<u32>()).next_multiple_of(16)
    }

    fn shared_bytes(&self) -> usize {
        self.stage_at() + self.stage_bytes + self.fragment_bytes
    }
}

impl LloydKernels {
    pub(crate) fn new(n_features: usize, gpu: &dyn Gpu) -> Result<Self, GpuError> {
        let family = FAMILIES.into_iter().find(|family| family.n_features >= n_features);
        let family = family.ok_or(GpuError::TooManyFeatures { n_features, max: MAX_FEATURES })?;
        let all = gpu.shared_bytes_max();
        let shared = (all + RESERVED_BYTES) / family.blocks - RESERVED_BYTES;
        Ok(Self { family, shared_bytes: [shared, all] })
    }

    /// Steps of the kernels' tile products.
    pub(crate) fn n_steps(&self) -> usize {
        self.family.n_features / STEP
    }

    /// Rows that a block of the first kernel takes at a time.
    fn rows_of_block(&self) -> usize {
        16 * self.family.tiles * WARPS
    }

    fn tile_bytes(&self, parts: Parts) -> usize {
        self.n_steps() * parts.step_words() * 16 + NORMS_BYTES
    }

    fn stage_bytes(&self) -> usize {
        WARPS * 2 * self.family.tiles * self.n_steps() * 512
    }

    /// Tiles of a streamed set that lie in shared memory at a time.
    fn tiles_together(&self, parts: Parts) -> usize {
        let [_, all] = self.shared_bytes;
        let stage = Some(self.stage_bytes()).filter(|stage| 2 * stage < all).unwrap_or(0);
        (((all - stage - 16) / 2).min(STREAMED_BYTES_MAX) / self.tile_bytes(parts)).max(1)
    }

    /// Spreads sets over launches: as many together as shared memory holds.
    pub(crate) fn plan(&self, sets: &[(usize, &Centroids)]) -> Vec<Plan> {
        let mut plans: Vec<Plan> = Vec::new();
        for (idx, set) in sets {
            let alone = self.plan_of(*idx, set, Parts::One);
            if let Some(last) = plans.last_mut() {
                let fragment_bytes = last.fragment_bytes + alone.fragment_bytes;
                let joined = Plan { sets: [&last.sets[..], &[*idx]].concat(), fragment_bytes, ..last.clone() };
                let are_alike = !last.is_streamed && !alone.is_streamed && last.stage_bytes == alone.stage_bytes;
                if are_alike && joined.shared_bytes() <= self.shared_bytes[0] {
                    *last = joined;
                    continue;
                }
            }
            plans.push(alone);
        }
        plans
    }

    /// How a set is looked at alone: with its fragments and staged rows in shared memory if that holds them, and with as
    /// many blocks on a multiprocessor as there can be.
    pub(crate) fn plan_of(&self, idx: usize, set: &Centroids, parts: Parts) -> Plan {
        let resident = (set.n_clusters().div_ceil(TILE) * self.tile_bytes(parts), false);
        let streamed = (2 * self.tiles_together(parts) * self.tile_bytes(parts), true);
        let stages: &[usize] = if parts == Parts::One { &[self.stage_bytes(), 0] } else { &[0] };
        let plan = |(fragment_bytes, is_streamed): (usize, bool), stage_bytes: usize| Plan {
            sets: vec![idx],
            parts,
            fragment_bytes,
            is_streamed,
            stage_bytes,
        };
        let choices =
            [resident, streamed].into_iter().flat_map(|fragments| stages.iter().map(move |stage| (fragments, *stage)));
        for (fragments, stage) in choices {
            for limit in self.shared_bytes {
                if plan(fragments, stage).shared_bytes() <= limit {
                    return plan(fragments, stage);
                }
            }
        }
        plan(streamed, 0)
    }

    /// Fills in where each set of a plan has its numbers in shared memory.
    pub(crate) fn place(&self, plan: &Plan, sets: &mut [LloydSet]) {
        let mut next_byte = plan.stage_at() + plan.stage_bytes;
        for set in sets {
            let n_tiles = set.n_tiles as usize;
            let fragment_bytes = n_tiles * (self.tile_bytes(plan.parts) - NORMS_BYTES);
            set.shared_fragments = (next_byte / 16) as u32;
            set.shared_norms = ((next_byte + fragment_bytes) / size_of::<f32>()) as u32;
            next_byte += fragment_bytes + n_tiles * NORMS_BYTES;
        }
    }

    fn kernel(&self, plan: &Plan) -> String {
        let kind = if plan.parts == Parts::One { "lloyd" } else { "exact" };
        let streamed = if plan.is_streamed { "streamed_" } else { "" };
        format!("{kind}_{streamed}{}", self.family.n_features)
    }

    /// Blocks of a plan's launch over so many rows at most, and how many rows each of them takes at most.
    pub(crate) fn grid(&self, gpu: &dyn Gpu, plan: &Plan, n_rows: usize) -> Result<(u32, usize), GpuError> {
        let together = gpu.blocks_together(&self.kernel(plan), plan.shared_bytes())?.max(1);
        let n_groups = n_rows.div_ceil(self.rows_of_block()).max(1);
        let n_blocks = n_groups.min((gpu.n_processors() * together) as usize);
        Ok((n_blocks as u32, n_groups.div_ceil(n_blocks) * self.rows_of_block()))
    }

    /// Starts a plan's kernel.
    pub(crate) fn launch(&self, gpu: &dyn Gpu, plan: &Plan, n_blocks: u32, pass: LloydPass) -> Result<(), GpuError> {
        let pass = LloydPass {
            n_sets: plan.sets.len() as u32,
            shared_stage: if plan.stage_bytes > 0 { (plan.stage_at() / 16) as u32 } else { NOWHERE },
            tiles_together: self.tiles_together(plan.parts) as u32,
            ..pass
        };
        let (kernel, parameters) = (self.kernel(plan), bytemuck::bytes_of(&pass));
        let launch = Launch { kernel: &kernel, grid: (n_blocks, 1), shared_bytes: plan.shared_bytes(), parameters };
        // SAFETY: the structure is the kernel's; its addresses are those of buffers that the caller holds.
        unsafe { gpu.launch(&launch) }
    }
}

/// Puts what a launch has to know of a set's centroids into a parcel, whose first byte will be at `base`. `lists` has the
/// rest.
pub(crate) fn describe(
    centroids: &Centroids,
    packed: &PackedCentroids,
    lists: LloydSet,
    parcel: &mut Parcel,
    base: u64,
) -> LloydSet {
    LloydSet {
        fragments: base + parcel.add(&packed.fragments) as u64,
        half_norms: base + parcel.add(&packed.half_norms) as u64,
        centroids: base + parcel.add(centroids.values()) as u64,
        n_clusters: centroids.n_clusters() as u32,
        n_tiles: packed.n_tiles() as u32,
        lead: packed.lead,
        ..lists
    }
}
