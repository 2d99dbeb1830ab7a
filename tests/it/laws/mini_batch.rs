//! Mini-batches: samples that are nested and fair, and results that rest near where all rows say.

use super::fit_no_scale;
use super::same_bits::{check, hard_columns};
use crate::fixtures::{Table, job, noise};
use shoal_clustering::kmeans::{Fit, FitParams, Start, fit};
use shoal_clustering::{Draw, Event, Observer, Phase, Rows, Sample, Shard};
use shoal_domain::BLOCK_ROWS;
use shoal_domain::job::{Algorithm, Init};
use shoal_stats::RandomStream;
use std::collections::BTreeSet;
use std::ops::ControlFlow;

/// The numbers of all rows of a shard: as the only centroid is nearest to them all, they are what a draw of all gives.
fn row_numbers(shard: &dyn Shard, n_rows: usize) -> BTreeSet<u64> {
    let stream = RandomStream { seed: 0, stream: 0 };
    let draw = Draw { n: n_rows, far_from: None, ignore_weights: true, stream };
    let drawn = shard.draw(&[draw]).expect("rows in memory answer").remove(0);
    drawn.into_rows().iter().map(|row| row.row).collect()
}

#[test]
fn samples_are_nested_and_each_block_has_its_share() {
    const N_ROWS: usize = 6 * BLOCK_ROWS;
    let rows = Table::new(vec![noise(N_ROWS, 5)]).rows();
    let preparation = fit_no_scale(&rows).preparation;
    let shard = rows.prepare(&preparation).expect("the rows can be prepared");
    let stream = RandomStream { seed: 11, stream: 3 };
    let mut smaller = BTreeSet::new();
    for block_rows in [1, 2, 7, 64, 300, BLOCK_ROWS] {
        let sample = shard.sample(&Sample { block_rows, stream }).expect("rows in memory can be sampled");
        let sampled = row_numbers(sample.as_ref(), N_ROWS);
        assert!(sampled.is_superset(&smaller), "{block_rows} rows a block");
        for block in 0..6 {
            let first = block * BLOCK_ROWS as u64;
            assert_eq!(sampled.range(first..first + BLOCK_ROWS as u64).count(), block_rows, "block {block}");
        }
        smaller = sampled;
    }
}

/// Over many seeds every row comes as often as any other, as far as chance allows, and so does every pair of a row and its
/// neighbour, or data with a period would be sampled unfairly.
#[test]
fn samples_are_fair() {
    const SEEDS: u64 = 400;
    let rows = Table::new(vec![noise(BLOCK_ROWS, 6)]).rows();
    let preparation = fit_no_scale(&rows).preparation;
    let shard = rows.prepare(&preparation).expect("the rows can be prepared");
    let mut counts = vec![0u64; BLOCK_ROWS];
    let mut n_neighbours = 0u64;
    for seed in 0..SEEDS {
        let sample = Sample { block_rows: BLOCK_ROWS / 4, stream: RandomStream { seed, stream: u64::MAX } };
        let sample = shard.sample(&sample).expect("rows in memory can be sampled");
        let sampled = row_numbers(sample.as_ref(), BLOCK_ROWS);
        sampled.iter().for_each(|row| counts[*row as usize] += 1);
        n_neighbours += sampled.iter().filter(|row| sampled.contains(&(**row + 1))).count() as u64;
    }
    // A count is 100 +- 8.7, and of 1,024 the farthest lies within 5.5 standard deviations but once in 40,000 such tests.
    assert!(counts.iter().all(|count| count.abs_diff(100) < 48), "{counts:?}");
    // 63.9 pairs a seed: 25,575 in all, with a standard deviation of about 120.
    assert!(n_neighbours.abs_diff(25_575) < 700, "{n_neighbours}");
}

/// Counts the passes over batches and over all rows.
#[derive(Default)]
struct Passes {
    in_batches: usize,
    batches: usize,
    over_all: usize,
    is_batch: bool,
}

impl Observer for Passes {
    fn event(&mut self, event: Event) -> ControlFlow<()> {
        match event {
            Event::Phase(phase) => {
                self.is_batch = phase == Phase::Batch;
                self.batches += usize::from(self.is_batch);
            }
            Event::Pass(_) if self.is_batch => self.in_batches += 1,
            Event::Pass(_) => self.over_all += 1,
            _ => {}
        }
        ControlFlow::Continue(())
    }
}

#[test]
fn batches_end_near_where_lloyd_rests_after_fewer_passes_over_all_rows() {
    // Rows without any clusters, among which Lloyd's algorithm takes its time.
    let table = Table::new((0..6).map(|column| noise(40 * BLOCK_ROWS, column)).collect());
    let rows = table.rows();
    let fitted = fit_no_scale(&rows);
    let shard = rows.prepare(&fitted.preparation).expect("the rows can be prepared");
    let params = |batch_size, start| FitParams {
        n_clusters: 12,
        start,
        batch_size,
        max_iter: 300,
        shift_squared_max: 1e-5,
        units: fitted.preparation.units(),
        weight_unit: fitted.preparation.weight_unit(),
    };
    let seeded = |seed| Start::Seeded { init: Init::Parallel, n_init: 1, seed };
    let solve = |params: &FitParams| -> (Fit, Passes) {
        let mut passes = Passes::default();
        (fit(shard.as_ref(), params, &mut passes).expect("the rows are there"), passes)
    };
    let inertia = |fit: &Fit| fit.partial.inertia.value();
    // A single start may be lucky in one way and not in the other.
    let (mut n_by_batches, mut n_by_lloyd) = (0, 0);
    for seed in 0..5 {
        let (by_batches, passes) = solve(&params(Some(500), seeded(seed)));
        // Batches of 640 and 2,560 rows.
        assert!(passes.batches == 2 && passes.in_batches > 2, "{} {}", passes.batches, passes.in_batches);
        assert_eq!(by_batches.n_iter, passes.over_all);
        let (from_there, _) = solve(&params(None, Start::From(by_batches.centroids.clone())));
        let ratio = inertia(&by_batches) / inertia(&from_there);
        assert!(by_batches.converged && (1.0..1.002).contains(&ratio), "{ratio}");
        let (by_lloyd, passes) = solve(&params(None, seeded(seed)));
        assert_eq!(passes.batches, 0);
        let ratio = inertia(&by_batches) / inertia(&by_lloyd);
        assert!(ratio < 1.01, "{ratio}");
        (n_by_batches, n_by_lloyd) = (n_by_batches + by_batches.n_iter, n_by_lloyd + by_lloyd.n_iter);
    }
    assert!(n_by_batches < n_by_lloyd, "{n_by_batches} passes, {n_by_lloyd} without batches");
}

#[test]
fn the_same_bits_by_mini_batches() {
    let weights = noise(12 * BLOCK_ROWS, 78).iter().map(|value| (value * 3.0).floor()).collect();
    let table = Table::new(hard_columns(12 * BLOCK_ROWS, 5, 9)).with_weights(weights);
    let mut spec = job(7);
    spec.kmeans.algorithm = Algorithm::MiniBatch;
    spec.kmeans.batch_size = 100;
    let model = check("mini-batches", &table, &spec).expect("the job can be done");
    assert!(model.contains("\"algorithm\": \"minibatch\""));
}

/// A sample may have no weight at all, and batches may be as many rows as there are.
#[test]
fn a_batch_without_weight_is_passed_over() {
    let mut weights = vec![0.0; 2 * BLOCK_ROWS];
    weights[5] = 1.0;
    weights[1500] = 2.0;
    let table = Table::new(vec![noise(2 * BLOCK_ROWS, 4)]).with_weights(weights);
    let mut spec = job(2);
    spec.kmeans.algorithm = Algorithm::MiniBatch;
    spec.kmeans.batch_size = 1;
    check("two rows that count", &table, &spec).expect("the job can be done");
}
