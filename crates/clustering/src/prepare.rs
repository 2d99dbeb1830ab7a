//! Fits a preparation to a data set and applies it to a block.

use crate::answers::{Profile, ProfiledBlock, Unusable};
use crate::error::ClusteringError;
use crate::notes::{dominance_notes, fill_notes, outlier_notes, weight_notes};
use crate::questions::Rows;
use shoal_domain::job::{Missing, PrepareSpec, Scale};
use shoal_domain::prepare::{GRID_BITS, WEIGHT_BITS};
use shoal_domain::{BLOCK_ROWS, Block, ColumnPreparation, DomainError, Preparation, RawBlock, Transform};
use shoal_stats::{ColumnMoments, DigitCounts, DigitQuery, QuantileSearch};

// A float64 adds the grid values of one block without rounding; the CPU engine relies on it.
const _: () = assert!(GRID_BITS as u32 + BLOCK_ROWS.ilog2() <= f64::MANTISSA_DIGITS);

/// How raw columns are read for statistics: what stands for a missing value, and the transform.
#[derive(Debug, Clone, PartialEq)]
pub struct Reading {
    /// The transform of all columns.
    pub transform: Transform,
    /// What stands for a missing value in each column; empty when nothing does.
    pub fills: Vec<f64>,
    /// Rows with a missing value are left out.
    pub drop_missing: bool,
}

impl Reading {
    /// The values as they are, missing ones counted.
    pub const AS_IS: Self = Self { transform: Transform::Identity, fills: Vec::new(), drop_missing: false };

    /// The column's values of the rows that are read, NaN where one is missing.
    fn values<'a>(
        &'a self,
        block: &'a RawBlock,
        column: usize,
        kept: &'a [bool],
    ) -> impl Iterator<Item = f64> + Clone + 'a {
        let fill = self.fills.get(column).copied().unwrap_or(f64::NAN);
        let read = move |value: f64| {
            let value = if value.is_nan() { fill } else { value };
            match self.transform {
                Transform::Identity => value,
                Transform::Log1p => libm::log1p(value),
            }
        };
        block.columns()[column].iter().zip(kept).filter(|(_, kept)| **kept).map(move |(value, _)| read(*value))
    }

    fn kept(&self, block: &RawBlock) -> Vec<bool> {
        kept_rows(block, self.drop_missing)
    }

    /// What reading one block tells.
    pub fn profile(&self, block: &RawBlock) -> ProfiledBlock {
        let kept = self.kept(block);
        let columns = (0..block.columns().len()).map(|column| ColumnMoments::of(self.values(block, column, &kept)));
        let kept_weights =
            |weights| std::iter::zip(weights, &kept).filter(|(_, kept)| **kept).map(|(weight, _): (&f64, _)| *weight);
        let weights = block.weights().map(kept_weights);
        ProfiledBlock {
            n_rows: block.n_rows() as u64,
            n_kept: kept.iter().filter(|kept| **kept).count() as u64,
            columns: columns.collect(),
            max_weight: weights.clone().map(|weights| weights.fold(0.0, f64::max)),
            least_weight: weights.and_then(|weights| weights.filter(|weight| *weight > 0.0).reduce(f64::min)),
            unusable: self.first_unusable(block, &kept),
            digest: block.digest(),
        }
    }

    /// Counts digits of one block, see [`shoal_stats::QuantileSearch`].
    pub fn count_digits(&self, block: &RawBlock, queries: &[DigitQuery], counts: &mut DigitCounts) {
        let kept = self.kept(block);
        for (query_idx, query) in queries.iter().enumerate() {
            counts.count(query_idx, query, self.values(block, query.column, &kept));
        }
    }

    /// The first value of the block that is missing or has no transform, by row, then by column.
    fn first_unusable(&self, block: &RawBlock, kept: &[bool]) -> Option<Unusable> {
        let may_miss = self.drop_missing || !self.fills.is_empty();
        let usable = |value: f64| match self.transform {
            _ if value.is_nan() => may_miss,
            Transform::Identity => true,
            Transform::Log1p => value > -1.0,
        };
        let in_row = |row: usize| {
            let bad = |column: &usize| !usable(block.columns()[*column][row]);
            let column = (0..block.columns().len()).find(bad)?;
            let value = block.columns()[column][row];
            Some(Unusable { row: block.id().first_row() + row as u64, column, value })
        };
        let is_clean = |values: &Vec<f64>| values.iter().copied().all(usable);
        if block.columns().iter().all(is_clean) {
            None
        } else {
            (0..block.n_rows()).filter(|row| kept[*row]).find_map(in_row)
        }
    }
}

fn kept_rows(block: &RawBlock, drop_missing: bool) -> Vec<bool> {
    let mut kept = vec![true; block.n_rows()];
    for column in block.columns().iter().filter(|_| drop_missing) {
        kept.iter_mut().zip(column).for_each(|(kept, value)| *kept &= !value.is_nan());
    }
    kept
}

/// A fitted preparation and what was learnt on the way.
#[derive(Debug, Clone)]
pub struct Fitted {
    /// The preparation.
    pub preparation: Preparation,
    /// Rows that will be clustered.
    pub n_samples: u64,
    /// Rows that `drop` takes out.
    pub n_dropped: u64,
    /// Variance of each prepared column (population), n_features.
    pub variances: Vec<f64>,
    /// Whether a column has no negative value, so that a multiple of its mean means something.
    pub is_non_negative: Vec<bool>,
    /// Hash of the data.
    pub data_digest: String,
    /// What a reader must know of what became of the values, one sentence each.
    pub notes: Vec<String>,
}

/// Fits the preparation that `spec` asks for. Reads the rows once, again for `log1p` and for dropped rows, and six more
/// times for medians and quartiles, which are exact.
///
/// # Errors
///
/// No rows, or none left; a value that is missing or has no logarithm, by row and column; a column whose values float32 cannot
/// hold; weights that cannot be added exactly.
pub fn fit_preparation(rows: &dyn Rows, spec: &PrepareSpec) -> Result<Fitted, ClusteringError> {
    let names = rows.features().as_slice();
    let as_is = rows.profile(&Reading::AS_IS)?;
    if as_is.n_rows() == 0 {
        return Err(ClusteringError::NoRows);
    }
    let raw: Vec<ColumnMoments> = (0..names.len()).map(|column| as_is.moments(column)).collect();
    let has_missing = raw.iter().any(|moments| moments.n_missing > 0);
    if has_missing && spec.missing == Missing::Error {
        return Err(unusable_error(&as_is, names));
    }
    let fills = fit_fills(rows, spec, &raw, names)?;
    let transform = if spec.scale == Scale::Log1pZscore { Transform::Log1p } else { Transform::Identity };
    let reading = Reading { transform, fills, drop_missing: spec.missing == Missing::Drop };
    let profile =
        if transform == Transform::Identity && !has_missing { as_is.clone() } else { rows.profile(&reading)? };
    if transform == Transform::Log1p && profile.blocks.values().any(|block| block.unusable.is_some()) {
        return Err(unusable_error(&profile, names));
    }
    let n_samples = profile.n_kept();
    if n_samples == 0 {
        return Err(ClusteringError::AllDropped { n_rows: profile.n_rows() });
    }
    let moments: Vec<ColumnMoments> = (0..names.len()).map(|column| profile.moments(column)).collect();
    let spreads = fit_scaling(rows, spec.scale, &reading, &moments)?;
    // A column without spread keeps the scale 1, as in scikit-learn.
    let nonzero = |(shift, scale): &(f64, f64)| (*shift, if *scale > 0.0 { *scale } else { 1.0 });
    let scaling: Vec<(f64, f64)> = spreads.iter().map(nonzero).collect();
    let mut notes = fill_notes(spec.missing, &raw, names);
    let bounds: Vec<f64> =
        moments.iter().zip(&scaling).map(|(moments, (shift, scale))| bound(moments, *shift, *scale)).collect();
    check_range(&bounds, &moments, reading.transform == Transform::Log1p, names)?;
    notes.extend(match spec.scale {
        Scale::Robust => outlier_notes(&bounds, &spreads, names)?,
        _ => dominance_notes(&moments, names),
    });
    notes.extend(weight_notes(&profile)?);
    let smallest = bounds.iter().copied().filter(|bound| *bound > 0.0).fold(f64::INFINITY, f64::min);
    let smallest = if smallest.is_finite() { smallest } else { 1.0 };
    let column_of = |(column, (shift, scale)): (usize, &(f64, f64))| ColumnPreparation {
        feature: names[column].clone(),
        transform,
        fill: reading.fills.get(column).copied(),
        shift: *shift,
        scale: *scale,
        // A column of one value is 0 everywhere after its shift: any grid holds it, and a fine one does not coarsen the
        // grid of distances.
        unit_exponent: power_above(if bounds[column] > 0.0 { bounds[column] } else { smallest }) - GRID_BITS,
    };
    let columns = scaling.iter().enumerate().map(column_of).collect();
    Ok(Fitted {
        preparation: Preparation {
            columns,
            drop_missing: reading.drop_missing,
            weight_exponent: weight_exponent(&profile)?,
        },
        n_samples,
        n_dropped: profile.n_rows() - n_samples,
        variances: moments
            .iter()
            .zip(&scaling)
            .map(|(moments, (_, scale))| moments.variance() / (scale * scale))
            .collect(),
        is_non_negative: raw.iter().map(|moments| moments.min >= 0.0).collect(),
        data_digest: as_is.data_digest(),
        notes,
    })
}

/// Where the data set has weights: the power of two that they are multiples of.
fn weight_exponent(profile: &Profile) -> Result<Option<i32>, ClusteringError> {
    match profile.max_weight() {
        Some(0.0) => Err(ClusteringError::NoWeight),
        Some(weight) if !(1e-60..=1e60).contains(&weight) => Err(ClusteringError::WeightRange { weight }),
        weight => Ok(weight.map(|weight| power_above(weight) - WEIGHT_BITS)),
    }
}

fn unusable_error(profile: &Profile, names: &[String]) -> ClusteringError {
    let first = profile.blocks.values().find_map(|block| block.unusable).expect("a block holds an unusable value");
    let (row, column) = (first.row + 1, names[first.column].clone());
    match first.value.is_nan() {
        true => ClusteringError::Missing { row, column },
        false => ClusteringError::Log1p { row, column, value: first.value },
    }
}

/// What stands for missing values, one a column; empty where the job does not fill.
fn fit_fills(
    rows: &dyn Rows,
    spec: &PrepareSpec,
    raw: &[ColumnMoments],
    names: &[String],
) -> Result<Vec<f64>, ClusteringError> {
    if let Some(column) = raw.iter().position(|moments| moments.n_values == 0) {
        return Err(ClusteringError::EmptyColumn { column: names[column].clone() });
    }
    match spec.missing {
        Missing::Error | Missing::Drop => Ok(Vec::new()),
        Missing::Mean => Ok(raw.iter().map(|moments| moments.mean).collect()),
        Missing::Median => quantiles(rows, &Reading::AS_IS, raw, &[0.5]),
    }
}

/// Shift and scale of each column; the scale of one without spread is 0.
fn fit_scaling(
    rows: &dyn Rows,
    scale: Scale,
    reading: &Reading,
    moments: &[ColumnMoments],
) -> Result<Vec<(f64, f64)>, ClusteringError> {
    let from_moments = |fit: fn(&ColumnMoments) -> (f64, f64)| moments.iter().map(fit).collect::<Vec<_>>();
    Ok(match scale {
        Scale::Zscore | Scale::Log1pZscore => from_moments(|moments| (centre(moments), spread_or_zero(moments))),
        Scale::Minmax => from_moments(|moments| (moments.min, moments.max - moments.min)),
        Scale::None => from_moments(|moments| (centre(moments), 1.0)),
        Scale::Robust => {
            let quartiles = quantiles(rows, reading, moments, &[0.25, 0.5, 0.75])?;
            quartiles.chunks_exact(3).map(|quartile| (quartile[1], quartile[2] - quartile[0])).collect()
        }
    })
}

/// The mean, or the one value there is: a mean of equal values may be off by its rounding.
fn centre(moments: &ColumnMoments) -> f64 {
    if moments.min == moments.max { moments.min } else { moments.mean }
}

/// The standard deviation, or 0 where it is no more than the rounding of a constant column's mean.
fn spread_or_zero(moments: &ColumnMoments) -> f64 {
    if moments.min == moments.max { 0.0 } else { moments.standard_deviation() }
}

/// For each column the wanted quantiles, column after column.
fn quantiles(
    rows: &dyn Rows,
    reading: &Reading,
    moments: &[ColumnMoments],
    wanted: &[f64],
) -> Result<Vec<f64>, ClusteringError> {
    let of_column = |(column, moments): (usize, &ColumnMoments)| {
        let n_values = moments.n_values;
        wanted.iter().map(move |quantile| (column, n_values, *quantile)).collect::<Vec<_>>()
    };
    let targets: Vec<(usize, u64, f64)> = moments.iter().enumerate().flat_map(of_column).collect();
    let mut search = QuantileSearch::new(&targets);
    loop {
        let queries = search.queries();
        if queries.is_empty() {
            return Ok(search.values(&targets));
        }
        search.advance(&rows.count_digits(reading, &queries)?);
    }
}

/// The largest prepared value.
fn bound(moments: &ColumnMoments, shift: f64, scale: f64) -> f64 {
    ((moments.min - shift) / scale).abs().max(((moments.max - shift) / scale).abs())
}

/// Refuses what float32 squares cannot hold.
fn check_range(
    bounds: &[f64],
    moments: &[ColumnMoments],
    log1p: bool,
    names: &[String],
) -> Result<(), ClusteringError> {
    let largest = bounds.iter().copied().fold(0.0, f64::max);
    let bound_max = libm::sqrt(f64::from(f32::MAX) / 16.0 / bounds.len() as f64);
    for ((bound, moments), name) in bounds.iter().zip(moments).zip(names) {
        // Logarithms are small whatever they are of; raw values are summed, too, to describe segments.
        let raw_is_huge = log1p && moments.max > RAW_LOG1P_MAX;
        if !(moments.mean.is_finite() && moments.m2.is_finite() && *bound <= bound_max) || raw_is_huge {
            return Err(ClusteringError::TooLarge { column: name.clone(), bound: *bound });
        }
        let too_small = *bound < libm::ldexp(1.0, -100) || largest < libm::ldexp(1.0, -39);
        if moments.min < moments.max && too_small {
            return Err(ClusteringError::TooSmall { column: name.clone(), bound: *bound });
        }
    }
    Ok(())
}

/// Raw values up to 1e299, a block of which can be added.
const RAW_LOG1P_MAX: f64 = 690.0;

/// The smallest e with 2^e > value.
fn power_above(value: f64) -> i32 {
    libm::frexp(value).1
}

/// Prepares a block: n_rows x n_features values on the grid, without the rows that are dropped.
///
/// # Errors
///
/// [`ClusteringError::NotPrepared`] names a value that the preparation was not fitted for: a missing one where none was, or one far
/// outside of what there was. The rows that it was fitted on have none.
pub fn prepare_block(preparation: &Preparation, raw: &RawBlock) -> Result<Block, ClusteringError> {
    let kept = kept_rows(raw, preparation.drop_missing);
    let n_features = preparation.n_features();
    let row_idxs: Vec<u32> = (0..raw.n_rows() as u32).filter(|row| kept[*row as usize]).collect();
    let mut values = vec![0.0; row_idxs.len() * n_features];
    if raw.columns().len() != n_features {
        let (n_values, n_rows) = (raw.columns().len() * raw.n_rows(), raw.n_rows());
        return Err(DomainError::Shape { what: "raw block", n_values, n_rows, n_features }.into());
    }
    for (column, (preparation, raw_values)) in preparation.columns.iter().zip(raw.columns()).enumerate() {
        let bound = preparation.bound();
        for (target, row) in values.chunks_exact_mut(n_features).zip(&row_idxs) {
            let value = raw_values[*row as usize];
            let prepared = preparation.apply(if value.is_nan() { preparation.fill.unwrap_or(value) } else { value });
            // Sums of what is on the grid are exact; beyond its bound they would be wrong.
            if prepared.is_nan() || f64::from(prepared.abs()) > bound {
                let (row, column) = (raw.id().first_row() + u64::from(*row) + 1, preparation.feature.clone());
                return Err(ClusteringError::NotPrepared { row, column, value });
            }
            target[column] = prepared;
        }
    }
    let weights = raw.weights().zip(preparation.weight_exponent).map(|(weights, exponent)| {
        let on_grid = |row: &u32| libm::round(libm::ldexp(weights[*row as usize], -exponent)) as u64;
        row_idxs.iter().map(on_grid).collect()
    });
    let dropped_some = row_idxs.len() < raw.n_rows();
    Ok(Block::new(raw.id(), n_features, values, dropped_some.then_some(row_idxs), weights)?)
}
