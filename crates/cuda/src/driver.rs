//! The GPU of the machine, by the driver that is found there at run time. With [`crate::pinned`] the only place that knows
//! cudarc.

use crate::gpu::{Gpu, GpuError, Launch, THREADS};
use crate::pinned::Pinned;
use cudarc::driver::sys::{CUdevice_attribute, CUfunction, CUfunction_attribute_enum, CUmodule};
use cudarc::driver::{CudaContext, CudaStream, DriverError, result, sys};
use std::collections::HashMap;
use std::ffi::{CString, c_void};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// All kernels, for the generations of GPUs named in kernels/README.md.
static IMAGE: &[u8] = include_bytes!("../../../kernels/images/shoal.fatbin");

/// CUDA 13, whose compiler has made the image.
const OLDEST_DRIVER: i32 = 13_000;

/// A GPU of this machine.
pub struct CudaGpu {
    /// Before the context, without which it cannot be given back.
    pinned: Mutex<Pinned>,
    context: Arc<CudaContext>,
    stream: Arc<CudaStream>,
    module: Module,
    functions: Mutex<HashMap<String, Function>>,
    n_processors: u32,
    shared_bytes_max: usize,
}

/// A handle of the driver, which any thread may use that has the context.
struct Module(CUmodule);
struct Function {
    function: CUfunction,
    /// The last question after its occupancy, and the answer.
    occupancy: Option<(usize, u32)>,
}

// SAFETY: the driver's handles belong to a context, not to a thread.
unsafe impl Send for Module {}
// SAFETY: as above.
unsafe impl Sync for Module {}
// SAFETY: as above.
unsafe impl Send for Function {}

/// How many GPUs this machine has, at least one; an error says that there is none, or why they cannot be used.
pub fn count() -> Result<usize, GpuError> {
    let none = |reason: &str| GpuError::None { reason: reason.to_owned() };
    let unusable = |error: DriverError| GpuError::Unusable { reason: reason(&error) };
    // SAFETY: looks for a library, and loads it if it is there.
    if !unsafe { sys::is_culib_present() } {
        return Err(none("no NVIDIA driver was found (libcuda.so.1)"));
    }
    match result::init() {
        Err(DriverError(sys::CUresult::CUDA_ERROR_NO_DEVICE)) => return Err(none("the NVIDIA driver sees none")),
        other => other.map_err(unusable)?,
    }
    let mut version = 0;
    // SAFETY: writes one number.
    unsafe { sys::cuDriverGetVersion(&raw mut version) }.result().map_err(unusable)?;
    if version < OLDEST_DRIVER {
        let reason =
            format!("its driver is of CUDA {}, and 13 (driver 580) is the oldest that will do", version / 1000);
        return Err(GpuError::Unusable { reason });
    }
    match result::device::get_count().map_err(unusable)? {
        0 => Err(none("the NVIDIA driver sees none")),
        n_gpus => Ok(n_gpus as usize),
    }
}

fn reason(error: &DriverError) -> String {
    let text = error.error_string().map(|text| text.to_string_lossy().into_owned());
    text.unwrap_or_else(|_| format!("{error:?}"))
}

fn failed(what: &str) -> impl Fn(DriverError) -> GpuError + '_ {
    move |error| GpuError::Failed { what: what.to_owned(), reason: reason(&error) }
}

impl CudaGpu {
    /// The GPU of this number, from 0.
    pub fn new(ordinal: usize) -> Result<Self, GpuError> {
        let n_gpus = count()?;
        if ordinal >= n_gpus {
            return Err(GpuError::NoSuchGpu { ordinal, n_gpus });
        }
        let failed_to_start = failed("start");
        let context = CudaContext::new(ordinal).map_err(&failed_to_start)?;
        let stream = context.new_stream().map_err(&failed_to_start)?;
        let attribute = |attribute| context.attribute(attribute).map_err(&failed_to_start);
        let n_processors = attribute(CUdevice_attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)? as u32;
        let shared_bytes_max =
            attribute(CUdevice_attribute::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN)? as usize;
        // SAFETY: the image is whole, and outlives the module.
        let module = unsafe { result::module::load_data(IMAGE.as_ptr().cast()) }.map_err(failed("load the kernels"))?;
        let (module, functions) = (Module(module), Mutex::default());
        let pinned = Mutex::new(Pinned::new().map_err(&failed_to_start)?);
        let gpu = Self { context, stream, module, functions, pinned, n_processors, shared_bytes_max };
        gpu.keep_memory()?;
        Ok(gpu)
    }

    /// The pool that memory is taken from.
    fn pool(&self) -> Result<sys::CUmemoryPool, DriverError> {
        // SAFETY: the device is there.
        unsafe { result::device::get_default_mem_pool(self.context.cu_device()) }
    }

    /// Lets the pool keep what is given back: to take it anew from the system costs more than a pass.
    fn keep_memory(&self) -> Result<(), GpuError> {
        let mut all = u64::MAX;
        let threshold = sys::CUmemPool_attribute::CU_MEMPOOL_ATTR_RELEASE_THRESHOLD;
        // SAFETY: the attribute is a number of 64 bits.
        let set = |pool| unsafe { result::mem_pool::set_attribute(pool, threshold, (&raw mut all).cast()) };
        self.pool().and_then(set).map_err(failed("keep memory"))
    }

    /// Does something with a kernel.
    fn with_function<A>(
        &self,
        kernel: &str,
        work: impl FnOnce(&mut Function) -> Result<A, GpuError>,
    ) -> Result<A, GpuError> {
        let mut functions = self.functions.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(function) = functions.get_mut(kernel) {
            return work(function);
        }
        let name = CString::new(kernel).map_err(|error| GpuError::Failed {
            what: format!("find the kernel {kernel}"),
            reason: error.to_string(),
        })?;
        let limit = CUfunction_attribute_enum::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
        // SAFETY: the module is loaded, and the function is there if the driver says so.
        let function = unsafe {
            let function = result::module::get_function(self.module.0, name);
            let function = function.map_err(failed(&format!("find the kernel {kernel}")))?;
            result::function::set_function_attribute(function, limit, self.shared_bytes_max as i32)
                .map_err(failed(&format!("give the kernel {kernel} shared memory")))?;
            function
        };
        work(functions.entry(kernel.to_owned()).or_insert(Function { function, occupancy: None }))
    }

    fn pinned(&self) -> MutexGuard<'_, Pinned> {
        self.pinned.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn bind(&self) -> Result<(), GpuError> {
        self.context.bind_to_thread().map_err(failed("take a thread"))
    }
}

impl Gpu for CudaGpu {
    fn name(&self) -> String {
        let name = self.context.name().unwrap_or_else(|error| reason(&error));
        format!("cuda:{} ({name})", self.context.ordinal())
    }

    fn n_processors(&self) -> u32 {
        self.n_processors
    }

    fn shared_bytes_max(&self) -> usize {
        self.shared_bytes_max
    }

    fn blocks_together(&self, kernel: &str, shared_bytes: usize) -> Result<u32, GpuError> {
        self.bind()?;
        self.with_function(kernel, |Function { function, occupancy }| {
            if let Some((_, n_blocks)) = occupancy.filter(|(asked, _)| *asked == shared_bytes) {
                return Ok(n_blocks);
            }
            let threads = THREADS as i32;
            // SAFETY: the function is there.
            let n_blocks =
                unsafe { result::occupancy::max_active_block_per_multiprocessor(*function, threads, shared_bytes) };
            let n_blocks = n_blocks.map_err(failed("tell its occupancy"))? as u32;
            *occupancy = Some((shared_bytes, n_blocks));
            Ok(n_blocks)
        })
    }

    fn free_bytes(&self) -> Result<usize, GpuError> {
        self.bind()?;
        // What the pool keeps is free as well.
        self.stream.synchronize().map_err(failed("finish"))?;
        // SAFETY: the pool is the device's own.
        let trim = |pool| unsafe { result::mem_pool::trim_to(pool, 0) };
        self.pool()
            .and_then(trim)
            .and_then(|()| result::mem_get_info())
            .map(|(free, _)| free)
            .map_err(failed("tell its free memory"))
    }

    fn allocate(&self, n_bytes: usize) -> Result<u64, GpuError> {
        self.bind()?;
        // SAFETY: whoever gets the address decides what is in there.
        unsafe { result::malloc_async(self.stream.cu_stream(), n_bytes) }
            .map_err(failed(&format!("give {} MiB", n_bytes.div_ceil(1 << 20))))
    }

    unsafe fn release(&self, address: u64) {
        // It is given back when what was launched before is done. A GPU that has failed has nothing to give back.
        if self.bind().is_ok() {
            // SAFETY: the address comes from `allocate`, and its owner is gone.
            let _ = unsafe { result::free_async(address, self.stream.cu_stream()) };
        }
    }

    unsafe fn clear(&self, address: u64, n_bytes: usize) -> Result<(), GpuError> {
        self.bind()?;
        // SAFETY: the caller's.
        unsafe { result::memset_d8_async(address, 0, n_bytes, self.stream.cu_stream()) }.map_err(failed("clear memory"))
    }

    unsafe fn upload(&self, address: u64, bytes: &[u8]) -> Result<(), GpuError> {
        self.bind()?;
        // SAFETY: the caller's.
        unsafe { self.pinned().upload(address, bytes, self.stream.cu_stream()) }.map_err(failed("take a copy"))
    }

    fn finish(&self) -> Result<(), GpuError> {
        self.bind()?;
        self.pinned().finish(&self.stream).map_err(failed("finish"))
    }

    unsafe fn download(&self, address: u64, bytes: &mut [u8]) -> Result<(), GpuError> {
        self.bind()?;
        // SAFETY: the caller's.
        unsafe { self.pinned().download(address, bytes, &self.stream) }.map_err(failed("give a copy"))
    }

    unsafe fn launch(&self, launch: &Launch<'_>) -> Result<(), GpuError> {
        self.bind()?;
        let function = self.with_function(launch.kernel, |function| Ok(function.function))?;
        let mut parameters = [launch.parameters.as_ptr().cast_mut().cast::<c_void>()];
        let shared_bytes = launch.shared_bytes as u32;
        // SAFETY: the caller's; the driver copies the parameters.
        unsafe {
            result::launch_kernel(
                function,
                launch.grid,
                (THREADS, 1, 1),
                shared_bytes,
                self.stream.cu_stream(),
                &mut parameters,
            )
        }
        .map_err(failed(&format!("start the kernel {}", launch.kernel)))
    }
}

impl Drop for CudaGpu {
    fn drop(&mut self) {
        if self.bind().is_ok() {
            // SAFETY: nobody else has the module.
            let _ = unsafe { result::module::unload(self.module.0) };
        }
    }
}
