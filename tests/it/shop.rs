//! From a generated log to segments, as a user does it: the commands of the README one after the other.

use crate::process::{Fleet, fail, repository, succeed};
use anyhow::Result;
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

fn text(path: &Path) -> &str {
    path.to_str().expect("a plain path")
}

/// A log of a few customers, and the job of the README on it.
fn shop(folder: &TempDir) -> PathBuf {
    let log = folder.path().join("generated");
    succeed(&["generate", "--customers", "600", "--seed", "3", "--out", text(&log)]);
    let job = fs::read_to_string(repository().join("examples/shop.yaml")).expect("the example is there");
    let path = folder.path().join("shop.yaml");
    fs::write(&path, job.replace("generated/events", text(&log.join("events")))).expect("the folder is writable");
    path
}

fn json(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).expect("the file was written")).expect("a JSON document")
}

#[test]
fn a_log_becomes_features_segments_and_journeys() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let job = shop(&folder);
    let out = folder.path().join("out");
    let features = succeed(&["features", text(&job), "--out", text(&out)]);
    for word in ["customers, 6 features of", "sessions_per_week", "of a message that was there before", "of visitors"] {
        assert!(features.contains(word), "{features}");
    }
    let quality = json(&out.join("quality.json"));
    assert!(quality["quarantined"]["no_time"].as_u64() > Some(0), "{quality}");
    assert!(out.join("quarantine.parquet").exists());
    let segments = succeed(&["run", text(&job), "--out", text(&out)]);
    assert!(segments.contains("in 5 segments by recency") && segments.contains("in quarantine"), "{segments}");
    assert_eq!(json(&out.join("quality.json")), quality, "a run says the same of the log");
    let labels = out.join("labels.parquet");
    let funnel = "view_item,add_to_cart,purchase";
    let target = ["--target", "purchase", "--funnel", funnel, "--labels", text(&labels)];
    let journeys = succeed(&[&["journeys", text(&job), "--out", text(&out)], &target[..]].concat());
    for word in ["all customers: ", "segment 4: ", "view_item", "in no segment: "] {
        assert!(journeys.contains(word), "{journeys}");
    }
    let reports = json(&out.join("journeys.json"));
    assert_eq!(reports.as_array().map(Vec::len), Some(6), "all customers and five segments");
    assert!(fs::read_to_string(out.join("journeys.graphml"))?.contains("<edge source=\"add_to_cart\""));
    let error = fail(&["journeys", text(&job), "--target", "buy", "--out", text(&out)]);
    assert!(error.contains("--target") && error.contains("`buy`") && error.contains("view_item"), "{error}");
    let error = fail(&["generate", "--customers", "5", "--out", text(&folder.path().join("generated"))]);
    assert!(error.contains("is not empty"), "{error}");
    Ok(())
}

#[test]
fn a_fleet_finds_the_same_segments_in_a_log() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let job = shop(&folder);
    let (here, there) = (folder.path().join("here"), folder.path().join("there"));
    succeed(&["run", text(&job), "--out", text(&here)]);
    let fleet = Fleet::start(2);
    for place in ["client", "coordinator"] {
        fleet.succeed(&["submit", text(&job), "--read-on", place, "--watch", "--out", text(&there)]);
        for file in ["model.json", "labels.parquet"] {
            assert_eq!(fs::read(here.join(file))?, fs::read(there.join(file))?, "{file}, read on the {place}");
        }
    }
    Ok(())
}
