//! What a model says about its segments is true of the rows with their labels.

use crate::fixtures::{Table, blobs, job, noise};
use shoal_clustering::segment;
use shoal_domain::job::{JobSpec, Missing, PrepareSpec, Scale};

/// Rows that are NaN in no column, and the label of each as the model's centroids give it.
struct Checked {
    table: Table,
    spec: JobSpec,
}

impl Checked {
    fn check(&self, name: &str) {
        let rows = self.table.rows();
        let segmentation = segment(&rows, &self.spec, None, &mut ()).expect("the job can be done");
        let model = &segmentation.model;
        let (mut labels, mut inertia, mut kept) = (Vec::new(), 0.0, Vec::new());
        let labelled = rows.labels(&model.preparation, &segmentation.centroids).expect("the rows can be labelled");
        for (found, raw) in labelled.into_iter().zip(self.table.blocks()) {
            let rows: Vec<usize> = match &found.kept {
                Some(kept) => kept.iter().map(|row| *row as usize).collect(),
                None => (0..raw.n_rows()).collect(),
            };
            for (row, distance) in rows.iter().zip(&found.distances) {
                inertia += distance * distance * raw.weights().map_or(1.0, |weights| weights[*row]);
            }
            kept.extend(rows.iter().map(|row| raw.id().0 as usize * self.table.block_rows + row));
            labels.extend(found.labels);
        }
        assert_eq!(
            (model.n_samples, model.n_dropped),
            (kept.len() as u64, (self.table.n_rows() - kept.len()) as u64),
            "{name}"
        );
        assert!((model.inertia - inertia).abs() <= 1e-9 * inertia, "{name}: inertia {} of {inertia}", model.inertia);
        for segment in &model.segments {
            let members: Vec<usize> =
                kept.iter().zip(&labels).filter(|(_, label)| **label == segment.label).map(|(row, _)| *row).collect();
            assert_eq!(segment.size, members.len() as u64, "{name}");
            assert!((segment.share - members.len() as f64 / kept.len() as f64).abs() < 1e-12, "{name}");
            for (column, actual) in self.table.columns.iter().zip(&segment.mean) {
                let values: Vec<f64> = members.iter().map(|row| column[*row]).filter(|value| !value.is_nan()).collect();
                let mean = values.iter().sum::<f64>() / values.len() as f64;
                assert!((mean - actual).abs() <= 1e-9 * mean.abs().max(1.0), "{name}: a mean of {actual}, not {mean}");
            }
        }
        let shares: f64 = model.segments.iter().map(|segment| segment.share).sum();
        assert!((shares - 1.0).abs() < 1e-12, "{name}");
    }
}

/// Every eleventh value of the second column is missing.
fn with_gaps(mut columns: Vec<Vec<f64>>) -> Vec<Vec<f64>> {
    columns[1].iter_mut().step_by(11).for_each(|value| *value = f64::NAN);
    columns
}

#[test]
fn segments_are_those_of_their_rows() {
    let columns = blobs(500, 3, 4, 41);
    let spec = |missing, scale| JobSpec { prepare: PrepareSpec { missing, scale }, ..job(4) };
    let table = |columns: &Vec<Vec<f64>>| Table::new(columns.clone()).in_blocks_of(120);
    let check = |name: &str, table: Table, spec: JobSpec| Checked { table, spec }.check(name);
    check("plain", table(&columns), spec(Missing::Error, Scale::Zscore));
    let weights: Vec<f64> = noise(500, 410).iter().map(|value| value * 3.0).collect();
    check("weighted", table(&columns).with_weights(weights.clone()), spec(Missing::Error, Scale::Minmax));
    let gaps = with_gaps(columns);
    check("dropped", table(&gaps), spec(Missing::Drop, Scale::Robust));
    check("dropped and weighted", table(&gaps).with_weights(weights), spec(Missing::Drop, Scale::Zscore));
    check("filled", table(&gaps), spec(Missing::Median, Scale::None));
}

/// In units that are only shifted and stretched, the centroid of a cluster at rest is the mean of its rows.
#[test]
fn centroids_in_the_customers_units_are_means() {
    let table = Table::new(blobs(500, 3, 4, 42)).in_blocks_of(120);
    for scale in [Scale::Zscore, Scale::Minmax, Scale::Robust, Scale::None] {
        let mut spec = job(4);
        spec.prepare.scale = scale;
        let model = segment(&table.rows(), &spec, None, &mut ()).expect("the job can be done").model;
        assert!(model.converged);
        for segment in &model.segments {
            for (centroid, mean) in segment.centroid.iter().zip(&segment.mean) {
                assert!((centroid - mean).abs() < 1e-5, "{scale:?}: {centroid} and {mean}");
            }
            let z: Vec<f64> = segment.apart.iter().map(|apart| apart.z.abs()).collect();
            assert!(z.len() == 3 && z.is_sorted_by(|a, b| a >= b), "{scale:?}: the most telling feature comes first");
        }
    }
}
