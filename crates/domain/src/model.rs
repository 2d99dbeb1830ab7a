//! The model: everything needed to assign a new customer, and to show where the centroids came from.

use crate::Preparation;
use crate::job::{KMeansSpec, PrepareSpec, Silhouette, ValidateSpec};
use serde::{Deserialize, Serialize};

/// The document `model.json`. It holds no time, machine or path: the same rows, parameters and seed give the same bytes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Model {
    /// The document's version, [`Model::FORMAT`].
    pub format: String,
    /// BLAKE3 over ids, features and weights of all rows, as they were read.
    pub data_digest: String,
    /// Rows that were clustered.
    pub n_samples: u64,
    /// Rows left out because a value was missing (`missing: drop`).
    pub n_dropped: u64,
    /// Columns.
    pub n_features: usize,
    /// Their names.
    pub features: Vec<String>,
    /// Clusters.
    pub n_clusters: usize,
    /// Sum over all rows of weight x squared distance to the row's centroid, in prepared units.
    pub inertia: f64,
    /// Lloyd passes of the start that was returned.
    pub n_iter: usize,
    /// Whether its centroids came to rest within `max_iter` passes: by `tol` where there was one start, and where the best
    /// of several was refined, until no row could gain by moving.
    pub converged: bool,
    /// Validation.
    pub scores: Scores,
    /// One entry a cluster, in label order.
    pub segments: Vec<Segment>,
    /// Centroids in prepared units, n_clusters x n_features; each value is a float32.
    pub centroids: Vec<Vec<f32>>,
    /// How raw columns become prepared units.
    pub preparation: Preparation,
    /// What was asked of the preparation.
    pub prepare: PrepareSpec,
    /// What was asked of k-means; `warm_start` is replaced by the digest of that model's centroids.
    pub kmeans: KMeansSpec,
    /// What was asked of the validation.
    pub validate: ValidateSpec,
    /// What a reader must know before believing the numbers, one sentence each.
    pub warnings: Vec<String>,
}

impl Model {
    /// The version of this document.
    pub const FORMAT: &str = "shoal.model/1";

    /// A name for exactly these centroids: BLAKE3 over their bytes in the customer's units, in hexadecimal digits.
    pub fn centroids_digest(&self) -> String {
        let mut hasher = blake3::Hasher::new();
        for value in self.segments.iter().flat_map(|segment| &segment.centroid) {
            hasher.update(&value.to_le_bytes());
        }
        hasher.finalize().to_hex().to_string()
    }
}

/// Validation scores. A score that was not asked for, or is undefined for the result, is absent.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Scores {
    /// Mean silhouette, from -1 to 1.
    pub silhouette: Option<f64>,
    /// How the silhouette was computed.
    pub silhouette_mode: Option<Silhouette>,
    /// Standard error of a sampled silhouette.
    pub silhouette_standard_error: Option<f64>,
    /// Rows whose silhouette was computed.
    pub silhouette_rows: Option<u64>,
    /// Davies-Bouldin index; lower is better.
    pub davies_bouldin: Option<f64>,
    /// Calinski-Harabasz index; higher is better.
    pub calinski_harabasz: Option<f64>,
}

/// A cluster as its users see it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Segment {
    /// Its label, the row of its centroid.
    pub label: u32,
    /// Rows in it.
    pub size: u64,
    /// Its share of all rows, 0 to 1.
    pub share: f64,
    /// Its centroid in the customer's units (the preparation inverted), one value a feature.
    pub centroid: Vec<f64>,
    /// The mean of its rows in the customer's units; rows without a value do not count. Nothing for an empty segment.
    pub mean: Vec<f64>,
    /// Its mean silhouette, where that was computed for at least one of its rows.
    pub silhouette: Option<f64>,
    /// What sets it apart, the most telling feature first. Descriptive: these features made the clusters, so a
    /// significance test on them would be circular.
    pub apart: Vec<Apart>,
}

/// How far a segment's mean lies from everybody's, in one feature.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Apart {
    /// The feature.
    pub feature: String,
    /// (segment mean - overall mean) / overall standard deviation, in the units that were clustered; both means weighted
    /// where rows have weights.
    pub z: f64,
    /// Segment mean / overall mean in the customer's units; absent for a feature that can be negative.
    pub ratio: Option<f64>,
}
