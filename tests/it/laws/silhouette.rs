//! The silhouette is Rousseeuw's: exact to float32 distances, or a sample that knows its error.

use super::{centroids_at, fit_no_scale, fit_no_scale_or_refuse};
use crate::fixtures::{Table, blobs, job, noise};
use proptest::prelude::*;
use shoal_clustering::prepare::Fitted;
use shoal_clustering::silhouette::{Mode, SilhouetteScore, silhouette};
use shoal_clustering::{ClusteringError, Rows, Shard, segment};
use shoal_domain::Centroids;
use shoal_domain::job::Silhouette;

/// Prepared rows with their clusters.
struct Labelled {
    rows: Vec<Vec<f64>>,
    clusters: Vec<usize>,
    n_clusters: usize,
}

impl Labelled {
    fn of(shard: &dyn Shard, centroids: &Centroids) -> Self {
        let mut labelled = Self { rows: Vec::new(), clusters: Vec::new(), n_clusters: centroids.n_clusters() };
        for block in shard.block_ids() {
            let found = shard.query_rows(block, centroids).expect("the block is there");
            let rows = found.values.chunks_exact(centroids.n_features());
            labelled.rows.extend(rows.map(|row| row.iter().map(|value| f64::from(*value)).collect::<Vec<f64>>()));
            labelled.clusters.extend(found.clusters.iter().map(|cluster| *cluster as usize));
        }
        labelled
    }

    /// The silhouette of every row, by the definition.
    fn silhouettes(&self) -> Vec<f64> {
        (0..self.rows.len()).map(|row| self.silhouette(row)).collect()
    }

    fn silhouette(&self, row: usize) -> f64 {
        let mut sums = vec![0.0; self.n_clusters];
        let mut counts = vec![0.0; self.n_clusters];
        for (other, cluster) in self.clusters.iter().enumerate().filter(|(other, _)| *other != row) {
            let squares = self.rows[row].iter().zip(&self.rows[other]).map(|(a, b)| (a - b).powi(2));
            sums[*cluster] += squares.sum::<f64>().sqrt();
            counts[*cluster] += 1.0;
        }
        let own = self.clusters[row];
        if counts[own] == 0.0 {
            return 0.0;
        }
        let mean = |cluster: usize| sums[cluster] / counts[cluster];
        let others = (0..self.n_clusters).filter(|cluster| *cluster != own && counts[*cluster] > 0.0);
        let (within, nearest) = (mean(own), others.map(mean).fold(f64::INFINITY, f64::min));
        let larger = within.max(nearest);
        if larger > 0.0 { (nearest - within) / larger } else { 0.0 }
    }

    /// Mean over the rows of one cluster.
    fn mean_of(&self, silhouettes: &[f64], cluster: usize) -> Option<f64> {
        let of_cluster = silhouettes.iter().zip(&self.clusters).filter(|(_, own)| **own == cluster);
        let values: Vec<f64> = of_cluster.map(|(value, _)| *value).collect();
        (!values.is_empty()).then(|| mean(&values))
    }
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

fn score(
    shard: &dyn Shard,
    fitted: &Fitted,
    centroids: &Centroids,
    mode: Mode,
) -> Result<Option<SilhouetteScore>, ClusteringError> {
    let counts = shard.assign(std::slice::from_ref(centroids))?.remove(0).counts;
    silhouette(shard, centroids, &counts, fitted.preparation.distance_unit(), mode, &mut ())
}

/// Compares the exact score, over all rows and by cluster, with the definition; both are absent together.
fn check(name: &str, table: &Table, fitted: &Fitted, centroids: &Centroids) {
    let rows = table.rows();
    let shard = rows.prepare(&fitted.preparation).expect("the rows can be prepared");
    let found = score(shard.as_ref(), fitted, centroids, Mode::Exact).expect("the rows are there");
    let labelled = Labelled::of(shard.as_ref(), centroids);
    let is_used = |cluster: &usize| labelled.clusters.contains(cluster);
    let n_used = (0..centroids.n_clusters()).filter(is_used).count();
    let Some(found) = found else {
        assert!(n_used < 2, "{name}: {n_used} clusters have rows, and there is no silhouette");
        return;
    };
    assert!(n_used >= 2, "{name}: a silhouette of {n_used} clusters");
    let expected = labelled.silhouettes();
    let near = |actual: f64, expected: f64| (actual - expected).abs() <= 1e-6;
    assert!(near(found.mean, mean(&expected)), "{name}: {} instead of {}", found.mean, mean(&expected));
    assert_eq!(found.n_rows, expected.len() as u64, "{name}");
    assert_eq!(found.standard_error, None, "{name}: an exact score has no error");
    for (cluster, actual) in found.by_cluster.iter().enumerate() {
        let expected = labelled.mean_of(&expected, cluster);
        let agree = actual.is_some() == expected.is_some() && near(actual.unwrap_or(0.0), expected.unwrap_or(0.0));
        assert!(agree, "{name}, cluster {cluster}: {actual:?} instead of {expected:?}");
    }
}

fn check_points(name: &str, table: &Table, points: &[Vec<f64>]) {
    let fitted = fit_no_scale(&table.rows());
    check(name, table, &fitted, &centroids_at(&fitted, points));
}

/// The centres of some rows, as points.
fn rows_of(table: &Table, rows: &[usize]) -> Vec<Vec<f64>> {
    rows.iter().map(|row| table.columns.iter().map(|column| column[*row]).collect()).collect()
}

#[test]
fn exact_is_the_definition() {
    let table = Table::new(blobs(300, 3, 4, 11)).in_blocks_of(90);
    check_points("blobs", &table, &rows_of(&table, &[0, 50, 100, 150]));
    check_points("an empty cluster", &table, &[vec![0.0; 3], vec![1e4; 3], vec![9.0; 3]]);
    check_points("one cluster has all rows", &table, &[vec![5.0; 3], vec![1e4; 3]]);
    let line = Table::new(vec![vec![0.0, 1.0, 2.0, 10.0, 11.0, 50.0]]);
    check_points("a cluster of one row", &line, &[vec![1.0], vec![10.5], vec![50.0]]);
    check_points("only clusters of one row", &line, &rows_of(&line, &[0, 1, 2, 3, 4, 5]));
    let repeated = Table::new(vec![[1.0, 1.0, 1.0, 4.0, 4.0, 9.0].repeat(20)]).in_blocks_of(7);
    check_points("repeated rows", &repeated, &[vec![1.0], vec![4.0], vec![9.0]]);
    check_points("repeated rows, shared clusters", &repeated, &[vec![1.0], vec![6.0]]);
    let offset =
        Table::new(blobs(200, 2, 3, 12).into_iter().map(|column| column.iter().map(|x| x + 1e6).collect()).collect());
    check_points("an offset", &offset, &rows_of(&offset, &[1, 2, 3]));
    let wide = Table::new(blobs(300, 70, 3, 15)).in_blocks_of(64);
    check_points("many features", &wide, &rows_of(&wide, &[0, 1, 2]));
    // More rows than are compared at a time, most of them in one cluster.
    let long = Table::new(blobs(2600, 3, 2, 16));
    check_points("many rows", &long, &[vec![5.0; 3], vec![0.0, 9.0, 0.0]]);
    check_points("many rows, unequal clusters", &long, &[vec![4.0; 3], vec![60.0; 3], vec![5.0, 9.9, 9.9]]);
    // Far from everything, and so near each other that float32 dot products tell nothing.
    let far = |column: &Vec<f64>| {
        column.iter().enumerate().map(|(row, x)| if row % 3 == 0 { 1e4 + x * 1e-3 } else { *x }).collect()
    };
    let far = Table::new(blobs(900, 3, 2, 17).iter().map(far).collect());
    check_points("a tight group far away", &far, &rows_of(&far, &[1, 2, 3, 4]));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn exact_is_the_definition_whatever_the_data(
        columns in (4usize..60, 1usize..6).prop_flat_map(|(n_rows, n_features)| {
            let value = prop_oneof![(0i32..5).prop_map(f64::from), -3.0f64..3.0, Just(40.0)];
            prop::collection::vec(prop::collection::vec(value, n_rows), n_features)
        }),
        n_clusters in 1usize..5,
        block_rows in 1usize..30,
    ) {
        let table = Table::new(columns).in_blocks_of(block_rows);
        let points = rows_of(&table, &(0..n_clusters.min(table.n_rows())).collect::<Vec<_>>());
        check_points("generated", &table, &points);
    }
}

/// Numbers may be of any size without a scale, as long as they are accepted.
#[test]
fn exact_is_the_definition_at_extreme_magnitudes() {
    for exponent in (-40..=38).step_by(2) {
        let column =
            noise(60, 900).iter().map(|value| (value - 0.5).signum() * (1.0 + value) * 10f64.powi(exponent)).collect();
        let table = Table::new(vec![column, vec![0.25; 60]]).in_blocks_of(20);
        let Some(fitted) = fit_no_scale_or_refuse(&table.rows(), exponent) else {
            continue;
        };
        let size = 1.5 * 10f64.powi(exponent);
        check(
            &format!("1e{exponent}"),
            &table,
            &fitted,
            &centroids_at(&fitted, &[vec![size, 0.25], vec![-size, 0.25]]),
        );
    }
}

/// Compares the simplified score with its definition: rows against the centroids of clusters that have rows.
fn check_simplified(name: &str, table: &Table, points: &[Vec<f64>]) {
    let rows = table.rows();
    let fitted = fit_no_scale(&rows);
    let centroids = centroids_at(&fitted, points);
    let shard = rows.prepare(&fitted.preparation).expect("the rows can be prepared");
    let found = score(shard.as_ref(), &fitted, &centroids, Mode::Simplified).expect("the rows are there");
    let found = found.expect("two clusters have rows");
    let labelled = Labelled::of(shard.as_ref(), &centroids);
    let n_of = |cluster: usize| labelled.clusters.iter().filter(|own| **own == cluster).count();
    let silhouette = |row: usize| {
        let distance = |cluster: usize| {
            let squares =
                labelled.rows[row].iter().zip(centroids.row(cluster)).map(|(a, b)| (a - f64::from(*b)).powi(2));
            squares.sum::<f64>().sqrt()
        };
        let own = labelled.clusters[row];
        let others = (0..centroids.n_clusters()).filter(|cluster| *cluster != own && n_of(*cluster) > 0);
        let (within, nearest) = (distance(own), others.map(distance).fold(f64::INFINITY, f64::min));
        let larger = within.max(nearest);
        if n_of(own) > 1 && larger > 0.0 { (nearest - within) / larger } else { 0.0 }
    };
    let expected: Vec<f64> = (0..labelled.rows.len()).map(silhouette).collect();
    assert!((found.mean - mean(&expected)).abs() < 1e-12, "{name}: {} instead of {}", found.mean, mean(&expected));
    assert_eq!((found.n_rows, found.standard_error), (expected.len() as u64, None), "{name}");
    for (cluster, actual) in found.by_cluster.iter().enumerate() {
        let expected = labelled.mean_of(&expected, cluster);
        let agree = actual.is_some() == expected.is_some();
        let near = (actual.unwrap_or(0.0) - expected.unwrap_or(0.0)).abs() < 1e-12;
        assert!(agree && near, "{name}, cluster {cluster}: {actual:?} instead of {expected:?}");
    }
}

#[test]
fn simplified_takes_centroids_for_rows() {
    let table = Table::new(blobs(700, 3, 4, 18)).in_blocks_of(90);
    check_simplified("blobs", &table, &rows_of(&table, &[0, 50, 100, 150]));
    check_simplified("an empty cluster in between", &table, &[vec![0.0; 3], vec![1e4; 3], vec![9.0; 3]]);
    let line = Table::new(vec![vec![0.0, 1.0, 2.0, 10.0, 11.0, 50.0]]);
    check_simplified("a cluster of one row", &line, &[vec![1.0], vec![10.5], vec![49.0]]);
    let repeated = Table::new(vec![[1.0, 1.0, 4.0].repeat(20)]);
    check_simplified("rows on their centroids", &repeated, &[vec![1.0], vec![4.0]]);
}

/// The score of a sample is within 4 standard errors of the exact one: by chance alone it fails once in 16,000 draws.
/// Gives back the silhouette of every row.
fn check_sampled(name: &str, table: &Table) -> Vec<f64> {
    let rows = table.rows();
    let fitted = fit_no_scale(&rows);
    let shard = rows.prepare(&fitted.preparation).expect("the rows can be prepared");
    let centroids = centroids_at(&fitted, &rows_of(table, &[0, 1, 2]));
    let silhouettes = Labelled::of(shard.as_ref(), &centroids).silhouettes();
    let exact = mean(&silhouettes);
    let variance = mean(&silhouettes.iter().map(|value| (value - exact).powi(2)).collect::<Vec<_>>());
    let (n, n_sampled) = (table.n_rows() as f64, 200.0);
    let expected_error = (variance / n_sampled * (1.0 - n_sampled / n)).sqrt();
    for seed in 0..8 {
        let found = score(shard.as_ref(), &fitted, &centroids, Mode::Sampled { n_rows: 200, seed });
        let found = found.expect("the rows are there").expect("three clusters have rows");
        assert_eq!(found.n_rows, 200, "{name}");
        let error = found.standard_error.expect("a sample has an error");
        assert!(
            (error / expected_error - 1.0).abs() < 0.3,
            "{name}: a standard error of {error}, not {expected_error}"
        );
        let off = (found.mean - exact).abs();
        assert!(off <= 4.0 * error, "{name}, seed {seed}: {} ± {error}, but the exact score is {exact}", found.mean);
    }
    silhouettes
}

#[test]
fn a_sample_knows_its_error() {
    let table = Table::new(blobs(1200, 2, 3, 13)).in_blocks_of(500);
    let silhouettes = check_sampled("all rows alike", &table);
    // The score is a mean over rows, whatever they weigh: heavy rows may not be drawn more often. Here those that lie
    // well are the heavy ones.
    let typical = mean(&silhouettes);
    let weights = silhouettes.iter().map(|value| if *value > typical { 50.0 } else { 1.0 }).collect();
    check_sampled("weighted rows", &table.with_weights(weights));
}

#[test]
fn the_model_says_how_its_silhouette_was_computed() {
    let table = Table::new(blobs(400, 2, 3, 14));
    let scores = |silhouette: Silhouette, silhouette_sample: usize| {
        let mut spec = job(3);
        spec.validate.silhouette = silhouette;
        spec.validate.silhouette_sample = silhouette_sample;
        segment(&table.rows(), &spec, None, &mut ()).expect("the job can be done").model.scores
    };
    let exact = scores(Silhouette::Exact, 100);
    assert_eq!((exact.silhouette_mode, exact.silhouette_rows), (Some(Silhouette::Exact), Some(400)));
    assert_eq!(exact.silhouette_standard_error, None);
    let sampled = scores(Silhouette::Sampled, 100);
    assert_eq!((sampled.silhouette_mode, sampled.silhouette_rows), (Some(Silhouette::Sampled), Some(100)));
    assert!(sampled.silhouette_standard_error.is_some_and(|error| error > 0.0));
    // A sample of all rows is no sample.
    assert_eq!(scores(Silhouette::Sampled, 400), exact);
    let simplified = scores(Silhouette::Simplified, 100);
    assert_eq!((simplified.silhouette_mode, simplified.silhouette_rows), (Some(Silhouette::Simplified), Some(400)));
    assert!(simplified.silhouette > exact.silhouette, "distances to centroids are shorter than those to rows");
    let none = scores(Silhouette::None, 100);
    assert_eq!((none.silhouette, none.silhouette_mode, none.silhouette_rows), (None, None, None));
}
