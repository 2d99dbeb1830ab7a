//! Scores from 1 to 5 for recency, frequency and monetary value, and what marketers call their cells.

/// The column that names the cell of recency and frequency.
pub(crate) const CELL: &str = "rfm_cell";

/// What is scored.
pub(super) const SCORED: [&str; 3] = ["recency", "frequency", "monetary"];
/// The scores, in the same order; 5 is best.
pub(super) const SCORES: [&str; 3] = ["recency_score", "frequency_score", "monetary_score"];

/// The quintile of each value, 1 for the lowest: 1 and how many of the four inner edges lie below it, so that equal values have equal
/// scores. Edges are quantiles with linear interpolation, as in pandas' `qcut`, whose bins these are where all edges differ. A value
/// that is missing has no score.
pub(super) fn quintiles(values: &[f64]) -> Vec<Option<u8>> {
    let mut sorted: Vec<f64> = values.iter().copied().filter(|value| !value.is_nan()).collect();
    sorted.sort_unstable_by(f64::total_cmp);
    let edges: Vec<f64> = (1..5).map(|fifth| quantile(&sorted, fifth as f64 / 5.0)).collect();
    let score = |value: f64| 1 + edges.iter().filter(|edge| **edge < value).count() as u8;
    values.iter().map(|value| (!value.is_nan()).then(|| score(*value))).collect()
}

/// By linear interpolation between order statistics.
fn quantile(sorted: &[f64], share: f64) -> f64 {
    let Some(last) = sorted.len().checked_sub(1) else { return f64::NAN };
    let place = share * last as f64;
    let (below, above) = (sorted[place as usize], sorted[(place as usize + 1).min(last)]);
    below + (above - below) * place.fract()
}

/// The best score for what is lowest.
pub(super) fn reversed(scores: Vec<Option<u8>>) -> Vec<Option<u8>> {
    scores.into_iter().map(|score| score.map(|score| 6 - score)).collect()
}

/// The name of a cell by the scores of recency and frequency; every pair has one.
pub(super) fn cell(recency: u8, frequency: u8) -> &'static str {
    match (recency, frequency) {
        (5, 4 | 5) => "champions",
        (3 | 4, 4 | 5) => "loyal",
        (4 | 5, 2 | 3) => "potential loyalists",
        (5, _) => "new",
        (4, _) => "promising",
        (3, 3) => "need attention",
        (3, _) => "about to sleep",
        (_, 5) => "cannot lose them",
        (_, 3 | 4) => "at risk",
        _ => "hibernating",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_values_have_equal_scores() {
        // pandas.qcut(range(1, 11), 5) has the edges 2.8, 4.6, 6.4 and 8.2.
        let values: Vec<f64> = (1..=10).map(f64::from).collect();
        let scores: Vec<u8> = quintiles(&values).into_iter().flatten().collect();
        assert_eq!(scores, [1, 1, 2, 2, 3, 3, 4, 4, 5, 5]);
        assert_eq!(quintiles(&[4.0, f64::NAN, 4.0]), [Some(1), None, Some(1)]);
        assert_eq!(reversed(quintiles(&[])), []);
    }
}
