//! A coordinator and workers as real processes on loopback.

use crate::disturbed::Disturbed;
use crate::process::{Fleet, fail, run, succeed, wait_for};
use std::fs;
use std::path::Path;

const RETAIL: &str = "examples/retail.yaml";

fn text(path: &Path) -> &str {
    path.to_str().expect("a plain path")
}

fn same_file(one: &Path, other: &Path, name: &str) {
    let [one, other] = [one, other].map(|folder| fs::read(folder.join(name)).expect("the file was written"));
    assert!(one == other, "{name} differs");
}

/// The paths of all files, in whatever folder.
fn files_in(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).expect("the folder is there").flatten().map(|entry| entry.path());
    entries.flat_map(|path| if path.is_dir() { files_in(&path) } else { vec![text(&path).to_owned()] }).collect()
}

#[test]
fn three_workers_find_what_one_process_finds() {
    let mut fleet = Fleet::start(3);
    let [here, there, one] = ["here", "there", "one"].map(|name| fleet.folder.path().join(name));
    succeed(&["run", RETAIL, "--out", text(&here)]);
    let printed = fleet.succeed(&["submit", RETAIL, "--watch", "--out", text(&there)]);
    assert!(printed.contains("2,469 customers in 4 segments") && printed.contains("fleet 3 x cpu"), "{printed}");
    same_file(&here, &there, "model.json");
    same_file(&here, &there, "labels.parquet");

    // By mini-batches, whose rows each worker picks on its own.
    let [here_in_batches, there_in_batches] = ["b1", "b2"].map(|name| fleet.folder.path().join(name));
    let batches = fs::read_to_string(crate::process::repository().join(RETAIL)).expect("the example exists");
    let batches = batches.replace("n_init: 20", "n_init: 20, algorithm: minibatch, batch_size: 100");
    let batches = batches.replace("validate: {", "validate: { row_silhouettes: true,");
    let job = fleet.folder.path().join("batches.yaml");
    fs::write(&job, batches).expect("the folder is writable");
    succeed(&["run", text(&job), "--out", text(&here_in_batches)]);
    fleet.succeed(&["submit", text(&job), "--watch", "--out", text(&there_in_batches)]);
    same_file(&here_in_batches, &there_in_batches, "model.json");
    same_file(&here_in_batches, &there_in_batches, "labels.parquet");

    // The same job, read by the coordinator itself and spread over one worker only.
    fleet.workers.truncate(1);
    wait_for(|| fleet.coordinator.log().matches("worker gone").nth(1).map(|_| ())).expect("two workers are missed");
    let labels = run(&["labels", "jobs/1", "--coordinator", &fleet.url]);
    assert!(labels.stdout == fs::read(there.join("labels.parquet")).expect("the file was written"), "from one worker");
    fleet.succeed(&["submit", RETAIL, "--read-on", "coordinator", "--watch", "--out", text(&one)]);
    same_file(&here, &one, "model.json");
    same_file(&here, &one, "labels.parquet");

    let listed = fleet.succeed(&["jobs", "list"]);
    let states: Vec<&str> = listed.lines().filter_map(|line| line.split_whitespace().nth(1)).collect();
    assert_eq!(states, ["state", "succeeded", "succeeded", "succeeded"]);
    let got = fleet.succeed(&["jobs", "get", "jobs/3", "-o", "json"]);
    let got: serde_json::Value = serde_json::from_str(&got).expect("one JSON document");
    assert_eq!(got["report"]["n_samples"], 2469);
    let labels = run(&["labels", "jobs/3", "--coordinator", &fleet.url]);
    assert!(labels.stdout == fs::read(here.join("labels.parquet")).expect("the file was written"));

    assert!(fleet.workers[0].terminate(), "a worker ends cleanly on SIGTERM");
    assert!(fleet.coordinator.terminate(), "a coordinator ends cleanly on SIGTERM");
}

#[test]
fn a_running_job_can_be_cancelled() {
    let mut fleet = Fleet::start(1);
    let long = fs::read_to_string(crate::process::repository().join(RETAIL)).expect("the example exists");
    let job = fleet.folder.path().join("long.yaml");
    fs::write(&job, long.replace("n_init: 20", "n_init: 1000").replace("tol: 1.0e-4", "tol: 0")).expect("writable");
    let name = fleet.succeed(&["submit", text(&job)]).trim().to_owned();
    wait_for(|| fleet.succeed(&["jobs", "get", &name]).contains("running").then_some(())).expect("the job starts");
    fleet.succeed(&["jobs", "cancel", &name]);
    let line = fleet.fail(&["jobs", "watch", &name]);
    assert!(line.contains("was cancelled"), "{line}");
    let line = fleet.fail(&["jobs", "cancel", &name]);
    assert!(line.contains("FAILED_PRECONDITION") && line.contains("has ended"), "{line}");

    // Neither it nor a data set without rows comes back with the next coordinator.
    let (rows, job) = (fleet.folder.path().join("none.csv"), fleet.folder.path().join("none.yaml"));
    fs::write(&rows, "id,a,b\n").expect("the folder is writable");
    let spec = format!("source: {{ path: {}, id: id, features: [a, b] }}\nkmeans: {{ n_clusters: 2 }}\n", text(&rows));
    fs::write(&job, spec).expect("the folder is writable");
    let line = fleet.fail(&["submit", text(&job), "--read-on", "coordinator", "--watch"]);
    assert!(line.contains("no rows"), "{line}");
    fleet.replace_coordinator();
    let listed = fleet.succeed(&["jobs", "list"]);
    let states: Vec<&str> = listed.lines().filter_map(|line| line.split_whitespace().nth(1)).collect();
    assert_eq!(states, ["state", "failed", "cancelled"], "{listed}");
}

/// One job runs at a time here, so the order of their ends is that of their turns.
#[test]
fn clients_take_turns_and_urgent_jobs_come_first() {
    let fleet = Fleet::start_with(&["--running-jobs", "1", "--jobs-per-client", "3"], 1);
    let long = fs::read_to_string(crate::process::repository().join(RETAIL)).expect("the example exists");
    let job = fleet.folder.path().join("long.yaml");
    let long = long.replace("n_clusters: 4", "n_clusters: 200").replace("n_init: 20", "n_init: 1000");
    fs::write(&job, long.replace("tol: 1.0e-4", "tol: 0")).expect("writable");
    let submit = |job: &str, client: &str, more: &[&str]| {
        fleet.succeed(&[&["submit", job, "--client", client], more].concat()).trim().to_owned()
    };
    let running = submit(text(&job), "ann", &[]);
    wait_for(|| fleet.succeed(&["jobs", "get", &running]).contains("running").then_some(())).expect("the job starts");
    let anns = [submit(RETAIL, "ann", &[]), submit(RETAIL, "ann", &[])];
    let line = fleet.fail(&["submit", RETAIL, "--client", "ann"]);
    assert!(line.contains("RESOURCE_EXHAUSTED") && line.contains("3 jobs of client `ann`"), "{line}");
    let bobs = [submit(RETAIL, "bob", &[]), submit(RETAIL, "bob", &[])];
    let urgent = submit(RETAIL, "eve", &["--priority", "5"]);
    let unimportant = submit(RETAIL, "joe", &["--priority", "-5"]);
    fleet.succeed(&["jobs", "cancel", &running]);
    fleet.succeed(&["jobs", "watch", &unimportant]);

    let listed = fleet.succeed(&["jobs", "list", "-o", "json"]);
    let listed: Vec<serde_json::Value> = serde_json::from_str(&listed).expect("one JSON document");
    let ended =
        |name: &String| listed.iter().find(|job| job["name"] == **name).expect("it is listed")["ended"].to_string();
    let mut in_order = [&running, &urgent, &bobs[0], &anns[0], &bobs[1], &anns[1], &unimportant];
    let expected = in_order;
    in_order.sort_by_key(|name| ended(name));
    assert_eq!(in_order, expected, "{listed:?}");
}

#[test]
fn a_worker_refuses_what_does_not_fit_into_its_memory() {
    let mut fleet = Fleet::start(0);
    fleet.add_worker_with(&["--memory", "20KiB"]);
    let line = fleet.fail(&["submit", RETAIL]);
    assert!(line.contains("RESOURCE_EXHAUSTED") && line.contains("--memory of 20 KiB"), "{line}");
    // Beside a large worker it gets its share, which is nothing here.
    fleet.add_worker();
    let printed = fleet.succeed(&["submit", RETAIL, "--watch"]);
    assert!(printed.contains("2,469 customers in 4 segments") && printed.contains("fleet cpu"), "{printed}");
    let line = fail(&["worker", "--coordinator", &fleet.url, "--memory", "0GiB"]);
    assert!(line.contains("--memory"), "{line}");
}

#[test]
fn customers_with_several_rows_are_told() {
    let fleet = Fleet::start(1);
    let [rows, job, here, there] = ["rows.csv", "job.yaml", "here", "there"].map(|name| fleet.folder.path().join(name));
    let lines = (0..3_000).map(|row| format!("c{},{},{}\n", row % 2_998, row % 7, row % 11));
    fs::write(&rows, lines.fold("id,a,b\n".to_owned(), |text, line| text + &line)).expect("the folder is writable");
    let spec = format!("source: {{ path: {}, id: id, features: [a, b] }}\nkmeans: {{ n_clusters: 2 }}\n", text(&rows));
    fs::write(&job, spec).expect("the folder is writable");
    let printed = succeed(&["run", text(&job), "--out", text(&here)]);
    assert!(printed.contains("note: 2 rows have the id of another row"), "{printed}");
    fleet.succeed(&["submit", text(&job), "--watch", "--out", text(&there)]);
    same_file(&here, &there, "model.json");
}

/// There is room for one job's rows at a time.
#[test]
fn rows_of_jobs_that_have_ended_make_room_and_can_be_deleted() {
    let mut fleet = Fleet::start(0);
    fleet.add_worker_with(&["--memory", "300KiB"]);
    for _ in 0..3 {
        let printed = fleet.succeed(&["submit", RETAIL, "--watch"]);
        assert!(printed.contains("2,469 customers in 4 segments"), "{printed}");
    }
    // What was let go comes back from storage.
    let url = fleet.url.clone();
    let labels = |job: &str| run(&["labels", job, "--coordinator", &url]).stdout;
    let first = labels("jobs/1");
    assert!(!first.is_empty() && first == labels("jobs/3"));

    let data_sets = || fs::read_dir(fleet.folder.path().join("data/data_sets")).expect("it is there").count();
    let n_before = data_sets();
    for job in ["jobs/1", "jobs/2"] {
        fleet.succeed(&["jobs", "delete", job]);
        let line = fleet.fail(&["labels", job]);
        assert!(line.contains("NOT_FOUND"), "{line}");
    }
    let left = files_in(&fleet.folder.path().join("data"));
    let is_kept = |path: &String| path.contains("data_sets/3/") || path.contains("jobs/3/");
    let is_other = |path: &&String| (path.contains("data_sets/") || path.contains("jobs/")) && !is_kept(path);
    let others: Vec<&String> = left.iter().filter(is_other).collect();
    assert!(n_before == 3 && left.iter().any(is_kept) && others.is_empty(), "only those of jobs/3 are left: {left:?}");
    assert_eq!(first, labels("jobs/3"));
    let workers = fleet.succeed(&["workers"]);
    assert!(workers.contains("300.0 KiB") && workers.contains("cpu ("), "{workers}");

    // The next coordinator does not give the number of a job that is deleted to another one.
    fleet.succeed(&["jobs", "delete", "jobs/3"]);
    fleet.replace_coordinator();
    let submitted = wait_for(|| {
        let submitted = run(&["submit", RETAIL, "--watch", "--coordinator", &fleet.url]);
        submitted.status.success().then_some(submitted)
    });
    assert!(submitted.is_some(), "{}", fleet.log());
    assert_eq!(first, labels("jobs/4"));
}

/// The worker has room for both jobs' rows as they were put, and for the prepared rows of one of them.
#[test]
fn a_job_waits_for_the_room_that_another_one_has() {
    let mut fleet = Fleet::start(0);
    fleet.add_worker_with(&["--memory", "370KiB"]);
    let disturbed = Disturbed::start_until_checkpoint_of(&fleet, 16);
    let printed = fleet.succeed(&["submit", RETAIL, "--watch"]);
    assert!(printed.contains("2,469 customers in 4 segments"), "{printed}");
    assert!(fleet.coordinator.log().contains("there is no room beside other jobs"), "{}", fleet.coordinator.log());
    disturbed.ends_as_undisturbed(&fleet);
}

#[test]
fn what_cannot_be_done_is_refused_in_one_line() {
    let fleet = Fleet::start(0);
    let line = fleet.fail(&["submit", RETAIL]);
    assert!(line.contains("no worker has joined"), "{line}");
    let line = fleet.fail(&["jobs", "get", "jobs/9"]);
    assert!(line.contains("NOT_FOUND") && line.contains("jobs/9"), "{line}");
    let address = fleet.url.trim_start_matches("http://");
    let elsewhere = fleet.folder.path().join("elsewhere");
    let line = fail(&["coordinator", "--listen", address, "--data", text(&elsewhere)]);
    assert!(line.contains(address) && line.contains("in use"), "{line}");
    let data = fleet.folder.path().join("data");
    let line = fail(&["coordinator", "--listen", "127.0.0.1:0", "--data", text(&data)]);
    assert!(line.contains("belongs to another coordinator"), "{line}");
    let line = fail(&["submit", RETAIL, "--coordinator", "http://127.0.0.1:1"]);
    assert!(line.contains("127.0.0.1:1") && line.contains("UNAVAILABLE"), "{line}");
    let line = fail(&["jobs", "list", "--coordinator", &fleet.url.replace("http:", "https:")]);
    assert!(line.contains("needs certificates"), "{line}");
    let line = fail(&["worker", "--coordinator", "not a url"]);
    assert!(line.contains("not a url"), "{line}");
}
