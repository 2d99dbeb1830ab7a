//! The whole job at scale: generated rows through `shoal run`, and through a coordinator with two workers.
//!
//! ```text
//! cargo build --release && cargo run --release -p shoal-benches --bin scale
//! ```
//!
//! Rows are `k` Gaussian blobs: centres uniform in [-10, 10], noise of standard deviation 2.5 by Box and Muller, all from
//! counter-based random numbers, so the same arguments make the same file anywhere. Peak memory is GNU time's "Maximum
//! resident set size". The answer is checked before any figure is written: both runs must give the same model, byte for
//! byte, and the labels must find the blobs again.

use anyhow::{Context, Result, bail, ensure};
use clap::Parser;
use serde_json::{Value, json};
use shoal_benches::blobs;
use shoal_benches::fleet::{Fleet, peak_bytes};
use std::path::{Path, PathBuf};
use std::process::Command;

#[derive(Debug, Parser)]
struct Arguments {
    /// The program to measure.
    #[arg(long, default_value = "target/release/shoal")]
    program: PathBuf,
    #[arg(long, default_value_t = 5_000_000)]
    rows: usize,
    #[arg(long, default_value_t = 16)]
    features: usize,
    #[arg(long, default_value_t = 8)]
    clusters: usize,
    /// Rows of a row group of the generated Parquet file. A reader holds a group or two; 122,880 is what DuckDB writes,
    /// 1,048,576 what Arrow's writers do.
    #[arg(long, default_value_t = 122_880)]
    row_group_rows: usize,
    /// Where the result goes.
    #[arg(long, default_value = "target/scale.json")]
    result: PathBuf,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let program = arguments.program.canonicalize().context("build it first: cargo build --release")?;
    let folder = tempfile::tempdir()?;
    let data = folder.path().join("blobs.parquet");
    let shape = blobs::Shape { n_rows: arguments.rows, n_features: arguments.features, n_blobs: arguments.clusters };
    blobs::write(&data, &shape, arguments.row_group_rows)?;
    let job = folder.path().join("job.yaml");
    std::fs::write(&job, job_file(&data, &arguments))?;

    let here = folder.path().join("here");
    let local = timed(&program, &["run", text(&job)?, "--out", text(&here)?, "-o", "json"])?;
    let there = folder.path().join("there");
    let fleet = Fleet::start(&program, folder.path(), 2)?;
    let submit = ["submit", text(&job)?, "--coordinator", &fleet.url, "--watch", "--out", text(&there)?, "-o", "json"];
    let remote = timed(&program, &submit)?;
    let peaks = fleet.stop()?;

    let same = |name: &str| Ok::<_, anyhow::Error>(std::fs::read(here.join(name))? == std::fs::read(there.join(name))?);
    ensure!(same("model.json")? && same("labels.parquet")?, "the fleet's answer differs from the local one");
    let agreement = blobs::agreement(&here.join("labels.parquet"), arguments.clusters)?;
    ensure!(agreement > 0.95, "only {agreement:.3} of the rows are in the cluster of their blob");

    let matrix_bytes = arguments.rows * arguments.features * size_of::<f32>();
    let ratio = local.peak_bytes as f64 / matrix_bytes as f64;
    let document = json!({
        "rows": arguments.rows,
        "features": arguments.features,
        "clusters": arguments.clusters,
        "row_group_rows": arguments.row_group_rows,
        "machine": machine()?,
        "version": local.report["ran_on"]["version"],
        "feature_matrix_bytes": matrix_bytes,
        "rows_in_the_cluster_of_their_blob": agreement,
        "same_model_and_labels": true,
        "local": { "seconds": local.seconds, "peak_bytes": local.peak_bytes, "peak_per_matrix": ratio, "report": brief(&local.report) },
        "fleet": { "workers": 2, "seconds": remote.seconds, "report": brief(&remote.report), "peak_bytes": peaks },
    });
    if let Some(parent) = arguments.result.parent() {
        std::fs::create_dir_all(parent)?;
    }
    std::fs::write(&arguments.result, serde_json::to_string_pretty(&document)? + "\n")?;
    println!("{}", serde_json::to_string_pretty(&document)?);
    Ok(())
}

fn job_file(data: &Path, arguments: &Arguments) -> String {
    let features: Vec<String> = (0..arguments.features).map(|column| format!("x{column}")).collect();
    format!(
        "source: {{ path: \"{}\", id: id, features: [{}] }}\n\
         kmeans: {{ n_clusters: {}, n_init: 1, seed: 7 }}\n\
         validate: {{ silhouette: sampled, silhouette_sample: 2000 }}\n",
        data.display(),
        features.join(", "),
        arguments.clusters,
    )
}

/// What one command printed and cost.
struct Timed {
    report: Value,
    seconds: f64,
    peak_bytes: u64,
}

fn timed(program: &Path, arguments: &[&str]) -> Result<Timed> {
    let began = std::time::Instant::now();
    let output = Command::new("/usr/bin/time").arg("-v").arg(program).args(arguments).output();
    let output = output.context("GNU time is needed (Debian package `time`)")?;
    let seconds = began.elapsed().as_secs_f64();
    let told = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        bail!("{arguments:?} failed: {told}");
    }
    Ok(Timed { report: serde_json::from_slice(&output.stdout)?, seconds, peak_bytes: peak_bytes(&told)? })
}

fn brief(report: &Value) -> Value {
    json!({
        "timings": report["timings"],
        "n_iter": report["n_iter"],
        "inertia": report["inertia"],
        "scores": report["scores"],
        "ran_on": report["ran_on"],
    })
}

/// Processor and number of cores, as /proc tells.
fn machine() -> Result<String> {
    let cpu = std::fs::read_to_string("/proc/cpuinfo").context("/proc/cpuinfo")?;
    let name =
        cpu.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or("").trim_start_matches(['\t', ':', ' ']);
    Ok(format!("{name}, {} cores", std::thread::available_parallelism()?))
}

fn text(path: &Path) -> Result<&str> {
    path.to_str().context("a path is not text")
}
