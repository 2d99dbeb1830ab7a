//! Centroids in the prepared units of their run.

use crate::DomainError;

/// `n_clusters x n_features` float32 values, row-major, all finite.
///
/// Float32 on purpose: a pass assigns rows to exactly these numbers on every device, and the model returns them, so that
/// labels belong to the centroids that a reader sees.
#[derive(Debug, Clone, PartialEq)]
pub struct Centroids {
    n_clusters: usize,
    n_features: usize,
    values: Vec<f32>,
}

impl Centroids {
    /// Checks the shape and that all values are finite.
    pub fn new(n_clusters: usize, n_features: usize, values: Vec<f32>) -> Result<Self, DomainError> {
        if values.len() != n_clusters * n_features || n_clusters == 0 || n_features == 0 {
            return Err(DomainError::Shape {
                what: "centroids",
                n_values: values.len(),
                n_rows: n_clusters,
                n_features,
            });
        }
        if values.iter().any(|value| !value.is_finite()) {
            return Err(DomainError::NotFinite { what: "centroids" });
        }
        Ok(Self { n_clusters, n_features, values })
    }

    /// Puts rows of equal length one below the other.
    pub fn from_rows<'a>(rows: impl IntoIterator<Item = &'a [f32]>) -> Result<Self, DomainError> {
        let mut n_clusters = 0;
        let mut n_features = 0;
        let mut values = Vec::new();
        for row in rows {
            n_clusters += 1;
            n_features = row.len();
            values.extend_from_slice(row);
        }
        Self::new(n_clusters, n_features, values)
    }

    /// How many centroids.
    pub fn n_clusters(&self) -> usize {
        self.n_clusters
    }

    /// Columns of each.
    pub fn n_features(&self) -> usize {
        self.n_features
    }

    /// All values, row-major.
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// One centroid.
    pub fn row(&self, cluster: usize) -> &[f32] {
        &self.values[cluster * self.n_features..(cluster + 1) * self.n_features]
    }

    /// All centroids in order.
    pub fn rows(&self) -> impl Iterator<Item = &[f32]> {
        self.values.chunks_exact(self.n_features)
    }

    /// Sum over all centroids of the squared distance that each has moved since `earlier`.
    pub fn shift_squared(&self, earlier: &Self) -> f64 {
        let moved = |(new, old): (&f32, &f32)| {
            let difference = f64::from(*new) - f64::from(*old);
            difference * difference
        };
        self.values.iter().zip(&earlier.values).map(moved).sum()
    }
}
