//! What many workers cost their coordinator: a real one, a thousand real workers with a block each in one process, and the
//! real protocol between them.
//!
//! ```text
//! cargo build --release && ulimit -n 8192 && cargo run --release -p shoal-benches --bin many
//! ```
//!
//! Two jobs on the same rows differ only in how many passes they may make; their differences, divided by the passes, are
//! what a pass costs: processor time of the coordinator, bytes on loopback, and time as the job sees it. The last one is of
//! little worth, since all workers share this machine.

use anyhow::{Context, Result, ensure};
use clap::Parser;
use serde_json::{Value, json};
use shoal_benches::blobs;
use shoal_benches::fleet::Fleet;
use shoal_clustering::Machine;
use shoal_clustering::cpu::CpuDevice;
use shoal_worker::WorkerIdentity;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};
use tokio::net::TcpListener;

/// Clock ticks of a second in /proc: Linux has told user space 100 on every machine for decades.
const TICKS: f64 = 100.0;
const BLOCK_ROWS: usize = shoal_domain::BLOCK_ROWS;

#[derive(Debug, Parser)]
struct Arguments {
    /// The program to measure.
    #[arg(long, default_value = "target/release/shoal")]
    program: PathBuf,
    #[arg(long, default_value_t = 1_000)]
    workers: usize,
    #[arg(long, default_value_t = 64)]
    features: usize,
    #[arg(long, default_value_t = 64)]
    clusters: usize,
    /// Passes of the shorter job and of the longer one.
    #[arg(long, num_args = 2, default_values_t = [10, 60])]
    passes: Vec<usize>,
    /// Where the result goes.
    #[arg(long, default_value = "target/many.json")]
    result: PathBuf,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let program = arguments.program.canonicalize().context("build it first: cargo build --release")?;
    let folder = tempfile::tempdir()?;
    let data = folder.path().join("rows.parquet");
    // One blob: nothing is there to be found, and passes go on.
    let shape = blobs::Shape { n_rows: arguments.workers * BLOCK_ROWS, n_features: arguments.features, n_blobs: 1 };
    blobs::write(&data, &shape, 122_880)?;
    let fleet = Fleet::start(&program, folder.path(), 0)?;
    let runtime = tokio::runtime::Runtime::new()?;
    let began = Instant::now();
    runtime.block_on(start_workers(&fleet.url, arguments.workers))?;
    let joined_in = began.elapsed();

    let mut jobs = Vec::new();
    for passes in &arguments.passes {
        let job = folder.path().join(format!("{passes}.yaml"));
        std::fs::write(&job, job_file(&data, &arguments, *passes))?;
        jobs.push(run_job(&program, &job, &fleet, *passes)?);
    }
    let n_passes = (arguments.passes[1] - arguments.passes[0]) as f64;
    let per_pass = |of: fn(&Cost) -> f64| (of(&jobs[1]) - of(&jobs[0])) / n_passes;
    let document = json!({
        "workers": arguments.workers,
        "rows": shape.n_rows,
        "features": arguments.features,
        "clusters": arguments.clusters,
        "passes": arguments.passes,
        "joined_in_s": joined_in.as_secs_f64(),
        "coordinator_cpu_ms_per_pass": 1e3 * per_pass(|cost| cost.cpu_s),
        "loopback_bytes_per_pass": per_pass(|cost| cost.bytes),
        "ms_per_pass": 1e3 * per_pass(|cost| cost.fit_s),
        "put_s": jobs.iter().map(|cost| cost.put_s).collect::<Vec<_>>(),
    });
    std::fs::write(&arguments.result, serde_json::to_string_pretty(&document)? + "\n")?;
    println!("{}", serde_json::to_string_pretty(&document)?);
    fleet.stop()?;
    Ok(())
}

/// Starts workers on this runtime, which share its processors, and waits until all have joined.
async fn start_workers(url: &str, n_workers: usize) -> Result<()> {
    let machine = Machine::of_cpu(CpuDevice::new(1)?);
    for number in 0..n_workers {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let identity = WorkerIdentity {
            address: format!("http://{}", listener.local_addr()?),
            device: machine.engine.name(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            boot_id: number as u64,
            tls: None,
            memory_bytes: 64 << 20,
        };
        let (urls, machine) = ([url.to_owned()], machine.clone());
        tokio::spawn(async move {
            if let Err(error) = shoal_worker::run(listener, &urls, identity, machine, std::future::pending()).await {
                eprintln!("worker {number}: {error}");
            }
        });
    }
    let mut fleet = shoal_wire::proto::fleet_client::FleetClient::new(shoal_wire::flight::channel(url, None)?);
    loop {
        let workers = fleet.list_workers(shoal_wire::proto::ListWorkersRequest {}).await?.into_inner().workers;
        if workers.len() == n_workers {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

fn job_file(data: &Path, arguments: &Arguments, passes: usize) -> String {
    let features: Vec<String> = (0..arguments.features).map(|column| format!("x{column}")).collect();
    format!(
        "source: {{ path: \"{}\", id: id, features: [{}] }}\n\
         kmeans: {{ n_clusters: {}, n_init: 1, max_iter: {passes}, tol: 0, seed: 7 }}\n\
         validate: {{ silhouette: none, davies_bouldin: false, calinski_harabasz: false }}\n",
        data.display(),
        features.join(", "),
        arguments.clusters,
    )
}

/// What one job cost.
struct Cost {
    /// Of the coordinator.
    cpu_s: f64,
    /// On loopback, of everybody.
    bytes: f64,
    fit_s: f64,
    put_s: f64,
}

fn run_job(program: &Path, job: &Path, fleet: &Fleet, passes: usize) -> Result<Cost> {
    let coordinator = fleet.coordinator()?;
    let (cpu_before, bytes_before) = (cpu_seconds(coordinator)?, loopback_bytes()?);
    let job = job.to_str().context("a path is not text")?;
    let submitted =
        Command::new(program).args(["submit", job, "--coordinator", &fleet.url, "--watch", "-o", "json"]).output()?;
    ensure!(submitted.status.success(), "{}", String::from_utf8_lossy(&submitted.stderr));
    let (cpu_s, bytes) = (cpu_seconds(coordinator)? - cpu_before, loopback_bytes()? - bytes_before);
    let report: Value = serde_json::from_slice(&submitted.stdout)?;
    ensure!(report["n_iter"] == passes, "the job made {} passes and not {passes}", report["n_iter"]);
    let seconds = |phase: &str| {
        let timings = report["timings"].as_array().into_iter().flatten();
        timings.filter(|timing| timing["phase"] == phase).filter_map(|timing| timing["seconds"].as_f64()).sum()
    };
    Ok(Cost { cpu_s, bytes, fit_s: seconds("fit"), put_s: seconds("put") })
}

/// Processor time of a process so far, user's and system's.
fn cpu_seconds(pid: u32) -> Result<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The second field is the program's name in brackets, which may hold anything.
    let (_, fields) = stat.rsplit_once(") ").context("/proc/PID/stat has no name")?;
    let ticks = fields.split(' ').skip(11).take(2).map(str::parse::<f64>);
    Ok(ticks.sum::<Result<f64, _>>()? / TICKS)
}

/// Bytes that loopback has carried so far.
fn loopback_bytes() -> Result<f64> {
    let devices = std::fs::read_to_string("/proc/net/dev")?;
    let loopback = devices.lines().find_map(|line| line.trim_start().strip_prefix("lo:")).context("no loopback")?;
    Ok(loopback.split_whitespace().next().context("no figures")?.parse()?)
}
