//! What Lloyd passes answer, as sums that any parts of the rows can be added to.

use crate::answers::PickedRow;
use shoal_domain::{Centroids, Merge};
use shoal_stats::ExactSum;

/// What one Lloyd pass leaves: per cluster the count, weight and sum of its rows, and the inertia.
#[derive(Debug, Clone)]
pub struct Partial {
    /// Rows of each cluster, n_clusters.
    pub counts: Vec<u64>,
    /// Weight of each cluster in units of the weight grid; the count where the data set has no weights.
    pub weights: Vec<i128>,
    /// Weighted sum of each cluster's rows in units of the grid, n_clusters x n_features.
    pub sums: Vec<i128>,
    /// Sum of weight x squared distance to the nearest centroid, in squared prepared units.
    pub inertia: ExactSum,
}

impl Partial {
    /// The partial of no rows.
    pub fn empty(n_clusters: usize, n_features: usize) -> Self {
        Self {
            counts: vec![0; n_clusters],
            weights: vec![0; n_clusters],
            sums: vec![0; n_clusters * n_features],
            inertia: ExactSum::default(),
        }
    }

    /// Becomes a copy of another one, in the memory that it has.
    pub fn copy_from(&mut self, other: &Self) {
        self.counts.clone_from(&other.counts);
        self.weights.clone_from(&other.weights);
        self.sums.clone_from(&other.sums);
        self.inertia.clone_from(&other.inertia);
    }

    /// Clusters.
    pub fn n_clusters(&self) -> usize {
        self.counts.len()
    }

    /// Columns.
    pub fn n_features(&self) -> usize {
        self.sums.len() / self.counts.len()
    }

    /// The clusters without any weight.
    pub fn empty_clusters(&self) -> Vec<usize> {
        (0..self.n_clusters()).filter(|cluster| self.weights[*cluster] == 0).collect()
    }

    /// The sum of one cluster, n_features.
    pub fn sum(&self, cluster: usize) -> &[i128] {
        &self.sums[cluster * self.n_features()..(cluster + 1) * self.n_features()]
    }

    /// The mean of a cluster in prepared units, n_features float64; none when the cluster has no weight.
    pub fn mean(&self, cluster: usize, units: &[f64]) -> Option<Vec<f64>> {
        Some(self.values_of_mean(cluster, units)?.collect())
    }

    fn values_of_mean<'a>(&'a self, cluster: usize, units: &'a [f64]) -> Option<impl Iterator<Item = f64> + 'a> {
        let weight = self.weights[cluster];
        let per_mean = to_float(weight);
        let mean_of = move |(sum, unit): (&i128, &f64)| to_float(*sum) / per_mean * unit;
        (weight > 0).then(|| self.sum(cluster).iter().zip(units).map(mean_of))
    }

    /// The means of all clusters as centroids; a cluster without weight keeps its row of `previous`.
    pub fn means(&self, units: &[f64], previous: &Centroids) -> Centroids {
        let mut values = Vec::with_capacity(self.sums.len());
        for cluster in 0..self.n_clusters() {
            match self.values_of_mean(cluster, units) {
                Some(mean) => values.extend(mean.map(|value| value as f32)),
                None => values.extend_from_slice(previous.row(cluster)),
            }
        }
        Centroids::new(self.n_clusters(), self.n_features(), values)
            .expect("a mean of float32 numbers is a finite float32 number")
    }

    /// What chance alone does to the means: the expected summed squared distance of the clusters' means to those of the
    /// population that the rows are a sample of. All clusters are taken to have the same variance, as in an analysis of
    /// variance, and weights to say how far a row counts, not how many rows it stands for.
    pub fn variance_of_means(&self, weight_unit: f64) -> f64 {
        let weight = self.weights.iter().sum::<i128>() as f64 * weight_unit;
        let variance = self.inertia.value() / weight;
        self.counts.iter().filter(|count| **count > 0).map(|count| variance / *count as f64).sum()
    }

    /// Moves a row from the cluster that it was counted in to the cluster `to`.
    pub fn relocate(&mut self, row: &PickedRow, to: usize, units: &[f64]) {
        let from = row.cluster as usize;
        let n_features = self.n_features();
        let weight = i128::from(row.weight);
        for (column, (value, unit)) in row.values.iter().zip(units).enumerate() {
            let addend = weight * (f64::from(*value) / unit) as i128;
            self.sums[from * n_features + column] -= addend;
            self.sums[to * n_features + column] += addend;
        }
        self.weights[from] -= weight;
        self.weights[to] += weight;
        self.counts[from] -= 1;
        self.counts[to] += 1;
    }
}

/// The nearest float64. Most sums fit 64 bits, which the processor converts by itself.
fn to_float(sum: i128) -> f64 {
    #[cold]
    #[inline(never)]
    fn of_wide(sum: i128) -> f64 {
        sum as f64
    }
    match i64::try_from(sum) {
        Ok(sum) => sum as f64,
        Err(_) => of_wide(sum),
    }
}

impl Merge for Partial {
    fn merge(&mut self, other: Self) {
        self.counts.iter_mut().zip(other.counts).for_each(|(count, more)| *count += more);
        self.weights.iter_mut().zip(other.weights).for_each(|(weight, more)| *weight += more);
        self.sums.iter_mut().zip(other.sums).for_each(|(sum, more)| *sum += more);
        self.inertia.merge(other.inertia);
    }
}

/// The weight of each cluster, n_clusters, in units of the weight grid; the count where the data set has no weights.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterWeights(pub Vec<i128>);

impl Merge for ClusterWeights {
    fn merge(&mut self, other: Self) {
        self.0.iter_mut().zip(other.0).for_each(|(weight, more)| *weight += more);
    }
}
