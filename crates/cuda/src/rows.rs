//! Prepared rows in the memory of a GPU.

use crate::gpu::{Buffer, Gpu, GpuError, Launch, THREADS};
use crate::lloyd::{LloydKernels, LloydPass};
use crate::packed::{Bound, STEP};
use bytemuck::{Pod, Zeroable};
use shoal_domain::prepare::GRID_BITS;
use shoal_domain::{Block, Preparation};
use std::sync::Arc;

/// Numbers that are copied at a time.
const STAGED_VALUES: usize = 16 << 20;
/// What a pass lists of a row for one set: that it is stale, or unsure, or moves.
pub(crate) const LIST_BYTES: usize = 20;
/// The rows' length in memory is a multiple of so many numbers, which a thread loads at once.
const ALIGNMENT: usize = 4;

/// The kernel that rounds rows to float16, as kernels/halves.cu has it.
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct HalvedRows {
    rows: u64,
    halves: u64,
    lengths: u64,
    n_rows: u32,
    stride: u32,
    n_steps: u32,
    scale: f32,
}

const _: () = assert!(size_of::<HalvedRows>() == 40);

/// Bytes of a row's float16 in a step, and of its lengths.
const STEP_BYTES: usize = 2 * STEP;
const LENGTHS_BYTES: usize = 2 * size_of::<f32>();

/// The rows of a shard, in the order of its blocks.
pub(crate) struct DeviceRows {
    pub(crate) gpu: Arc<dyn Gpu>,
    pub(crate) kernels: LloydKernels,
    pub(crate) n_rows: usize,
    pub(crate) n_features: usize,
    pub(crate) stride: usize,
    /// n_rows x stride.
    pub(crate) values: Buffer<f32>,
    /// What passes compare: n_rows x steps x 16 float16 of rows times a power of two, and two lengths of each row.
    halves: Buffer<u64>,
    lengths: Buffer<[f32; 2]>,
    pub(crate) bound: Bound,
    /// n_rows, where rows have weights.
    pub(crate) weights: Option<Buffer<u64>>,
    /// 1 / unit of each column.
    pub(crate) per_unit: Buffer<f32>,
}

impl DeviceRows {
    /// Copies the blocks to a GPU, if they fit.
    pub(crate) fn new(gpu: &Arc<dyn Gpu>, preparation: &Preparation, blocks: &[Block]) -> Result<Self, GpuError> {
        let n_features = preparation.n_features();
        let kernels = LloydKernels::new(n_features, gpu.as_ref())?;
        let stride = n_features.next_multiple_of(ALIGNMENT);
        let n_rows: usize = blocks.iter().map(Block::n_rows).sum();
        // Some numbers of rows stand for something else, and sums of lists go a little beyond.
        if n_rows >= u32::MAX as usize / 2 {
            return Err(GpuError::TooManyRows { n_rows });
        }
        let has_weights = preparation.weight_exponent.is_some();
        let weight_bytes = if has_weights { size_of::<u64>() } else { 0 };
        let half_bytes = kernels.n_steps() * STEP_BYTES + LENGTHS_BYTES;
        let needed = n_rows * (stride * size_of::<f32>() + half_bytes + weight_bytes + LIST_BYTES);
        let free = gpu.free_bytes()?;
        if needed > free {
            return Err(GpuError::TooLarge { n_rows, needed, free });
        }
        let values = Buffer::new(gpu, n_rows * stride)?;
        copy_values(&values, blocks, n_features, stride)?;
        let weights =
            || -> Vec<u64> { blocks.iter().flat_map(|block| block.weights().unwrap_or(&[])).copied().collect() };
        let weights = if has_weights { Some(Buffer::of(gpu, &weights())?) } else { None };
        let per_unit: Vec<f32> = preparation.units().into_iter().map(|unit| (1.0 / unit) as f32).collect();
        if let Some(column) = per_unit.iter().position(|per_unit| !per_unit.is_finite()) {
            return Err(GpuError::TooSmall { bound: preparation.columns[column].bound() });
        }
        let per_unit = Buffer::of(gpu, &per_unit)?;
        let halves = Buffer::new(gpu, n_rows * kernels.n_steps() * STEP_BYTES / size_of::<u64>())?;
        let lengths = Buffer::new(gpu, n_rows)?;
        let bound = Bound::new(preparation);
        let gpu = gpu.clone();
        let rows = Self { gpu, kernels, n_rows, n_features, stride, values, halves, lengths, bound, weights, per_unit };
        rows.halve()?;
        Ok(rows)
    }

    /// Rounds the rows to float16.
    fn halve(&self) -> Result<(), GpuError> {
        let halved = HalvedRows {
            rows: self.values.address(),
            halves: self.halves.address(),
            lengths: self.lengths.address(),
            n_rows: self.n_rows as u32,
            stride: self.stride as u32,
            n_steps: self.kernels.n_steps() as u32,
            scale: self.bound.scale(),
        };
        // Four threads have a row.
        let n_blocks = (4 * self.n_rows).div_ceil(THREADS as usize).max(1) as u32;
        let parameters = bytemuck::bytes_of(&halved);
        let launch = Launch { kernel: "halve_rows", grid: (n_blocks, 1, 1), shared_bytes: 0, parameters };
        // SAFETY: the structure is the kernel's; all of its buffers have room for the rows.
        unsafe { self.gpu.launch(&launch) }
    }

    /// A pass over all rows, its sets left out.
    pub(crate) fn pass(&self, scale: f32) -> LloydPass {
        LloydPass {
            rows: self.values.address(),
            halves: self.halves.address(),
            lengths: self.lengths.address(),
            n_rows: self.n_rows as u32,
            stride: self.stride as u32,
            n_features: self.n_features as u32,
            scale,
            per_scale: 1.0 / scale,
            ..LloydPass::zeroed()
        }
    }

    /// Limbs of a sum: one where no sum of these rows needs more than 64 bits, two where one may, and two for either part
    /// of a value where rows have weights.
    pub(crate) fn sum_limbs(&self) -> usize {
        match self.weights {
            Some(_) => 4,
            None if self.n_rows < 1 << (62 - GRID_BITS) => 1,
            None => 2,
        }
    }
}

fn copy_values(values: &Buffer<f32>, blocks: &[Block], n_features: usize, stride: usize) -> Result<(), GpuError> {
    let mut staged: Vec<f32> = Vec::with_capacity(STAGED_VALUES.min(values.len()));
    let mut first = 0;
    for row in blocks.iter().flat_map(|block| block.values().chunks_exact(n_features)) {
        staged.extend_from_slice(row);
        staged.resize(staged.len().next_multiple_of(stride), 0.0);
        if staged.len() + stride > STAGED_VALUES {
            values.write(first, &staged)?;
            first += staged.len();
            staged.clear();
        }
    }
    values.write(first, &staged)
}
