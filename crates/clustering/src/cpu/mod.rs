//! The CPU engine: answers every question from blocks in memory, on all the threads it was given.
//!
//! A block is one thread's work from beginning to end; what threads bring together merges exactly, so their number and
//! their order leave no trace. Labels are certified: where float32 cannot tell which of two centroids is nearer,
//! the row is decided in float64 ([`tile`]).

mod assign;
pub mod ceilings;
mod device;
mod doubles;
mod draws;
mod inertia;
mod isa;
mod memory;
mod moves;
mod nearer;
mod packed;
mod pairs;
mod pass;
mod rows;
mod shard;
mod silhouette;
mod simplified;
mod slab;
mod sums;
mod tile;
mod vector;
#[cfg(target_arch = "aarch64")]
mod vector_neon;
#[cfg(target_arch = "x86_64")]
mod vector_x86;

pub use assign::{Assigner, Nearest, squared_distance};
pub use device::CpuDevice;
pub use inertia::{ExactInertia, VALUES_ALONE};
pub use isa::Isa;
pub(crate) use nearer::nearer_squares;
pub use rows::MemoryRows;
pub use shard::CpuShard;
pub use silhouette::ClusterOrder;
pub use slab::share_one_heap;
