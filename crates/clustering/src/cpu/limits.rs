//! What this machine can do at most, measured with the engine's own vectors and threads: what a benchmark divides by.

use super::isa::Kernel;
use super::shard::CpuDevice;
use super::vector::{LINE, Line, Vector};
use std::hint::black_box;
use std::time::Instant;

/// Rounds of 24 multiplications and additions in one measurement: a few hundredths of a second.
const ROUNDS: usize = 2_000_000;
/// Sums that are kept at a time, enough to hide how long one takes.
const SUMS: usize = 24;
/// Measurements of which the best one counts.
const REPEATS: usize = 5;

/// Float32 multiplications and additions a second, of all threads of the device, as fused instructions on registers.
pub fn peak_flops(device: &CpuDevice) -> f64 {
    let flops = |lanes: usize| 2.0 * (ROUNDS * SUMS * lanes * device.n_threads()) as f64;
    best(|| flops(device.broadcast(|_| device.isa().run(MultiplyAdd))[0]))
}

/// Bytes a second that all threads of the device read together from `bytes` of memory, backed as the engine backs rows.
pub fn read_bandwidth(device: &CpuDevice, bytes: usize) -> f64 {
    let mut values = Vec::with_capacity(bytes / size_of::<Line>());
    super::slab::ask_for_huge_pages(&mut values);
    values.resize(bytes / size_of::<Line>(), Line([1.0; LINE]));
    let share = values.len().div_ceil(device.n_threads());
    let parts: Vec<&[Line]> = values.chunks(share).collect();
    best(|| {
        device.broadcast(|thread| device.isa().run(Read(parts.get(thread).copied().unwrap_or(&[]))));
        bytes as f64
    })
}

/// The best rate of some measurements, each of which returns how much it did.
fn best(mut measure: impl FnMut() -> f64) -> f64 {
    let rate = |_| {
        let began = Instant::now();
        let amount = measure();
        amount / began.elapsed().as_secs_f64()
    };
    (0..REPEATS).map(rate).fold(0.0, f64::max)
}

struct MultiplyAdd;

impl Kernel for MultiplyAdd {
    /// Lanes of a vector.
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
            let total = sums.into_iter().fold(V::splat(0.0), |total, sum| total.add(sum));
            let mut line = Line([0.0; LINE]);
            total.store(line.0.as_mut_ptr());
            black_box(line);
        }
        V::LANES
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
