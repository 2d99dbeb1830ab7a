//! The CUDA engine: the questions of a shard, answered on a GPU with the bits of every other engine.
//!
//! Rows lie in the GPU's memory; a question goes there as a few kilobytes of centroids and comes back as integers. The
//! kernels are in `kernels/` of the repository, compiled beforehand and part of this crate, so a machine needs nothing
//! but the driver, and one without a GPU says so in one line ([`count`]). Everything above the driver works through one
//! small trait ([`Gpu`]), behind which tests put the same kernels compiled for the CPU.
//!
//! Lloyd passes, weighing and the distances of silhouettes are the GPU's. What a job asks a few times (draws, moves, spreads) the
//! processor beside it answers from its own copy of the rows.

mod distances;
mod driver;
mod gpu;
mod lloyd;
mod moves;
mod ordered;
mod packed;
mod pairs;
mod passes;
mod pinned;
mod round;
mod rows;
mod shard;
mod silhouette;
mod stale;

pub use driver::{CudaGpu, count};
pub use gpu::{Gpu, GpuError, Launch, THREADS};
pub use shard::{CudaDevice, CudaShard};
