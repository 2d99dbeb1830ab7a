//! The engine's own part, in a process of its own like every peer, with the same keys in its document.

use crate::shapes::{Data, Shape};
use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use shoal_clustering::cpu::{CpuDevice, squared_distance};
use shoal_clustering::kmeans::{Fit, FitParams, Lloyd, Progress, Start, fit};
use shoal_clustering::silhouette::{Mode, silhouette};
use shoal_clustering::{Device, Event, Observer, Partial, Phase, Shard};
use shoal_domain::Centroids;
use shoal_domain::job::Init;
use std::ops::ControlFlow;
use std::time::Instant;

/// Sets of centroids that have nothing to do with each other, for passes that no earlier one helps.
const UNRELATED_SETS: usize = 12;
/// Rows whose labels are compared with the float64 argmin.
const ROWS_CHECKED: usize = 2_000;

/// Rows of the first mini-batch: what a job has when it does not say.
const BATCH_SIZE: usize = 10_000;

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Task {
    /// A fixed number of passes from given centroids.
    Fit,
    /// From rows to centroids with the engine's own seeding and stopping.
    Solve,
    /// The same by mini-batches.
    MiniBatch,
    /// The exact silhouette of all rows, as the initial centroids label them.
    Silhouette,
}

impl Task {
    /// Its name on the command line and in results.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Fit => "fit",
            Self::Solve => "solve",
            Self::MiniBatch => "mini-batch",
            Self::Silhouette => "silhouette",
        }
    }
}

/// How it is measured.
#[derive(Debug, clap::Args)]
pub(crate) struct Settings {
    /// Passes of a fit: an even number, since half of them are measured too.
    #[arg(long, default_value_t = 20, value_parser = even)]
    pub(crate) passes: usize,
    #[arg(long, default_value_t = 3)]
    pub(crate) repeats: usize,
    #[arg(long, default_value_t = default_threads())]
    pub(crate) threads: usize,
}

fn even(text: &str) -> Result<usize, String> {
    match text.parse::<usize>() {
        Ok(number) if number >= 2 && number.is_multiple_of(2) => Ok(number),
        _ => Err("an even number of at least 2 is needed".to_owned()),
    }
}

fn default_threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Measures one task on one shape.
pub(crate) fn run(task: Task, shape: &Shape, settings: &Settings) -> Result<Value> {
    let device = CpuDevice::new(settings.threads)?;
    let data = Data::new(*shape);
    let preparation = data.preparation();
    let load = || device.load(&preparation, &mut data.blocks().map(Ok));
    let document = match task {
        Task::Fit => run_fit(&load, shape, &data, settings)?,
        Task::Solve => run_solve(&load, shape, &data, None, settings)?,
        Task::MiniBatch => run_solve(&load, shape, &data, Some(BATCH_SIZE), settings)?,
        Task::Silhouette => run_silhouette(load()?.as_ref(), &data)?,
    };
    let mut described = json!({
        "peer": "shoal",
        "version": env!("CARGO_PKG_VERSION"),
        "device": device.name(),
        "threads": settings.threads,
    });
    let (all, more) = (described.as_object_mut().context("an object")?, document.as_object().context("an object")?);
    all.extend(more.clone());
    Ok(described)
}

type Load<'a> = dyn Fn() -> Result<Box<dyn Shard>, shoal_clustering::ClusteringError> + 'a;

fn run_fit(load: &Load<'_>, shape: &Shape, data: &Data, settings: &Settings) -> Result<Value> {
    let initial = data.initial();
    let passes = |n_passes: usize| -> Result<(f64, Lloyd, Partial)> {
        // A shard remembers what it was asked, so every fit has a fresh one.
        let shard = load()?;
        let began = Instant::now();
        let (lloyd, partial) = lloyd(shard.as_ref(), &initial, data.preparation().units(), n_passes)?;
        Ok((began.elapsed().as_secs_f64(), lloyd, partial))
    };
    let (mut seconds, mut seconds_half) = (Vec::new(), Vec::new());
    let mut ended = passes(1)?;
    let mut n_iter_half = 0;
    for _ in 0..settings.repeats {
        ended = passes(settings.passes)?;
        seconds.push(ended.0);
        let half = passes(settings.passes / 2)?;
        seconds_half.push(half.0);
        n_iter_half = half.1.n_iter();
    }
    let peak = peak_rss_bytes()?;
    let (_, lloyd, partial) = ended;
    let shard = load()?;
    check(shard.as_ref(), lloyd.centroids(), &partial)?;
    let (whole, half) = (median(&seconds), median(&seconds_half));
    let n_more = lloyd.n_iter() - n_iter_half;
    Ok(json!({
        "starts_from": "C0",
        "passes": settings.passes,
        "n_iter": lloyd.n_iter(),
        "seconds": seconds,
        "seconds_half": seconds_half,
        "whole_ms_per_pass": 1e3 * whole / lloyd.n_iter() as f64,
        "marginal_ms_per_pass": (n_more > 0).then(|| 1e3 * (whole - half) / n_more as f64),
        "unrelated_ms_per_pass": unrelated_ms(shard.as_ref(), shape, data)?,
        "peak_rss_bytes": peak,
        "inertia": partial.inertia.value(),
    }))
}

/// The textbook loop, and the final assignment that gives labels and inertia of the centroids it ends with.
fn lloyd(shard: &dyn Shard, initial: &Centroids, units: Vec<f64>, n_passes: usize) -> Result<(Lloyd, Partial)> {
    let mut lloyd = Lloyd::new(initial.clone(), units, n_passes, 0.0);
    while lloyd.progress() == Progress::Continue {
        let partial = assign(shard, lloyd.centroids())?;
        let strays = match partial.empty_clusters().len() {
            0 => Vec::new(),
            n_empty => shard.farthest(lloyd.centroids(), n_empty)?.into_rows(),
        };
        lloyd.advance(partial, &strays);
    }
    let partial = assign(shard, lloyd.centroids())?;
    Ok((lloyd, partial))
}

fn assign(shard: &dyn Shard, centroids: &Centroids) -> Result<Partial> {
    Ok(shard.assign(std::slice::from_ref(centroids))?.remove(0))
}

/// A pass in which every row has to be scored and most rows move: each set is made of other rows of the data.
fn unrelated_ms(shard: &dyn Shard, shape: &Shape, data: &Data) -> Result<f64> {
    let n_values = shape.n_clusters * shape.n_features;
    let rows = data.blocks().flat_map(|block| block.values().to_vec()).take(n_values * UNRELATED_SETS);
    let values: Vec<f32> = rows.collect();
    let mut times = Vec::new();
    for values in values.chunks_exact(n_values) {
        let set = Centroids::new(shape.n_clusters, shape.n_features, values.to_vec())?;
        let began = Instant::now();
        assign(shard, &set)?;
        times.push(1e3 * began.elapsed().as_secs_f64());
    }
    // The first one makes the memory that the others find of no use.
    Ok(median(&times[1..]))
}

fn run_solve(
    load: &Load<'_>,
    shape: &Shape,
    data: &Data,
    batch_size: Option<usize>,
    settings: &Settings,
) -> Result<Value> {
    let shift_squared_max = 1e-4 * mean_variance(data, shape);
    let solve = |seed: u64| -> Result<(f64, f64, Fit)> {
        let shard = load()?;
        let params = FitParams {
            n_clusters: shape.n_clusters,
            start: Start::Seeded { init: Init::Parallel, n_init: 1, seed },
            batch_size,
            max_iter: 300,
            shift_squared_max,
            units: data.preparation().units(),
            weight_unit: data.preparation().weight_unit(),
        };
        let began = Instant::now();
        let mut seeding = Seeding { began, seconds: 0.0 };
        let fit = fit(shard.as_ref(), &params, &mut seeding)?;
        Ok((began.elapsed().as_secs_f64(), seeding.seconds, fit))
    };
    let (mut seconds, mut seeding_seconds) = (Vec::new(), Vec::new());
    let (mut passes, mut inertias) = (Vec::new(), Vec::new());
    solve(0)?;
    // Once for each seed, as the peers: how long one start takes is luck.
    for seed in 0..settings.repeats as u64 {
        let (elapsed, seeding, found) = solve(seed)?;
        seconds.push(elapsed);
        seeding_seconds.push(seeding);
        passes.push(found.n_iter as f64);
        inertias.push(found.partial.inertia.value());
    }
    Ok(json!({
        "k": shape.n_clusters,
        "seed": 0,
        "n_iter": median(&passes) as usize,
        "passes": passes,
        "seconds": seconds,
        "seeding_seconds": seeding_seconds,
        "peak_rss_bytes": peak_rss_bytes()?,
        "inertias": inertias,
        "inertia": median(&inertias),
    }))
}

/// Takes the time until the passes begin.
struct Seeding {
    began: Instant,
    seconds: f64,
}

impl Observer for Seeding {
    fn event(&mut self, event: Event) -> ControlFlow<()> {
        if let Event::Phase(Phase::Fit) = event {
            self.seconds = self.began.elapsed().as_secs_f64();
        }
        ControlFlow::Continue(())
    }
}

/// Of all features, which the tolerance is relative to. A job knows it before it clusters.
fn mean_variance(data: &Data, shape: &Shape) -> f64 {
    let d = shape.n_features;
    let mut moments = vec![(0.0, 0.0); d];
    for block in data.blocks() {
        for row in block.values().chunks_exact(d) {
            for ((sum, square), value) in moments.iter_mut().zip(row) {
                *sum += f64::from(*value);
                *square += f64::from(*value).powi(2);
            }
        }
    }
    let n = shape.n_samples as f64;
    moments.iter().map(|(sum, square)| square / n - (sum / n).powi(2)).sum::<f64>() / d as f64
}

fn run_silhouette(shard: &dyn Shard, data: &Data) -> Result<Value> {
    let centroids = data.initial();
    let counts = assign(shard, &centroids)?.counts;
    let unit = data.preparation().distance_unit();
    let began = Instant::now();
    let found =
        silhouette(shard, &centroids, &counts, unit, Mode::Exact, &mut ())?.context("two clusters have rows")?;
    let seconds = began.elapsed().as_secs_f64();
    Ok(json!({ "seconds": seconds, "peak_rss_bytes": peak_rss_bytes()?, "score": found.mean }))
}

/// Compares where the timed passes ended, with all that they remembered, with what a shard says that was never asked
/// before; and some rows' labels with the shortest way there is.
fn check(shard: &dyn Shard, centroids: &Centroids, ended: &Partial) -> Result<()> {
    let fresh = assign(shard, centroids)?;
    let is_same = fresh.counts == ended.counts && fresh.sums == ended.sums;
    ensure!(is_same && fresh.inertia.to_digits() == ended.inertia.to_digits(), "the fit has lost track of its rows");
    let mut n_checked = 0;
    for block in shard.block_ids() {
        let rows = shard.query_rows(block, centroids)?;
        for (row, cluster) in rows.values.chunks_exact(centroids.n_features()).zip(&rows.clusters) {
            let squares: Vec<f64> = centroids.rows().map(|centroid| squared_distance(row, centroid)).collect();
            let nearest = (0..squares.len()).min_by(|a, b| squares[*a].total_cmp(&squares[*b]));
            ensure!(nearest == Some(*cluster as usize), "a row of block {block} has label {cluster}, not {nearest:?}");
            n_checked += 1;
            if n_checked == ROWS_CHECKED {
                return Ok(());
            }
        }
    }
    Ok(())
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    (sorted[(sorted.len() - 1) / 2] + sorted[sorted.len() / 2]) / 2.0
}

/// The most memory that this process has held.
fn peak_rss_bytes() -> Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status").context("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("no VmHWM")?;
    let kilobytes: u64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kilobytes * 1024)
}
