//! A row of weight 2 is that row twice, and a row of weight 0 is none.

use super::{centroids_at, fit_from, fit_no_scale};
use crate::fixtures::{Table, blobs, job, noise};
use shoal_clustering::kmeans::Fit;
use shoal_clustering::prepare::Fitted;
use shoal_clustering::{Rows, segment};

/// Repeats each row as often as its weight says.
fn repeated(table: &Table) -> Table {
    let weights = table.weights.as_ref().expect("the table has weights");
    let repeat = |column: &Vec<f64>| {
        let rows = column.iter().zip(weights);
        rows.flat_map(|(value, weight)| std::iter::repeat_n(*value, *weight as usize)).collect()
    };
    Table::new(table.columns.iter().map(repeat).collect()).in_blocks_of(table.block_rows)
}

/// Fits with the preparation of the weighted rows, so that both tables have the same prepared units and grid.
fn fit_both(weighted: &Table, points: &[Vec<f64>]) -> (Fit, Fit) {
    let rows = weighted.rows();
    let fitted = fit_no_scale(&rows);
    let fit_table = |table: &Table, fitted: &Fitted| {
        let rows = table.rows();
        let shard = rows.prepare(&fitted.preparation).expect("the rows can be prepared");
        fit_from(shard.as_ref(), fitted, centroids_at(fitted, points)).expect("the rows are there")
    };
    let with_weights = fit_table(weighted, &fitted);
    let mut unweighted = fitted.clone();
    unweighted.preparation.weight_exponent = None;
    (with_weights, fit_table(&repeated(weighted), &unweighted))
}

fn check(name: &str, weighted: &Table, points: &[Vec<f64>]) {
    let (with_weights, with_repeats) = fit_both(weighted, points);
    assert_eq!(with_weights.n_iter, with_repeats.n_iter, "{name}");
    let near = |a: f64, b: f64| (a - b).abs() <= 1e-9 * b.abs().max(1.0);
    let (inertia, expected) = (with_weights.partial.inertia.value(), with_repeats.partial.inertia.value());
    assert!(near(inertia, expected), "{name}: inertia {inertia}, and {expected} with repeated rows");
    for (value, expected) in with_weights.centroids.values().iter().zip(with_repeats.centroids.values()) {
        assert!(near(f64::from(*value), f64::from(*expected)), "{name}: {:?}", with_weights.centroids);
    }
}

#[test]
fn a_weight_is_a_number_of_repeats() {
    let columns = blobs(400, 3, 4, 31);
    let points: Vec<Vec<f64>> = (0..4).map(|row| columns.iter().map(|column| column[row]).collect()).collect();
    let table = |weights: Vec<f64>| Table::new(columns.clone()).with_weights(weights).in_blocks_of(150);
    let mut one_heavy = vec![1.0; 400];
    one_heavy[17] = 2.0;
    check("one row twice", &table(one_heavy), &points);
    check("0 to 4 times", &table(noise(400, 310).iter().map(|value| (value * 5.0).floor()).collect()), &points);
    check("always once", &table(vec![1.0; 400]), &points);
    check("a thousand to one", &table((0..400).map(|row| if row % 40 == 0 { 1000.0 } else { 1.0 }).collect()), &points);
}

/// A centroid to which only weightless rows are near is empty, and gets a row that weighs something.
#[test]
fn rows_without_weight_hold_no_cluster() {
    let columns = vec![vec![0.0, 1.0, 2.0, 10.0, 11.0, 100.0, 101.0]];
    let table = Table::new(columns).with_weights(vec![1.0, 1.0, 1.0, 1.0, 1.0, 0.0, 0.0]);
    let (with_weights, without_rows) = fit_both(&table, &[vec![1.0], vec![100.0]]);
    assert!(with_weights.partial.weights.iter().all(|weight| *weight > 0), "{:?}", with_weights.partial);
    assert_eq!(with_weights.centroids, without_rows.centroids);
}

/// Weights may be counts, shares or money; what no sum could hold is refused in one line.
#[test]
fn weights_may_be_of_any_sensible_size() {
    for exponent in [-59, -12, 12, 59] {
        let size = 10f64.powi(exponent);
        let weights = noise(300, 41).iter().map(|value| (1.0 + value) * size).collect();
        let table = Table::new(blobs(300, 2, 3, 41)).with_weights(weights);
        let segmentation = segment(&table.rows(), &job(3), None, &mut ()).expect("the job can be done");
        let per_weight = segmentation.model.inertia / size;
        assert!(per_weight > 1.0 && per_weight < 1e3, "1e{exponent}: {per_weight}");
    }
    for weight in [1e-61, 1e61] {
        let table = Table::new(blobs(300, 2, 3, 41)).with_weights(vec![weight; 300]);
        let error = segment(&table.rows(), &job(3), None, &mut ()).expect_err("no sum could hold it");
        assert!(error.to_string().starts_with("source.weight: the largest weight is 1e"), "{error}");
    }
}
