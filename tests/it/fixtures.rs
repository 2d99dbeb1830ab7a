//! Data, jobs and devices that several tests want.

use crate::memory_rows::MemoryRows;
use shoal_clustering::Device;
use shoal_clustering::cpu::CpuDevice;
use shoal_cuda::CudaDevice;
use shoal_domain::job::{JobSpec, KMeansSpec, PrepareSpec, SourceSpec, ValidateSpec};
use shoal_domain::{BLOCK_ROWS, BlockId, FeatureNames, RawBlock};
use shoal_emulator::EmulatedGpu;
use shoal_stats::RandomStream;
use std::sync::Arc;

/// Columns of numbers, and how they are cut into blocks.
#[derive(Debug, Clone)]
pub(crate) struct Table {
    /// n_features x n_rows.
    pub(crate) columns: Vec<Vec<f64>>,
    pub(crate) weights: Option<Vec<f64>>,
    /// Fewer than [`BLOCK_ROWS`] make many blocks of few rows, which nothing forbids but the reading of files.
    pub(crate) block_rows: usize,
}

impl Table {
    pub(crate) fn new(columns: Vec<Vec<f64>>) -> Self {
        Self { columns, weights: None, block_rows: BLOCK_ROWS }
    }

    pub(crate) fn with_weights(self, weights: Vec<f64>) -> Self {
        Self { weights: Some(weights), ..self }
    }

    pub(crate) fn in_blocks_of(self, block_rows: usize) -> Self {
        Self { block_rows, ..self }
    }

    pub(crate) fn n_rows(&self) -> usize {
        self.columns[0].len()
    }

    /// Columns are named `f0`, `f1`, ..
    pub(crate) fn features(&self) -> FeatureNames {
        let names = (0..self.columns.len()).map(|column| format!("f{column}"));
        FeatureNames::new(names.collect()).expect("the names differ")
    }

    pub(crate) fn blocks(&self) -> Vec<RawBlock> {
        let starts = (0..self.n_rows()).step_by(self.block_rows);
        let cut = |(id, first): (usize, usize)| {
            let rows = first..(first + self.block_rows).min(self.n_rows());
            let columns: Vec<Vec<f64>> = self.columns.iter().map(|column| column[rows.clone()].to_vec()).collect();
            let weights = self.weights.as_ref().map(|weights| weights[rows].to_vec());
            let mut hasher = blake3::Hasher::new();
            columns.iter().chain(&weights).flatten().for_each(|value| {
                hasher.update(&value.to_le_bytes());
            });
            RawBlock::new(BlockId(id as u64), columns, weights, hasher.finalize().into()).expect("finite values")
        };
        starts.enumerate().map(cut).collect()
    }

    /// The rows as one process holds them.
    pub(crate) fn rows(&self) -> MemoryRows {
        self.rows_on(vec![Arc::new(device(2))])
    }

    /// The rows dealt out to as many workers as there are devices.
    pub(crate) fn rows_on(&self, devices: Vec<Arc<dyn Device>>) -> MemoryRows {
        MemoryRows::new(self.features(), self.blocks(), devices)
    }
}

/// A GPU that is emulated, with so little shared memory that a few dozen centroids of many features have to be streamed.
pub(crate) fn gpu() -> Arc<dyn Device> {
    Arc::new(CudaDevice::new(Arc::new(EmulatedGpu::new(1 << 30, 68 << 10)), device(2)))
}

/// A device for several owners.
pub(crate) fn shared(device: CpuDevice) -> Arc<dyn Device> {
    Arc::new(device)
}

pub(crate) fn device(n_threads: usize) -> CpuDevice {
    CpuDevice::new(n_threads).expect("threads can be started")
}

/// One job for tests: everything at its default but a few quick starts, so that a test says only what it is about.
pub(crate) fn job(n_clusters: usize) -> JobSpec {
    let kmeans = KMeansSpec { n_init: 3, max_iter: 50, seed: 7, ..KMeansSpec::with_clusters(n_clusters) };
    let source = SourceSpec {
        path: "memory".to_owned(),
        features: Some(vec!["f0".to_owned()]),
        id: Some("id".to_owned()),
        ..SourceSpec::default()
    };
    JobSpec { source, prepare: PrepareSpec::default(), kmeans, validate: ValidateSpec::default() }
}

/// Uniform random numbers from 0 to 1, the same ones on every machine.
pub(crate) fn noise(n: usize, stream: u64) -> Vec<f64> {
    let stream = RandomStream { seed: 20_180_102, stream };
    (0..n as u64).map(|row| stream.uniform(row)).collect()
}

/// Rows around `n_blobs` centres, one unit wide and about three apart, in no order.
pub(crate) fn blobs(n_rows: usize, n_features: usize, n_blobs: usize, seed: u64) -> Vec<Vec<f64>> {
    let first_stream = seed * 10_000;
    let blob: Vec<usize> = noise(n_rows, first_stream).iter().map(|value| (value * n_blobs as f64) as usize).collect();
    let column = |column: u64| {
        let centres = noise(n_blobs, first_stream + 2 * column + 1);
        let around = noise(n_rows, first_stream + 2 * column + 2);
        blob.iter().zip(around).map(|(blob, value)| 10.0 * centres[*blob] + value - 0.5).collect()
    };
    (0..n_features as u64).map(column).collect()
}
