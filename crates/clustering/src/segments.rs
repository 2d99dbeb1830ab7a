//! Clusters as their users see them: size, share, means in their own units, what sets each apart.

use crate::answers::{Description, Partial};
use crate::prepare::Fitted;
use crate::silhouette::SilhouetteScore;
use shoal_domain::model::{Apart, Segment};
use shoal_domain::{Centroids, Merge};
use shoal_stats::ExactSum;

/// One segment a cluster, in label order.
pub(crate) fn segments(
    fitted: &Fitted,
    centroids: &Centroids,
    partial: &Partial,
    description: &Description,
    silhouette: Option<&SilhouetteScore>,
) -> Vec<Segment> {
    let overall = Overall::new(fitted, partial, description);
    let segment = |label: usize| {
        let size = partial.counts[label];
        let mean = raw_means(description, label, overall.raw_means.len());
        Segment {
            label: label as u32,
            size,
            share: size as f64 / fitted.n_samples as f64,
            centroid: original_units(fitted, centroids.row(label)),
            mean: if size > 0 { mean.clone() } else { Vec::new() },
            apart: if size > 0 { overall.apart(partial, label, &mean) } else { Vec::new() },
            silhouette: silhouette.and_then(|score| score.by_cluster[label]),
        }
    };
    (0..centroids.n_clusters()).map(segment).collect()
}

fn original_units(fitted: &Fitted, centroid: &[f32]) -> Vec<f64> {
    let columns = fitted.preparation.columns.iter().zip(centroid);
    columns.map(|(column, value)| column.invert(f64::from(*value))).collect()
}

fn raw_means(description: &Description, label: usize, n_features: usize) -> Vec<f64> {
    let mean = |idx: usize| description.sums[idx].value() / description.counts[idx].max(1) as f64;
    (label * n_features..(label + 1) * n_features).map(mean).collect()
}

/// Everybody's means.
struct Overall<'a> {
    /// In prepared units.
    means: Vec<f64>,
    /// In the customer's units.
    raw_means: Vec<f64>,
    units: Vec<f64>,
    fitted: &'a Fitted,
}

impl<'a> Overall<'a> {
    fn new(fitted: &'a Fitted, partial: &Partial, description: &Description) -> Self {
        let units = fitted.preparation.units();
        let weight: i128 = partial.weights.iter().sum();
        let mean = |(column, unit): (usize, &f64)| {
            let sum: i128 = (0..partial.n_clusters()).map(|cluster| partial.sum(cluster)[column]).sum();
            sum as f64 / weight as f64 * unit
        };
        let n_features = units.len();
        let raw_mean = |column: usize| {
            let of_column = || (column..description.counts.len()).step_by(n_features);
            let count: u64 = of_column().map(|idx| description.counts[idx]).sum();
            let mut sum = ExactSum::default();
            of_column().for_each(|idx| sum.merge(description.sums[idx].clone()));
            sum.value() / count as f64
        };
        let raw_means = (0..n_features).map(raw_mean).collect();
        Self { means: units.iter().enumerate().map(mean).collect(), raw_means, units, fitted }
    }

    /// The features of a segment, the one whose mean is farthest from everybody's first.
    fn apart(&self, partial: &Partial, label: usize, raw_mean: &[f64]) -> Vec<Apart> {
        let Some(means) = partial.mean(label, &self.units) else {
            return Vec::new();
        };
        let of_column = |(column, preparation): (usize, &shoal_domain::ColumnPreparation)| {
            let deviation = self.fitted.variances[column].sqrt();
            let difference = means[column] - self.means[column];
            let overall = self.raw_means[column];
            Apart {
                feature: preparation.feature.clone(),
                z: if deviation > 0.0 { difference / deviation } else { 0.0 },
                ratio: (self.fitted.is_non_negative[column] && overall > 0.0).then(|| raw_mean[column] / overall),
            }
        };
        let mut apart: Vec<Apart> = self.fitted.preparation.columns.iter().enumerate().map(of_column).collect();
        apart.sort_by(|a, b| b.z.abs().total_cmp(&a.z.abs()));
        apart
    }
}
