//! Shoal against pandas and scikit-learn, on a year of real purchases.
//!
//! `tests/data/complete_journey/README.md` says what the numbers are and how they were made.

use crate::fixtures::{device, job};
use crate::memory_rows::MemoryRows;
use crate::reading::{DataSet, read};
use anyhow::Result;
use arrow::array::AsArray;
use arrow::datatypes::Int32Type;
use serde::Deserialize;
use shoal_clustering::kmeans::{FitParams, Start, fit};
use shoal_clustering::prepare::fit_preparation;
use shoal_clustering::silhouette::silhouette_samples;
use shoal_clustering::{Rows, segment};
use shoal_domain::job::{JobSpec, KMeansSpec, PrepareSpec, Scale, Silhouette};
use shoal_domain::model::Model;
use shoal_domain::{Centroids, RawBlock};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

#[derive(Deserialize)]
struct Golden {
    n_samples: usize,
    features: Vec<String>,
    mean: Vec<f64>,
    std: Vec<f64>,
    household_ids_head: Vec<i32>,
    rfm_head: Vec<Vec<f64>>,
    cases: Vec<Case>,
}

/// One fit by scikit-learn; centres and scores are in scaled units.
#[derive(Deserialize)]
struct Case {
    scale: Scale,
    n_clusters: usize,
    max_iter: usize,
    tol: f64,
    sample_weight: Option<String>,
    init_households: Vec<i32>,
    labels: String,
    inertia: f64,
    n_iter: usize,
    centers: Vec<Vec<f64>>,
    silhouette: f64,
    silhouette_head: Vec<f64>,
    davies_bouldin: f64,
    calinski_harabasz: f64,
}

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn golden() -> Golden {
    let path = repository().join("tests/data/complete_journey/golden.json");
    let text = std::fs::read_to_string(path).expect("golden.json is part of the repository");
    serde_json::from_str(&text).expect("golden.py wrote these fields")
}

/// The job of the README, its path made absolute.
fn retail_job() -> JobSpec {
    let text = std::fs::read_to_string(repository().join("examples/retail.yaml")).expect("the example is there");
    let mut spec: JobSpec = serde_saphyr::from_str(&text).expect("the example is a job");
    spec.source.path = repository().join(&spec.source.path).to_string_lossy().into_owned();
    spec
}

/// Recency, frequency and monetary value of every household, read once for all tests.
fn rfm() -> &'static DataSet {
    static RFM: OnceLock<DataSet> = OnceLock::new();
    RFM.get_or_init(|| read(&retail_job().source).expect("the purchases can be read"))
}

fn rfm_rows() -> MemoryRows {
    let data = rfm();
    MemoryRows::new(data.schema.features.clone(), data.raw_blocks(), vec![std::sync::Arc::new(device(2))])
}

fn households() -> Vec<i32> {
    rfm().blocks.iter().flat_map(|block| block.ids.as_primitive::<Int32Type>().values().to_vec()).collect()
}

fn column(column: usize) -> Vec<f64> {
    rfm().blocks.iter().flat_map(|block| block.raw.columns()[column].clone()).collect()
}

fn assert_near(what: &str, actual: f64, expected: f64, tolerance: f64) {
    assert!((actual - expected).abs() <= tolerance, "{what}: {actual}, where {expected} ± {tolerance:e} is expected");
}

fn assert_near_relative(what: &str, actual: f64, expected: f64, tolerance: f64) {
    assert_near(what, actual, expected, tolerance * expected.abs());
}

#[test]
fn features_are_those_of_pandas() {
    let golden = golden();
    assert_eq!(rfm().schema.features.as_slice(), golden.features);
    let households = households();
    assert_eq!(households.len(), golden.n_samples);
    assert!(households.is_sorted(), "households come in ascending order");
    assert_eq!(households[..5], golden.household_ids_head[..]);
    for (idx, feature) in golden.features.iter().enumerate() {
        let values = column(idx);
        let n = values.len() as f64;
        let mean = values.iter().sum::<f64>() / n;
        let variance = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / n;
        assert_near_relative(&format!("mean of {feature}"), mean, golden.mean[idx], 1e-6);
        assert_near_relative(&format!("standard deviation of {feature}"), variance.sqrt(), golden.std[idx], 1e-6);
        for (row, expected) in golden.rfm_head.iter().enumerate() {
            assert_near_relative(&format!("{feature} of row {row}"), values[row], expected[idx], 1e-12);
        }
    }
}

/// The purchases with the weights that a case asks for.
fn case_rows(case: &Case) -> Result<MemoryRows> {
    let features = rfm().schema.features.clone();
    let weigh = |block: &RawBlock| {
        let weight_idx = case.sample_weight.as_ref().map(|weight| {
            features.as_slice().iter().position(|feature| feature == weight).expect("the weight is one of the features")
        });
        let weights = weight_idx.map(|idx| block.columns()[idx].clone());
        RawBlock::new(block.id(), block.columns().to_vec(), weights, block.digest())
    };
    let blocks = rfm().raw_blocks().iter().map(weigh).collect::<Result<_, _>>()?;
    Ok(MemoryRows::new(features, blocks, vec![std::sync::Arc::new(device(2))]))
}

fn case_job(case: &Case) -> JobSpec {
    let kmeans = KMeansSpec { n_init: 1, max_iter: case.max_iter, tol: case.tol, ..job(case.n_clusters).kmeans };
    let prepare = PrepareSpec { scale: case.scale, ..PrepareSpec::default() };
    JobSpec { kmeans, prepare, ..job(case.n_clusters) }
}

/// A model with the given centroids in the customer's units, to start from; nothing else of it is looked at.
fn model_of(rows: &dyn Rows, spec: &JobSpec, centroids: &[Vec<f64>]) -> Result<Model> {
    let mut spec = spec.clone();
    spec.kmeans.max_iter = 1;
    spec.validate.silhouette = Silhouette::None;
    let mut model = segment(rows, &spec, None, &mut ())?.model;
    for (segment, centroid) in model.segments.iter_mut().zip(centroids) {
        segment.centroid = centroid.clone();
    }
    Ok(model)
}

fn check_case(case: &Case) -> Result<()> {
    let name = format!("{:?}, {} clusters, weight {:?}", case.scale, case.n_clusters, case.sample_weight);
    let what = |what: &str| format!("{name}: {what}");
    let rows = case_rows(case)?;
    let spec = case_job(case);
    let fitted = fit_preparation(&rows, &spec.prepare)?;
    let shard = rows.prepare(&fitted.preparation)?;

    let households = households();
    let row_of = |household: &i32| households.binary_search(household).expect("the household is in the data");
    let raw_row = |row: usize| (0..3).map(|idx| column(idx)[row]).collect::<Vec<f64>>();
    let initial: Vec<Vec<f64>> = case.init_households.iter().map(row_of).map(raw_row).collect();
    let prepare = |row: &Vec<f64>| -> Vec<f32> {
        row.iter().zip(&fitted.preparation.columns).map(|(value, column)| column.apply(*value)).collect()
    };
    let prepared: Vec<Vec<f32>> = initial.iter().map(prepare).collect();
    let params = FitParams {
        n_clusters: case.n_clusters,
        start: Start::From(Centroids::from_rows(prepared.iter().map(Vec::as_slice))?),
        batch_size: None,
        max_iter: case.max_iter,
        shift_squared_max: case.tol * fitted.variances.iter().sum::<f64>() / fitted.variances.len() as f64,
        units: fitted.preparation.units(),
        weight_unit: fitted.preparation.weight_unit(),
    };
    let found = fit(shard.as_ref(), &params, &mut ())?;
    assert!(found.converged, "{name}");
    assert_eq!(found.n_iter, case.n_iter, "{name}");
    assert_near_relative(&what("inertia"), found.partial.inertia.value(), case.inertia, 1e-6);

    let mut labels = String::new();
    for block in rows.labels(&fitted.preparation, &found.centroids)? {
        labels.extend(block.labels.iter().map(u32::to_string));
    }
    assert_eq!(labels, case.labels, "{name}");
    for (centroid, expected) in found.centroids.rows().zip(&case.centers) {
        for ((value, expected), column) in centroid.iter().zip(expected).zip(&fitted.preparation.columns) {
            // Without a scale our prepared units are still centred on the mean, and numbers are as large as the data's.
            let (shift, size) = if case.scale == Scale::None { (column.shift, column.bound()) } else { (0.0, 1.0) };
            assert_near(&what("a centre"), f64::from(*value) + shift, *expected, 1e-5 * size);
        }
    }
    let (counts, unit) = (&found.partial.counts, fitted.preparation.distance_unit());
    let silhouettes = silhouette_samples(shard.as_ref(), &found.centroids, counts, unit, &mut ())?;
    for (row, (actual, expected)) in silhouettes.values.iter().zip(&case.silhouette_head).enumerate() {
        assert_near(&what(&format!("silhouette of row {row}")), *actual, *expected, 1e-5);
    }

    // The whole job from the same centroids: the same fit, and the scores of it.
    let warm_start = model_of(&rows, &spec, &initial)?;
    let segmentation = segment(&rows, &spec, Some(&warm_start), &mut ())?;
    assert_eq!(segmentation.centroids, found.centroids, "{name}");
    let scores = &segmentation.model.scores;
    assert_near(&what("silhouette"), scores.silhouette.unwrap_or(f64::NAN), case.silhouette, 1e-5);
    let (davies_bouldin, calinski_harabasz) = (scores.davies_bouldin, scores.calinski_harabasz);
    assert_near_relative(&what("Davies-Bouldin"), davies_bouldin.unwrap_or(f64::NAN), case.davies_bouldin, 1e-5);
    assert_near_relative(
        &what("Calinski-Harabasz"),
        calinski_harabasz.unwrap_or(f64::NAN),
        case.calinski_harabasz,
        1e-5,
    );
    Ok(())
}

#[test]
fn fits_are_those_of_scikit_learn() -> Result<()> {
    let golden = golden();
    assert_eq!(golden.cases.len(), 7);
    golden.cases.iter().try_for_each(check_case)
}

/// The best of 20 starts is as good as the best that scikit-learn finds in 50, whatever the seed.
#[test]
fn the_best_start_is_good() -> Result<()> {
    let rows = rfm_rows();
    let check = |n_clusters: usize, seed: u64, inertia_max: f64, silhouette: f64| -> Result<()> {
        let mut spec = retail_job();
        spec.kmeans.n_clusters = n_clusters;
        spec.kmeans.seed = seed;
        let model = segment(&rows, &spec, None, &mut ())?.model;
        let name = format!("{n_clusters} clusters, seed {seed}");
        assert!(
            model.inertia <= inertia_max,
            "{name}: inertia {}, where at most {inertia_max} is expected",
            model.inertia
        );
        assert_near(&format!("{name}: silhouette"), model.scores.silhouette.unwrap_or(f64::NAN), silhouette, 1e-3);
        Ok(())
    };
    for seed in [7, 1, 2] {
        check(3, seed, 2932.003 * 1.0001, 0.5628)?;
        check(4, seed, 2157.410 * 1.0001, 0.4681)?;
    }
    Ok(())
}
