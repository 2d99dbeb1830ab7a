//! k-means: seeding, Lloyd's algorithm, mini-batches, restarts.
//!
//! [`Lloyd`] is the algorithm as a value, without I/O: it holds centroids, takes what a pass over the data found, and
//! says whether to go on. [`fit`] drives all restarts of a job over the same passes, so that a restart costs arithmetic
//! but no extra trip to the rows; one that has converged drops out.

mod candidates;
mod fit;
mod lloyd;
mod mini_batch;
mod seed;
mod size;

pub use fit::{Checkpoint, Fit, FitParams, Start, fit, fit_each, resume};
pub use lloyd::{Lloyd, LloydState, Progress};
