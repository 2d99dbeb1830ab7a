//! The first law: the same model bit for bit, for any number of threads and workers, for any instruction set, and for
//! answers that come in any order.

use crate::fixtures::{Table, blobs, device, job, noise, shared};
use crate::memory_rows::MemoryRows;
use proptest::prelude::*;
use shoal_clustering::cpu::{CpuDevice, Isa};
use shoal_clustering::{ClusteringError, Device, segment};
use shoal_domain::job::{Algorithm, Init, JobSpec, Missing, PrepareSpec, Scale, Silhouette, ValidateSpec};
use std::sync::Arc;

/// Everything that a job gives, as text: the model document, and the bits of all labels and distances.
pub(super) fn outcome(rows: &MemoryRows, spec: &JobSpec) -> Result<String, ClusteringError> {
    let segmentation = segment(rows, spec, None, &mut ())?;
    let mut text = serde_json::to_string_pretty(&segmentation.model).expect("a model is a JSON document");
    for block in rows.labels(&segmentation.model.preparation, &segmentation.centroids)? {
        let distances: Vec<u64> = block.distances.iter().map(|distance| distance.to_bits()).collect();
        text += &format!("\n{:?} {distances:?} {:?}", block.labels, block.kept);
    }
    Ok(text)
}

/// The ways to compute the same thing, by name.
fn ways() -> Vec<(&'static str, Vec<Arc<dyn Device>>)> {
    let with = |isa: Isa| shared(CpuDevice::with_isa(2, isa).expect("threads can be started"));
    let threads = |n_threads: usize| shared(device(n_threads));
    let mut ways = vec![
        ("2 threads", vec![threads(2)]),
        ("5 threads", vec![threads(5)]),
        ("no memory", vec![shared(device(2).remembering(0))]),
        // Room for a few starts of the larger tables, so that some are remembered and others not.
        ("little memory", vec![shared(device(2).remembering(300_000))]),
        ("three workers", vec![threads(1), threads(2), threads(1)]),
        ("three workers of different kinds", vec![with(Isa::Portable), shared(device(5).remembering(0)), threads(1)]),
    ];
    ways.extend(Isa::available().skip(1).map(|isa| (isa.name(), vec![with(isa)])));
    ways
}

/// Fails at the first line that is another one when computed in another way. A refusal has to be the same too.
pub(super) fn check(name: &str, table: &Table, spec: &JobSpec) -> Result<String, String> {
    let compute = |devices| outcome(&table.rows_on(devices), spec).map_err(|error| error.to_string());
    let expected = compute(vec![shared(device(1))]);
    for (way, devices) in ways() {
        let actual = compute(devices);
        if let (Ok(actual), Ok(expected)) = (&actual, &expected) {
            let differ = actual.lines().zip(expected.lines()).find(|(actual, expected)| actual != expected);
            let shorten = |line: &str| line.chars().take(200).collect::<String>();
            let lines = differ.map(|(actual, expected)| (shorten(actual), shorten(expected)));
            assert!(lines.is_none(), "{name}, {way}, against 1 thread: {lines:?}");
        }
        assert!(actual == expected, "{name}, {way}: {:?} and {:?}", actual.err(), expected.err());
    }
    expected
}

/// Blobs with all that makes sums differ: a column far from 0, a constant one, repeated rows, and heavy outliers.
pub(super) fn hard_columns(n_rows: usize, n_features: usize, seed: u64) -> Vec<Vec<f64>> {
    let mut columns = blobs(n_rows, n_features, 5, seed);
    columns[0].iter_mut().for_each(|value| *value += 1e6);
    if n_features > 2 {
        columns[1].fill(0.1);
    }
    for column in &mut columns {
        for row in (7..n_rows).step_by(7) {
            column[row] = column[row - 7];
        }
        for row in (0..n_rows).step_by(997) {
            column[row] *= 300.0;
        }
    }
    columns
}

/// Twelve blocks, so that five threads or three workers have several each, and one row more.
const N_ROWS: usize = 12 * shoal_domain::BLOCK_ROWS + 1;

pub(super) fn with(init: Init, silhouette: Silhouette, n_clusters: usize) -> JobSpec {
    let mut spec = job(n_clusters);
    spec.kmeans.init = init;
    spec.validate = ValidateSpec { silhouette, silhouette_sample: 300, ..ValidateSpec::default() };
    spec
}

#[test]
fn one_feature() {
    let table = Table::new(hard_columns(N_ROWS, 1, 1));
    let model = check("1 feature", &table, &with(Init::Parallel, Silhouette::Exact, 4)).expect("the job can be done");
    assert!(model.contains("\"silhouette_mode\": \"exact\"") && model.contains(&format!("\"n_samples\": {N_ROWS}")));
}

#[test]
fn three_features() {
    let table = Table::new(hard_columns(N_ROWS, 3, 2));
    check("3 features", &table, &with(Init::PlusPlus, Silhouette::Sampled, 6)).expect("the job can be done");
}

#[test]
fn sixteen_features_with_weights() {
    let weights = noise(N_ROWS, 77).iter().map(|value| (value * 10.0).floor() / 3.0).collect();
    let table = Table::new(hard_columns(N_ROWS, 16, 3)).with_weights(weights);
    check("16 features", &table, &with(Init::Parallel, Silhouette::Sampled, 9)).expect("the job can be done");
}

/// So many blocks that every start is seeded from a sample of its own.
#[test]
fn starts_from_samples() {
    let table = Table::new(hard_columns(13_000, 3, 5)).in_blocks_of(20);
    check("650 blocks", &table, &with(Init::Parallel, Silhouette::Sampled, 4)).expect("the job can be done");
}

#[test]
fn many_features_of_few_rows() {
    let table = Table::new(hard_columns(600, 513, 4)).in_blocks_of(150);
    check("513 features", &table, &with(Init::Random, Silhouette::Exact, 3)).expect("the job can be done");
}

/// A machine of another kind is not at hand in a test, so what one has found is written down here.
#[test]
fn processors_of_other_kinds_find_the_same() {
    let table = Table::new(hard_columns(N_ROWS, 16, 3));
    let segmentation =
        segment(&table.rows(), &with(Init::Parallel, Silhouette::Sampled, 9), None, &mut ()).expect("it can be done");
    let mut hasher = blake3::Hasher::new();
    segmentation.centroids.values().iter().for_each(|value| _ = hasher.update(&value.to_bits().to_le_bytes()));
    let scores = segmentation.model.scores;
    let numbers =
        [Some(segmentation.model.inertia), scores.silhouette, scores.davies_bouldin, scores.calinski_harabasz];
    numbers.iter().flatten().for_each(|value| _ = hasher.update(&value.to_bits().to_le_bytes()));
    // Found by x86-64 with AVX2 and without. What aarch64 had found, with NEON and without, emulated by QEMU, was equal too, until
    // two rows came to share a block of random numbers; it was not started again since.
    assert_eq!(hasher.finalize().to_hex().as_str(), "618a994a3bf0d9395df0167072a696acbb41d1ab130e5e6374a4427d4fe80d68");
}

/// A column that is unkind in one way or another: steps that make ties, an offset, orders of magnitude, gaps.
fn any_column(n_rows: usize) -> impl Strategy<Value = Vec<f64>> {
    let value = prop_oneof![
        4 => (0i32..6).prop_map(f64::from),
        2 => -1.0f64..1.0,
        1 => (-1.0f64..1.0).prop_map(|value| 1e6 + value),
        1 => (0.0f64..9.0).prop_map(|exponent| 10f64.powf(exponent)),
    ];
    let gap = prop_oneof![30 => Just(false), 1 => Just(true)];
    let with_gaps = (value, gap).prop_map(|(value, gap)| if gap { f64::NAN } else { value });
    prop::collection::vec(with_gaps, n_rows)
}

fn any_table() -> impl Strategy<Value = Table> {
    (5usize..120, 1usize..5).prop_flat_map(|(n_rows, n_features)| {
        let columns = prop::collection::vec(any_column(n_rows), n_features);
        let weights = prop::option::weighted(0.3, prop::collection::vec(0.0f64..3.0, n_rows));
        (columns, weights, 1usize..50).prop_map(|(columns, weights, block_rows)| Table { columns, weights, block_rows })
    })
}

fn any_job() -> impl Strategy<Value = JobSpec> {
    let init = prop::sample::select(vec![Init::PlusPlus, Init::Parallel, Init::Random]);
    let missing = prop::sample::select(vec![Missing::Drop, Missing::Mean, Missing::Median]);
    let scale = prop::sample::select(vec![Scale::Zscore, Scale::Minmax, Scale::Robust, Scale::None]);
    let silhouette = prop::sample::select(vec![Silhouette::Exact, Silhouette::Sampled, Silhouette::Simplified]);
    let algorithm = prop::sample::select(vec![Algorithm::Lloyd, Algorithm::MiniBatch]);
    (init, missing, scale, silhouette, algorithm, 1usize..7, 0u64..1000).prop_map(
        |(init, missing, scale, silhouette, algorithm, n_clusters, seed)| {
            let mut spec = with(init, silhouette, n_clusters);
            spec.kmeans.seed = seed;
            spec.kmeans.algorithm = algorithm;
            spec.kmeans.batch_size = 1;
            spec.prepare = PrepareSpec { missing, scale };
            spec.validate.silhouette_sample = 20;
            spec
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_the_data(table in any_table(), spec in any_job()) {
        // A job that cannot be done is refused; that it is refused everywhere is what is tested.
        let _ = check("generated data", &table, &spec);
    }
}
