//! All starts of a job, or of several, over the same passes.

use super::lloyd::{Lloyd, LloydState, Progress};
use super::mini_batch::{Approach, OF_CHANCE_AT_LAST, approach};
use super::seed::seed;
use super::size::sets_per_question;
use crate::answers::Partial;
use crate::error::ClusteringError;
use crate::observer::{Event, Observer, PassRecord, Phase, emit};
use crate::questions::Shard;
use shoal_domain::{Centroids, DomainError, job::Init};

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
    /// Rows of the first of the mini-batches that lead up to passes over all rows; none where all passes are such.
    pub batch_size: Option<usize>,
    /// Most passes of a start, over all rows and over each batch; one is made in any case.
    pub max_iter: usize,
    /// Converged when the summed squared shift of the centroids is at most this.
    pub shift_squared_max: f64,
    /// Grid step of each column, n_features.
    pub units: Vec<f64>,
    /// Grid step of the weights.
    pub weight_unit: f64,
}

impl FitParams {
    /// A start from these centroids.
    pub(super) fn lloyd(&self, centroids: Centroids) -> Lloyd {
        Lloyd::new(centroids, self.units.clone(), self.max_iter, self.shift_squared_max)
    }

    /// A start that goes over all rows.
    fn over_all(&self, start: Lloyd) -> Lloyd {
        if self.batch_size.is_some() { start.within_chance(OF_CHANCE_AT_LAST, self.weight_unit) } else { start }
    }
}

/// Where a fit is between two passes over all rows.
#[derive(Debug, Clone, PartialEq)]
pub struct Checkpoint {
    /// The number of the first of the starts.
    pub first_number: usize,
    /// All starts that passes over all rows began with.
    pub starts: Vec<LloydState>,
}

/// The best start.
#[derive(Debug, Clone)]
pub struct Fit {
    /// Its centroids.
    pub centroids: Centroids,
    /// What assigning all rows to exactly these centroids gives: sizes, sums, inertia.
    pub partial: Partial,
    /// Its passes over all rows.
    pub n_iter: usize,
    /// Whether it came to rest before `max_iter`.
    pub converged: bool,
    /// Which start it was.
    pub start: usize,
}

/// Fits k-means and returns the start with the lowest inertia, the first one on ties.
///
/// One start stops where `tol` says, as in scikit-learn. Of several, `tol` finds the best, and that one is then refined:
/// see [`refine`]. With mini-batches none is: what single rows can gain is less than what chance has left open.
///
/// # Errors
///
/// Weights that are all 0, a job without starts, and whatever keeps the shard from answering or the observer from going on.
pub fn fit(shard: &dyn Shard, params: &FitParams, observer: &mut dyn Observer) -> Result<Fit, ClusteringError> {
    Ok(fit_each(shard, std::slice::from_ref(params), observer)?.remove(0))
}

/// Goes on with a fit of the same rows and parameters that was broken off, to the fit that it would have become.
pub fn resume(
    shard: &dyn Shard,
    params: &FitParams,
    checkpoint: &Checkpoint,
    observer: &mut dyn Observer,
) -> Result<Fit, ClusteringError> {
    let start =
        |state: &LloydState| params.over_all(Lloyd::from_state(state.clone(), params.units.clone(), params.max_iter));
    let starts = checkpoint.starts.iter().map(start).collect();
    let beginning =
        Beginning { first_number: checkpoint.first_number, starts, is_refined: params.batch_size.is_none() };
    Ok(fit_from(shard, vec![beginning], observer)?.remove(0))
}

/// Fits several jobs of k-means on the same rows, such as all numbers of clusters of a sweep. All starts of all jobs
/// advance over the same passes, and those that have converged drop out. Every fit is what it would be alone.
pub fn fit_each(
    shard: &dyn Shard,
    jobs: &[FitParams],
    observer: &mut dyn Observer,
) -> Result<Vec<Fit>, ClusteringError> {
    let beginnings = jobs.iter().map(|job| beginning(shard, job, observer)).collect::<Result<_, _>>()?;
    fit_from(shard, beginnings, observer)
}

/// A job before its passes over all rows, or between two of them.
struct Beginning {
    /// The number of the first of its starts.
    first_number: usize,
    starts: Vec<Lloyd>,
    /// Whether the best of several starts is refined.
    is_refined: bool,
}

fn fit_from(
    shard: &dyn Shard,
    beginnings: Vec<Beginning>,
    observer: &mut dyn Observer,
) -> Result<Vec<Fit>, ClusteringError> {
    let mut starts = Vec::new();
    let mut of_jobs = Vec::with_capacity(beginnings.len());
    for Beginning { first_number, starts: of_job, is_refined } in beginnings {
        of_jobs.push((first_number, starts.len()..starts.len() + of_job.len(), is_refined));
        starts.extend(of_job);
    }
    let Some((first_number, ..)) = of_jobs.first().cloned() else {
        return Ok(Vec::new());
    };
    emit(observer, Event::Phase(Phase::Fit))?;
    run_and_tell(shard, &mut starts, first_number, observer)?;
    // The final assignment: labels, sizes and inertia belong to the centroids that are returned.
    let centroids: Vec<Centroids> = starts.iter().map(|start| start.centroids().clone()).collect();
    let mut partials = assign(shard, &centroids)?;
    let inertias: Vec<f64> = partials.iter().map(|partial| partial.inertia.value()).collect();
    let mut fits = Vec::with_capacity(of_jobs.len());
    for (first_number, of_job, is_refined) in of_jobs {
        let first = of_job.start;
        let is_refined = is_refined && of_job.len() > 1;
        let best =
            of_job.min_by(|a, b| inertias[*a].total_cmp(&inertias[*b])).expect("a job without starts is refused");
        if is_refined {
            partials[best] = refine(shard, &mut starts, best, first_number, observer)?;
        }
        fits.push(Fit {
            centroids: starts[best].centroids().clone(),
            partial: partials[best].clone(),
            n_iter: starts[best].n_iter(),
            converged: starts[best].progress() == Progress::Converged,
            start: first_number + best - first,
        });
    }
    Ok(fits)
}

/// Seeds a job, and takes it through its mini-batches where it has some.
fn beginning(shard: &dyn Shard, job: &FitParams, observer: &mut dyn Observer) -> Result<Beginning, ClusteringError> {
    let approached = match job.batch_size {
        Some(batch_size) => approach(shard, job, batch_size, observer)?,
        None => None,
    };
    let (first_number, initial) = match approached {
        Some(Approach { centroids, start }) => (start, vec![centroids]),
        None => (0, seeds(shard, job, observer)?),
    };
    if initial.is_empty() {
        return Err(DomainError::Job { field: "kmeans.n_init", reason: "at least one start is needed" }.into());
    }
    Ok(Beginning {
        first_number,
        starts: initial.into_iter().map(|centroids| job.over_all(job.lloyd(centroids))).collect(),
        is_refined: job.batch_size.is_none(),
    })
}

/// The first centroids of all starts.
pub(super) fn seeds(
    shard: &dyn Shard,
    job: &FitParams,
    observer: &mut dyn Observer,
) -> Result<Vec<Centroids>, ClusteringError> {
    emit(observer, Event::Phase(Phase::Seed))?;
    match &job.start {
        Start::From(centroids) => Ok(vec![centroids.clone()]),
        Start::Seeded { init, n_init, seed: base } => seed(shard, *init, job.n_clusters, *n_init, *base, observer),
    }
}

/// Passes over all rows until no start goes on. After each the observer is told where the fit is.
fn run_and_tell(
    shard: &dyn Shard,
    starts: &mut [Lloyd],
    first_number: usize,
    observer: &mut dyn Observer,
) -> Result<(), ClusteringError> {
    while pass(shard, starts, observer)? {
        observer.reached(&|| Checkpoint { first_number, starts: starts.iter().map(Lloyd::state).collect() });
    }
    Ok(())
}

/// Lets every start that goes on make a pass; false when none does.
pub(super) fn pass(
    shard: &dyn Shard,
    starts: &mut [Lloyd],
    observer: &mut dyn Observer,
) -> Result<bool, ClusteringError> {
    let is_active = |start: &usize| starts[*start].progress() == Progress::Continue;
    let active: Vec<usize> = (0..starts.len()).filter(is_active).collect();
    if active.is_empty() {
        return Ok(false);
    }
    let centroids: Vec<Centroids> = active.iter().map(|start| starts[*start].centroids().clone()).collect();
    let partials = assign(shard, &centroids)?;
    let mut n_active = active.len();
    for (start, partial) in active.into_iter().zip(partials) {
        let record = advance(shard, &mut starts[start], partial)?;
        n_active -= usize::from(starts[start].progress() != Progress::Continue);
        emit(observer, Event::Pass(PassRecord { start, n_active, ..record }))?;
    }
    Ok(true)
}

/// Takes a start to rest and then further, as long as moving one row to another cluster lowers the inertia.
///
/// Lloyd rests where every row is nearest to its own centroid. Hartigan's criterion (Hartigan 1975; Telgarsky & Vattani
/// 2010) also counts how the row pulls both means along, so it leaves many of Lloyd's resting places, in small clusters
/// above all; starts that ended in different ones mostly meet again. Returns what the final assignment gives.
fn refine(
    shard: &dyn Shard,
    starts: &mut [Lloyd],
    number: usize,
    first_number: usize,
    observer: &mut dyn Observer,
) -> Result<Partial, ClusteringError> {
    loop {
        starts[number].go_on_to_rest();
        // The others have ended.
        run_and_tell(shard, starts, first_number, observer)?;
        let start = &mut starts[number];
        let centroids = start.centroids().clone();
        let partial = assign(shard, std::slice::from_ref(&centroids))?.remove(0);
        if start.progress() != Progress::Converged || start.n_iter() >= start.max_iter() {
            return Ok(partial);
        }
        let gain_min = MIN_GAIN * partial.inertia.value();
        let mover = shard.movers(&centroids, &partial.weights, 1)?.into_rows().pop();
        match mover.filter(|mover| -mover.order > gain_min) {
            Some(mover) => start.move_row(partial, &mover),
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
pub(super) fn assign(shard: &dyn Shard, sets: &[Centroids]) -> Result<Vec<Partial>, ClusteringError> {
    let per_question = sets_per_question(sets.iter().map(|set| set.values().len()).max().unwrap_or(1));
    let mut partials = Vec::with_capacity(sets.len());
    for sets in sets.chunks(per_question) {
        partials.extend(shard.assign(sets)?);
    }
    Ok(partials)
}
