//! What happens to processes and data while a job runs, and does not show in its result.
//!
//! Every test shows that its fault took place while the job needed what was lost, compares bytes with an undisturbed run in
//! one process, and runs a second job afterwards.

use crate::process::{Fleet, Server, repository, run, succeed, wait_for};
use shoal_stats::RandomStream;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

const RETAIL: &str = "examples/retail.yaml";

fn text(path: &Path) -> &str {
    path.to_str().expect("a plain path")
}

/// The retail job with so many starts that there is time to disturb it.
fn long_job(fleet: &Fleet) -> PathBuf {
    let job = fs::read_to_string(repository().join(RETAIL)).expect("the example exists");
    let job = job.replace("n_init: 20", "n_init: 1000").replace("tol: 1.0e-4", "tol: 0");
    let path = fleet.folder.path().join("long.yaml");
    fs::write(&path, job).expect("the folder is writable");
    path
}

/// A job under way, and where its files will be.
struct Disturbed {
    client: Server,
    job: PathBuf,
    out: PathBuf,
}

impl Disturbed {
    /// Submits the long job and waits until it passes over its rows.
    fn start(fleet: &Fleet) -> Self {
        let (job, out) = (long_job(fleet), fleet.folder.path().join("disturbed"));
        let client = fleet.client(&["submit", text(&job), "--watch", "--out", text(&out)]);
        let passes = || client.log().contains("pass 2 of start").then_some(());
        wait_for(passes).unwrap_or_else(|| panic!("the job makes no passes: {}", client.log()));
        Self { client, job, out }
    }

    /// As [`Disturbed::start`], and then until there is a checkpoint.
    fn start_until_checkpoint(fleet: &Fleet) -> Self {
        let disturbed = Self::start(fleet);
        let checkpoint = fleet.folder.path().join("data/jobs/1/checkpoint");
        wait_for(|| checkpoint.exists().then_some(())).expect("a checkpoint is written");
        disturbed
    }

    /// The job ends as if nothing had happened, and the fleet takes another one.
    fn ends_as_undisturbed(mut self, fleet: &Fleet) {
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

/// Waits for a line of the coordinator's log.
fn logged(fleet: &Fleet, words: &str) {
    wait_for(|| fleet.coordinator.log().contains(words).then_some(()))
        .unwrap_or_else(|| panic!("never logged `{words}`: {}", fleet.coordinator.log()));
}

#[test]
fn a_worker_is_killed() {
    let mut fleet = Fleet::start(3);
    let disturbed = Disturbed::start(&fleet);
    fleet.workers[1].kill();
    logged(&fleet, "placing blocks that no worker holds");
    disturbed.ends_as_undisturbed(&fleet);
}

#[test]
fn a_worker_stands_still() {
    let fleet = Fleet::start(2);
    let disturbed = Disturbed::start(&fleet);
    fleet.workers[1].stand_still();
    logged(&fleet, "placing blocks that no worker holds");
    fleet.workers[1].go_on();
    disturbed.ends_as_undisturbed(&fleet);
}

#[test]
fn all_workers_are_killed_and_others_join() {
    let mut fleet = Fleet::start(2);
    let disturbed = Disturbed::start(&fleet);
    fleet.workers[0].kill();
    fleet.workers[1].kill();
    wait_for(|| fleet.coordinator.log().matches("worker gone").nth(1).map(|_| ())).expect("both workers are missed");
    fleet.add_worker();
    logged(&fleet, "placing blocks that no worker holds");
    disturbed.ends_as_undisturbed(&fleet);
}

#[test]
fn the_coordinator_is_killed() {
    let mut fleet = Fleet::start(2);
    let disturbed = Disturbed::start_until_checkpoint(&fleet);
    fleet.replace_coordinator();
    logged(&fleet, "found in storage, waits again");
    logged(&fleet, "goes on from a checkpoint");
    disturbed.ends_as_undisturbed(&fleet);
    // Labels of a job that ended under one coordinator come from the next.
    let before = run(&["labels", "jobs/1", "--coordinator", &fleet.url]).stdout;
    fleet.replace_coordinator();
    fleet.add_worker();
    let after = run(&["labels", "jobs/1", "--coordinator", &fleet.url]).stdout;
    assert!(!before.is_empty() && before == after);
}

#[test]
fn the_coordinator_is_stopped_in_order() {
    let mut fleet = Fleet::start(2);
    let disturbed = Disturbed::start_until_checkpoint(&fleet);
    assert!(fleet.coordinator.terminate(), "a coordinator ends cleanly on SIGTERM");
    fleet.replace_coordinator();
    logged(&fleet, "found in storage, waits again");
    logged(&fleet, "goes on from a checkpoint");
    disturbed.ends_as_undisturbed(&fleet);
}

#[test]
fn damaged_rows_in_storage_are_noticed() {
    let mut fleet = Fleet::start(2);
    let mut disturbed = Disturbed::start(&fleet);
    let chunk = fleet.folder.path().join("data/data_sets/1/000000.arrow");
    let mut bytes = fs::read(&chunk).expect("the rows are in storage");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&chunk, bytes).expect("the folder is writable");
    fleet.workers[0].kill();
    assert!(!disturbed.client.end(), "{}", disturbed.client.log());
    let log = disturbed.client.log();
    assert!(log.contains("data_sets/1/000000.arrow: is damaged") && log.contains("BLAKE3"), "{log}");
    assert!(!disturbed.out.exists(), "a job that has failed leaves no files");
    let printed = fleet.succeed(&["submit", RETAIL, "--watch"]);
    assert!(printed.contains("2,469 customers in 4 segments"), "{printed}");
}

/// What chance does to a fleet.
#[derive(Debug)]
enum Blow {
    Worker,
    Pause,
    Coordinator,
}

/// One blow after the other while a job runs, drawn at random. `SHOAL_CHAOS_ROUNDS` makes it as many jobs as are wanted, each
/// on a fleet of its own; `SHOAL_CHAOS_SEED` is the first one's seed.
#[test]
fn blows_fall_at_random() {
    let number = |name: &str, default: u64| std::env::var(name).map_or(default, |text| text.parse().expect("a number"));
    let (seed, n_rounds) = (number("SHOAL_CHAOS_SEED", 1), number("SHOAL_CHAOS_ROUNDS", 1));
    for seed in seed..seed + n_rounds {
        let stream = RandomStream { seed, stream: 0 };
        let mut fleet = Fleet::start(3);
        let mut disturbed = Disturbed::start(&fleet);
        let mut blows = Vec::new();
        let mut draws = 0u64..;
        let mut draw = |n: usize| (stream.uniform(draws.next().expect("there is no end")) * n as f64) as usize;
        while !disturbed.client.has_ended() {
            std::thread::sleep(Duration::from_millis(100 + draw(700) as u64));
            let worker = draw(fleet.workers.len());
            let blow = [Blow::Worker, Blow::Worker, Blow::Pause, Blow::Coordinator].into_iter().nth(draw(4));
            match blow.as_ref().expect("one of four") {
                Blow::Worker => {
                    fleet.workers.remove(worker).kill();
                    fleet.add_worker();
                }
                Blow::Pause => {
                    fleet.workers[worker].stand_still();
                    std::thread::sleep(Duration::from_millis(300 + draw(700) as u64));
                    fleet.workers[worker].go_on();
                }
                Blow::Coordinator => fleet.replace_coordinator(),
            }
            blows.extend(blow);
        }
        println!("seed {seed}: {blows:?}");
        assert!(blows.len() >= 2, "seed {seed}: the job was over before anything happened to it");
        disturbed.ends_as_undisturbed(&fleet);
    }
}
