//! A job that is long enough to be disturbed, and a look at whether that shows.

use crate::process::{Fleet, Server, repository, succeed, wait_for};
use std::fs;
use std::path::{Path, PathBuf};

pub(crate) const RETAIL: &str = "examples/retail.yaml";

fn text(path: &Path) -> &str {
    path.to_str().expect("a plain path")
}

/// As many as the example has.
const N_CLUSTERS: usize = 4;

/// The retail job with so many starts that there is time to disturb it: some seconds on a small machine, and more with more
/// clusters.
fn long_job(fleet: &Fleet, n_clusters: usize) -> PathBuf {
    let job = fs::read_to_string(repository().join(RETAIL)).expect("the example exists");
    let job = job
        .replace("n_init: 20", "n_init: 1000")
        .replace("n_clusters: 4", &format!("n_clusters: {n_clusters}"))
        .replace("tol: 1.0e-4", "tol: 0");
    let path = fleet.folder.path().join("long.yaml");
    fs::write(&path, job).expect("the folder is writable");
    path
}

/// Whether the first job has a checkpoint of any leader.
fn has_checkpoint(fleet: &Fleet) -> bool {
    let leaders = fs::read_dir(fleet.folder.path().join("data/jobs/1")).into_iter().flatten();
    leaders.flatten().any(|leader| leader.path().join("checkpoint").exists())
}

/// A job under way, and where its files will be.
pub(crate) struct Disturbed {
    pub(crate) client: Server,
    job: PathBuf,
    pub(crate) out: PathBuf,
}

impl Disturbed {
    /// Submits the long job and waits until it passes over its rows.
    pub(crate) fn start(fleet: &Fleet) -> Self {
        Self::start_with(fleet, N_CLUSTERS)
    }

    fn start_with(fleet: &Fleet, n_clusters: usize) -> Self {
        let (job, out) = (long_job(fleet, n_clusters), fleet.folder.path().join("disturbed"));
        let client = fleet.client(&["submit", text(&job), "--watch", "--out", text(&out)]);
        let passes = || client.log().contains("pass 2 of 1").then_some(());
        wait_for(passes).unwrap_or_else(|| panic!("the job makes no passes: {}", client.log()));
        Self { client, job, out }
    }

    /// As [`Disturbed::start`], and then until there is a checkpoint.
    pub(crate) fn start_until_checkpoint(fleet: &Fleet) -> Self {
        Self::start_until_checkpoint_of(fleet, N_CLUSTERS)
    }

    /// The same with so many clusters.
    pub(crate) fn start_until_checkpoint_of(fleet: &Fleet, n_clusters: usize) -> Self {
        let disturbed = Self::start_with(fleet, n_clusters);
        wait_for(|| has_checkpoint(fleet).then_some(())).expect("a checkpoint is written");
        disturbed
    }

    /// Whether the client has seen its end.
    pub(crate) fn has_ended(&mut self) -> bool {
        self.client.has_ended()
    }

    /// The job ends as if nothing had happened, and the fleet takes another one.
    pub(crate) fn ends_as_undisturbed(mut self, fleet: &Fleet) {
        assert!(self.client.end(), "{}\n{}", self.client.log(), fleet.coordinator.log());
        let undisturbed = fleet.folder.path().join("undisturbed");
        succeed(&["run", text(&self.job), "--out", text(&undisturbed)]);
        for name in ["model.json", "labels.parquet"] {
            let [one, other] =
                [&self.out, &undisturbed].map(|folder| fs::read(folder.join(name)).expect("the file was written"));
            assert!(one == other, "{name} differs");
        }
        let printed = fleet.succeed(&["submit", RETAIL, "--watch"]);
        assert!(printed.contains("2,469 customers in 4 segments"), "{printed}");
    }
}
