//! A cluster that loses its rows gets new ones, as long as there are distinct rows to give.

use super::{centroids_at, fit_from, fit_no_scale};
use crate::fixtures::{Table, blobs, job};
use proptest::prelude::*;
use shoal_clustering::kmeans::Fit;
use shoal_clustering::{Rows, segment};
use shoal_domain::job::Init;
use shoal_domain::model::Model;

/// Starts from `points` and gives back what Lloyd's algorithm makes of them.
fn fit_points(table: &Table, points: &[Vec<f64>]) -> Fit {
    let rows = table.rows();
    let fitted = fit_no_scale(&rows);
    let shard = rows.prepare(&fitted.preparation).expect("the rows can be prepared");
    fit_from(shard.as_ref(), &fitted, centroids_at(&fitted, points)).expect("the rows are there")
}

fn check_none_empty(name: &str, table: &Table, points: &[Vec<f64>]) {
    let found = fit_points(table, points);
    assert!(found.converged, "{name}: still moving after {} passes", found.n_iter);
    assert!(found.partial.counts.iter().all(|count| *count > 0), "{name}: sizes {:?}", found.partial.counts);
    assert_eq!(found.partial.counts.iter().sum::<u64>(), table.n_rows() as u64, "{name}");
}

#[test]
fn far_duplicates_find_rows() {
    let table = Table::new(blobs(500, 2, 4, 21)).in_blocks_of(128);
    for n_clusters in [2, 3, 5, 20] {
        check_none_empty("all in one far place", &table, &vec![vec![1e5, 1e5]; n_clusters]);
        check_none_empty("all in one near place", &table, &vec![vec![5.0, 5.0]; n_clusters]);
    }
    let mut one_far = vec![vec![-1e6, 1e6]; 3];
    one_far.push(vec![5.0, 5.0]);
    check_none_empty("three far, one near", &table, &one_far);
}

#[test]
fn as_many_clusters_as_distinct_rows() {
    let table = Table::new(vec![[1.0, 2.0, 4.0, 8.0].repeat(30)]).in_blocks_of(50);
    let found = fit_points(&table, &vec![vec![100.0]; 4]);
    assert_eq!(found.partial.counts, [30; 4]);
    assert_eq!(found.partial.inertia.value(), 0.0);
}

fn check_too_few_distinct(init: Init) -> Model {
    let table = Table::new(vec![[1.0, 2.0, 4.0].repeat(40), [0.0, 0.0, 5.0].repeat(40)]).in_blocks_of(50);
    let mut spec = job(5);
    spec.kmeans.init = init;
    let model = segment(&table.rows(), &spec, None, &mut ()).expect("the job can be done").model;
    let sizes: Vec<u64> = model.segments.iter().map(|segment| segment.size).collect();
    assert_eq!(sizes.iter().filter(|size| **size == 40).count(), 3, "{init:?}: sizes {sizes:?}");
    assert_eq!(sizes.iter().filter(|size| **size == 0).count(), 2, "{init:?}: sizes {sizes:?}");
    assert!(model.converged && model.inertia == 0.0, "{init:?}");
    assert!(
        model.warnings.iter().any(|warning| warning.contains("of 5 clusters, 2 have no row")),
        "{:?}",
        model.warnings
    );
    assert_eq!(model.scores.silhouette, Some(1.0), "{init:?}");
    model
}

#[test]
fn fewer_distinct_rows_than_clusters_is_a_warning() {
    for init in [Init::PlusPlus, Init::Parallel, Init::Random] {
        let model = check_too_few_distinct(init);
        let text = serde_json::to_string(&model).expect("a model is a JSON document");
        assert!(!text.contains("null,null"), "{init:?}: an empty cluster has centroids: {text}");
    }
}

#[test]
fn one_distinct_row_has_no_scores() {
    let table = Table::new(vec![vec![3.0; 50]]);
    let model = segment(&table.rows(), &job(2), None, &mut ()).expect("the job can be done").model;
    assert_eq!((model.inertia, model.scores.silhouette, model.scores.davies_bouldin), (0.0, None, None));
    assert!(model.warnings.iter().any(|warning| warning.contains("scores")), "{:?}", model.warnings);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_cluster_stays_empty_without_need(
        values in prop::collection::vec(0i32..12, 8..60),
        n_clusters in 2usize..8,
        start in -30.0f64..30.0,
    ) {
        let table = Table::new(vec![values.iter().map(|value| f64::from(*value)).collect()]).in_blocks_of(16);
        let mut distinct = values.clone();
        distinct.sort();
        distinct.dedup();
        let n_clusters = n_clusters.min(distinct.len());
        check_none_empty("generated", &table, &vec![vec![start]; n_clusters]);
    }
}
