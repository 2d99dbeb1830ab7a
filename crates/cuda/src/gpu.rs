//! A GPU, as far as the engine needs one: memory, copies and launches, one after the other in the order in which they are
//! asked for. The driver is one of them ([`crate::driver`]); another runs the same kernels on the CPU, for tests.

use bytemuck::Pod;
use shoal_clustering::ClusteringError;
use std::marker::PhantomData;
use std::sync::Arc;
use thiserror::Error;

/// Why a GPU did not do what it was asked to.
#[derive(Debug, Error)]
pub enum GpuError {
    /// There is none.
    #[error("no GPU: {reason}")]
    None {
        /// What was looked for.
        reason: String,
    },
    /// There may be one, but its driver cannot be used.
    #[error("the GPU cannot be used: {reason}; choose --device cpu to do without it")]
    Unusable {
        /// What the driver says.
        reason: String,
    },
    /// There are fewer GPUs.
    #[error("no GPU {ordinal}: this machine has {n_gpus}")]
    NoSuchGpu {
        /// Its number, from 0.
        ordinal: usize,
        /// How many there are.
        n_gpus: usize,
    },
    /// The driver refused, or the GPU failed.
    #[error("the GPU failed to {what}: {reason}")]
    Failed {
        /// What it should have done.
        what: String,
        /// What the driver says.
        reason: String,
    },
    /// The rows do not fit.
    #[error("{n_rows} rows take {} MiB on the GPU, which has {} MiB free; spread them over more workers, or choose --device cpu", needed >> 20, free >> 20)]
    TooLarge {
        /// Rows of the shard.
        n_rows: usize,
        /// Bytes that they take.
        needed: usize,
        /// Bytes that are free.
        free: usize,
    },
    /// The kernels number rows with 32 bits.
    #[error("{n_rows} rows are more than one GPU can number; spread them over more workers")]
    TooManyRows {
        /// Rows of the shard.
        n_rows: usize,
    },
    /// The kernels scale columns by float32 numbers.
    #[error(
        "the values of a column are up to {bound:e}, too small for sums on the GPU; rescale it or choose --device cpu"
    )]
    TooSmall {
        /// A bound of the column's prepared values.
        bound: f64,
    },
    /// The kernels are written for fewer.
    #[error("{n_features} features are more than the {max} that the GPU's kernels take; choose --device cpu")]
    TooManyFeatures {
        /// Features of the rows.
        n_features: usize,
        /// Most that a kernel takes.
        max: usize,
    },
}

impl From<GpuError> for ClusteringError {
    /// What the GPU does not do is refused. After a failure its context is of no use any more.
    fn from(error: GpuError) -> Self {
        match error {
            GpuError::TooLarge { .. }
            | GpuError::TooManyRows { .. }
            | GpuError::TooSmall { .. }
            | GpuError::TooManyFeatures { .. } => Self::Refused(Box::new(error)),
            _ => Self::DeviceFailed(Box::new(error)),
        }
    }
}

/// What a kernel is started with.
#[derive(Debug, Clone, Copy)]
pub struct Launch<'a> {
    /// Its name in the image.
    pub kernel: &'a str,
    /// Blocks in all three directions.
    pub grid: (u32, u32, u32),
    /// Shared memory of a block that the kernel does not declare itself.
    pub shared_bytes: usize,
    /// The one structure that it takes.
    pub parameters: &'a [u8],
}

/// Threads of a block, of every kernel.
pub const THREADS: u32 = 256;

/// A GPU.
pub trait Gpu: Send + Sync {
    /// What it is, for the report.
    fn name(&self) -> String;

    /// Multiprocessors.
    fn n_processors(&self) -> u32;

    /// Shared memory that one block may have, in bytes.
    fn shared_bytes_max(&self) -> usize;

    /// Blocks of a kernel that share a multiprocessor.
    fn blocks_together(&self, kernel: &str, shared_bytes: usize) -> Result<u32, GpuError>;

    /// Memory that is free, in bytes.
    fn free_bytes(&self) -> Result<usize, GpuError>;

    /// Takes memory, whose contents are anything; its address.
    fn allocate(&self, n_bytes: usize) -> Result<u64, GpuError>;

    /// Gives memory back, once what was launched before is done.
    ///
    /// # Safety
    ///
    /// The address comes from [`Gpu::allocate`], and nothing that is launched from now on uses it.
    unsafe fn release(&self, address: u64);

    /// Fills memory with zeros.
    ///
    /// # Safety
    ///
    /// The range is allocated.
    unsafe fn clear(&self, address: u64, n_bytes: usize) -> Result<(), GpuError>;

    /// Copies to the GPU.
    ///
    /// # Safety
    ///
    /// The range is allocated, and the source stays as it is until [`Gpu::finish`] or the next download returns.
    unsafe fn upload(&self, address: u64, bytes: &[u8]) -> Result<(), GpuError>;

    /// Waits for what was asked for before.
    fn finish(&self) -> Result<(), GpuError>;

    /// Waits for what was asked for before, and copies from the GPU.
    ///
    /// # Safety
    ///
    /// The range is allocated.
    unsafe fn download(&self, address: u64, bytes: &mut [u8]) -> Result<(), GpuError>;

    /// Starts a kernel.
    ///
    /// # Safety
    ///
    /// The parameters are what this kernel takes, and the addresses in them have room for what it reads and writes.
    unsafe fn launch(&self, launch: &Launch<'_>) -> Result<(), GpuError>;
}

/// Numbers in the memory of a GPU.
pub(crate) struct Buffer<T> {
    gpu: Arc<dyn Gpu>,
    address: u64,
    len: usize,
    numbers: PhantomData<T>,
}

impl<T: Pod> Buffer<T> {
    /// Room for so many, whose values are anything.
    pub(crate) fn new(gpu: &Arc<dyn Gpu>, len: usize) -> Result<Self, GpuError> {
        let address = gpu.allocate((len * size_of::<T>()).max(1))?;
        Ok(Self { gpu: gpu.clone(), address, len, numbers: PhantomData })
    }

    /// These numbers.
    pub(crate) fn of(gpu: &Arc<dyn Gpu>, values: &[T]) -> Result<Self, GpuError> {
        let buffer = Self::new(gpu, values.len())?;
        buffer.write(0, values)?;
        Ok(buffer)
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Where number `idx` is.
    pub(crate) fn at(&self, idx: usize) -> u64 {
        assert!(idx <= self.len, "{idx} lies beyond {} numbers", self.len);
        self.address + (idx * size_of::<T>()) as u64
    }

    /// Where the first is.
    pub(crate) fn address(&self) -> u64 {
        self.address
    }

    pub(crate) fn clear(&self) -> Result<(), GpuError> {
        self.clear_first(self.len)
    }

    /// Fills the first `len` numbers with zeros.
    pub(crate) fn clear_first(&self, len: usize) -> Result<(), GpuError> {
        assert!(len <= self.len, "{len} numbers are not there");
        // SAFETY: the buffer's own memory.
        unsafe { self.gpu.clear(self.address, len * size_of::<T>()) }
    }

    /// Copies numbers to the GPU, whose source may be reused when this returns.
    pub(crate) fn write(&self, first: usize, values: &[T]) -> Result<(), GpuError> {
        // SAFETY: it is waited for.
        unsafe { self.write_from(first, values)? };
        self.gpu.finish()
    }

    /// As [`Buffer::write`], without waiting for it.
    ///
    /// # Safety
    ///
    /// The source stays as it is until something is read from the GPU.
    pub(crate) unsafe fn write_from(&self, first: usize, values: &[T]) -> Result<(), GpuError> {
        assert!(first + values.len() <= self.len, "{} numbers do not fit", values.len());
        // SAFETY: they fit, and the rest is the caller's.
        unsafe { self.gpu.upload(self.at(first), bytemuck::cast_slice(values)) }
    }

    pub(crate) fn read(&self, first: usize, len: usize) -> Result<Vec<T>, GpuError> {
        let mut values = Vec::new();
        self.read_to(first, len, &mut values)?;
        Ok(values)
    }

    /// As [`Buffer::read`], to a vector whose numbers are replaced. New memory for each answer would cost more than the copy.
    pub(crate) fn read_to(&self, first: usize, len: usize, values: &mut Vec<T>) -> Result<(), GpuError> {
        assert!(first + len <= self.len, "{len} numbers are not there");
        values.resize(len, T::zeroed());
        // SAFETY: they are there.
        unsafe { self.gpu.download(self.at(first), bytemuck::cast_slice_mut(values)) }
    }
}

impl<T> Drop for Buffer<T> {
    fn drop(&mut self) {
        // SAFETY: the buffer is its owner, and ends here.
        unsafe { self.gpu.release(self.address) };
    }
}

/// A buffer that is made larger when more has to fit.
pub(crate) struct Growing<T> {
    buffer: Option<Buffer<T>>,
}

impl<T: Pod> Growing<T> {
    pub(crate) fn new() -> Self {
        Self { buffer: None }
    }

    /// Room for at least so many; what was there may be lost.
    pub(crate) fn with_room(&mut self, gpu: &Arc<dyn Gpu>, len: usize) -> Result<&Buffer<T>, GpuError> {
        let held = self.buffer.take().filter(|buffer| buffer.len() >= len);
        let buffer = match held {
            Some(buffer) => buffer,
            None => Buffer::new(gpu, len + len / 8)?,
        };
        Ok(self.buffer.insert(buffer))
    }
}

/// The address of nothing.
pub(crate) const NULL: u64 = 0;

/// Numbers of several kinds that go to the GPU in one copy.
#[derive(Default)]
pub(crate) struct Parcel {
    bytes: Vec<u8>,
}

impl Parcel {
    /// Takes everything out and makes room for so many bytes.
    pub(crate) fn empty(&mut self, n_bytes: usize) {
        self.bytes.clear();
        self.bytes.reserve(n_bytes);
    }

    /// Adds numbers; where they will be, from the beginning of the parcel on, at a multiple of 16 bytes.
    pub(crate) fn add<T: Pod>(&mut self, values: &[T]) -> usize {
        let offset = self.bytes.len().next_multiple_of(16);
        self.bytes.resize(offset, 0);
        self.bytes.extend_from_slice(bytemuck::cast_slice(values));
        offset
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}
