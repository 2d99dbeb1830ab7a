//! How raw columns become prepared ones: against numbers worked out by hand, and what is refused.

use crate::fixtures::{Table, job};
use shoal_clustering::prepare::{Fitted, fit_preparation, prepare_block};
use shoal_clustering::{ClusteringError, segment};
use shoal_domain::job::{Missing, PrepareSpec, Scale};
use shoal_domain::{BLOCK_ROWS, Block};

const NAN: f64 = f64::NAN;

fn fit(table: &Table, missing: Missing, scale: Scale) -> Result<Fitted, ClusteringError> {
    fit_preparation(&table.rows(), &PrepareSpec { missing, scale })
}

/// The prepared block of a table that has only one.
fn prepared(table: &Table, fitted: &Fitted) -> Block {
    prepare_block(&fitted.preparation, &table.blocks()[0]).expect("the block can be prepared")
}

fn check_column(scale: Scale, column: &[f64], expected: &[f64]) {
    let table = Table::new(vec![column.to_vec()]);
    let fitted = fit(&table, Missing::Error, scale).expect("the column can be scaled");
    let block = prepared(&table, &fitted);
    for (actual, expected) in block.values().iter().zip(expected) {
        assert!((f64::from(*actual) - expected).abs() < 1e-6, "{scale:?} of {column:?}: {:?}", block.values());
    }
}

#[test]
fn scales_are_what_they_are_called() {
    let root = 1.5f64.sqrt();
    check_column(Scale::Zscore, &[2.0, 4.0, 6.0], &[-root, 0.0, root]);
    check_column(Scale::Minmax, &[2.0, 3.0, 6.0], &[0.0, 0.25, 1.0]);
    check_column(Scale::None, &[1.0, 2.0, 6.0], &[-2.0, -1.0, 3.0]);
    // Quartiles 2, 3 and 4 by linear interpolation.
    check_column(Scale::Robust, &[1.0, 2.0, 3.0, 4.0, 100.0], &[-1.0, -0.5, 0.0, 0.5, 48.5]);
    // Logarithms of 1, 2 and 4 are 0, 1 and 2 times ln 2.
    check_column(Scale::Log1pZscore, &[0.0, 1.0, 3.0], &[-root, 0.0, root]);
}

#[test]
fn a_column_without_spread_is_zero() {
    for scale in [Scale::Zscore, Scale::Minmax, Scale::None, Scale::Robust, Scale::Log1pZscore] {
        check_column(scale, &[0.1; 7], &[0.0; 7]);
        check_column(scale, &[12_345.678; 7], &[0.0; 7]);
    }
}

#[test]
fn drop_leaves_rows_out() {
    let table = Table::new(vec![vec![1.0, NAN, 3.0, 5.0], vec![2.0, 2.0, NAN, 6.0]]);
    let fitted = fit(&table, Missing::Drop, Scale::None).expect("two rows are left");
    assert_eq!((fitted.n_samples, fitted.n_dropped), (2, 2));
    let block = prepared(&table, &fitted);
    assert_eq!(block.kept(), Some(&[0, 3][..]));
    // The means of the rows that are left are 3 and 4.
    assert_eq!(block.values(), [-2.0, -2.0, 2.0, 2.0]);
    assert_eq!((block.data_set_row(0), block.data_set_row(1)), (0, 3));
}

#[test]
fn mean_and_median_fill() {
    let table = Table::new(vec![vec![1.0, NAN, 2.0, 9.0, NAN]]);
    // The mean of 1, 2 and 9 is 4, and stays the mean of the filled column.
    let fitted = fit(&table, Missing::Mean, Scale::None).expect("values can be filled");
    assert_eq!(fitted.preparation.columns[0].fill, Some(4.0));
    assert_eq!(prepared(&table, &fitted).values(), [-3.0, 0.0, -2.0, 5.0, 0.0]);
    assert_eq!((fitted.n_samples, fitted.n_dropped), (5, 0));
    // The median is 2; the mean of the filled column is 16 / 5.
    let fitted = fit(&table, Missing::Median, Scale::None).expect("values can be filled");
    assert_eq!(fitted.preparation.columns[0].fill, Some(2.0));
    let expected = [1.0 - 3.2, 2.0 - 3.2, 2.0 - 3.2, 9.0 - 3.2, 2.0 - 3.2];
    for (actual, expected) in prepared(&table, &fitted).values().iter().zip(expected) {
        assert!((f64::from(*actual) - expected).abs() < 1e-6);
    }
}

fn check_refused(table: &Table, missing: Missing, scale: Scale, expected: &str) {
    let error = fit(table, missing, scale).expect_err(expected).to_string();
    assert!(error.contains(expected), "`{error}` should say `{expected}`");
}

#[test]
fn what_cannot_be_prepared_is_named() {
    let gap = Table::new(vec![vec![1.0; 30], [vec![2.0; 16], vec![NAN], vec![3.0; 13]].concat()]).in_blocks_of(10);
    // Blocks of 10 rows are numbered as if they were full ones: this is row 7 of block 1.
    let place = format!("row {}, column `f1`: the value is missing", BLOCK_ROWS + 7);
    check_refused(&gap, Missing::Error, Scale::Zscore, &place);
    let minus_one = Table::new(vec![vec![1.0, 2.0, 3.0], vec![0.0, -1.0, -2.0]]);
    check_refused(&minus_one, Missing::Error, Scale::Log1pZscore, "row 2, column `f1`: -1 has no log1p");
    let nothing = Table::new(vec![vec![1.0, 2.0], vec![NAN, NAN]]);
    check_refused(&nothing, Missing::Mean, Scale::Zscore, "column `f1`: every value is missing");
    check_refused(&nothing, Missing::Median, Scale::Zscore, "column `f1`: every value is missing");
    let no_row = Table::new(vec![vec![1.0, NAN], vec![NAN, 1.0]]);
    check_refused(&no_row, Missing::Drop, Scale::Zscore, "no rows are left: all 2 have a missing value");
    let weightless = Table::new(vec![vec![1.0, 2.0]]).with_weights(vec![0.0, 0.0]);
    check_refused(&weightless, Missing::Error, Scale::Zscore, "the sample weights of all rows are 0");
    let large = Table::new(vec![vec![-1e39, 1e39]]);
    check_refused(&large, Missing::Error, Scale::None, "column `f0`: its values are too large");
}

/// A gap that is filled or dropped does not hide a value without a logarithm, whichever comes first.
#[test]
fn a_gap_does_not_hide_a_value_without_a_logarithm() {
    for missing in [Missing::Drop, Missing::Mean, Missing::Median] {
        let other_block = Table::new(vec![vec![NAN, 2.0, 3.0, -1.0]]).in_blocks_of(2);
        let place = format!("row {}, column `f0`: -1 has no log1p", BLOCK_ROWS + 2);
        check_refused(&other_block, missing, Scale::Log1pZscore, &place);
        let same_block = Table::new(vec![vec![NAN, 2.0, 3.0, -1.0]]);
        check_refused(&same_block, missing, Scale::Log1pZscore, "row 4, column `f0`: -1 has no log1p");
        let gap_last = Table::new(vec![vec![-1.5, 2.0, 3.0, NAN]]);
        check_refused(&gap_last, missing, Scale::Log1pZscore, "row 1, column `f0`: -1.5 has no log1p");
    }
    // A row that is dropped may hold anything.
    for columns in [[[NAN, 2.0, 3.0], [-1.0, 2.0, 3.0]], [[-1.0, 2.0, 3.0], [NAN, 2.0, 3.0]]] {
        let dropped = Table::new(columns.iter().map(|column| column.to_vec()).collect());
        let fitted = fit(&dropped, Missing::Drop, Scale::Log1pZscore).expect("the row with -1 is left out");
        assert_eq!((fitted.n_samples, fitted.n_dropped), (2, 1));
    }
}

#[test]
fn weights_of_dropped_rows_do_not_count() {
    let table = Table::new(vec![vec![NAN, 2.0, 3.0]]).with_weights(vec![5.0, 0.0, 0.0]);
    check_refused(&table, Missing::Drop, Scale::Zscore, "the sample weights of all rows are 0");
    // Weights lie on a grid below the largest one: one that is gone may not make it coarse.
    let table = Table::new(vec![vec![NAN, 2.0, 3.0]]).with_weights(vec![1e12, 1.0, 2.0]);
    let fitted = fit(&table, Missing::Drop, Scale::Zscore).expect("two rows are left");
    let weights = prepared(&table, &fitted).weights().expect("the table has weights").to_vec();
    assert!(weights[0] > 0 && weights[1] == 2 * weights[0], "{weights:?}");
}

#[test]
fn more_clusters_than_rows_are_refused() {
    let table = Table::new(vec![vec![1.0, 2.0, NAN]]);
    let mut spec = job(3);
    spec.prepare.missing = Missing::Drop;
    let error = segment(&table.rows(), &spec, None, &mut ()).expect_err("two rows are left for three clusters");
    assert_eq!(error.to_string(), "kmeans.n_clusters is 3, but the data set has only 2 rows");
    assert!(segment(&Table::new(vec![vec![1.0, 2.0, 3.0]]).rows(), &job(3), None, &mut ()).is_ok());
}

/// Whatever finite numbers come in, a job ends with a model of finite numbers or with an error, never with a panic.
fn check_extreme(column: &[f64], scale: Scale) {
    let other: Vec<f64> = (0..column.len()).map(|row| row as f64).collect();
    let mut spec = job(2);
    spec.prepare.scale = scale;
    if let Ok(segmentation) = segment(&Table::new(vec![column.to_vec(), other]).rows(), &spec, None, &mut ()) {
        let model = segmentation.model;
        let name = format!("{scale:?} of {column:?}");
        assert!(model.inertia.is_finite() && model.scores.silhouette.is_some_and(f64::is_finite), "{name}: {model:?}");
        let numbers = model.segments.iter().flat_map(|segment| segment.centroid.iter().chain(&segment.mean));
        assert!(numbers.copied().all(f64::is_finite), "{name}: {:?}", model.segments);
        let prepared = &model.preparation.columns[0];
        let is_lost = column.iter().all(|value| prepared.apply(*value) == prepared.apply(column[0]));
        assert!(!is_lost, "{name}: different values have become the same");
    }
}

#[test]
fn extreme_numbers_do_not_panic() {
    for scale in [Scale::Zscore, Scale::Minmax, Scale::None, Scale::Robust] {
        check_extreme(&[1.7e308, 1.7e308, -1.7e308, 1.0], scale);
        check_extreme(&[1e200, 2e200, -3e200, 1.0], scale);
        check_extreme(&[1e30, 2e30, -3e30, 1.0], scale);
        check_extreme(&[1e-30, 2e-30, -3e-30, 0.0], scale);
        check_extreme(&[1e-60, 2e-60, -3e-60, 0.0], scale);
        check_extreme(&[1e-200, 2e-200, -3e-200, 0.0], scale);
        check_extreme(&[1e-312, 2e-312, -3e-312, 0.0], scale);
        check_extreme(&[5e-324, 1e-323, -5e-324, 0.0], scale);
    }
}

/// What a very large value makes of the others is told, or refused.
#[test]
fn values_that_would_be_lost_beside_larger_ones_are_refused() {
    let column = |largest: f64| (0..100).map(f64::from).chain([largest]).collect::<Vec<_>>();
    let robust = |largest: f64| fit(&Table::new(vec![column(largest)]), Missing::Error, Scale::Robust);
    assert!(robust(1e6).expect("it can be scaled").notes.is_empty());
    let notes = robust(1e11).expect("it can be scaled").notes;
    assert!(notes.len() == 1 && notes[0].contains("`f0`") && notes[0].contains("quartiles"), "{notes:?}");
    let error = robust(1e14).expect_err("the others would be lost").to_string();
    assert!(error.contains("column `f0`") && error.contains("2e12 times"), "{error}");
    for scale in [Scale::Zscore, Scale::Minmax, Scale::None] {
        let notes = |largest: f64| {
            fit(&Table::new(vec![column(largest)]), Missing::Error, scale).expect("it can be scaled").notes
        };
        assert!(notes(200.0).is_empty(), "the largest is a fifth of the variance");
        let notes = notes(1000.0);
        assert!(notes.len() == 1 && notes[0].contains("one value makes up") && notes[0].contains("`f0`"), "{notes:?}");
    }

    let weighted = |largest: f64| {
        let weights = (0..100).map(|row| f64::from(row % 3)).chain([largest]).collect();
        fit(&Table::new(vec![column(100.0)]).with_weights(weights), Missing::Error, Scale::Zscore)
    };
    assert!(weighted(1e5).expect("the weights are kept").notes.is_empty());
    let notes = weighted(5e6).expect("the weights are kept").notes;
    assert!(notes.len() == 1 && notes[0].contains("2e-7 of the largest"), "{notes:?}");
    let error = weighted(1e10).expect_err("they would be lost").to_string();
    assert!(error.contains("source.weight") && error.contains("1e10") && error.contains("1e0"), "{error}");
}

#[test]
fn filled_values_are_counted() {
    let table = Table::new(vec![vec![1.0, NAN, 3.0, NAN], vec![2.0, 2.0, 5.0, 6.0]]);
    let notes = fit(&table, Missing::Median, Scale::Zscore).expect("they can be filled").notes;
    assert_eq!(notes, ["2 missing values of column `f0` were filled with its median"]);
}
