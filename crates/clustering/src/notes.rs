//! What becomes of values that are missing, or very small beside others: told, or refused where it would decide the result.

use crate::answers::Profile;
use crate::error::ClusteringError;
use shoal_domain::job::Missing;
use shoal_domain::prepare::{GRID_BITS, WEIGHT_BITS};
use shoal_stats::ColumnMoments;

/// What is rounded by less than 2^-12 of itself is not worth a word, ..
const WORTH_A_WORD: i32 = 12;
/// .. and what would be rounded by more than 2^-8 is refused.
const REFUSED: i32 = 8;
/// Of so many values one is not expected to make up most of the variance ..
const MANY: u64 = 100;
/// .. which is more than this share of it.
const MOST: f64 = 0.5;

/// Whether customers have several rows.
pub(crate) fn id_note(n_repeated: Option<u64>) -> Option<String> {
    match n_repeated {
        Some(0) => None,
        Some(1) => Some("1 row has the id of another row; each row was clustered by itself".to_owned()),
        Some(n) => Some(format!("{n} rows have the id of another row; each row was clustered by itself")),
        None => Some("whether ids are there twice was not looked at".to_owned()),
    }
}

/// How many values of which columns were filled.
pub(crate) fn fill_notes(missing: Missing, raw: &[ColumnMoments], names: &[String]) -> Vec<String> {
    let filled_with = match missing {
        Missing::Error | Missing::Drop => return Vec::new(),
        Missing::Mean => "mean",
        Missing::Median => "median",
    };
    let filled = raw.iter().zip(names).filter(|(moments, _)| moments.n_missing > 0);
    let note = |(moments, name): (&ColumnMoments, &String)| {
        let n_missing = moments.n_missing;
        format!("{n_missing} missing values of column `{name}` were filled with its {filled_with}")
    };
    filled.map(note).collect()
}

/// Columns whose middle half is coarse on the grid that their largest value needs. `bounds` are of values in distances of the
/// quartiles, `spreads` the shift and the scale of each column, which is 0 where the quartiles are one.
pub(crate) fn outlier_notes(
    bounds: &[f64],
    spreads: &[(f64, f64)],
    names: &[String],
) -> Result<Vec<String>, ClusteringError> {
    let mut notes = Vec::new();
    for ((ratio, (_, scale)), name) in bounds.iter().zip(spreads).zip(names) {
        if *scale == 0.0 {
            continue;
        }
        if *ratio > libm::ldexp(1.0, GRID_BITS - REFUSED) {
            return Err(ClusteringError::Outlier { column: name.clone(), ratio: *ratio });
        }
        if *ratio > libm::ldexp(1.0, GRID_BITS - WORTH_A_WORD) {
            notes.push(format!(
                "the largest value of column `{name}` is {ratio:.0e} times the distance of its quartiles, beside which the \
                 others were rounded"
            ));
        }
    }
    Ok(notes)
}

/// Columns whose variance is mostly one value's, so that all others lie close together once it is scaled away. Where a scale
/// rests on quartiles, [`outlier_notes`] says what matters instead.
pub(crate) fn dominance_notes(moments: &[ColumnMoments], names: &[String]) -> Vec<String> {
    let share_of_one = |moments: &ColumnMoments| {
        let farthest = (moments.max - moments.mean).max(moments.mean - moments.min);
        if moments.n_values >= MANY && moments.m2 > 0.0 { farthest * farthest / moments.m2 } else { 0.0 }
    };
    let told = moments.iter().zip(names).map(|(moments, name)| (share_of_one(moments), name));
    told.filter(|(share, _)| *share > MOST)
        .map(|(share, name)| {
            let percent = (100.0 * share).min(100.0);
            format!(
                "one value makes up {percent:.0} % of the variance of column `{name}`, beside which the others hardly differ; \
                 clip it, or choose prepare.scale: robust or log1p_zscore"
            )
        })
        .collect()
}

/// Weights that are coarse on the grid of the largest one.
pub(crate) fn weight_notes(profile: &Profile) -> Result<Vec<String>, ClusteringError> {
    let (Some(least), Some(largest)) = (profile.least_weight(), profile.max_weight()) else {
        return Ok(Vec::new());
    };
    if least < libm::ldexp(largest, REFUSED - WEIGHT_BITS) {
        return Err(ClusteringError::WeightLost { least, largest });
    }
    let is_coarse = least < libm::ldexp(largest, WORTH_A_WORD - WEIGHT_BITS);
    let note = format!("the smallest weight is {:.0e} of the largest, and was rounded beside it", least / largest);
    Ok(if is_coarse { vec![note] } else { Vec::new() })
}
