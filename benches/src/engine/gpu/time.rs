//! How long the GPU takes.

use super::conform::{check_partial, check_silhouettes};
use crate::npy;
use crate::shapes::{Data, Shape};
use anyhow::{Context, Result};
use serde_json::{Value, json};
use shoal_clustering::cpu::{CpuDevice, CpuShard};
use shoal_clustering::kmeans::{Lloyd, Progress};
use shoal_clustering::silhouette::{Mode, silhouette};
use shoal_clustering::{ClusteringError, DistanceSums, Draw, PairQuestion, Partial, QueryRows, Shard};
use shoal_cuda::{CudaDevice, CudaShard, Gpu};
use shoal_domain::{Block, Centroids};
use shoal_stats::RandomStream;
use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

/// Passes of a fit.
const PASSES: usize = 20;
/// Fits that a median is taken of.
const REPEATS: usize = 3;
/// Rows of a sampled silhouette.
const SAMPLED_ROWS: usize = 2_000;
/// Sets of centroids that have nothing to do with each other, for passes that no earlier one helps.
const UNRELATED_SETS: usize = 8;

/// What measurements have in common.
pub(crate) struct Timing {
    cpu: CpuDevice,
    gpu: Arc<dyn Gpu>,
    arrays: Option<PathBuf>,
    result: Option<File>,
}

/// A data set on both.
struct Loaded {
    shape: Shape,
    data: Data,
    host: CpuShard,
    device: CudaShard,
    load_seconds: f64,
}

impl Timing {
    pub(crate) fn new(
        cpu: CpuDevice,
        gpu: Arc<dyn Gpu>,
        arrays: Option<PathBuf>,
        result: Option<PathBuf>,
    ) -> Result<Self> {
        let result = result.map(|path| File::create(&path).with_context(|| path.display().to_string()));
        Ok(Self { cpu, gpu, arrays, result: result.transpose()? })
    }

    fn load(&self, shape: &Shape) -> Result<Loaded> {
        let data = Data::new(*shape);
        let preparation = data.preparation();
        let blocks: Vec<Block> = self.cpu.install(|| data.blocks_in_parallel());
        let host = self.cpu.shard(&preparation, blocks.clone());
        let device = CudaDevice::new(self.gpu.clone(), self.cpu.clone());
        let began = Instant::now();
        let device = device.shard(&preparation, self.cpu.shard(&preparation, blocks))?;
        Ok(Loaded { shape: *shape, data, host, device, load_seconds: began.elapsed().as_secs_f64() })
    }

    fn tell(&mut self, document: Value) -> Result<()> {
        println!("{document}");
        match &mut self.result {
            Some(file) => Ok(writeln!(file, "{document}")?),
            None => Ok(()),
        }
    }

    /// Passes of one set of centroids.
    pub(crate) fn fit(&mut self, shape: &Shape) -> Result<()> {
        let loaded = self.load(shape)?;
        if let Some(folder) = &self.arrays {
            let name = |what: &str| folder.join(format!("{}-{}.npy", shape.numbers(), what));
            let bytes = |value: f32| value.to_le_bytes();
            let values = loaded.host.blocks().iter().flat_map(|block| block.values().iter().copied().map(bytes));
            npy::write(&name("x"), "<f4", &[shape.n_samples, shape.n_features], values)?;
            let initial = loaded.data.initial();
            let values = initial.values().iter().copied().map(bytes);
            npy::write(&name("c0"), "<f4", &[shape.n_clusters, shape.n_features], values)?;
        }
        let document = loaded.fit()?;
        self.tell(document)
    }

    /// Passes of 19 sets of centroids at once.
    pub(crate) fn sweep(&mut self, shape: &Shape) -> Result<()> {
        let document = self.load(shape)?.sweep()?;
        self.tell(document)
    }

    /// What a job asks after its passes.
    pub(crate) fn validation(&mut self, shape: &Shape) -> Result<()> {
        let document = self.load(shape)?.validation()?;
        self.tell(document)
    }

    /// Exact silhouettes.
    pub(crate) fn silhouette(&mut self, shape: &Shape, rows_compared: usize) -> Result<()> {
        let document = self.load(shape)?.silhouette(rows_compared)?;
        self.tell(document)
    }
}

impl Loaded {
    fn fit(&self) -> Result<Value> {
        let initial = self.data.initial();
        let units = self.data.preparation().units();
        // Answers first.
        let unrelated = self.unrelated()?;
        for (idx, set) in unrelated.iter().take(2).enumerate() {
            let expected = assign(&self.host, set)?;
            check_partial(&format!("set {idx}"), &expected, &assign(&self.device, set)?)?;
        }
        // Passes that nothing remembered helps.
        let mut dense = Vec::new();
        let mut weigh = Vec::new();
        for set in &unrelated {
            self.device.forget();
            let began = Instant::now();
            assign(&self.device, set)?;
            dense.push(1e3 * began.elapsed().as_secs_f64());
            let began = Instant::now();
            self.device.weigh(std::slice::from_ref(set))?;
            weigh.push(1e3 * began.elapsed().as_secs_f64());
        }
        let (mut wholes, mut passes, mut ended) = (Vec::new(), Vec::new(), None);
        for _ in 0..REPEATS {
            self.device.forget();
            let mut lloyd = Lloyd::new(initial.clone(), units.clone(), PASSES, 0.0);
            passes.clear();
            let began = Instant::now();
            while lloyd.progress() == Progress::Continue {
                let pass_began = Instant::now();
                let partial = assign(&self.device, lloyd.centroids())?;
                passes.push(1e3 * pass_began.elapsed().as_secs_f64());
                lloyd.advance(partial, &[]);
            }
            wholes.push(1e3 * began.elapsed().as_secs_f64() / lloyd.n_iter() as f64);
            ended = Some(lloyd);
        }
        let lloyd = ended.context("there was a fit")?;
        let expected = assign(&self.host, lloyd.centroids())?;
        check_partial("the end of the fit", &expected, &assign(&self.device, lloyd.centroids())?)?;
        Ok(json!({
            "task": "fit",
            "shape": self.shape.numbers(),
            "load_seconds": self.load_seconds,
            "dense_ms": rounded(&dense),
            "weigh_ms": rounded(&weigh),
            "n_iter": lloyd.n_iter(),
            "whole_ms_per_pass": median(&wholes),
            "pass_ms": rounded(&passes),
            "inertia": expected.inertia.value(),
        }))
    }

    fn sweep(&self) -> Result<Value> {
        let initial = self.data.initial();
        let units = self.data.preparation().units();
        let set = |n: usize| Centroids::from_rows(initial.rows().take(n));
        let sets = (2..=20).map(set).collect::<Result<Vec<_>, _>>()?;
        for (idx, (expected, actual)) in self.host.assign(&sets)?.iter().zip(self.device.assign(&sets)?).enumerate() {
            check_partial(&format!("set {idx}"), expected, &actual)?;
        }
        self.device.forget();
        let mut fits: Vec<Lloyd> = sets.into_iter().map(|set| Lloyd::new(set, units.clone(), PASSES, 0.0)).collect();
        let mut passes = Vec::new();
        for _ in 0..PASSES {
            fits.retain(|fit| fit.progress() == Progress::Continue);
            let sets: Vec<Centroids> = fits.iter().map(|fit| fit.centroids().clone()).collect();
            let began = Instant::now();
            let partials = self.device.assign(&sets)?;
            passes.push(1e3 * began.elapsed().as_secs_f64());
            for (fit, partial) in fits.iter_mut().zip(partials) {
                fit.advance(partial, &[]);
            }
        }
        Ok(json!({ "task": "sweep", "shape": self.shape.numbers(), "pass_ms": rounded(&passes) }))
    }

    fn silhouette(&self, rows_compared: usize) -> Result<Value> {
        let centroids = self.data.initial();
        let unit = self.data.preparation().distance_unit();
        if self.shape.n_samples <= rows_compared {
            check_silhouettes(&self.host, &self.device, &centroids, unit)?;
        }
        let counts = assign(&self.device, &centroids)?.counts;
        let began = Instant::now();
        let score = silhouette(&self.device, &centroids, &counts, unit, Mode::Exact, &mut ())?;
        let seconds = began.elapsed().as_secs_f64();
        let n = self.shape.n_samples as f64;
        Ok(json!({
            "task": "silhouette",
            "shape": self.shape.numbers(),
            "seconds": seconds,
            "gpairs_per_second": n * n / 2.0 / seconds / 1e9,
            "score": score.map(|score| score.mean),
            "compared": self.shape.n_samples <= rows_compared,
        }))
    }

    /// Question after question, on either; a question asked again finds what the first one has left.
    fn validation(&self) -> Result<Value> {
        let centroids = self.data.initial();
        let (on_host, on_device) = (Validation::of(&self.host, &centroids)?, Validation::of(&self.device, &centroids)?);
        anyhow::ensure!(on_host.sums == on_device.sums, "sums of distances differ");
        Ok(json!({
            "task": "validation",
            "shape": self.shape.numbers(),
            "host_seconds": on_host.seconds,
            "device_seconds": on_device.seconds,
        }))
    }

    /// Sets of centroids at rows, each at other ones.
    fn unrelated(&self) -> Result<Vec<Centroids>> {
        let n = self.shape.n_clusters;
        let rows = self.host.blocks().iter().flat_map(|block| block.values().chunks_exact(self.shape.n_features));
        let rows: Vec<&[f32]> = rows.take(n * UNRELATED_SETS).collect();
        rows.chunks(n).map(|rows| Ok(Centroids::from_rows(rows.iter().copied())?)).collect()
    }
}

/// What a sampled silhouette and the other scores ask, and how long each question takes.
struct Validation {
    sums: DistanceSums,
    seconds: Value,
}

impl Validation {
    fn of(shard: &dyn Shard, centroids: &Centroids) -> Result<Self> {
        let stream = RandomStream { seed: 7, stream: 1 };
        let draw = Draw { n: SAMPLED_ROWS, far_from: None, ignore_weights: true, stream };
        let (drawing, drawn) = timed(|| shard.draw(&[draw]))?;
        let (spreading, spread) = timed(|| shard.spread(centroids, centroids))?;
        let rows = drawn.into_iter().flat_map(|picked| picked.into_rows());
        let n_clusters = centroids.n_clusters() as u32;
        let (clusters, values): (Vec<u32>, Vec<Vec<f32>>) =
            rows.enumerate().map(|(idx, row)| (idx as u32 % n_clusters, row.values)).unzip();
        let query = QueryRows { values: values.concat(), clusters };
        let mean_squares = spread.squares.iter().zip(&spread.counts).map(|(sum, n)| sum.value() / *n as f64).collect();
        let question = PairQuestion { centroids: centroids.clone(), mean_squares, unit: 2f64.powi(-20) };
        let (first, sums) = timed(|| shard.distance_sums(&query, &question))?;
        let (again, _) = timed(|| shard.distance_sums(&query, &question))?;
        let seconds = json!({ "draw": drawing, "spread": spreading, "sums": first, "sums_again": again });
        Ok(Self { sums, seconds })
    }
}

/// Seconds, and what came of it.
fn timed<T>(ask: impl FnOnce() -> Result<T, ClusteringError>) -> Result<(f64, T)> {
    let began = Instant::now();
    let answer = ask()?;
    Ok((began.elapsed().as_secs_f64(), answer))
}

fn assign(shard: &dyn Shard, centroids: &Centroids) -> Result<Partial> {
    Ok(shard.assign(std::slice::from_ref(centroids))?.remove(0))
}

fn rounded(values: &[f64]) -> Vec<f64> {
    values.iter().map(|value| (value * 1e4).round() / 1e4).collect()
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    (sorted[(sorted.len() - 1) / 2] + sorted[sorted.len() / 2]) / 2.0
}
