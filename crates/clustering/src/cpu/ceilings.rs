//! Work at the limits of this machine, with the engine's own vectors and threads: what a benchmark divides by.

use super::device::CpuDevice;
use super::isa::Kernel;
use super::vector::{LINE, Line, Vector};
use std::hint::black_box;

/// Rounds of multiplications and additions in one measurement: a few hundredths of a second.
const ROUNDS: usize = 4_000_000;
/// Sums that are added to in turn: more than units have under way, and few enough for the registers of every instruction set.
const SUMS: usize = 12;

/// Works at the limit of multiplications and additions, as fused instructions on registers, on all threads of the device;
/// how many of both it did. A few hundredths of a second.
pub fn multiply_and_add(device: &CpuDevice) -> f64 {
    device.broadcast(|_| device.isa().run(MultiplyAdd)).into_iter().map(|n| 2.0 * n as f64).sum()
}

/// Numbers to be read at the limit, backed by the system as the engine's rows are.
pub struct Numbers(Vec<Line>);

impl Numbers {
    /// So many bytes of it.
    pub fn new(bytes: usize) -> Self {
        let mut lines = Vec::with_capacity(bytes / size_of::<Line>());
        super::slab::ask_for_huge_pages(&mut lines);
        lines.resize(bytes / size_of::<Line>(), Line([1.0; LINE]));
        Self(lines)
    }

    /// Reads all of it once, each thread of the device a part.
    pub fn read(&self, device: &CpuDevice) {
        let parts: Vec<&[Line]> = self.0.chunks(self.0.len().div_ceil(device.n_threads())).collect();
        device.broadcast(|thread| device.isa().run(Read(parts.get(thread).copied().unwrap_or(&[]))));
    }
}

struct MultiplyAdd;

impl Kernel for MultiplyAdd {
    /// Multiplications.
    type Output = usize;

    #[inline(always)]
    unsafe fn run<V: Vector, const N: usize, const G: usize>(self) -> usize {
        // SAFETY: the caller has enabled V; a line has room for a vector.
        unsafe {
            let factor = V::splat(black_box(0.999));
            let mut sums = [V::splat(1.0); SUMS];
            for _ in 0..ROUNDS {
                for sum in &mut sums {
                    *sum = sum.multiply_add(factor, factor);
                }
            }
            let total = sums.iter().fold(V::splat(0.0), |total, sum| total.add(*sum));
            let mut line = Line([0.0; LINE]);
            total.store(line.0.as_mut_ptr());
            black_box(line);
        }
        ROUNDS * SUMS * V::LANES
    }
}

struct Read<'a>(&'a [Line]);

impl Kernel for Read<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector, const N: usize, const G: usize>(self) {
        // SAFETY: the caller has enabled V; eight lines hold the vectors that are loaded from them.
        unsafe {
            let mut sums = [V::splat(0.0); 8];
            for lines in self.0.chunks_exact(8) {
                for (sum, line) in sums.iter_mut().zip(lines) {
                    for first in (0..LINE).step_by(V::LANES) {
                        *sum = sum.add(V::load(line.0.as_ptr().add(first)));
                    }
                }
            }
            let total = sums.into_iter().fold(V::splat(0.0), |total, sum| total.add(sum));
            let mut line = Line([0.0; LINE]);
            total.store(line.0.as_mut_ptr());
            black_box(line);
        }
    }
}
