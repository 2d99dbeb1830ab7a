//! The engine beside its peers: the same rows, the same initial centroids, the same threads, one after the other.
//!
//! ```text
//! cargo xtask bench                                # sets up the peers' environment, then runs all of it
//! cargo run --release -p shoal-benches --bin engine -- compare --shapes A,E        # ours alone
//! ```
//!
//! Every measurement is a process of its own. Answers are checked before times are believed: labels of ours against the
//! float64 argmin, inertias and scores of all against each other. See `benches/peers/README.md` for what the figures of a
//! document mean; ours has one more, `unrelated_ms_per_pass`: a pass that must score every row and move most of them.

mod gpu;
mod npy;
mod ours;
mod peers;
mod shapes;
mod table;

use anyhow::{Context, Result, ensure};
use clap::{Args, Parser, Subcommand};
use gpu::GpuCommand;
use ours::{Settings, Task};
use peers::{Runner, can_be_tuned, peers, write_data};
use serde_json::{Value, json};
use shapes::{FITS, SILHOUETTES, Shape};
use shoal_clustering::cpu::{CpuDevice, ceilings};
use std::path::{Path, PathBuf};
use std::time::Instant;

/// The allocator of `shoal`.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Rows beyond which a peer's silhouette, all n x n distances of it, takes too long to wait for.
const PEER_SILHOUETTE_ROWS: usize = 20_000;
/// Measurements of a limit, of which the best counts.
const LIMIT_REPEATS: usize = 5;
/// How far the inertia of the same passes may differ: peers add in float32.
const INERTIA_TOLERANCE: f64 = 1e-3;
/// How far the score of the same rows may differ.
const SCORE_TOLERANCE: f64 = 1e-5;

#[derive(Debug, Parser)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Measures ours and the peers, prints tables and writes the result.
    Compare(Compare),
    /// Measures one task of ours in this process and prints its document.
    Ours(Ours),
    /// Compares the GPU's answers with the CPU's, and measures it.
    Gpu {
        #[command(subcommand)]
        command: GpuCommand,
    },
}

#[derive(Debug, Args)]
struct Compare {
    /// Shapes by name, all when absent.
    #[arg(long, value_delimiter = ',')]
    shapes: Vec<String>,
    /// What is measured, everything when absent.
    #[arg(long, value_delimiter = ',')]
    tasks: Vec<Task>,
    /// The Python of the peers' environment; without it ours runs alone.
    #[arg(long)]
    python: Option<PathBuf>,
    #[command(flatten)]
    settings: Settings,
    /// A folder, in which the result becomes `engine.json`.
    #[arg(long)]
    result: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct Ours {
    #[arg(long)]
    task: Task,
    #[arg(long)]
    shape: String,
    #[command(flatten)]
    settings: Settings,
}

fn main() -> Result<()> {
    match Arguments::parse().command {
        Command::Compare(arguments) => compare(&arguments),
        Command::Gpu { command } => gpu::run(command),
        Command::Ours(arguments) => {
            let shape = Shape::named(&arguments.shape).with_context(|| format!("no shape `{}`", arguments.shape))?;
            println!("{}", serde_json::to_string_pretty(&ours::run(arguments.task, &shape, &arguments.settings)?)?);
            Ok(())
        }
    }
}

fn compare(arguments: &Compare) -> Result<()> {
    let runner = Runner { python: arguments.python.as_deref(), settings: &arguments.settings };
    let wanted = |shape: &Shape| arguments.shapes.is_empty() || arguments.shapes.iter().any(|name| name == shape.name);
    for name in &arguments.shapes {
        ensure!(Shape::named(name).is_some(), "there is no shape `{name}`");
    }
    let limits = measure_limits(arguments.settings.threads)?;
    println!("{}", table::limits(&limits));
    let versions = runner.versions()?;
    let fits = FITS.iter().flat_map(|shape| [(shape, Task::Fit), (shape, Task::Solve), (shape, Task::MiniBatch)]);
    let tasks = fits.chain(SILHOUETTES.iter().map(|shape| (shape, Task::Silhouette)));
    let mut results = Vec::new();
    let is_wanted = |task: &Task| arguments.tasks.is_empty() || arguments.tasks.contains(task);
    for (shape, task) in tasks.filter(|(shape, task)| wanted(shape) && is_wanted(task)) {
        let measurement = measure(&runner, task, shape)?;
        println!("{}", table::render(&measurement, &limits));
        results.push(measurement);
        if let Some(folder) = &arguments.result {
            write(folder, &limits, &versions, &results)?;
        }
    }
    let differing: Vec<String> = results.iter().flat_map(differences).collect();
    ensure!(differing.is_empty(), "answers differ: {}", differing.join("; "));
    Ok(())
}

/// Writes what there is so far, so that a run that ends early is not lost.
fn write(folder: &Path, limits: &Value, versions: &Value, results: &[Value]) -> Result<()> {
    let document = json!({ "limits": limits, "versions": versions, "measurements": results });
    std::fs::create_dir_all(folder)?;
    Ok(std::fs::write(folder.join("engine.json"), serde_json::to_string_pretty(&document)? + "\n")?)
}

/// The peers of a measurement whose answers are other ones than ours.
fn differences(measurement: &Value) -> Vec<String> {
    let peers = measurement["peers"].as_array().into_iter().flatten();
    let differing = peers.filter_map(|peer| peer["differs"].as_str());
    differing.map(|reason| format!("{} {}: {reason}", measurement["shape"], measurement["task"])).collect()
}

/// What the machine can do at most, in the same run.
fn measure_limits(threads: usize) -> Result<Value> {
    let device = CpuDevice::new(threads)?;
    let gigabytes = |bytes: usize| {
        let memory = ceilings::Numbers::new(bytes);
        best_rate(|| {
            memory.read(&device);
            bytes as f64
        }) / 1e9
    };
    Ok(json!({
        "processor": processor()?,
        "device": shoal_clustering::Device::name(&device),
        "peak_gflops": best_rate(|| ceilings::multiply_and_add(&device)) / 1e9,
        "read_gb_per_s": { "64_mb": gigabytes(64_000_000), "640_mb": gigabytes(640_000_000) },
    }))
}

/// The best of some measurements of something that says how much it did, in so much a second.
fn best_rate(mut work: impl FnMut() -> f64) -> f64 {
    let rate = |_| {
        let began = Instant::now();
        work() / began.elapsed().as_secs_f64()
    };
    (0..LIMIT_REPEATS).map(rate).fold(0.0, f64::max)
}

fn processor() -> Result<String> {
    let cpu = std::fs::read_to_string("/proc/cpuinfo").context("/proc/cpuinfo")?;
    let name = cpu.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or("unknown");
    Ok(name.trim_start_matches(['\t', ':', ' ']).to_owned())
}

/// One task on one shape, ours first and then every peer.
fn measure(runner: &Runner<'_>, task: Task, shape: &Shape) -> Result<Value> {
    let ours = runner.ours(task, shape)?;
    let mut of_peers = Vec::new();
    if runner.python.is_some() && (task != Task::Silhouette || shape.n_samples <= PEER_SILHOUETTE_ROWS) {
        let folder = tempfile::tempdir()?;
        write_data(shape, task, folder.path())?;
        for peer in peers(task, shape) {
            let document = measure_peer(runner, (peer, false), task, shape, folder.path(), &ours)?;
            let can_be_tuned = can_be_tuned(&document);
            of_peers.push(document);
            if can_be_tuned {
                of_peers.push(measure_peer(runner, (peer, true), task, shape, folder.path(), &ours)?);
            }
        }
    }
    Ok(json!({
        "shape": shape.name,
        "task": task.name(),
        "n_samples": shape.n_samples,
        "n_features": shape.n_features,
        "n_clusters": shape.n_clusters,
        "data_bytes": shape.bytes(),
        "flops_per_pass": shape.flops(),
        "ours": ours,
        "peers": of_peers,
    }))
}

fn measure_peer(
    runner: &Runner<'_>,
    (peer, is_tuned): (&str, bool),
    task: Task,
    shape: &Shape,
    folder: &Path,
    ours: &Value,
) -> Result<Value> {
    let label = format!("{peer}{}", if is_tuned { "+X" } else { "" });
    eprintln!("{}: {label}", shape.name);
    let mut document = match runner.peer(peer, is_tuned, task, shape, folder) {
        Ok(document) => document,
        // A peer that cannot run here is part of the result, and says why.
        Err(error) => return Ok(json!({ "label": label, "failed": error.to_string() })),
    };
    let compared = match task {
        Task::Fit => Some(("inertia", INERTIA_TOLERANCE)),
        Task::Silhouette => Some(("score", SCORE_TOLERANCE)),
        // Another seeding leads elsewhere; the table shows where.
        Task::Solve | Task::MiniBatch => None,
    };
    if let Some((key, tolerance)) = compared {
        let number = |document: &Value| document[key].as_f64().with_context(|| format!("{label} has no {key}"));
        let (theirs, ours) = (number(&document)?, number(ours)?);
        if ((theirs - ours) / ours).abs() > tolerance {
            document["differs"] = json!(format!("{label} has {key} {theirs}, ours {ours}"));
        }
    }
    document["label"] = json!(label);
    Ok(document)
}
