//! Instruction sets, and the one place where a kernel is compiled for each of them.

use super::vector::{Plain, Vector};
#[cfg(target_arch = "aarch64")]
use super::vector_neon::Neon;
#[cfg(target_arch = "x86_64")]
use super::vector_x86::{Avx2, Avx512};

/// The instruction sets that the kernels were written for, best first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Isa {
    /// x86-64 with AVX-512 F, BW, DQ, VL.
    Avx512,
    /// x86-64 with AVX2 and FMA.
    Avx2,
    /// aarch64, all of which have it.
    Neon,
    /// Whatever the target has.
    Portable,
}

/// A computation over vectors of any width.
///
/// A tile has N vectors of rows, and G centroids are compared with it at a time: N x G sums, N columns and one centroid must fit
/// the registers of the instruction set.
pub(super) trait Kernel {
    /// What it computes.
    type Output;

    /// Computes it.
    ///
    /// # Safety
    ///
    /// The caller has enabled the instruction set of V. Implementations are `#[inline(always)]`, so that they become part
    /// of the function that enables it.
    unsafe fn run<V: Vector, const N: usize, const G: usize>(self) -> Self::Output;
}

impl Isa {
    /// The best one that this machine has.
    pub fn detect() -> Self {
        Self::available().next().expect("every machine has what it has")
    }

    /// Those that this machine has, best first.
    pub fn available() -> impl Iterator<Item = Self> {
        [Self::Avx512, Self::Avx2, Self::Neon, Self::Portable].into_iter().filter(|isa| isa.is_available())
    }

    /// Whether this machine has it.
    pub fn is_available(self) -> bool {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => {
                Self::Avx2.is_available()
                    && is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512dq")
                    && is_x86_feature_detected!("avx512vl")
            }
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma"),
            #[cfg(target_arch = "aarch64")]
            Self::Neon => true,
            Self::Portable => true,
            _ => false,
        }
    }

    /// Its name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Avx512 => "avx512",
            Self::Avx2 => "avx2",
            Self::Neon => "neon",
            Self::Portable => "portable",
        }
    }

    /// Runs a kernel. Panics where the machine does not have the instruction set: that it does is looked up, which costs next to
    /// nothing beside a block of rows.
    pub(super) fn run<K: Kernel>(self, kernel: K) -> K::Output {
        assert!(self.is_available(), "this machine has no {}", self.name());
        match self {
            // SAFETY: it is available.
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => unsafe { run_avx512(kernel) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => unsafe { run_avx2(kernel) },
            // SAFETY: as above. 24 sums, 3 columns, 1 centroid: 28 of 32 registers.
            #[cfg(target_arch = "aarch64")]
            Self::Neon => unsafe { kernel.run::<Neon, 3, 8>() },
            // SAFETY: plain numbers need nothing.
            _ => unsafe { kernel.run::<Plain, 1, 4>() },
        }
    }
}

/// 24 sums, 3 columns, 1 centroid: 28 of 32 registers.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
fn run_avx512<K: Kernel>(kernel: K) -> K::Output {
    // SAFETY: this function enables what the vector needs.
    unsafe { kernel.run::<Avx512, 3, 8>() }
}

/// 8 sums, 2 columns, 1 centroid: 11 of 16 registers, and as many sums as two units have under way. With 12 sums, which would
/// fill the registers to the last, compilers keep one of them in memory, and that one takes twice as long.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn run_avx2<K: Kernel>(kernel: K) -> K::Output {
    // SAFETY: this function enables what the vector needs.
    unsafe { kernel.run::<Avx2, 2, 4>() }
}
