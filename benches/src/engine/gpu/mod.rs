//! Measures the CUDA engine on a GPU: Lloyd passes, a sweep over numbers of clusters, exact silhouettes. Every answer is
//! first compared with the CPU engine's, bit for bit.
//!
//! `engine gpu conform` only compares, on many small shapes; it is what compute-sanitizer is run with. `engine gpu time`
//! compares and measures the shapes it is given, and leaves their rows as NumPy files for the peers.

mod conform;
mod time;

use crate::Shape;
use anyhow::Result;
use clap::Subcommand;
use shoal_clustering::cpu::CpuDevice;
use shoal_cuda::{CudaDevice, CudaGpu, Gpu};
use std::path::PathBuf;
use std::sync::Arc;

/// What is done with the GPU.
#[derive(Debug, Subcommand)]
pub(crate) enum GpuCommand {
    /// Compares answers on small shapes.
    Conform {
        /// Rows of each shape.
        #[arg(long, default_value_t = 3000)]
        rows: usize,
    },
    /// Compares answers and measures.
    Time {
        /// Rows, features and clusters, such as 10000000,32,16.
        #[arg(long, value_parser = shape)]
        fit: Vec<Shape>,
        /// Rows and features of data that all numbers of clusters from 2 to 20 are tried on.
        #[arg(long, value_parser = shape)]
        sweep: Vec<Shape>,
        /// Rows, features and clusters of exact silhouettes.
        #[arg(long, value_parser = shape)]
        silhouette: Vec<Shape>,
        /// Rows, features and clusters of what a job asks after its passes.
        #[arg(long, value_parser = shape)]
        validation: Vec<Shape>,
        /// Where rows and initial centroids are left as NumPy files.
        #[arg(long)]
        arrays: Option<PathBuf>,
        /// Where results go, a JSON document a line.
        #[arg(long)]
        result: Option<PathBuf>,
        /// Compare silhouettes with the CPU's up to so many rows; more take the CPU minutes.
        #[arg(long, default_value_t = 100_000)]
        silhouette_rows_compared: usize,
    },
}

fn shape(text: &str) -> Result<Shape, String> {
    let numbers: Vec<usize> = text.split(',').filter_map(|number| number.parse().ok()).collect();
    match numbers[..] {
        [n_samples, n_features, n_clusters] => Ok(Shape::overlapping(n_samples, n_features, n_clusters)),
        _ => Err("three numbers are needed: rows,features,clusters".to_owned()),
    }
}

/// Does it with the first GPU.
pub(crate) fn run(command: GpuCommand) -> Result<()> {
    let cpu = CpuDevice::new(0)?;
    let gpu: Arc<dyn Gpu> = Arc::new(CudaGpu::new(0)?);
    println!("{}, {} multiprocessors", gpu.name(), gpu.n_processors());
    match command {
        GpuCommand::Conform { rows } => conform::run(&cpu, &CudaDevice::new(gpu, cpu.clone()), rows),
        GpuCommand::Time { fit, sweep, silhouette, validation, arrays, result, silhouette_rows_compared } => {
            let mut timing = time::Timing::new(cpu, gpu, arrays, result)?;
            fit.iter().try_for_each(|shape| timing.fit(shape))?;
            sweep.iter().try_for_each(|shape| timing.sweep(shape))?;
            validation.iter().try_for_each(|shape| timing.validation(shape))?;
            silhouette.iter().try_for_each(|shape| timing.silhouette(shape, silhouette_rows_compared))
        }
    }
}
