//! Mini-batches: most of the way to where Lloyd's algorithm rests is made on few rows.
//!
//! ```text
//! for batch in nested samples, each four times as large as the one before:
//!     until the centroids move much less than they differ between one such batch and another:
//!         assign the batch's rows to the nearest centroids, move the centroids to the means
//! ```
//!
//! These are the nested mini-batches of Newling & Fleuret ("Nested mini-batch k-means", NIPS 2016). A batch keeps the rows
//! of the one before, so a row counts once, under its present label. In Sculley's mini-batches ("Web-scale k-means
//! clustering", WWW 2010), the ones that scikit-learn has, a row goes on to count where it was first put; centroids keep
//! what they learnt when they were still wrong, and how far a result is from rest is not known. Nested ones end in passes
//! over all rows, the last and largest batch, which rest by the same rule, or by the tolerance where that is met first.

use super::fit::{FitParams, Start, assign, pass, seeds};
use super::lloyd::Lloyd;
use crate::error::ClusteringError;
use crate::observer::{Event, Observer, Phase, emit};
use crate::questions::Shard;
use crate::sample::Sample;
use crate::streams;
use shoal_domain::{BLOCK_ROWS, Centroids};
use shoal_stats::RandomStream;

/// How much larger each batch is than the one before. The paper doubles; what a batch costs beyond its passes, a copy of
/// its rows, makes larger steps cheaper here.
const GROWTH: usize = 4;
/// The last batch has at most this share of the rows: to copy more costs as much as the passes over all rows that it saves.
const LAST_SHARE: usize = 16;
/// Rows that a cluster needs in the first batch for its mean to be worth anything, on average.
const ROWS_PER_CLUSTER: usize = 32;
/// On a batch, centroids have moved enough when a pass moves them by less than a hundredth of what chance does, squared: the
/// paper's `rho`, at the value that its authors recommend.
const OF_CHANCE: f64 = 1e-4;
/// On all rows, whose passes are dear, a tenth is enough, squared. What it saves and what it costs is in docs/PERFORMANCE.md.
pub(super) const OF_CHANCE_AT_LAST: f64 = 1e-2;

/// Centroids near rest, and the number of the start that led to them.
pub(super) struct Approach {
    pub(super) centroids: Centroids,
    pub(super) start: usize,
}

/// Takes the job's best start through batches of `batch_size` rows and more; none where the rows are too few for that.
pub(super) fn approach(
    shard: &dyn Shard,
    job: &FitParams,
    batch_size: usize,
    observer: &mut dyn Observer,
) -> Result<Option<Approach>, ClusteringError> {
    let mut approach: Option<Approach> = None;
    for block_rows in batches(shard.block_ids().len(), batch_size.max(ROWS_PER_CLUSTER.saturating_mul(job.n_clusters)))
    {
        let seed = match job.start {
            Start::Seeded { seed, .. } => seed,
            Start::From(_) => 0,
        };
        let batch = shard.sample(&Sample { block_rows, stream: RandomStream { seed, stream: streams::OF_BATCHES } })?;
        let starts = match &approach {
            Some(so_far) => vec![so_far.centroids.clone()],
            None => match seeds(batch.as_ref(), job, observer) {
                // A batch may happen to have no row with a weight; a larger one has.
                Err(ClusteringError::NoWeight) => continue,
                seeds => seeds?,
            },
        };
        emit(observer, Event::Phase(Phase::Batch))?;
        let (start, centroids) = best_of(batch.as_ref(), job, starts, observer)?;
        approach = Some(Approach { centroids, start: approach.map_or(start, |so_far| so_far.start) });
    }
    Ok(approach)
}

/// Rows of a block in each batch: the first batch has at least `n_rows_min`, and the last one leaves a step to all rows.
fn batches(n_blocks: usize, n_rows_min: usize) -> impl Iterator<Item = usize> {
    let shares = std::iter::successors(Some(1), |block_rows| Some(block_rows * GROWTH));
    let shares = shares.take_while(|block_rows| block_rows * LAST_SHARE <= BLOCK_ROWS);
    shares.skip_while(move |block_rows| n_blocks * block_rows < n_rows_min)
}

/// Takes every start as far as the batch goes; the number of the best one and where it came to.
fn best_of(
    batch: &dyn Shard,
    job: &FitParams,
    starts: Vec<Centroids>,
    observer: &mut dyn Observer,
) -> Result<(usize, Centroids), ClusteringError> {
    let start = |centroids| job.lloyd(centroids).within_chance(OF_CHANCE, job.weight_unit);
    let mut starts: Vec<Lloyd> = starts.into_iter().map(start).collect();
    while pass(batch, &mut starts, observer)? {}
    let mut centroids: Vec<Centroids> = starts.iter().map(|start| start.centroids().clone()).collect();
    if centroids.len() == 1 {
        return Ok((0, centroids.remove(0)));
    }
    let inertias = assign(batch, &centroids)?.into_iter().map(|partial| partial.inertia.value());
    let best = inertias.enumerate().min_by(|(_, a), (_, b)| a.total_cmp(b)).expect("at least one start").0;
    Ok((best, centroids.remove(best)))
}
