//! How a Lloyd pass is put to the GPU: which kernel, what lies where in shared memory, and what one launch is told.

use crate::gpu::{Gpu, GpuError, Launch, NULL, Parcel};
use crate::packed::{PackedCentroids, STEP};
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
    pub(crate) sums: u64,
    pub(crate) weights: u64,
    pub(crate) n_clusters: u32,
    pub(crate) n_tiles: u32,
    pub(crate) shared_fragments: u32,
    pub(crate) shared_norms: u32,
    pub(crate) shared_counts: u32,
    pub(crate) shared_sums: u32,
    pub(crate) lead_per_norm: f32,
    pub(crate) lead_min: f32,
    pub(crate) way: f32,
    pub(crate) is_filled: u32,
}

/// A launch, as kernels/lloyd_pass.cuh has it.
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct LloydPass {
    pub(crate) rows: u64,
    pub(crate) row_weights: u64,
    pub(crate) per_unit: u64,
    pub(crate) list: u64,
    pub(crate) n_listed: u64,
    pub(crate) sets: u64,
    pub(crate) n_sets: u32,
    pub(crate) n_rows: u32,
    pub(crate) stride: u32,
    pub(crate) n_features: u32,
    pub(crate) n_shared_words: u32,
    pub(crate) tiles_together: u32,
    pub(crate) scale: f32,
    pub(crate) per_scale: f32,
}

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

/// Rows that a block takes at a time, at least.
pub(crate) const ROWS_OF_BLOCK: usize = 128;
/// Of these numbers of features there is a kernel, with so many blocks on a multiprocessor.
const KERNELS: [(usize, usize); 8] = [(16, 3), (32, 2), (48, 2), (64, 2), (96, 1), (128, 1), (192, 1), (256, 1)];
/// Most features of a row.
pub(crate) const MAX_FEATURES: usize = 256;
/// Lists of moves of a block: 8 warps of 32 moves of three numbers.
const MOVES_WORDS: usize = 8 * 32 * 3;
/// Shared memory that the system takes of each block.
const RESERVED_BYTES: usize = 1024;
/// A streamed set's tiles in shared memory at a time, in bytes, at most; as many are on their way.
const STREAMED_BYTES_MAX: usize = 32 << 10;
/// What stands for no place in shared memory.
const NOWHERE: u32 = u32::MAX;

/// The kernel for rows of so many features.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LloydKernel {
    n_features: usize,
    /// Features that the kernel is made for.
    n_padded: usize,
    /// Shared memory that a block may take so that as many as can fit a multiprocessor.
    shared_bytes_max: usize,
}

/// Sets that one launch looks at, and where it keeps what it needs of them.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    /// Numbers of the sets.
    pub(crate) sets: Vec<usize>,
    /// Words that are summed in shared memory.
    n_shared_words: usize,
    /// Bytes of fragments and norms.
    fragment_bytes: usize,
    is_streamed: bool,
}

impl Plan {
    fn shared_bytes(&self) -> usize {
        ((self.n_shared_words + MOVES_WORDS) * 4).next_multiple_of(16) + self.fragment_bytes
    }
}

impl LloydKernel {
    pub(crate) fn new(n_features: usize, gpu: &dyn Gpu) -> Result<Self, GpuError> {
        let kernel = KERNELS.iter().find(|(padded, _)| *padded >= n_features);
        let (n_padded, n_blocks) = *kernel.ok_or(GpuError::TooManyFeatures { n_features, max: MAX_FEATURES })?;
        let shared_bytes_max = (gpu.shared_bytes_max() + RESERVED_BYTES) / n_blocks - RESERVED_BYTES;
        Ok(Self { n_features, n_padded, shared_bytes_max })
    }

    /// Steps of the kernel's tile products.
    pub(crate) fn n_steps(&self) -> usize {
        self.n_padded / STEP
    }

    fn tile_bytes(&self) -> usize {
        self.n_steps() * 512 + 32
    }

    fn tiles_together(&self) -> usize {
        let bytes = (self.shared_bytes_max - MOVES_WORDS * 4) / 2;
        (bytes.min(STREAMED_BYTES_MAX) / self.tile_bytes()).max(1)
    }

    /// Spreads sets over launches: as many together as shared memory holds.
    pub(crate) fn plan(&self, sets: &[(usize, &Centroids)], with_sums: bool) -> Vec<Plan> {
        let mut plans: Vec<Plan> = Vec::new();
        for (idx, set) in sets {
            let alone = self.plan_of(*idx, set, with_sums);
            let last = plans.last_mut().filter(|last| !last.is_streamed && !alone.is_streamed);
            match last {
                Some(last) if last.shared_bytes() + alone.shared_bytes() <= self.shared_bytes_max => {
                    last.sets.push(*idx);
                    last.n_shared_words += alone.n_shared_words;
                    last.fragment_bytes += alone.fragment_bytes;
                }
                _ => plans.push(alone),
            }
        }
        plans
    }

    fn plan_of(&self, idx: usize, set: &Centroids, with_sums: bool) -> Plan {
        let mut plan = Plan { sets: vec![idx], ..Plan::default() };
        plan.fragment_bytes = set.n_clusters().div_ceil(8) * self.tile_bytes();
        if plan.shared_bytes() > self.shared_bytes_max {
            plan.is_streamed = true;
            plan.fragment_bytes = 2 * self.tiles_together() * self.tile_bytes();
        }
        for n_words in [sums_words(set, with_sums), counts_words(set)] {
            plan.n_shared_words += n_words;
            if plan.shared_bytes() <= self.shared_bytes_max {
                return Plan { n_shared_words: plan.n_shared_words, ..plan };
            }
            plan.n_shared_words = 0;
        }
        plan
    }

    /// Fills in where each set of a plan has its numbers in shared memory.
    pub(crate) fn place(&self, plan: &Plan, sets: &mut [LloydSet], with_sums: bool) {
        let mut next_word = 0;
        let mut next_byte = ((plan.n_shared_words + MOVES_WORDS) * 4).next_multiple_of(16);
        for set in sets {
            let (n_clusters, n_tiles) = (set.n_clusters as usize, set.n_tiles as usize);
            let n_values = n_clusters * self.n_features;
            (set.shared_counts, set.shared_sums) = (NOWHERE, NOWHERE);
            if plan.n_shared_words > 0 {
                set.shared_counts = next_word as u32;
                next_word += n_clusters;
                // A plan holds the sums of all of its sets, or is of one set.
                if with_sums && next_word + 2 * n_values <= plan.n_shared_words {
                    set.shared_sums = next_word as u32;
                    next_word += 2 * n_values;
                }
            }
            set.shared_fragments = (next_byte / 16) as u32;
            let fragment_bytes = n_tiles * self.n_steps() * 512;
            set.shared_norms = ((next_byte + fragment_bytes) / 4) as u32;
            next_byte += fragment_bytes + n_tiles * 32;
        }
    }

    /// Starts the pass of a plan, of rows in blocks that come to `n_rows` at most.
    pub(crate) fn launch(&self, gpu: &dyn Gpu, plan: &Plan, pass: LloydPass, n_rows: usize) -> Result<(), GpuError> {
        let streamed = if plan.is_streamed { "streamed_" } else { "" };
        let kernel = format!("lloyd_{streamed}{}", self.n_padded);
        let shared_bytes = plan.shared_bytes();
        let pass = LloydPass {
            n_shared_words: plan.n_shared_words as u32,
            tiles_together: self.tiles_together() as u32,
            n_sets: plan.sets.len() as u32,
            ..pass
        };
        let n_blocks = gpu.n_processors() * gpu.blocks_together(&kernel, shared_bytes)?.max(1);
        let grid = (n_blocks.min(n_rows.div_ceil(ROWS_OF_BLOCK) as u32).max(1), 1);
        let launch = Launch { kernel: &kernel, grid, shared_bytes, parameters: bytemuck::bytes_of(&pass) };
        // SAFETY: the structure is the kernel's; its addresses are those of buffers that the caller holds.
        unsafe { gpu.launch(&launch) }
    }
}

fn counts_words(set: &Centroids) -> usize {
    set.n_clusters()
}

fn sums_words(set: &Centroids, with_sums: bool) -> usize {
    counts_words(set) + if with_sums { 2 * set.values().len() } else { 0 }
}

/// Puts what a launch has to know of a set into a parcel, whose first byte will be at `base`.
pub(crate) fn describe(centroids: &Centroids, packed: &PackedCentroids, parcel: &mut Parcel, base: u64) -> LloydSet {
    LloydSet {
        fragments: base + parcel.add(&packed.fragments) as u64,
        half_norms: base + parcel.add(&packed.half_norms) as u64,
        centroids: base + parcel.add(centroids.values()) as u64,
        labels: NULL,
        until: NULL,
        sums: NULL,
        weights: NULL,
        n_clusters: centroids.n_clusters() as u32,
        n_tiles: packed.n_tiles() as u32,
        shared_fragments: 0,
        shared_norms: 0,
        shared_counts: NOWHERE,
        shared_sums: NOWHERE,
        lead_per_norm: packed.lead_per_norm,
        lead_min: packed.lead_min,
        way: 0.0,
        is_filled: 0,
    }
}

const _: () = assert!(size_of::<LloydSet>() == 96 && size_of::<LloydPass>() == 80);
