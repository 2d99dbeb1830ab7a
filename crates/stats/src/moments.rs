//! Count, mean, variance and range of one column.

/// The moments of one column of one block, or of several blocks put together in block order.
///
/// Within a block the values are added in row order, twice: once for the mean, once for the squares about it. Blocks are
/// joined by the formula of Chan, Golub & LeVeque (1979), which keeps the digits that a sum of squares would lose.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ColumnMoments {
    /// Values that are there.
    pub n_values: u64,
    /// Values that are missing (NaN).
    pub n_missing: u64,
    /// Mean of the values.
    pub mean: f64,
    /// Sum of the squared differences from the mean.
    pub m2: f64,
    /// Smallest value, +inf when there is none.
    pub min: f64,
    /// Largest value, -inf when there is none.
    pub max: f64,
}

impl ColumnMoments {
    /// No values at all.
    pub const EMPTY: Self =
        Self { n_values: 0, n_missing: 0, mean: 0.0, m2: 0.0, min: f64::INFINITY, max: f64::NEG_INFINITY };

    /// The moments of a column in row order; NaN counts as missing.
    pub fn of(values: impl Iterator<Item = f64> + Clone) -> Self {
        let mut moments = Self::EMPTY;
        let mut sum = 0.0;
        for value in values.clone() {
            if value.is_nan() {
                moments.n_missing += 1;
                continue;
            }
            moments.n_values += 1;
            sum += value;
            moments.min = moments.min.min(value);
            moments.max = moments.max.max(value);
        }
        if moments.n_values > 0 {
            moments.mean = sum / moments.n_values as f64;
            let differences = values.filter(|value| !value.is_nan()).map(|value| value - moments.mean);
            moments.m2 = differences.map(|difference| difference * difference).sum();
        }
        moments
    }

    /// Joins the moments of the next block. The order of the calls decides the last bits: go in block order.
    pub fn then(self, next: Self) -> Self {
        let n_missing = self.n_missing + next.n_missing;
        if self.n_values == 0 || next.n_values == 0 {
            let with_values = if self.n_values == 0 { next } else { self };
            return Self { n_missing, ..with_values };
        }
        let n_values = self.n_values + next.n_values;
        let (n_self, n_next, n) = (self.n_values as f64, next.n_values as f64, n_values as f64);
        let delta = next.mean - self.mean;
        Self {
            n_values,
            n_missing,
            mean: self.mean + delta * (n_next / n),
            m2: self.m2 + next.m2 + delta * delta * (n_self * n_next / n),
            min: self.min.min(next.min),
            max: self.max.max(next.max),
        }
    }

    /// Population variance (ddof 0); 0 when there is no value.
    pub fn variance(&self) -> f64 {
        if self.n_values == 0 { 0.0 } else { self.m2 / self.n_values as f64 }
    }

    /// Population standard deviation (ddof 0).
    pub fn standard_deviation(&self) -> f64 {
        libm::sqrt(self.variance())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_in_order_agree_with_numpy() {
        // numpy: x = 1e6 + np.arange(10) ** 2; x.mean(), x.var()
        let values: Vec<f64> = (0..10).map(|i| 1e6 + f64::from(i * i)).collect();
        let (first, second) = values.split_at(3);
        let moments = ColumnMoments::of(first.iter().copied()).then(ColumnMoments::of(second.iter().copied()));
        assert_eq!(moments.mean, 1_000_028.5);
        assert!((moments.variance() - 721.05).abs() < 1e-9);
        assert_eq!((moments.min, moments.max), (1e6, 1e6 + 81.0));
    }

    #[test]
    fn missing_values_are_counted_and_not_added() {
        let moments =
            ColumnMoments::of([f64::NAN, 2.0, 4.0].into_iter()).then(ColumnMoments::of([f64::NAN].into_iter()));
        assert_eq!((moments.n_values, moments.n_missing, moments.mean, moments.variance()), (2, 2, 3.0, 1.0));
        assert_eq!(ColumnMoments::EMPTY.then(moments), moments);
    }
}
