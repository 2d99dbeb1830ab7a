//! A machine as the engines see it.

use crate::cpu::CpuDevice;
use crate::questions::Device;
use std::sync::Arc;

/// The processor, which reads and prepares rows, and the engine that is then asked about them. They may be the same.
#[derive(Clone)]
pub struct Machine {
    /// The processor.
    pub cpu: CpuDevice,
    /// The engine.
    pub engine: Arc<dyn Device>,
}

impl Machine {
    /// One whose processor is the engine.
    pub fn of_cpu(cpu: CpuDevice) -> Self {
        Self { engine: Arc::new(cpu.clone()), cpu }
    }
}
