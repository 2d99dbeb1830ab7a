//! Who uses which random numbers of a job's seed. Two uses of one stream would not be independent.

/// Starts are this far apart, from 0 on: what a start draws has a stream for each use, as many at most.
pub(crate) const PER_START: u64 = 1 << 32;

/// The rows of mini-batches.
pub(crate) const OF_BATCHES: u64 = u64::MAX;

/// The rows of a sampled silhouette.
pub(crate) const OF_SILHOUETTES: u64 = u64::MAX - 1;
