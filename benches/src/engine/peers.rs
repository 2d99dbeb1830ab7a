//! Other libraries on the same rows: each a Python process of its own (`benches/peers`), and ours as one more process.

use crate::npy;
use crate::ours::{Settings, Task};
use crate::shapes::{Data, Shape};
use anyhow::{Context, Result, bail};
use serde_json::Value;
use shoal_clustering::cpu::{Assigner, Isa};
use std::path::Path;
use std::process::Command;

/// The program of the peers.
const PEER_PROGRAM: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/peers/peer.py");
/// Clusters up to which Spark is waited for: beyond, one fit takes minutes.
const SPARK_CLUSTERS_MAX: usize = 16;
/// Rows up to which scikit-learn's mini-batches are waited for: to draw a batch it goes through all rows.
const MINI_BATCH_ROWS_MAX: usize = 2_000_000;
/// OpenBLAS's kernels for processors with AVX-512. On some of those it takes kernels for older ones by itself.
const CORETYPE: &str = "SkylakeX";

/// The libraries that take part in a task, in the order in which they are measured.
pub(crate) fn peers(task: Task, shape: &Shape) -> impl Iterator<Item = &'static str> {
    let names: &[&str] = match task {
        Task::Fit => &["sklearn-lloyd", "sklearn-elkan", "intelex", "faiss", "spark"],
        Task::Solve => &["sklearn-lloyd", "intelex", "faiss"],
        Task::MiniBatch => &["sklearn-minibatch"],
        Task::Silhouette => &["sklearn"],
    };
    let (n_samples, n_clusters) = (shape.n_samples, shape.n_clusters);
    names.iter().copied().filter(move |name| match *name {
        "spark" => n_clusters <= SPARK_CLUSTERS_MAX,
        "sklearn-minibatch" => n_samples <= MINI_BATCH_ROWS_MAX,
        _ => true,
    })
}

/// Whether a measured peer's OpenBLAS has better kernels for this processor than those it took.
pub(crate) fn can_be_tuned(document: &Value) -> bool {
    let took_others =
        |library: &Value| library.to_string().contains("architecture") && !library.to_string().contains(CORETYPE);
    Isa::detect() == Isa::Avx512
        && document["blas"].as_array().is_some_and(|libraries| libraries.iter().any(took_others))
}

/// What every measurement of one run has in common.
pub(crate) struct Runner<'a> {
    /// The Python of the peers' environment; none when we run alone.
    pub(crate) python: Option<&'a Path>,
    pub(crate) settings: &'a Settings,
}

impl Runner<'_> {
    /// Our own part.
    pub(crate) fn ours(&self, task: Task, shape: &Shape) -> Result<Value> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["ours", "--task", task.name(), "--shape", shape.name]);
        command.args(["--threads", &self.settings.threads.to_string()]);
        command.args(["--passes", &self.settings.passes.to_string(), "--repeats", &self.settings.repeats.to_string()]);
        document(&mut command)
    }

    /// One peer's part, on the files of `folder`, as it is installed or with OpenBLAS's kernels named.
    pub(crate) fn peer(&self, peer: &str, is_tuned: bool, task: Task, shape: &Shape, folder: &Path) -> Result<Value> {
        let python = self.python.context("peers need --python")?;
        let mut command = Command::new(python);
        command.env_remove("OPENBLAS_CORETYPE").env_remove("OPENBLAS_L2_SIZE");
        command.envs(is_tuned.then_some(("OPENBLAS_CORETYPE", CORETYPE)));
        // By mini-batches is another peer there, not another task.
        let peers_task = if task == Task::MiniBatch { Task::Solve } else { task };
        command.arg(PEER_PROGRAM).args([peers_task.name(), "--peer", peer]).arg("--data").arg(folder);
        command.args(["--threads", &self.settings.threads.to_string()]);
        // Nothing is close enough to these for their repeats to matter.
        let is_far_off = ["spark", "sklearn-minibatch"].contains(&peer);
        let repeats = if is_far_off { 1 } else { self.settings.repeats }.to_string();
        match task {
            Task::Fit => {
                command.args(["--passes", &self.settings.passes.to_string(), "--repeats", &repeats]);
            }
            Task::Solve | Task::MiniBatch => {
                command.args(["--k", &shape.n_clusters.to_string(), "--repeats", &repeats]);
            }
            Task::Silhouette => {}
        }
        document(&mut command)
    }

    /// The versions of all peers.
    pub(crate) fn versions(&self) -> Result<Value> {
        match self.python {
            Some(python) => document(Command::new(python).args([PEER_PROGRAM, "versions"])),
            None => Ok(Value::Null),
        }
    }
}

/// The JSON document that a process prints.
fn document(command: &mut Command) -> Result<Value> {
    let output = command.output().with_context(|| format!("{command:?}"))?;
    if !output.status.success() {
        let told = String::from_utf8_lossy(&output.stderr);
        bail!("{}", told.lines().last().unwrap_or("it said nothing"));
    }
    serde_json::from_slice(&output.stdout).with_context(|| format!("what {command:?} printed"))
}

/// Writes the rows, the initial centroids and, for silhouettes, the labels.
pub(crate) fn write_data(shape: &Shape, task: Task, folder: &Path) -> Result<()> {
    let data = Data::new(*shape);
    let bytes = |value: f32| value.to_le_bytes();
    let rows = data.blocks().flat_map(|block| block.values().to_vec()).map(bytes);
    npy::write(&folder.join("X.npy"), "<f4", &[shape.n_samples, shape.n_features], rows)?;
    let initial = data.initial();
    let centroids = initial.values().iter().copied().map(bytes);
    npy::write(&folder.join("C0.npy"), "<f4", &[shape.n_clusters, shape.n_features], centroids)?;
    if task == Task::Silhouette {
        let assigner = Assigner::new(&initial, Isa::detect());
        let labels = data.blocks().flat_map(|block| assigner.block_labels(&block).labels);
        npy::write(&folder.join("labels.npy"), "<i4", &[shape.n_samples], labels.map(|label| label.to_le_bytes()))?;
    }
    Ok(())
}
