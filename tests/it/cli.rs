//! `shoal run` as a user starts it: files, figures, bad input.

use crate::process::{fail, succeed};
use arrow::array::AsArray;
use arrow::datatypes::Float64Type;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

const RETAIL: &str = "examples/retail.yaml";

fn folder() -> TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a plain path")
}

/// Writes a file into the folder and returns its path.
fn write(folder: &TempDir, name: &str, content: &str) -> PathBuf {
    let path = folder.path().join(name);
    fs::write(&path, content).expect("the folder is writable");
    path
}

/// The retail job with one change, in a file of its own.
fn changed(folder: &TempDir, from: &str, to: &str) -> PathBuf {
    let job = fs::read_to_string(crate::process::repository().join(RETAIL)).expect("the example exists");
    assert!(job.contains(from), "the example has no `{from}`");
    write(folder, "job.yaml", &job.replace(from, to))
}

fn json(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).expect("the file was written")).expect("a JSON document")
}

#[test]
fn the_retail_job_prints_a_report_and_writes_three_files() {
    let out = folder();
    let printed = succeed(&["run", RETAIL, "--out", text(out.path())]);
    assert!(printed.starts_with("2,469 customers in 4 segments by recency, frequency, monetary"), "{printed}");
    assert!(printed.contains("x the average"), "{printed}");
    let model = json(&out.path().join("model.json"));
    assert!(model["inertia"].as_f64().expect("a number") <= 2157.410 * 1.0001);
    let report = json(&out.path().join("report.json"));
    for key in ["n_samples", "n_features", "n_clusters", "inertia", "n_iter", "converged", "ran_on", "timings"] {
        assert!(!report[key].is_null(), "report.json has no {key}");
    }
    for key in ["silhouette", "davies_bouldin", "calinski_harabasz"] {
        assert!(report["scores"][key].is_f64(), "report.json has no scores.{key}");
    }
    for key in ["label", "size", "centroid", "mean"] {
        assert!(!report["segments"][0][key].is_null(), "report.json has no segments[].{key}");
    }
    assert!(out.path().join("labels.parquet").exists());
    assert_eq!(fs::read_dir(out.path()).expect("the folder exists").count(), 3, "no other file is left behind");
}

#[test]
fn the_silhouette_of_each_row_stands_beside_its_label() {
    let out = folder();
    let job = changed(&out, "validate: {", "validate: { row_silhouettes: true,");
    succeed(&["run", text(&job), "--out", text(out.path())]);
    let file = fs::File::open(out.path().join("labels.parquet")).expect("the file was written");
    let batches = ParquetRecordBatchReaderBuilder::try_new(file).expect("a Parquet file").build().expect("readable");
    let mut silhouettes = Vec::new();
    for batch in batches {
        let batch = batch.expect("readable");
        let column = batch.column_by_name("silhouette").expect("the column is there");
        silhouettes.extend(column.as_primitive::<Float64Type>().iter().map(|value| value.expect("it is defined")));
    }
    let mean = silhouettes.iter().sum::<f64>() / silhouettes.len() as f64;
    let score = json(&out.path().join("report.json"))["scores"]["silhouette"].as_f64().expect("a number");
    assert!(silhouettes.len() == 2469 && (mean - score).abs() < 1e-12, "{} {mean} {score}", silhouettes.len());
    let job = changed(&out, "silhouette: exact", "silhouette: sampled, row_silhouettes: true");
    let line = fail(&["run", text(&job)]);
    assert!(line.contains("validate.row_silhouettes") && line.contains("needs `silhouette: exact`"), "{line}");
}

#[test]
fn the_model_does_not_depend_on_threads() {
    let out = [folder(), folder()];
    for (out, threads) in out.iter().zip(["1", "2"]) {
        succeed(&["run", RETAIL, "--out", text(out.path()), "--threads", threads]);
    }
    for name in ["model.json", "labels.parquet"] {
        let [one, two] = out.each_ref().map(|out| fs::read(out.path().join(name)).expect("the file was written"));
        assert!(one == two, "{name} differs between 1 and 2 threads");
    }
}

/// Each number of clusters of a sweep has the figures of a run of its own.
#[test]
fn a_sweep_is_several_runs() {
    let out = folder();
    let printed = succeed(&["sweep", RETAIL, "--from", "3", "--to", "5", "--out", text(out.path())]);
    assert!(printed.contains("Calinski-Harabasz"), "{printed}");
    let sweep = json(&out.path().join("sweep.json"));
    let numbers: Vec<_> = sweep["fits"].as_array().expect("a list").iter().map(|fit| &fit["n_clusters"]).collect();
    assert_eq!(numbers, [3, 4, 5]);
    for fit in sweep["fits"].as_array().expect("a list") {
        let job = changed(&out, "n_clusters: 4", &format!("n_clusters: {}", fit["n_clusters"]));
        succeed(&["run", text(&job), "--out", text(out.path())]);
        let model = json(&out.path().join("model.json"));
        for key in ["inertia", "n_iter", "converged", "scores", "kmeans", "warnings"] {
            assert_eq!(fit[key], model[key], "{key} of {} clusters", fit["n_clusters"]);
        }
        let segments = model["segments"].as_array().expect("a list").iter();
        let sizes: Vec<_> = segments.map(|segment| segment["size"].clone()).collect();
        assert_eq!(fit["sizes"], Value::from(sizes));
        assert_eq!(sweep["data_digest"], model["data_digest"]);
    }
    let refused =
        |from: &str, to: &str| fail(&["sweep", RETAIL, "--from", from, "--to", to, "--out", text(out.path())]);
    assert!(refused("5", "3").contains("--from 5 is more than --to 3"));
    assert!(refused("0", "3").contains("kmeans.n_clusters"));
    assert!(refused("2000", "2900").contains("only 2469 rows"));
    assert!(refused("2", "99999999999").contains("at most 1000"));
}

#[test]
fn a_gpu_that_is_asked_for_and_is_not_there_is_an_error() {
    let out = folder();
    let refused = |device: &str| fail(&["run", RETAIL, "--device", device, "--out", text(out.path())]);
    assert!(refused("cuda:99").contains("no GPU"), "{}", refused("cuda:99"));
    assert!(!out.path().join("model.json").exists(), "nothing is written");
    let printed = succeed(&["run", RETAIL, "--device", "cpu", "--output", "json", "--out", text(out.path())]);
    assert!(printed.contains("cpu ("), "the report says what computed: {printed}");
}

#[test]
fn a_warm_start_from_its_own_model_stays_where_it_is() {
    let out = folder();
    succeed(&["run", RETAIL, "--out", text(out.path())]);
    let model = out.path().join("model.json");
    let first = json(&model);
    let warm = format!("n_init: 1, warm_start: \"{}\"", text(&model));
    let job = changed(&out, "n_init: 20", &warm);
    let again = folder();
    succeed(&["run", text(&job), "--out", text(again.path())]);
    let second = json(&again.path().join("model.json"));
    assert_eq!(second["n_iter"], 1, "the centroids were at rest");
    assert_eq!(second["centroids"], first["centroids"]);
    assert_eq!(second["inertia"], first["inertia"]);
}

#[test]
fn json_output_is_one_document() {
    let out = folder();
    let printed = succeed(&["run", RETAIL, "--out", text(out.path()), "-o", "json"]);
    let report: Value = serde_json::from_str(&printed).expect("one JSON document");
    assert_eq!(report["n_samples"], 2469);
    let schema: Value = serde_json::from_str(&succeed(&["schema"])).expect("one JSON document");
    assert!(schema["properties"]["kmeans"].is_object());
}

#[test]
fn a_job_file_that_is_wrong_is_refused_by_field_and_line() {
    let folder = folder();
    let check = |from: &str, to: &str, expected: &[&str]| {
        let line = fail(&["run", text(&changed(&folder, from, to)), "--out", text(&folder.path().join("out"))]);
        for part in expected {
            assert!(line.contains(part), "`{part}` is not in: {line}");
        }
        assert!(!folder.path().join("out/model.json").exists(), "nothing is written");
    };
    check("n_init: 20", "n_inits: 20", &["n_inits", "line 12"]);
    check(
        "n_clusters: 4",
        "n_clusters: many",
        &["job.yaml", "a whole number", "line 12", "`kmeans: { n_clusters: many"],
    );
    check("prepare: {", "prepare:\nunused: {", &["fields are needed", "`prepare:`"]);
    check("n_clusters: 4", "n_clusters: 0", &["kmeans.n_clusters"]);
    check("n_clusters: 4", "n_clusters: 2470", &["kmeans.n_clusters is 2470", "only 2469 rows"]);
    check("scale: zscore", "scale: percent", &["percent", "line 11"]);
    check("tol: 1.0e-4", "tol: -1", &["kmeans.tol"]);
    check(
        "customer: household_id",
        "customer: household",
        &["`household`", "household_id", "source.purchases.customer"],
    );
    check("amount: sales_value", "amount: transaction_timestamp", &["transaction_timestamp", "a number is needed"]);
    check("as_of: 2018-01-02", "as_of: yesterday", &["as_of", "yesterday"]);
    check("as_of: 2018-01-02", "as_of: 2001-01-02", &["no purchases before 2001-01-02"]);
    check("transactions.parquet", "nothing.parquet", &["no file or folder", "nothing.parquet"]);
    check("  purchases:", "  features: [a]\n  purchases:", &["source", "not both"]);
}

#[test]
fn a_job_file_that_is_missing_is_named() {
    assert!(fail(&["run", "no/such/job.yaml"]).contains("no/such/job.yaml"));
}

/// A job over a CSV file with the given lines.
fn csv_job(folder: &TempDir, lines: &str, more: &str) -> PathBuf {
    let data = write(folder, "data.csv", lines);
    let source = format!("source: {{ path: \"{}\", id: id, features: [a, b] }}", text(&data));
    write(folder, "csv.yaml", &format!("{source}\nkmeans: {{ n_clusters: 2, n_init: 2, seed: 1 }}\n{more}"))
}

#[test]
fn values_that_cannot_be_clustered_are_named_by_row_and_column() {
    let folder = folder();
    let check = |lines: &str, more: &str, expected: &[&str]| {
        let line = fail(&["run", text(&csv_job(&folder, lines, more)), "--out", text(&folder.path().join("out"))]);
        for part in expected {
            assert!(line.contains(part), "`{part}` is not in: {line}");
        }
    };
    check("id,a,b\nx,1,2\ny,,3\nz,4,5\n", "", &["row 2", "`a`", "missing"]);
    check("id,a,b\nx,1,2\ny,1,NaN\nz,4,5\n", "", &["row 2", "`b`", "missing"]);
    check("id,a,b\nx,1,2\ny,1,inf\nz,4,5\n", "", &["row 2", "id y", "`b`", "inf"]);
    check("id,a,b\nx,1,2\ny,1,many\nz,4,5\n", "", &["`b`", "a number is needed"]);
    check("id,a,b\nx,1,2\ny,-1,1\nz,4,5\n", "prepare: { scale: log1p_zscore }", &["row 2", "`a`", "-1", "log1p"]);
    check("id,a,b\n", "", &["no rows"]);
    check("id,a,b\nx,,2\ny,1,\n", "prepare: { missing: drop }", &["no rows are left"]);
}

#[test]
fn missing_values_can_be_dropped_or_filled() {
    let folder = folder();
    let lines = "id,a,b\nx,1,2\ny,,3\nz,4,5\nw,4.5,5\nv,1.5,2\n";
    for (policy, n_samples, n_dropped) in [("drop", 4, 1), ("mean", 5, 0), ("median", 5, 0)] {
        let job = csv_job(&folder, lines, &format!("prepare: {{ missing: {policy} }}"));
        let printed = succeed(&["run", text(&job), "--out", text(&folder.path().join("out")), "-o", "json"]);
        let report: Value = serde_json::from_str(&printed).expect("one JSON document");
        assert_eq!((&report["n_samples"], &report["n_dropped"]), (&n_samples.into(), &n_dropped.into()), "{policy}");
    }
}
