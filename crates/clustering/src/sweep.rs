//! How many clusters? Every number of a range, fitted on the same rows over the same passes, and validated.

use crate::error::ClusteringError;
use crate::kmeans::{Fit, fit_each};
use crate::observer::{Event, Observer, Phase, emit};
use crate::questions::Rows;
use crate::segmentation::{Ready, fit_params, make_ready, validate, warnings};
use shoal_domain::job::KMeansSpec;
use shoal_domain::sweep::{Sweep, SweptFit};
use shoal_domain::{DomainError, JobSpec};
use std::ops::RangeInclusive;

/// Fits and validates every number of clusters of the range, which replaces that of the job. Each entry has the figures
/// that [`segment`](crate::segment) would give alone. Rows are read and prepared once, and passes are shared by all.
pub fn sweep(
    rows: &dyn Rows,
    spec: &JobSpec,
    n_clusters: RangeInclusive<usize>,
    observer: &mut dyn Observer,
) -> Result<Sweep, ClusteringError> {
    let kmeans = |n_clusters| KMeansSpec { n_clusters, ..spec.kmeans.clone() };
    let specs: Vec<KMeansSpec> = n_clusters.clone().map(kmeans).collect();
    if specs.is_empty() {
        return Err(DomainError::Job { field: "n_clusters", reason: "the range to sweep is empty" }.into());
    }
    for kmeans in &specs {
        JobSpec { kmeans: kmeans.clone(), ..spec.clone() }.check()?;
    }
    let ready = make_ready(rows, &spec.prepare, *n_clusters.end(), observer)?;
    let params = specs.iter().map(|kmeans| fit_params(kmeans, &ready.fitted, None)).collect::<Result<Vec<_>, _>>()?;
    let fits = fit_each(ready.shard.as_ref(), &params, observer)?;
    emit(observer, Event::Phase(Phase::Validate))?;
    let mut swept = Vec::with_capacity(fits.len());
    for (kmeans, fit) in specs.into_iter().zip(&fits) {
        swept.push(swept_fit(&ready, spec, kmeans, fit, observer)?);
    }
    Ok(Sweep {
        format: Sweep::FORMAT.to_owned(),
        data_digest: ready.fitted.data_digest,
        n_samples: ready.fitted.n_samples,
        n_dropped: ready.fitted.n_dropped,
        n_features: rows.features().as_slice().len(),
        features: rows.features().as_slice().to_vec(),
        prepare: spec.prepare,
        validate: spec.validate,
        fits: swept,
    })
}

fn swept_fit(
    ready: &Ready<'_>,
    spec: &JobSpec,
    kmeans: KMeansSpec,
    fit: &Fit,
    observer: &mut dyn Observer,
) -> Result<SweptFit, ClusteringError> {
    let (scores, _) = validate(ready, &spec.validate, fit, kmeans.seed, observer)?;
    Ok(SweptFit {
        n_clusters: kmeans.n_clusters,
        inertia: fit.partial.inertia.value(),
        n_iter: fit.n_iter,
        converged: fit.converged,
        scores,
        sizes: fit.partial.counts.clone(),
        warnings: warnings(fit, &ready.fitted, &kmeans),
        kmeans,
    })
}
