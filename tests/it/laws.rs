//! What Shoal promises whatever the data: same bits, certain labels, true scores, no empty clusters without need, and a
//! clear word where a job cannot be done.
//!
//! Expected values are computed here by the shortest way there is, in float64 and without regard to time.

mod gpu;
mod same_bits;

mod empty_clusters;
mod labels;
mod mini_batch;
mod passes;
mod picked;
mod prepare;
mod segments;
mod silhouette;
mod weights;

use shoal_clustering::kmeans::{Fit, FitParams, Start, fit};
use shoal_clustering::prepare::{Fitted, fit_preparation};
use shoal_clustering::{ClusteringError, Shard};
use shoal_domain::Centroids;
use shoal_domain::job::{PrepareSpec, Scale};

use crate::memory_rows::MemoryRows;

/// Data in its own units, centred: what a test says about numbers stays readable.
const NO_SCALE: PrepareSpec = PrepareSpec { missing: shoal_domain::job::Missing::Error, scale: Scale::None };

/// Fits the preparation that leaves units alone.
fn fit_no_scale(rows: &MemoryRows) -> Fitted {
    fit_preparation(rows, &NO_SCALE).expect("the data have neither gaps nor extremes")
}

/// The same for numbers of about `10^exponent`. Very large and very small ones may be refused, with the name of the
/// column, since no squares of theirs exist in float32; what is accepted has to be right.
fn fit_no_scale_or_refuse(rows: &MemoryRows, exponent: i32) -> Option<Fitted> {
    let is_ordinary = (-9..=15).contains(&exponent);
    match fit_preparation(rows, &NO_SCALE) {
        Ok(fitted) => Some(fitted),
        Err(error) if !is_ordinary && error.to_string().contains("column `f0`") => None,
        Err(error) => panic!("1e{exponent}: {error}"),
    }
}

/// Centroids in prepared units from points in the customer's.
fn centroids_at(fitted: &Fitted, points: &[Vec<f64>]) -> Centroids {
    let prepare = |point: &Vec<f64>| -> Vec<f32> {
        point.iter().zip(&fitted.preparation.columns).map(|(value, column)| column.apply(*value)).collect()
    };
    let rows: Vec<Vec<f32>> = points.iter().map(prepare).collect();
    Centroids::from_rows(rows.iter().map(Vec::as_slice)).expect("points have equal lengths")
}

/// Lloyd's algorithm from given centroids, until nothing moves.
fn fit_from(shard: &dyn Shard, fitted: &Fitted, initial: Centroids) -> Result<Fit, ClusteringError> {
    let params = FitParams {
        n_clusters: initial.n_clusters(),
        start: Start::From(initial),
        batch_size: None,
        max_iter: 300,
        shift_squared_max: 0.0,
        units: fitted.preparation.units(),
        weight_unit: fitted.preparation.weight_unit(),
    };
    fit(shard, &params, &mut ())
}
