//! What is said about a few numbers in order.

/// The mean; NaN of nothing.
pub(super) fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// The median, of an even number the mean of the two in the middle; NaN of nothing.
pub(super) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    match sorted.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => sorted[n / 2],
        n => (sorted[n / 2 - 1] + sorted[n / 2]) / 2.0,
    }
}

/// The standard deviation (of the population) by the mean; NaN of fewer than two values or of a mean of zero.
pub(super) fn variation(values: &[f64]) -> f64 {
    let mean = mean(values);
    if values.len() < 2 || mean == 0.0 {
        return f64::NAN;
    }
    let squares: f64 = values.iter().map(|value| (value - mean) * (value - mean)).sum();
    (squares / values.len() as f64).sqrt() / mean
}

/// The slope of the least-squares line through the values at 0, 1, 2, ..; NaN of fewer than two.
pub(super) fn slope(values: &[f64]) -> f64 {
    if values.len() < 2 {
        return f64::NAN;
    }
    let middle = (values.len() - 1) as f64 / 2.0;
    let mean = mean(values);
    let (mut products, mut squares) = (0.0, 0.0);
    for (position, value) in values.iter().enumerate() {
        let distance = position as f64 - middle;
        products += distance * (value - mean);
        squares += distance * distance;
    }
    products / squares
}

/// The differences of neighbours.
pub(super) fn gaps(times: impl Iterator<Item = i64> + Clone, unit: f64) -> Vec<f64> {
    times.clone().zip(times.skip(1)).map(|(one, next)| (next - one) as f64 / unit).collect()
}
