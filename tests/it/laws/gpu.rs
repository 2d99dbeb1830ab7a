//! What a GPU answers is what the CPU answers, bit for bit. The kernels run emulated here, so each of them is small.

use super::same_bits::{hard_columns, outcome, with};
use super::{centroids_at, fit_no_scale};
use crate::fixtures::{Table, blobs, device, gpu, noise, shared};
use shoal_clustering::silhouette::silhouette_samples;
use shoal_clustering::{ClusteringError, PairQuestion, Rows, Sample, Shard};
use shoal_domain::job::{Init, Silhouette};
use shoal_domain::{BLOCK_ROWS, Centroids};
use shoal_stats::RandomStream;

/// A pass, a pass of several sets, and the silhouettes: on the CPU, and on a GPU.
struct Both<'a> {
    cpu: Box<dyn Shard + 'a>,
    gpu: Box<dyn Shard + 'a>,
}

impl Both<'_> {
    fn check(&self, name: &str, sets: &[Centroids]) {
        let [expected, actual] = [&self.cpu, &self.gpu].map(|shard| shard.assign(sets).expect("rows in memory answer"));
        for (idx, (expected, actual)) in expected.iter().zip(&actual).enumerate() {
            assert_eq!(actual.counts, expected.counts, "{name}, counts of set {idx}");
            assert_eq!(actual.weights, expected.weights, "{name}, weights of set {idx}");
            assert!(actual.sums == expected.sums, "{name}, sums of set {idx}");
            assert_eq!(actual.inertia.to_digits(), expected.inertia.to_digits(), "{name}, inertia of set {idx}");
        }
        let [expected, actual] = [&self.cpu, &self.gpu].map(|shard| shard.weigh(sets).expect("rows in memory answer"));
        assert_eq!(actual, expected, "{name}, weighed");
    }

    fn check_silhouettes(&self, name: &str, centroids: &Centroids, unit: f64) {
        let partial = self.cpu.assign(std::slice::from_ref(centroids)).expect("rows in memory answer").remove(0);
        let [expected, actual] = [&self.cpu, &self.gpu].map(|shard| {
            silhouette_samples(shard.as_ref(), centroids, &partial.counts, unit, &mut ())
                .expect("there are silhouettes")
        });
        assert_eq!(actual.clusters, expected.clusters, "{name}, labels");
        let differ =
            (0..actual.values.len()).find(|row| actual.values[*row].to_bits() != expected.values[*row].to_bits());
        assert!(differ.is_none(), "{name}, silhouette of row {differ:?}");

        let squares = self.cpu.spread(centroids, centroids).expect("rows in memory answer").squares;
        let mean_squares = squares.iter().map(|sum| sum.value() / self.cpu.block_ids().len() as f64 / 300.0).collect();
        let question = PairQuestion { centroids: centroids.clone(), mean_squares, unit };
        let block = *self.cpu.block_ids().last().expect("there are blocks");
        let query = self.cpu.query_rows(block, centroids).expect("the block is there");
        let [expected, actual] =
            [&self.cpu, &self.gpu].map(|shard| shard.distance_sums(&query, &question).expect("rows in memory answer"));
        assert!(actual.0 == expected.0, "{name}, sums of distances to given rows");
    }
}

/// Asks about centroids at rows, on their way: near ones keep what is remembered, far ones do not, and float16 does not hold
/// those that are a long way off.
fn check_table(name: &str, table: &Table, numbers_of_clusters: &[usize]) {
    let (on_cpu, on_gpu) = (table.rows_on(vec![shared(device(2))]), table.rows_on(vec![gpu()]));
    let fitted = fit_no_scale(&on_cpu);
    let both = Both {
        cpu: on_cpu.prepare(&fitted.preparation).expect("the rows can be prepared"),
        gpu: on_gpu.prepare(&fitted.preparation).expect("the rows fit the GPU"),
    };
    let point = |row: usize, shift: f64| -> Vec<f64> {
        table.columns.iter().map(|column| column[row % table.n_rows()] + shift).collect()
    };
    let set =
        |n: usize, shift: f64| centroids_at(&fitted, &(0..n).map(|idx| point(idx * 37, shift)).collect::<Vec<_>>());
    for n in numbers_of_clusters {
        for shift in [0.0, 1e-6, 0.01, 0.7, 0.7, 1e4] {
            both.check(&format!("{name}, {n} clusters, shifted by {shift}"), &[set(*n, shift)]);
        }
    }
    let sets: Vec<Centroids> = numbers_of_clusters.iter().map(|n| set(*n, 0.02)).collect();
    both.check(&format!("{name}, all sets together"), &sets);
    both.check(&format!("{name}, all sets again"), &sets);
    let few = set(numbers_of_clusters[0].clamp(2, 7), 0.3);
    both.check_silhouettes(name, &few, fitted.preparation.distance_unit());
}

/// One number of features for each kernel, and some that do not fill it.
#[test]
fn every_kernel_answers_like_the_cpu() {
    for n_features in [1, 3, 16, 17, 32, 45, 64, 90, 128, 150, 192, 201, 256] {
        let n_rows = 700 + n_features;
        let table = Table::new(blobs(n_rows, n_features, 5, 31)).in_blocks_of(300);
        check_table(&format!("{n_features} features"), &table, &[3, 9, 40]);
    }
}

#[test]
fn weighted_rows_are_summed_exactly() {
    for n_features in [2, 40] {
        let weights = noise(900, 5).iter().map(|value| (value * 4.0).floor() / 3.0).collect();
        let table = Table::new(blobs(900, n_features, 5, 32)).with_weights(weights);
        check_table(&format!("{n_features} features, weights"), &table, &[4, 17]);
    }
}

/// Centroids that shared memory does not hold are streamed, and so many clusters that it does not hold their sums are
/// added in global memory.
#[test]
fn many_clusters_take_other_ways() {
    check_table("150 clusters of 256 features", &Table::new(blobs(300, 256, 20, 33)), &[150]);
    check_table("1,000 clusters", &Table::new(blobs(1100, 3, 300, 34)), &[1000]);
    let weights = noise(600, 6).iter().map(|value| (value * 4.0).floor() / 3.0).collect();
    check_table("500 clusters, weights", &Table::new(blobs(600, 2, 100, 35)).with_weights(weights), &[500]);
}

/// Columns of very different magnitude, repeated rows, outliers, and ties everywhere.
#[test]
fn hard_data() {
    check_table("hard columns", &Table::new(hard_columns(BLOCK_ROWS + 300, 5, 8)), &[2, 7]);
    let grid: Vec<f64> = (0..1200).map(|row| f64::from(row % 5)).collect();
    let other: Vec<f64> = (0..1200).map(|row| f64::from(row / 5 % 5)).collect();
    check_table("a lattice", &Table::new(vec![grid, other]), &[1, 4, 12]);
}

/// Whole jobs, on a GPU and on a fleet of CPUs and GPUs.
#[test]
fn a_model_does_not_tell_what_computed_it() {
    let table = Table::new(hard_columns(3 * BLOCK_ROWS + 5, 4, 9));
    for (init, silhouette) in [(Init::Parallel, Silhouette::Exact), (Init::PlusPlus, Silhouette::Sampled)] {
        let spec = with(init, silhouette, 5);
        let compute = |devices| outcome(&table.rows_on(devices), &spec).expect("the job can be done");
        let expected = compute(vec![shared(device(2))]);
        assert!(compute(vec![gpu()]) == expected, "a GPU, {init:?}");
        assert!(compute(vec![gpu(), shared(device(1)), gpu()]) == expected, "two GPUs and a CPU, {init:?}");
    }
}

/// More clusters than a block can count, and a shard whose rows were all dropped: the processor answers.
#[test]
fn what_the_gpu_has_no_room_for_is_answered_all_the_same() {
    let table = Table::new(blobs(9_300, 2, 5, 35));
    let weights = noise(table.n_rows(), 36).iter().map(|value| (value * 3.0).floor()).collect();
    check_table("9,000 clusters", &table, &[9_000]);
    check_table("4,500 clusters of weighted rows", &table.with_weights(weights), &[4_500]);

    let rows = Table::new(vec![noise(40, 37)]).rows_on(vec![gpu()]);
    let fitted = fit_no_scale(&rows);
    let shard = rows.prepare(&fitted.preparation).expect("the rows fit the GPU");
    let sets = [centroids_at(&fitted, &[vec![0.2], vec![0.7]])];
    let sample = |seed: u64| Sample { block_rows: 1, stream: RandomStream { seed, stream: 1 } };
    let mut samples = (0..50).map(|seed| shard.sample(&sample(seed)).expect("a sample"));
    // One row of 1,024 positions, of which 40 are there: nearly every sample is of none.
    let ask = |shard: &dyn Shard| shard.assign(&sets).expect("nothing to do")[0].counts.clone();
    let without_rows = samples.find(|sample| ask(sample.as_ref()) == [0, 0]).expect("a sample without rows");
    assert_eq!(ask(without_rows.as_ref()), [0, 0], "asked again");
}

#[test]
fn what_the_gpu_does_not_do_is_refused_with_the_reason() {
    let refused = |columns: Vec<Vec<f64>>| {
        let rows = Table::new(columns).rows_on(vec![gpu()]);
        let fitted = fit_no_scale(&rows);
        match rows.prepare(&fitted.preparation).map(|_| ()) {
            Err(ClusteringError::Refused(reason)) => reason.to_string(),
            other => panic!("{other:?}"),
        }
    };
    let wide = refused((0..257).map(|column| noise(30, column)).collect());
    assert!(wide.contains("257 features") && wide.contains("--device cpu"), "{wide}");
    let tiny = noise(30, 2).iter().map(|value| value * 1e-28).collect();
    let tiny = refused(vec![noise(30, 1), tiny]);
    assert!(tiny.contains("too small") && tiny.contains("--device cpu"), "{tiny}");
}
