//! All starts of a job over the same passes.

use super::lloyd::{Lloyd, Progress};
use super::seed::seed;
use super::size::sets_per_question;
use crate::answers::Partial;
use crate::error::ClusteringError;
use crate::observer::{Event, Observer, PassRecord, Phase, emit};
use crate::questions::Shard;
use shoal_domain::{Centroids, job::Init};

/// A row is moved when that lowers the inertia by more than this share of it. What a single row can gain shrinks with the
/// number of rows, so large data sets are left where Lloyd rests.
const MIN_GAIN: f64 = 1e-7;

/// Where a fit starts from.
#[derive(Debug, Clone, PartialEq)]
pub enum Start {
    /// `n_init` starts chosen at random.
    Seeded {
        /// How.
        init: Init,
        /// How many.
        n_init: usize,
        /// Seed of the random numbers.
        seed: u64,
    },
    /// One start from these centroids.
    From(Centroids),
}

/// What a fit needs to know.
#[derive(Debug, Clone, PartialEq)]
pub struct FitParams {
    /// Clusters.
    pub n_clusters: usize,
    /// Where to start.
    pub start: Start,
    /// Most passes of a start.
    pub max_iter: usize,
    /// Converged when the summed squared shift of the centroids is at most this.
    pub shift_squared_max: f64,
    /// Grid step of each column.
    pub units: Vec<f64>,
}

/// The best start.
#[derive(Debug, Clone)]
pub struct Fit {
    /// Its centroids.
    pub centroids: Centroids,
    /// What assigning all rows to exactly these centroids gives: sizes, sums, inertia.
    pub partial: Partial,
    /// Its passes.
    pub n_iter: usize,
    /// Whether it came to rest before `max_iter`.
    pub converged: bool,
    /// Which start it was.
    pub start: usize,
}

/// Fits k-means and returns the start with the lowest inertia, the first one on ties.
///
/// One start stops where `tol` says, as in scikit-learn. Of several, `tol` finds the best, and that one is then refined:
/// see [`refine`].
pub fn fit(shard: &dyn Shard, params: &FitParams, observer: &mut dyn Observer) -> Result<Fit, ClusteringError> {
    emit(observer, Event::Phase(Phase::Seed))?;
    let initial = match &params.start {
        Start::From(centroids) => vec![centroids.clone()],
        Start::Seeded { init, n_init, seed: number } => {
            seed(shard, *init, params.n_clusters, *n_init, *number, observer)?
        }
    };
    emit(observer, Event::Phase(Phase::Fit))?;
    let start = |centroids| Lloyd::new(centroids, params.units.clone(), params.max_iter, params.shift_squared_max);
    let mut starts: Vec<Lloyd> = initial.into_iter().map(start).collect();
    run(shard, &mut starts, 0, observer)?;
    // The final assignment: labels, sizes and inertia belong to the centroids that are returned.
    let mut partials = assign(shard, starts.iter().map(|start| start.centroids().clone()).collect())?;
    let inertias: Vec<f64> = partials.iter().map(|partial| partial.inertia.value()).collect();
    let best = (0..starts.len()).min_by(|a, b| inertias[*a].total_cmp(&inertias[*b])).expect("at least one start");
    if starts.len() > 1 {
        partials[best] = refine(shard, &mut starts[best..=best], best, observer)?;
    }
    Ok(Fit {
        centroids: starts[best].centroids().clone(),
        partial: partials.swap_remove(best),
        n_iter: starts[best].n_iter(),
        converged: starts[best].progress() == Progress::Converged,
        start: best,
    })
}

/// Passes until no start goes on. `first` is the number of the first start, for the records.
fn run(
    shard: &dyn Shard,
    starts: &mut [Lloyd],
    first: usize,
    observer: &mut dyn Observer,
) -> Result<(), ClusteringError> {
    loop {
        let is_active = |start: &usize| starts[*start].progress() == Progress::Continue;
        let active: Vec<usize> = (0..starts.len()).filter(is_active).collect();
        if active.is_empty() {
            return Ok(());
        }
        let partials = assign(shard, active.iter().map(|start| starts[*start].centroids().clone()).collect())?;
        let mut n_active = active.len();
        for (start, partial) in active.into_iter().zip(partials) {
            let record = advance(shard, &mut starts[start], partial)?;
            n_active -= usize::from(starts[start].progress() != Progress::Continue);
            emit(observer, Event::Pass(PassRecord { start: first + start, n_active, ..record }))?;
        }
    }
}

/// Takes a start to rest and then further, as long as moving one row to another cluster lowers the inertia.
///
/// Lloyd rests where every row is nearest to its own centroid. Hartigan's criterion (Hartigan 1975; Telgarsky & Vattani
/// 2010) also counts how the row pulls both means along, so it leaves many of Lloyd's resting places, in small clusters
/// above all; starts that ended in different ones mostly meet again. Returns what the final assignment gives.
fn refine(
    shard: &dyn Shard,
    start: &mut [Lloyd],
    number: usize,
    observer: &mut dyn Observer,
) -> Result<Partial, ClusteringError> {
    loop {
        start[0].go_on_to_rest();
        run(shard, start, number, observer)?;
        let centroids = start[0].centroids().clone();
        let partial = assign(shard, vec![centroids.clone()])?.remove(0);
        if start[0].progress() != Progress::Converged || start[0].n_iter() >= start[0].max_iter() {
            return Ok(partial);
        }
        let gain_min = MIN_GAIN * partial.inertia.value();
        let mover = shard.movers(&centroids, &partial.weights, 1)?.into_rows().pop();
        match mover.filter(|mover| -mover.order > gain_min) {
            Some(mover) => start[0].move_row(partial, &mover),
            None => return Ok(partial),
        }
    }
}

fn advance(shard: &dyn Shard, start: &mut Lloyd, partial: Partial) -> Result<PassRecord, ClusteringError> {
    let n_empty = partial.empty_clusters().len();
    let strays = match n_empty {
        0 => Vec::new(),
        _ => shard.farthest(start.centroids(), n_empty)?.into_rows(),
    };
    let inertia = partial.inertia.value();
    start.advance(partial, &strays);
    Ok(PassRecord { start: 0, n_iter: start.n_iter(), inertia, shift: start.shift(), n_active: 0 })
}

/// Asks about all sets, in as few questions as their size allows.
fn assign(shard: &dyn Shard, sets: Vec<Centroids>) -> Result<Vec<Partial>, ClusteringError> {
    let per_question = sets_per_question(sets.first().map_or(1, |set| set.values().len()));
    let mut partials = Vec::with_capacity(sets.len());
    for sets in sets.chunks(per_question) {
        partials.extend(shard.assign(sets)?);
    }
    Ok(partials)
}
