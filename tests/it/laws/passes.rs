//! A Lloyd pass leaves alone what cannot have changed, and its inertia comes from sums. Neither may show.

use super::{centroids_at, fit_no_scale, fit_no_scale_or_refuse};
use crate::fixtures::{Table, blobs, device, noise};
use proptest::prelude::*;
use prost::Message;
use shoal_clustering::kmeans::{Checkpoint, Fit, FitParams, Start, fit, fit_each, resume};
use shoal_clustering::{Event, Observer, Partial, Rows, Shard};
use shoal_domain::job::Init;
use shoal_domain::{BLOCK_ROWS, Centroids};
use shoal_stats::ExactSum;
use shoal_wire::proto;
use std::ops::ControlFlow;

/// Asks one shard about all sets in turn, and a fresh one about each: answers must be the same.
fn check_memory(name: &str, table: &Table, sets: &[Vec<Vec<f64>>]) {
    let rows = table.rows();
    let fitted = fit_no_scale(&rows);
    let prepare = || rows.prepare(&fitted.preparation).expect("the rows can be prepared");
    let shard = prepare();
    for (idx, points) in sets.iter().enumerate() {
        let centroids = centroids_at(&fitted, points);
        let (remembered, fresh) = (ask(shard.as_ref(), &centroids), ask(prepare().as_ref(), &centroids));
        assert_eq!(remembered.counts, fresh.counts, "{name}, set {idx}");
        assert_eq!(remembered.weights, fresh.weights, "{name}, set {idx}");
        assert_eq!(remembered.sums, fresh.sums, "{name}, set {idx}");
        assert_eq!(remembered.inertia.to_digits(), fresh.inertia.to_digits(), "{name}, set {idx}");
    }
}

fn ask(shard: &dyn Shard, centroids: &Centroids) -> Partial {
    shard.assign(std::slice::from_ref(centroids)).expect("rows in memory answer").remove(0)
}

/// Points at some rows, each moved a little more than the last time: from none at all to far away.
fn walk(table: &Table, n_clusters: usize, n_steps: usize, seed: u64) -> Vec<Vec<Vec<f64>>> {
    let directions = noise(n_steps * n_clusters * 64, seed);
    let moved = |step: usize, cluster: usize, column: usize| {
        let size = [0.0, 1e-7, 1e-3, 0.05, 0.5, 20.0][step % 6];
        let direction = directions[(step * n_clusters + cluster) * 64 + column % 64] - 0.5;
        table.columns[column][cluster * 7 % table.n_rows()] + size * direction
    };
    let point =
        |step: usize, cluster: usize| (0..table.columns.len()).map(|column| moved(step, cluster, column)).collect();
    let set = |step: usize| (0..n_clusters).map(|cluster| point(step, cluster)).collect();
    (0..n_steps).map(set).collect()
}

#[test]
fn a_pass_does_not_depend_on_earlier_ones() {
    let n_rows = 3 * BLOCK_ROWS + 77;
    for (n_features, n_clusters) in [(1, 3), (2, 8), (3, 4), (16, 9), (33, 20), (5, 300)] {
        let table = Table::new(blobs(n_rows, n_features, 6, 31));
        let name = format!("{n_features} features, {n_clusters} clusters");
        check_memory(&name, &table, &walk(&table, n_clusters, 14, 77));
        let weights = noise(n_rows, 5).iter().map(|value| (value * 4.0).floor()).collect();
        check_memory(
            &format!("{name}, weights"),
            &table.with_weights(weights),
            &walk(&Table::new(blobs(n_rows, n_features, 6, 31)), n_clusters, 5, 78),
        );
    }
}

/// Ties, repeated rows and repeated centroids: the lowest centroid wins whatever was remembered.
#[test]
fn ties_are_decided_anew() {
    let grid: Vec<f64> = (0..2500).map(|row| f64::from(row % 5)).collect();
    let other: Vec<f64> = (0..2500).map(|row| f64::from(row / 5 % 5)).collect();
    let table = Table::new(vec![grid, other]);
    let square = |a: f64, b: f64| vec![vec![a, a], vec![a, b], vec![b, a], vec![b, b]];
    let swapped: Vec<Vec<f64>> = square(1.0, 3.0).into_iter().rev().collect();
    let sets = [square(1.0, 3.0), square(1.0, 3.0), swapped, square(2.0, 2.0), square(0.0, 4.0), square(1.0, 3.0)];
    check_memory("a lattice", &table, &sets);
    check_memory("one cluster", &table, &[vec![vec![1.0, 1.0]], vec![vec![2.0, 2.0]], vec![vec![2.0, 2.0]]]);
}

/// Questions about different numbers of clusters, and about many sets at once, share a shard's memory.
#[test]
fn sets_together_are_sets_one_by_one() {
    let table = Table::new(blobs(2 * BLOCK_ROWS + 9, 4, 6, 32)).in_blocks_of(500);
    let rows = table.rows();
    let fitted = fit_no_scale(&rows);
    let shard = rows.prepare(&fitted.preparation).expect("the rows can be prepared");
    for step in 0..4 {
        let set = |n_clusters: usize| centroids_at(&fitted, &walk(&table, n_clusters, 4, 79)[step]);
        let sets: Vec<Centroids> = [2, 3, 9, 3, 17, 2].into_iter().map(set).collect();
        let together = shard.assign(&sets).expect("rows in memory answer");
        for (centroids, partial) in sets.iter().zip(together) {
            let alone = ask(shard.as_ref(), centroids);
            assert_eq!((&partial.counts, &partial.sums), (&alone.counts, &alone.sums), "step {step}");
            assert_eq!(partial.inertia.to_digits(), alone.inertia.to_digits(), "step {step}");
        }
    }
}

/// A sweep over numbers of clusters, each with several starts: every fit is what it is alone.
#[test]
fn fits_together_are_fits_one_by_one() {
    let table = Table::new(blobs(BLOCK_ROWS + 300, 3, 5, 34)).in_blocks_of(400);
    let rows = table.rows();
    let fitted = fit_no_scale(&rows);
    let params = |(n_clusters, n_init): (usize, usize)| FitParams {
        n_clusters,
        start: Start::Seeded { init: Init::Parallel, n_init, seed: 7 },
        batch_size: None,
        max_iter: 100,
        shift_squared_max: 1e-4,
        units: fitted.preparation.units(),
        weight_unit: fitted.preparation.weight_unit(),
    };
    let jobs: Vec<FitParams> = [(2, 3), (3, 1), (4, 5), (5, 4), (6, 2)].map(params).to_vec();
    let prepare = || rows.prepare(&fitted.preparation).expect("the rows can be prepared");
    let together = fit_each(prepare().as_ref(), &jobs, &mut ()).expect("the rows are there");
    for (job, fit_together) in jobs.iter().zip(together) {
        let alone = fit(prepare().as_ref(), job, &mut ()).expect("the rows are there");
        let n_clusters = job.n_clusters;
        assert_eq!(fit_together.centroids, alone.centroids, "{n_clusters} clusters");
        assert_eq!((fit_together.start, fit_together.n_iter), (alone.start, alone.n_iter), "{n_clusters} clusters");
        let digits = (fit_together.partial.inertia.to_digits(), alone.partial.inertia.to_digits());
        assert_eq!(digits.0, digits.1, "{n_clusters} clusters");
    }
}

/// Keeps every checkpoint.
#[derive(Default)]
struct Checkpoints(Vec<Checkpoint>);

impl Observer for Checkpoints {
    fn event(&mut self, _: Event) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }

    fn reached(&mut self, checkpoint: &dyn Fn() -> Checkpoint) {
        self.0.push(checkpoint());
    }
}

/// A fit that goes on from any of its checkpoints, on a shard that remembers nothing, ends as it would have ended: with one
/// start and with several, of which the best is refined, and by mini-batches.
#[test]
fn a_fit_goes_on_from_any_checkpoint() {
    let rows = Table::new((0..3).map(|column| noise(3 * BLOCK_ROWS, column)).collect()).rows();
    let fitted = fit_no_scale(&rows);
    let prepare = || rows.prepare(&fitted.preparation).expect("the rows can be prepared");
    for (n_init, batch_size) in [(1, None), (4, None), (2, Some(1))] {
        let params = FitParams {
            n_clusters: 5,
            start: Start::Seeded { init: Init::Parallel, n_init, seed: 8 },
            batch_size,
            max_iter: 60,
            shift_squared_max: 1e-5,
            units: fitted.preparation.units(),
            weight_unit: fitted.preparation.weight_unit(),
        };
        let mut checkpoints = Checkpoints::default();
        let whole = fit(prepare().as_ref(), &params, &mut checkpoints).expect("the rows are there");
        assert!(checkpoints.0.len() >= 3, "{n_init} starts");
        for checkpoint in checkpoints.0.iter().step_by(1 + checkpoints.0.len() / 12) {
            let message = proto::Checkpoint::decode(&*proto::Checkpoint::from(checkpoint).encode_to_vec());
            let at_rest = Checkpoint::try_from(message.expect("ours")).expect("ours");
            assert_eq!(at_rest, *checkpoint, "as it is written and read");
            let resumed = resume(prepare().as_ref(), &params, &at_rest, &mut ()).expect("the rows are there");
            assert_eq!(resumed.centroids, whole.centroids, "{n_init} starts");
            let of = |fit: &Fit| (fit.start, fit.n_iter, fit.converged, fit.partial.inertia.to_digits());
            assert_eq!(of(&resumed), of(&whole), "{n_init} starts");
        }
    }
}

/// The sum of weight x squared distance over all rows, without any rounding: every product of two float32 numbers is a
/// float64, and weights are small whole numbers.
fn exact_inertia(shard: &dyn Shard, centroids: &Centroids, weights: Option<&[f64]>) -> ExactSum {
    let mut sum = ExactSum::default();
    let mut row_idx = 0;
    for block in shard.block_ids() {
        let found = shard.query_rows(block, centroids).expect("the block is there");
        for (row, cluster) in found.values.chunks_exact(centroids.n_features()).zip(&found.clusters) {
            let weight = weights.map_or(1.0, |weights| weights[row_idx]);
            row_idx += 1;
            for (x, c) in row.iter().zip(centroids.row(*cluster as usize)) {
                let (x, c) = (f64::from(*x), f64::from(*c));
                for _ in 0..weight as usize {
                    [x * x, -2.0 * x * c, c * c].into_iter().for_each(|term| sum.add(term));
                }
            }
        }
    }
    sum
}

/// Exact to the last bit with any number of threads, whatever the numbers cancel.
fn check_inertia(name: &str, table: &Table, points: &[Vec<f64>]) {
    for n_threads in [1, 2, 5] {
        let rows = table.rows_on(vec![std::sync::Arc::new(device(n_threads))]);
        let fitted = fit_no_scale(&rows);
        let shard = rows.prepare(&fitted.preparation).expect("the rows can be prepared");
        let centroids = centroids_at(&fitted, points);
        let inertia = ask(shard.as_ref(), &centroids).inertia.value();
        let exact = exact_inertia(shard.as_ref(), &centroids, table.weights.as_deref());
        assert_eq!(inertia.to_bits(), exact.value().to_bits(), "{name}, {n_threads} threads: {inertia}");
    }
}

#[test]
fn inertia_is_the_sum_of_squares_rounded_once() {
    let table = Table::new(blobs(BLOCK_ROWS + 50, 3, 4, 33));
    let points = walk(&table, 4, 5, 80);
    points.iter().for_each(|points| check_inertia("blobs", &table, points));
    let weights: Vec<f64> = noise(table.n_rows(), 6).iter().map(|value| (value * 5.0).floor()).collect();
    check_inertia("weights", &table.clone().with_weights(weights), &points[3]);
    let far =
        |column: &Vec<f64>| column.iter().map(|value| value / 1e3 + if *value > 5.0 { 1e6 } else { -1e6 }).collect();
    let far = Table::new(table.columns.iter().map(far).collect());
    check_inertia("small clusters far away", &far, &walk(&far, 6, 3, 81)[1]);
    let repeated = Table::new(vec![vec![0.1; 200], vec![3.0; 200]]);
    check_inertia("one point", &repeated, &[vec![0.1, 3.0], vec![0.5, 3.0]]);
}

#[test]
fn inertia_is_exact_at_extreme_magnitudes() {
    for exponent in (-38..=38).step_by(4) {
        let size = 10f64.powi(exponent);
        let column = noise(90, 901).iter().map(|value| (value - 0.5) * size).collect();
        let table = Table::new(vec![column, vec![0.25; 90]]);
        if fit_no_scale_or_refuse(&table.rows(), exponent).is_some() {
            check_inertia(&format!("1e{exponent}"), &table, &[vec![size, 0.25], vec![-size / 3.0, 0.25]]);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_the_data(
        columns in (1usize..120, 1usize..6).prop_flat_map(|(n_rows, n_features)| {
            let value = prop_oneof![(0i32..5).prop_map(f64::from), -3.0f64..3.0, (-3.0f64..3.0).prop_map(|x| 1e6 + x), Just(4e4)];
            prop::collection::vec(prop::collection::vec(value, n_rows), n_features)
        }),
        steps in prop::collection::vec(prop::collection::vec(-2.0f64..6.0, 30), 2..6),
        n_clusters in 1usize..6,
    ) {
        let n_features = columns.len();
        let table = Table::new(columns).in_blocks_of(40);
        let set = |step: &Vec<f64>| (0..n_clusters).map(|cluster| (0..n_features).map(|column| step[cluster * n_features + column]).collect()).collect();
        let sets: Vec<Vec<Vec<f64>>> = steps.iter().map(set).collect();
        check_memory("generated", &table, &sets);
        check_inertia("generated", &table, &sets[0]);
    }
}
