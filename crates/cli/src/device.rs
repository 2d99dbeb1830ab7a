//! `--device`: what answers the questions of a job.

use anyhow::Result;
use shoal_clustering::Machine;
use shoal_clustering::cpu::CpuDevice;
use shoal_cuda::{CudaDevice, CudaGpu, GpuError};
use std::str::FromStr;
use std::sync::Arc;

/// What the user chose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DeviceChoice {
    /// The first GPU if there is one, otherwise the processor.
    Auto,
    /// The processor.
    Cpu,
    /// The GPU of this number, from 0.
    Cuda(usize),
}

impl FromStr for DeviceChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let unknown = || format!("`{text}` is none of auto, cpu, cuda and cuda:N");
        match text {
            "auto" => Ok(Self::Auto),
            "cpu" => Ok(Self::Cpu),
            "cuda" => Ok(Self::Cuda(0)),
            _ => {
                let number = text.strip_prefix("cuda:").and_then(|number| number.parse().ok());
                number.map(Self::Cuda).ok_or_else(unknown)
            }
        }
    }
}

/// The machine with the chosen engine. A GPU that was asked for and cannot be had is an error, and so is one that is there
/// and does not start.
pub(crate) fn machine(choice: DeviceChoice, threads: usize) -> Result<Machine> {
    let cpu = CpuDevice::new(threads)?;
    let ordinal = match choice {
        DeviceChoice::Cpu => None,
        DeviceChoice::Auto => match shoal_cuda::count() {
            Ok(_) => Some(0),
            Err(GpuError::None { .. }) => None,
            Err(error) => return Err(error.into()),
        },
        DeviceChoice::Cuda(ordinal) => Some(ordinal),
    };
    Ok(match ordinal {
        None => Machine::of_cpu(cpu),
        Some(ordinal) => {
            let gpu = Arc::new(CudaGpu::new(ordinal)?);
            Machine { engine: Arc::new(CudaDevice::new(gpu, cpu.clone())), cpu }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn choices_are_read() {
        let read = |text: &str| text.parse::<DeviceChoice>();
        assert_eq!(read("auto"), Ok(DeviceChoice::Auto));
        assert_eq!(read("cpu"), Ok(DeviceChoice::Cpu));
        assert_eq!(read("cuda"), Ok(DeviceChoice::Cuda(0)));
        assert_eq!(read("cuda:3"), Ok(DeviceChoice::Cuda(3)));
        for wrong in ["", "gpu", "cuda:", "cuda:-1", "cuda:x", "CPU"] {
            assert!(read(wrong).is_err_and(|error| error.contains("cuda:N")), "{wrong}");
        }
    }
}
