//! The job: rows in, a validated model out. One function, whoever holds the rows.

use crate::dispersion::{Dispersion, dispersion};
use crate::error::ClusteringError;
use crate::kmeans::{Checkpoint, Fit, FitParams, Start, fit, resume};
use crate::notes::id_note;
use crate::observer::{Event, Observer, Phase, emit};
use crate::prepare::{Fitted, fit_preparation};
use crate::questions::{Rows, Shard};
use crate::segments::segments;
use crate::silhouette::{Mode, SilhouetteScore, silhouette};
use shoal_domain::job::{Algorithm, JobSpec, KMeansSpec, PrepareSpec, Silhouette, ValidateSpec};
use shoal_domain::model::{Model, Scores};
use shoal_domain::{Centroids, ColumnPreparation, Preparation};

/// A finished job.
#[derive(Debug, Clone)]
pub struct Segmentation {
    /// What was found.
    pub model: Model,
    /// Its centroids, which label rows.
    pub centroids: Centroids,
    /// The silhouette of every row in the order of the data, where the job wants it and it is defined.
    pub row_silhouettes: Option<Vec<f64>>,
}

/// Prepares, clusters, validates and describes the rows as the job says.
///
/// `warm_start` is the model whose centroids replace the seeding. The observer is told every phase and pass and may
/// cancel between any two.
pub fn segment(
    rows: &dyn Rows,
    spec: &JobSpec,
    warm_start: Option<&Model>,
    observer: &mut dyn Observer,
) -> Result<Segmentation, ClusteringError> {
    segment_from(rows, spec, warm_start, None, observer)
}

/// As [`segment`], going on from a checkpoint of the same job on the same rows if there is one.
pub fn segment_from(
    rows: &dyn Rows,
    spec: &JobSpec,
    warm_start: Option<&Model>,
    checkpoint: Option<&Checkpoint>,
    observer: &mut dyn Observer,
) -> Result<Segmentation, ClusteringError> {
    spec.check()?;
    let n_clusters = spec.kmeans.n_clusters;
    let ready = make_ready(rows, &spec.prepare, n_clusters, observer)?;
    let params = fit_params(&spec.kmeans, &ready.fitted, warm_start)?;
    let best = match checkpoint {
        Some(checkpoint) => resume(ready.shard.as_ref(), &params, checkpoint, observer)?,
        None => fit(ready.shard.as_ref(), &params, observer)?,
    };
    emit(observer, Event::Phase(Phase::Validate))?;
    let (scores, silhouettes) = validate(&ready, &spec.validate, &best, spec.kmeans.seed, observer)?;
    // Describing reads the rows once more, and needs no second copy of them.
    let Ready { fitted, shard } = ready;
    drop(shard);
    emit(observer, Event::Phase(Phase::Describe))?;
    let description = rows.describe(&fitted.preparation, &best.centroids)?;
    let segments = segments(&fitted, &best.centroids, &best.partial, &description, silhouettes.as_ref());
    let row_silhouettes = silhouettes.and_then(|score| score.rows).filter(|_| spec.validate.row_silhouettes);
    let model = Model {
        format: Model::FORMAT.to_owned(),
        data_digest: fitted.data_digest.clone(),
        n_samples: fitted.n_samples,
        n_dropped: fitted.n_dropped,
        n_features: fitted.preparation.n_features(),
        features: rows.features().as_slice().to_vec(),
        n_clusters,
        inertia: best.partial.inertia.value(),
        n_iter: best.n_iter,
        converged: best.converged,
        scores,
        segments,
        centroids: best.centroids.rows().map(<[f32]>::to_vec).collect(),
        warnings: warnings(&best, &fitted, &spec.kmeans),
        preparation: fitted.preparation,
        prepare: spec.prepare,
        kmeans: kmeans_as_run(&spec.kmeans, warm_start),
        validate: spec.validate,
    };
    Ok(Segmentation { model, centroids: best.centroids, row_silhouettes })
}

/// Rows that were prepared, and what is known of them.
pub(crate) struct Ready<'a> {
    pub(crate) fitted: Fitted,
    pub(crate) shard: Box<dyn Shard + 'a>,
}

/// Reads the rows, finds how to prepare them, and prepares them for up to `n_clusters` clusters.
pub(crate) fn make_ready<'a>(
    rows: &'a dyn Rows,
    spec: &PrepareSpec,
    n_clusters: usize,
    observer: &mut dyn Observer,
) -> Result<Ready<'a>, ClusteringError> {
    emit(observer, Event::Phase(Phase::Profile))?;
    let mut fitted = fit_preparation(rows, spec)?;
    fitted.notes.extend(id_note(rows.n_repeated_ids()));
    if n_clusters as u64 > fitted.n_samples {
        return Err(ClusteringError::TooFewRows { n_clusters, n_samples: fitted.n_samples });
    }
    emit(observer, Event::Phase(Phase::Prepare))?;
    let shard = rows.prepare(&fitted.preparation)?;
    Ok(Ready { fitted, shard })
}

/// The parameters that took effect: a warm start is one start, named by its centroids instead of a path.
fn kmeans_as_run(spec: &KMeansSpec, warm_start: Option<&Model>) -> KMeansSpec {
    match warm_start {
        Some(model) => KMeansSpec { warm_start: Some(model.centroids_digest()), n_init: 1, ..spec.clone() },
        None => spec.clone(),
    }
}

/// What the fit needs to know of the job and of the rows.
pub(crate) fn fit_params(
    spec: &KMeansSpec,
    fitted: &Fitted,
    warm_start: Option<&Model>,
) -> Result<FitParams, ClusteringError> {
    let start = match warm_start {
        Some(model) => Start::From(warm_centroids(model, &fitted.preparation, spec.n_clusters)?),
        None => Start::Seeded { init: spec.init, n_init: spec.n_init, seed: spec.seed },
    };
    let mean_variance = fitted.variances.iter().sum::<f64>() / fitted.variances.len() as f64;
    Ok(FitParams {
        n_clusters: spec.n_clusters,
        start,
        batch_size: (spec.algorithm == Algorithm::MiniBatch).then_some(spec.batch_size),
        max_iter: spec.max_iter,
        shift_squared_max: spec.tol * mean_variance,
        units: fitted.preparation.units(),
        weight_unit: fitted.preparation.weight_unit(),
    })
}

/// The centroids of an earlier model, from the customer's units into those of this run.
fn warm_centroids(model: &Model, preparation: &Preparation, n_clusters: usize) -> Result<Centroids, ClusteringError> {
    let names = |preparation: &Preparation| {
        preparation.columns.iter().map(|column| column.feature.clone()).collect::<Vec<_>>().join(", ")
    };
    let (theirs, ours) = (names(&model.preparation), names(preparation));
    if theirs != ours {
        return Err(ClusteringError::WarmStart { model: format!("features {theirs}"), job: ours });
    }
    if model.n_clusters != n_clusters {
        let model = format!("{} clusters", model.n_clusters);
        return Err(ClusteringError::WarmStart { model, job: n_clusters.to_string() });
    }
    let prepare = |(value, column): (&f64, &ColumnPreparation)| {
        let prepared = column.apply(*value);
        let warm = || ClusteringError::WarmStart {
            model: format!("a centroid with {value} for `{}`", column.feature),
            job: format!("{:?} for it, which gives no finite number", column.transform),
        };
        prepared.is_finite().then_some(prepared).ok_or_else(warm)
    };
    let of_segment = |segment: &shoal_domain::model::Segment| {
        segment.centroid.iter().zip(&preparation.columns).map(prepare).collect::<Result<Vec<f32>, _>>()
    };
    let rows = model.segments.iter().map(of_segment).collect::<Result<Vec<_>, _>>()?;
    Ok(Centroids::from_rows(rows.iter().map(Vec::as_slice))?)
}

/// The scores that the job wants, and the silhouette that they come from.
pub(crate) fn validate(
    ready: &Ready<'_>,
    spec: &ValidateSpec,
    best: &Fit,
    seed: u64,
    observer: &mut dyn Observer,
) -> Result<(Scores, Option<SilhouetteScore>), ClusteringError> {
    let Ready { fitted, shard } = ready;
    let mode = match spec.silhouette {
        Silhouette::Exact => Some(Mode::Exact),
        Silhouette::Simplified => Some(Mode::Simplified),
        // A sample of all rows is all rows.
        Silhouette::Sampled if spec.silhouette_sample as u64 >= fitted.n_samples => Some(Mode::Exact),
        Silhouette::Sampled => Some(Mode::Sampled { n_rows: spec.silhouette_sample, seed }),
        Silhouette::None => None,
    };
    let unit = fitted.preparation.distance_unit();
    let score = match mode {
        Some(mode) => silhouette(shard.as_ref(), &best.centroids, &best.partial.counts, unit, mode, observer)?,
        None => None,
    };
    let wants_dispersion = spec.davies_bouldin || spec.calinski_harabasz;
    let indices = match wants_dispersion {
        true => dispersion(shard.as_ref(), &best.centroids, &best.partial, &fitted.preparation.units())?,
        false => Dispersion { davies_bouldin: None, calinski_harabasz: None },
    };
    let mode_name = |mode| match mode {
        Mode::Exact => Silhouette::Exact,
        Mode::Simplified => Silhouette::Simplified,
        Mode::Sampled { .. } => Silhouette::Sampled,
    };
    let scores = Scores {
        silhouette: score.as_ref().map(|score| score.mean),
        silhouette_mode: score.as_ref().and(mode.map(mode_name)),
        silhouette_standard_error: score.as_ref().and_then(|score| score.standard_error),
        silhouette_rows: score.as_ref().map(|score| score.n_rows),
        davies_bouldin: indices.davies_bouldin.filter(|_| spec.davies_bouldin),
        calinski_harabasz: indices.calinski_harabasz.filter(|_| spec.calinski_harabasz),
    };
    Ok((scores, score))
}

/// What a reader must know before believing a fit.
pub(crate) fn warnings(best: &Fit, fitted: &Fitted, spec: &KMeansSpec) -> Vec<String> {
    let mut warnings = Vec::new();
    if !best.converged {
        warnings.push(format!("k-means did not come to rest in {} passes; raise kmeans.max_iter", spec.max_iter));
    }
    let n_empty = best.partial.counts.iter().filter(|count| **count == 0).count();
    if n_empty > 0 {
        warnings
            .push(format!("of {} clusters, {n_empty} have no row: there are too few distinct rows", spec.n_clusters));
    }
    let n_used = best.partial.counts.len() - n_empty;
    if n_used < 2 {
        warnings.push("scores that compare clusters are absent: fewer than two clusters have rows".to_owned());
    }
    if fitted.n_dropped > 0 {
        warnings.push(format!("{} rows with a missing value were left out", fitted.n_dropped));
    }
    warnings.extend_from_slice(&fitted.notes);
    warnings
}
