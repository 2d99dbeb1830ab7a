//! The processor as a device.

use super::Isa;
use super::shard::CpuShard;
use super::slab::Packer;
use crate::error::ClusteringError;
use crate::questions::{Device, Shard};
use shoal_domain::{Block, Preparation};
use std::sync::Arc;

/// The CPU with a pool of threads.
#[derive(Clone)]
pub struct CpuDevice {
    pub(super) pool: Arc<rayon::ThreadPool>,
    pub(super) isa: Isa,
    /// What each shard may remember, in bytes; see [`memory_bytes`] where it is not set.
    pub(super) memory_bytes_max: Option<usize>,
}

impl CpuDevice {
    /// All cores when `n_threads` is 0.
    pub fn new(n_threads: usize) -> Result<Self, ClusteringError> {
        Self::with_isa(n_threads, Isa::detect())
    }

    /// With kernels for a given instruction set, refused where this machine does not have it. Slower ones give the same bits.
    pub fn with_isa(n_threads: usize, isa: Isa) -> Result<Self, ClusteringError> {
        if !isa.is_available() {
            return Err(ClusteringError::Refused(format!("this machine has no {}", isa.name()).into()));
        }
        let named = |idx| format!("shoal-cpu-{idx}");
        let pool = rayon::ThreadPoolBuilder::new().num_threads(n_threads).thread_name(named).build();
        Ok(Self { pool: Arc::new(pool.map_err(ClusteringError::rows)?), isa, memory_bytes_max: None })
    }

    /// Lets each shard remember so many bytes between two questions, for passes and for draws each. Less is slower, and
    /// gives the same bits.
    pub fn remembering(self, bytes_max: usize) -> Self {
        Self { memory_bytes_max: Some(bytes_max), ..self }
    }

    /// The instruction set of the kernels.
    pub fn isa(&self) -> Isa {
        self.isa
    }

    /// Threads of the pool.
    pub fn n_threads(&self) -> usize {
        self.pool.current_num_threads()
    }

    /// Runs something on every thread of the pool, which is told the thread's number.
    pub(super) fn broadcast<T: Send>(&self, work: impl Fn(usize) -> T + Sync) -> Vec<T> {
        self.pool.broadcast(|context| work(context.index()))
    }

    /// Runs blocking work on the pool, for callers that prepare blocks in parallel.
    pub fn install<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        self.pool.install(work)
    }

    /// A shard of prepared blocks, packed side by side.
    pub fn load_shard(
        &self,
        preparation: &Preparation,
        blocks: &mut dyn Iterator<Item = Result<Block, ClusteringError>>,
    ) -> Result<CpuShard, ClusteringError> {
        let mut packer = Packer::default();
        for block in blocks {
            packer.push(block?);
        }
        Ok(self.shard(preparation, packer.finish()))
    }

    /// A shard of some blocks.
    pub fn shard(&self, preparation: &Preparation, blocks: Vec<Block>) -> CpuShard {
        CpuShard::new(self, preparation, blocks)
    }
}

impl Device for CpuDevice {
    fn name(&self) -> String {
        format!("cpu ({}, {} threads)", self.isa.name(), self.n_threads())
    }

    fn load(
        &self,
        preparation: &Preparation,
        blocks: &mut dyn Iterator<Item = Result<Block, ClusteringError>>,
    ) -> Result<Box<dyn Shard>, ClusteringError> {
        Ok(Box::new(self.load_shard(preparation, blocks)?))
    }
}
