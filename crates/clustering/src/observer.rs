//! What an algorithm tells while it runs. Nothing in here prints or measures time; whoever listens may do both.

use crate::error::ClusteringError;
use crate::kmeans::Checkpoint;
use std::ops::ControlFlow;

/// The parts of a job in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Rows are read once: moments, missing values, digest.
    Profile,
    /// Rows are read again, scaled and placed.
    Prepare,
    /// First centroids are chosen.
    Seed,
    /// Lloyd passes over a part of the rows; comes once for each mini-batch.
    Batch,
    /// Lloyd passes.
    Fit,
    /// Scores are computed.
    Validate,
    /// Segments are described in the customer's units.
    Describe,
}

impl Phase {
    /// Its name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Profile => "profile",
            Self::Prepare => "prepare",
            Self::Seed => "seed",
            Self::Batch => "batch",
            Self::Fit => "fit",
            Self::Validate => "validate",
            Self::Describe => "describe",
        }
    }
}

/// One Lloyd pass of one start.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PassRecord {
    /// Which start, from 0; those of several jobs are numbered one after the other.
    pub start: usize,
    /// Its pass, from 1.
    pub n_iter: usize,
    /// Inertia of the centroids that the pass began with.
    pub inertia: f64,
    /// Square root of the summed squared movement of the centroids.
    pub shift: f64,
    /// Starts that are still running after this pass.
    pub n_active: usize,
}

/// A step of the job.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Event {
    /// A phase begins.
    Phase(Phase),
    /// A question of the seeding was answered.
    Seeding,
    /// A Lloyd pass has ended.
    Pass(PassRecord),
    /// So many rows have their silhouette.
    Silhouette {
        /// Rows done.
        n_done: u64,
        /// Rows wanted.
        n_rows: u64,
    },
}

/// Listens to a job and may stop it between two steps.
pub trait Observer {
    /// Takes a step; `Break` cancels the job.
    fn event(&mut self, event: Event) -> ControlFlow<()>;

    /// The fit has made a pass over all rows; `checkpoint` says where it is, for whoever wants to go on from there.
    fn reached(&mut self, checkpoint: &dyn Fn() -> Checkpoint) {
        let _ = checkpoint;
    }
}

/// Listens to nothing.
impl Observer for () {
    fn event(&mut self, _: Event) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }
}

/// Tells the observer, who may cancel.
pub(crate) fn emit(observer: &mut dyn Observer, event: Event) -> Result<(), ClusteringError> {
    if observer.event(event).is_break() { Err(ClusteringError::Cancelled) } else { Ok(()) }
}
