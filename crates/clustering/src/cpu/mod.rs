//! The CPU engine: answers every question from blocks in memory, on all the threads it was given.
//!
//! A block is one thread's work from beginning to end; what threads bring together merges exactly, so their number and
//! their order leave no trace. Labels are certified: scores are computed in float32, and where two centroids are closer
//! than the rounding of their scores, the row is decided in float64 ([`assign`]).

mod assign;
mod distances;
mod moves;
mod rows;
mod shard;
mod slab;
mod vector;

pub use assign::{Assigner, Nearest, squared_distance};
pub use rows::MemoryRows;
pub use shard::{CpuDevice, CpuShard};

/// The instruction sets that the kernels were written for, best first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Isa {
    /// x86-64 with AVX-512 F, BW, DQ, VL.
    Avx512,
    /// x86-64 with AVX2 and FMA.
    Avx2,
    /// Whatever the target has.
    Portable,
}

impl Isa {
    /// The best one that this machine has.
    pub fn detect() -> Self {
        #[cfg(target_arch = "x86_64")]
        {
            if is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512dq")
                && is_x86_feature_detected!("avx512vl")
            {
                return Self::Avx512;
            }
            if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
                return Self::Avx2;
            }
        }
        Self::Portable
    }

    /// Whether this machine has it.
    pub fn is_available(self) -> bool {
        // Each one has all of what the next one has.
        match Self::detect() {
            Self::Avx512 => true,
            Self::Avx2 => self != Self::Avx512,
            Self::Portable => self == Self::Portable,
        }
    }

    /// Its name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Avx512 => "avx512",
            Self::Avx2 => "avx2",
            Self::Portable => "portable",
        }
    }
}
