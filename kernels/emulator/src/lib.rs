//! A GPU that is the CPU: the same kernels, compiled by a C++ compiler, one thread after the other.
//!
//! It is slow, and it is the whole of what the engine asks of a GPU, so tests run everything above the driver with it: what
//! kernels compute, what they are told, what comes back. It has few multiprocessors and little memory, so that small data
//! reaches every path.

use shoal_cuda::{Gpu, GpuError, Launch, THREADS};
use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::collections::HashMap;
use std::ffi::{CString, c_char, c_void};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

unsafe extern "C" {
    fn shoal_emulate(
        kernel: *const c_char,
        grid: *const u32,
        n_threads: u32,
        shared_bytes: usize,
        parameters: *const c_void,
    ) -> i32;
}

/// What memory is filled with when it is given out: on a GPU it holds whatever was there.
const NOISE: u8 = 0xa5;

/// The CPU as a GPU.
pub struct EmulatedGpu {
    n_bytes: usize,
    shared_bytes_max: usize,
    /// Layouts by address.
    allocated: Mutex<HashMap<u64, Layout>>,
    /// Launches until it breaks.
    launches_left: AtomicU64,
}

impl EmulatedGpu {
    /// With so much memory, and so much of it shared by the threads of a block.
    pub fn new(n_bytes: usize, shared_bytes_max: usize) -> Self {
        Self { n_bytes, shared_bytes_max, allocated: Mutex::default(), launches_left: AtomicU64::new(u64::MAX) }
    }

    /// One that breaks after so many launches, and stays broken.
    pub fn breaking_after(self, n_launches: u64) -> Self {
        Self { launches_left: AtomicU64::new(n_launches), ..self }
    }

    fn free(&self) -> usize {
        let allocated = self.allocated.lock().unwrap_or_else(PoisonError::into_inner);
        self.n_bytes.saturating_sub(allocated.values().map(Layout::size).sum())
    }
}

impl Gpu for EmulatedGpu {
    fn name(&self) -> String {
        "cuda (emulated)".to_owned()
    }

    fn n_processors(&self) -> u32 {
        3
    }

    fn shared_bytes_max(&self) -> usize {
        self.shared_bytes_max
    }

    fn blocks_together(&self, _: &str, _: usize) -> Result<u32, GpuError> {
        Ok(1)
    }

    fn free_bytes(&self) -> Result<usize, GpuError> {
        Ok(self.free())
    }

    fn allocate(&self, n_bytes: usize) -> Result<u64, GpuError> {
        let failed = |reason: &str| GpuError::Failed {
            what: format!("give {} MiB", n_bytes.div_ceil(1 << 20)),
            reason: reason.to_owned(),
        };
        let layout = Layout::from_size_align(n_bytes, 256).map_err(|error| failed(&error.to_string()))?;
        if n_bytes == 0 || n_bytes > self.free() {
            return Err(failed("out of memory"));
        }
        // SAFETY: the layout is not empty.
        let address = unsafe { alloc(layout) };
        if address.is_null() {
            handle_alloc_error(layout);
        }
        // SAFETY: so many bytes are there.
        unsafe { address.write_bytes(NOISE, n_bytes) };
        self.allocated.lock().unwrap_or_else(PoisonError::into_inner).insert(address as u64, layout);
        Ok(address as u64)
    }

    unsafe fn release(&self, address: u64) {
        let layout = self.allocated.lock().unwrap_or_else(PoisonError::into_inner).remove(&address);
        // SAFETY: it was given out with this layout, and nobody else has given it back.
        unsafe { dealloc(address as *mut u8, layout.expect("memory is given back once")) }
    }

    unsafe fn clear(&self, address: u64, n_bytes: usize) -> Result<(), GpuError> {
        // SAFETY: the caller's.
        unsafe { (address as *mut u8).write_bytes(0, n_bytes) };
        Ok(())
    }

    unsafe fn upload(&self, address: u64, bytes: &[u8]) -> Result<(), GpuError> {
        // SAFETY: the caller's.
        unsafe { (address as *mut u8).copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) };
        Ok(())
    }

    fn finish(&self) -> Result<(), GpuError> {
        Ok(())
    }

    unsafe fn download(&self, address: u64, bytes: &mut [u8]) -> Result<(), GpuError> {
        // SAFETY: the caller's.
        unsafe { bytes.as_mut_ptr().copy_from_nonoverlapping(address as *const u8, bytes.len()) };
        Ok(())
    }

    unsafe fn launch(&self, launch: &Launch<'_>) -> Result<(), GpuError> {
        let failed = |reason: String| GpuError::Failed { what: format!("start the kernel {}", launch.kernel), reason };
        let one_less = |left: u64| left.checked_sub(1);
        if self.launches_left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less).is_err() {
            return Err(failed("it is broken".to_owned()));
        }
        if launch.shared_bytes > self.shared_bytes_max {
            return Err(failed(format!("{} bytes of shared memory are too many", launch.shared_bytes)));
        }
        let grid = <[u32; 3]>::from(launch.grid);
        if grid.contains(&0) {
            return Err(failed("a launch of no blocks is none".to_owned()));
        }
        let name = CString::new(launch.kernel).map_err(|error| failed(error.to_string()))?;
        // The structure must lie as its numbers want it to.
        let mut parameters = vec![0u64; launch.parameters.len().div_ceil(8)];
        // SAFETY: as many bytes are there; the rest is the caller's.
        let is_known = unsafe {
            let there = parameters.as_mut_ptr().cast::<u8>();
            there.copy_from_nonoverlapping(launch.parameters.as_ptr(), launch.parameters.len());
            shoal_emulate(name.as_ptr(), grid.as_ptr(), THREADS, launch.shared_bytes, there.cast())
        };
        if is_known == 0 { Err(failed("there is none of that name".to_owned())) } else { Ok(()) }
    }
}
