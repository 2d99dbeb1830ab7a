//! What several numbers of clusters give on the same rows, side by side.

use crate::job::{KMeansSpec, PrepareSpec, ValidateSpec};
use crate::model::Scores;
use serde::{Deserialize, Serialize};

/// The document `sweep.json`. As a model, it holds no time, machine or path.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Sweep {
    /// The document's version, [`Sweep::FORMAT`].
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
    /// What was asked of the preparation.
    pub prepare: PrepareSpec,
    /// What was asked of the validation.
    pub validate: ValidateSpec,
    /// One entry a number of clusters, the fewest first.
    pub fits: Vec<SweptFit>,
}

impl Sweep {
    /// The version of this document.
    pub const FORMAT: &str = "shoal.sweep/1";
}

/// One number of clusters: the figures that a model of it has.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SweptFit {
    /// Clusters.
    pub n_clusters: usize,
    /// Sum over all rows of weight x squared distance to the row's centroid, in prepared units.
    pub inertia: f64,
    /// Lloyd passes of the start that was taken.
    pub n_iter: usize,
    /// Whether its centroids came to rest within `max_iter` passes.
    pub converged: bool,
    /// Validation.
    pub scores: Scores,
    /// Rows of each cluster, in label order.
    pub sizes: Vec<u64>,
    /// The parameters of k-means with which a job makes this model.
    pub kmeans: KMeansSpec,
    /// What a reader must know before believing the numbers, one sentence each.
    pub warnings: Vec<String>,
}
