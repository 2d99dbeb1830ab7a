//! Rows that are looked for are found wherever they lie: the farthest, those that had better be in another cluster, and
//! those that chance picks. Where rows are equal, the one that comes first in the data set comes first.

use super::{centroids_at, fit_no_scale};
use crate::fixtures::{Table, blobs, device, noise, shared};
use shoal_clustering::cpu::squared_distance;
use shoal_clustering::prepare::prepare_block;
use shoal_clustering::{Draw, PickedRow, Rows, Shard};
use shoal_domain::{Centroids, Preparation};
use shoal_stats::RandomStream;

/// A prepared row.
struct Row {
    number: u64,
    values: Vec<f32>,
    label: usize,
    square: f64,
    weight: u64,
}

/// A table, points of it that serve as centroids, and its rows as a plain list.
struct Case {
    name: &'static str,
    table: Table,
    preparation: Preparation,
    centroids: Centroids,
    rows: Vec<Row>,
}

impl Case {
    fn new(name: &'static str, table: Table, points: &[Vec<f64>]) -> Self {
        let table = table.in_blocks_of(40);
        let fitted = fit_no_scale(&table.rows());
        let centroids = centroids_at(&fitted, points);
        let rows = rows(&table, &fitted.preparation, &centroids);
        Self { name, table, preparation: fitted.preparation, centroids, rows }
    }

    /// Calls `check` with the rows on one shard, and on three that answer in reverse order.
    fn on_shards(&self, check: impl Fn(&str, &dyn Shard)) {
        for (way, devices) in [("one", vec![device(2)]), ("three", vec![device(1), device(2), device(1)])] {
            let held = self.table.rows_on(devices.into_iter().map(shared).collect());
            let shard = held.prepare(&self.preparation).expect("the rows can be prepared");
            check(&format!("{}, {way}", self.name), shard.as_ref());
        }
    }

    /// The first `n` rows by ascending order, then by number; an infinite order is none.
    fn first(&self, order: impl Fn(&Row) -> f64, n: usize) -> Vec<(f64, &Row)> {
        let mut found: Vec<(f64, &Row)> = self.rows.iter().map(|row| (order(row), row)).collect();
        found.retain(|(order, _)| order.is_finite());
        found.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.number.cmp(&b.1.number)));
        found.truncate(n);
        found
    }
}

fn rows(table: &Table, preparation: &Preparation, centroids: &Centroids) -> Vec<Row> {
    let mut rows = Vec::new();
    for raw in table.blocks() {
        let block = prepare_block(preparation, &raw).expect("the block can be prepared");
        for idx in 0..block.n_rows() {
            let values = block.row(idx).to_vec();
            let squares: Vec<f64> = centroids.rows().map(|centroid| squared_distance(&values, centroid)).collect();
            let nearer = |a: &usize, b: &usize| squares[*a].total_cmp(&squares[*b]);
            let label = (0..squares.len()).min_by(nearer).expect("there is a centroid");
            let (number, weight) = (block.data_set_row(idx), block.weight(idx));
            rows.push(Row { number, values, label, square: squares[label], weight });
        }
    }
    rows
}

fn assert_picked(name: &str, picked: &[PickedRow], expected: &[(f64, &Row)]) {
    let numbers: Vec<u64> = picked.iter().map(|row| row.row).collect();
    let expected_numbers: Vec<u64> = expected.iter().map(|(_, row)| row.number).collect();
    assert_eq!(numbers, expected_numbers, "{name}");
    for (picked, (order, row)) in picked.iter().zip(expected) {
        assert_eq!((&picked.values, picked.weight), (&row.values, row.weight), "{name}, row {}", row.number);
        assert!((picked.order - order).abs() <= 1e-9 * order.abs(), "{name}: {} instead of {order}", picked.order);
    }
}

/// Points of a small lattice: many rows are equal, and many more are equally far from everything.
fn lattice(n_rows: usize) -> Table {
    let column = |column: u64| noise(n_rows, 700 + column).iter().map(|value| (value * 5.0).floor() - 2.0).collect();
    Table::new((0..2).map(column).collect())
}

fn cases() -> Vec<Case> {
    let corners = [vec![-1.0, -1.0], vec![1.0, -1.0], vec![0.0, 1.0]];
    let weights = noise(300, 710).iter().map(|value| (value * 4.0).floor()).collect();
    let spread = blobs(300, 2, 3, 71);
    let three: Vec<Vec<f64>> = (0..3).map(|row| spread.iter().map(|column| column[row]).collect()).collect();
    vec![
        Case::new("a lattice", lattice(300), &corners),
        Case::new("a weighted lattice", lattice(300).with_weights(weights), &corners),
        Case::new("blobs", Table::new(spread), &three),
        Case::new("all the same", Table::new(vec![vec![1.0; 100], vec![2.0; 100]]), &[vec![0.0, 0.0]]),
    ]
}

#[test]
fn the_farthest_rows() {
    // A row without weight could not hold a cluster, and one that lies on its centroid need not.
    let order = |row: &Row| if row.weight > 0 && row.square > 0.0 { -row.square } else { f64::INFINITY };
    for case in cases() {
        case.on_shards(|name, shard| {
            for n in [1, 2, 7, 299, 1000] {
                let picked = shard.farthest(&case.centroids, n).expect("the rows are there").into_rows();
                assert_picked(&format!("{name}, {n} rows"), &picked, &case.first(order, n));
            }
        });
    }
}

/// What moving a row to another cluster gains, and where it gains most (Hartigan 1975).
fn best_move(row: &Row, centroids: &Centroids, weights: &[f64]) -> (f64, usize) {
    let (weight, own) = (row.weight as f64, weights[row.label]);
    let mut best = (0.0, row.label);
    if weight == 0.0 || own <= weight {
        return best;
    }
    let leaving = own * weight / (own - weight) * row.square;
    for cluster in (0..weights.len()).filter(|cluster| *cluster != row.label && weights[*cluster] > 0.0) {
        let to = weights[cluster];
        let gain = leaving - to * weight / (to + weight) * squared_distance(&row.values, centroids.row(cluster));
        if gain > best.0 {
            best = (gain, cluster);
        }
    }
    best
}

/// The engine looks closer only at rows that may gain; here every row is looked at.
#[test]
fn rows_that_had_better_be_elsewhere() {
    let mut n_gaining_of_all = 0;
    for case in cases() {
        let weight_unit = case.preparation.weight_exponent.map_or(1.0, |exponent| 2f64.powi(exponent));
        let weight_of =
            |cluster: usize| case.rows.iter().filter(|row| row.label == cluster).map(|row| row.weight).sum();
        let weights: Vec<u64> = (0..case.centroids.n_clusters()).map(weight_of).collect();
        let as_floats: Vec<f64> = weights.iter().map(|weight| *weight as f64).collect();
        let gain = |row: &Row| best_move(row, &case.centroids, &as_floats).0 * weight_unit;
        // What rounding alone gains may be left out.
        let order = |row: &Row| if gain(row) > 1e-9 { -gain(row) } else { f64::INFINITY };
        let n_gaining = case.first(order, case.rows.len()).len();
        let weights: Vec<i128> = weights.into_iter().map(i128::from).collect();
        case.on_shards(|name, shard| {
            for n in [1, 5, n_gaining] {
                let expected = case.first(order, n.min(n_gaining));
                let picked = shard.movers(&case.centroids, &weights, n.min(n_gaining)).expect("the rows are there");
                let picked = picked.into_rows();
                assert_picked(&format!("{name}, {n} rows"), &picked, &expected);
                for (picked, (_, row)) in picked.iter().zip(&expected) {
                    let target = best_move(row, &case.centroids, &as_floats).1;
                    assert_eq!((picked.cluster as usize, picked.target as usize), (row.label, target), "{name}");
                }
            }
        });
        n_gaining_of_all += n_gaining;
    }
    assert!(n_gaining_of_all > 10, "only {n_gaining_of_all} rows had better be elsewhere: the cases test nothing");
}

#[test]
fn rows_that_chance_picks() {
    let stream = RandomStream { seed: 3, stream: 5 };
    let draw = |far_from| Draw { n: 12, far_from, ignore_weights: false, stream };
    for case in cases() {
        let draws = [draw(None), draw(Some(case.centroids.clone()))];
        let chances: [fn(&Row) -> f64; 2] = [|row| row.weight as f64, |row| row.weight as f64 * row.square];
        case.on_shards(|name, shard| {
            let picked = shard.draw(&draws).expect("the rows are there");
            for (picked, chance) in picked.into_iter().zip(chances) {
                let expected = case.first(|row| stream.arrival(row.number, chance(row)), 12);
                assert_picked(name, &picked.into_rows(), &expected);
            }
        });
    }
}
