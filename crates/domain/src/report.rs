//! The report: the model's figures, and what one run of them cost where.

use crate::Model;
use crate::model::{Scores, Segment};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// The document `report.json`, also what `-o json` prints.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Rows that were clustered.
    pub n_samples: u64,
    /// Rows left out because a value was missing.
    pub n_dropped: u64,
    /// Columns.
    pub n_features: usize,
    /// Their names.
    pub features: Vec<String>,
    /// Clusters.
    pub n_clusters: usize,
    /// Sum of weighted squared distances in prepared units.
    pub inertia: f64,
    /// Lloyd passes of the start that was returned.
    pub n_iter: usize,
    /// Whether that start converged.
    pub converged: bool,
    /// Validation.
    pub scores: Scores,
    /// One entry a cluster.
    pub segments: Vec<Segment>,
    /// What a reader must know before believing the numbers.
    pub warnings: Vec<String>,
    /// Which rows these were.
    pub data_digest: String,
    /// Which machines computed it.
    pub ran_on: RanOn,
    /// Seconds spent, phase by phase in their order.
    pub timings: Vec<Timing>,
}

impl Report {
    /// The report of one run of `model`.
    pub fn new(model: &Model, ran_on: RanOn, timings: Vec<Timing>) -> Self {
        Self {
            n_samples: model.n_samples,
            n_dropped: model.n_dropped,
            n_features: model.n_features,
            features: model.features.clone(),
            n_clusters: model.n_clusters,
            inertia: model.inertia,
            n_iter: model.n_iter,
            converged: model.converged,
            scores: model.scores.clone(),
            segments: model.segments.clone(),
            warnings: model.warnings.clone(),
            data_digest: model.data_digest.clone(),
            ran_on,
            timings,
        }
    }
}

/// What computed a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RanOn {
    /// `local` or `fleet`.
    pub mode: String,
    /// One entry a device, in worker order: `cpu (avx512, 2 threads)`.
    pub devices: Vec<String>,
    /// The version of Shoal.
    pub version: String,
}

/// Seconds spent in one phase.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Timing {
    /// The phase.
    pub phase: String,
    /// Wall-clock seconds.
    pub seconds: f64,
}

/// The phases of a run with the times at which they began, as somebody's clock told them.
#[derive(Debug, Clone, Default)]
pub struct PhaseTimes {
    began: Vec<(String, Duration)>,
}

impl PhaseTimes {
    /// A phase begins, so long after the run, and the one before it ends; one that is going on goes on.
    pub fn begin(&mut self, phase: &str, at: Duration) {
        if self.began.last().is_none_or(|(last, _)| last != phase) {
            self.began.push((phase.to_owned(), at));
        }
    }

    /// The seconds of each phase, and `total` last, when the run has lasted until `now`.
    pub fn timings(&self, now: Duration) -> Vec<Timing> {
        let ends = self.began.iter().skip(1).map(|(_, at)| *at).chain([now]);
        let timing = |phase: &str, time: Duration| Timing { phase: phase.to_owned(), seconds: time.as_secs_f64() };
        let phases = self.began.iter().zip(ends).map(|((phase, began), end)| timing(phase, end.saturating_sub(*began)));
        phases.chain([timing("total", now)]).collect()
    }
}
