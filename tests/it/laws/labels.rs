//! Labels are the float64 argmin over exactly the model's centroids, the lowest centroid on ties, on every instruction
//! set: the float32 scores of the kernels never decide what they cannot tell.

use super::{centroids_at, fit_no_scale, fit_no_scale_or_refuse};
use crate::fixtures::{Table, noise};
use proptest::prelude::*;
use shoal_clustering::cpu::{Assigner, Isa, squared_distance};
use shoal_clustering::prepare::prepare_block;
use shoal_domain::{Block, BlockId, Centroids};

/// The squared distance by the plainest loop there is.
fn plain_square(row: &[f32], centroid: &[f32]) -> f64 {
    row.iter().zip(centroid).map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2)).sum()
}

/// The first of the smallest.
fn argmin(values: &[f64]) -> usize {
    (0..values.len()).min_by(|a, b| values[*a].total_cmp(&values[*b])).expect("there is a centroid")
}

fn check(name: &str, block: &Block, centroids: &Centroids) {
    for isa in Isa::available() {
        let found = Assigner::new(centroids, isa).block_labels(block);
        assert_eq!(found.labels.len(), block.n_rows());
        for (row_idx, (label, distance)) in found.labels.iter().zip(&found.distances).enumerate() {
            let row = block.row(row_idx);
            let squares: Vec<f64> = centroids.rows().map(|centroid| squared_distance(row, centroid)).collect();
            let name = format!("{name}, {isa:?}, row {row_idx} of {} features", row.len());
            let nearest = argmin(&squares);
            assert_eq!(
                *label as usize, nearest,
                "{name}: squared distances {} and {}",
                squares[*label as usize], squares[nearest]
            );
            assert_eq!(distance.to_bits(), squares[nearest].sqrt().to_bits(), "{name}");
            // The engine's own distance defines ties; the plain loop says that it is a distance.
            let plain: Vec<f64> = centroids.rows().map(|centroid| plain_square(row, centroid)).collect();
            let smallest = plain[argmin(&plain)];
            assert!((plain[nearest] - smallest).abs() <= 1e-12 * smallest, "{name}: {} and {smallest}", plain[nearest]);
        }
    }
}

/// Rows and centroids from a function of (row, column), n_rows x n_features each.
fn check_made(
    name: &str,
    (n_rows, n_clusters, n_features): (usize, usize, usize),
    value: impl Fn(usize, usize) -> f32,
    centroid: impl Fn(usize, usize) -> f32,
) {
    let fill = |n: usize, make: &dyn Fn(usize, usize) -> f32| -> Vec<f32> {
        (0..n).flat_map(|row| (0..n_features).map(move |column| make(row, column))).collect()
    };
    let block = Block::new(BlockId(0), n_features, fill(n_rows, &value), None, None).expect("the shape is right");
    let centroids = Centroids::new(n_clusters, n_features, fill(n_clusters, &centroid)).expect("the shape is right");
    check(name, &block, &centroids);
}

/// Numbers of rows, clusters and features around the tiles of the kernels (8, 16, 24 or 48 rows, 4 or 8 centroids, 8 or 16
/// lanes), and around a block.
const SHAPES: [(usize, usize, usize); 15] = [
    (1, 1, 1),
    (15, 7, 1),
    (16, 8, 2),
    (17, 9, 3),
    (100, 17, 7),
    (33, 5, 8),
    (40, 16, 17),
    (20, 100, 16),
    (19, 4, 513),
    (23, 3, 5),
    (25, 12, 15),
    (47, 13, 31),
    (49, 20, 33),
    (1023, 6, 2),
    (1024, 11, 9),
];

/// k-means|| asks about ten candidates a cluster, and so about more of them than there may be clusters.
#[test]
fn more_centroids_than_labels_of_16_bits() {
    let n_clusters = 70_003;
    let value = |row: usize, _: usize| (row * 700 + 11) as f32;
    check_made("many centroids", (100, n_clusters, 1), value, |cluster, _| cluster as f32);
}

/// A whole number from 0 to `below`, scattered.
fn scattered(row: usize, column: usize, below: u32) -> f32 {
    let mixed = (row as u32).wrapping_mul(2_654_435_761) ^ (column as u32).wrapping_mul(2_246_822_519);
    ((mixed ^ mixed >> 15).wrapping_mul(2_869_860_233) >> 8).rem_euclid(below) as f32
}

#[test]
fn ties_go_to_the_lowest_centroid() {
    for shape in SHAPES {
        check_made(
            "whole numbers",
            shape,
            |row, column| scattered(row, column, 3),
            |row, column| scattered(row + 999, column, 3),
        );
        check_made("all the same", shape, |_, _| 0.7, |_, _| 0.1);
        check_made("half way", shape, |_, _| 0.0, |cluster, _| if cluster % 2 == 0 { 1.0 } else { -1.0 });
        check_made("far duplicates", shape, |row, column| scattered(row, column, 5), |_, _| 1e6);
    }
}

#[test]
fn near_ties_far_from_zero_are_decided_in_float64() {
    let near = |row: usize, column: usize| 1e6 + scattered(row, column, 64) / 16.0;
    let nearer = |row: usize, column: usize| f32::from_bits(1.0f32.to_bits() + scattered(row, column, 4) as u32);
    for shape in SHAPES {
        check_made("an offset", shape, near, |cluster, column| near(cluster + 999, column));
        check_made("last bits", shape, nearer, |cluster, column| nearer(cluster + 999, column));
        let outlying =
            |row: usize, column: usize| if row.is_multiple_of(5) { 1e7 } else { scattered(row, column, 100) / 100.0 };
        check_made("outliers", shape, outlying, |cluster, column| outlying(cluster + 999, column));
    }
}

#[test]
fn every_row_may_be_a_centroid() {
    for (n_rows, _, n_features) in SHAPES {
        let value = |row: usize, column: usize| scattered(row / 2, column, 1000) / 10.0;
        check_made("k = n, rows in pairs", (n_rows, n_rows, n_features), value, value);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_the_numbers(
        n_features in 1usize..20,
        rows in prop::collection::vec(-8i32..8, 20..400),
        centroids in prop::collection::vec(-8i32..8, 20..200),
        step in prop::sample::select(vec![1.0f32, 0.1, 1e-3]),
        offset in prop::sample::select(vec![0.0f32, 1.0, 1e3, 1e5]),
    ) {
        let whole = |values: &[i32]| -> Vec<f32> {
            let n_values = values.len() / n_features * n_features;
            values[..n_values].iter().map(|value| *value as f32 * step + offset).collect()
        };
        let block = Block::new(BlockId(0), n_features, whole(&rows), None, None).expect("the shape is right");
        let values = whole(&centroids);
        let centroids = Centroids::new(values.len() / n_features, n_features, values).expect("the shape is right");
        check("generated", &block, &centroids);
    }
}

/// Orders of magnitude from the smallest to the largest float32, in the customer's units.
#[test]
fn extreme_magnitudes_are_right_or_refused() {
    for exponent in -44..=38 {
        for n_features in [1, 6] {
            let column = |column: u64| {
                noise(40, 500 + column).iter().map(|value| (value - 0.5) * 10f64.powi(exponent)).collect()
            };
            let table = Table::new((0..n_features).map(column).collect());
            let Some(fitted) = fit_no_scale_or_refuse(&table.rows(), exponent) else {
                continue;
            };
            let block = prepare_block(&fitted.preparation, &table.blocks()[0]).expect("the block can be prepared");
            let centroids = Centroids::from_rows((0..9).map(|row| block.row(row))).expect("nine rows");
            check(&format!("1e{exponent}"), &block, &centroids);
        }
    }
}

/// Half the squared norm of the far centroid is beyond float32, the row's is not.
#[test]
fn a_centroid_whose_norm_overflows_can_still_win() {
    let column = vec![-2.61e19, 2.61e19, -1.8e19, 1.8e19, 0.0, 0.0];
    let table = Table::new(vec![column]);
    let Some(fitted) = fit_no_scale_or_refuse(&table.rows(), 19) else {
        return;
    };
    let block = prepare_block(&fitted.preparation, &table.blocks()[0]).expect("the block can be prepared");
    check("2.61e19", &block, &centroids_at(&fitted, &[vec![0.0], vec![2.61e19], vec![-2.61e19]]));
}

#[test]
fn offsets_vanish_in_the_preparation() {
    let columns = (0..3).map(|column| noise(500, 600 + column).iter().map(|value| 1e9 + value).collect()).collect();
    let table = Table::new(columns);
    let fitted = fit_no_scale(&table.rows());
    let block = prepare_block(&fitted.preparation, &table.blocks()[0]).expect("the block can be prepared");
    assert!(block.values().iter().all(|value| value.abs() < 1.0), "the mean is taken away before float32");
    check("1e9 + noise", &block, &Centroids::from_rows((0..20).map(|row| block.row(row))).expect("twenty rows"));
}
