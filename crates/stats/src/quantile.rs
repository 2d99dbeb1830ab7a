//! Exact quantiles of data that no single machine holds, by counting digits.
//!
//! A float64 is turned into an integer of the same order, and the integer of each wanted rank is found digit by digit
//! from the highest: one pass counts the values under every possible next digit. Counts merge by addition, so the answer
//! is exact and does not depend on where the rows are. Six passes of 11 bits keep a message small.

use shoal_domain::Merge;

const DIGIT_BITS: u32 = 11;
/// Possible values of a digit.
pub const DIGIT_BUCKETS: usize = 1 << DIGIT_BITS;

/// The numbers of one column that begin with the digits found so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DigitQuery {
    /// The column.
    pub column: usize,
    /// How many leading bits are known.
    pub known_bits: u32,
    /// Their value.
    pub prefix: u64,
}

impl DigitQuery {
    fn digit_bits(&self) -> u32 {
        DIGIT_BITS.min(u64::BITS - self.known_bits)
    }

    /// The next digit of a value, when its known bits agree.
    fn digit_of(&self, value: f64) -> Option<usize> {
        let key = ordered_bits(value);
        let matches = self.known_bits == 0 || key >> (u64::BITS - self.known_bits) == self.prefix;
        let shift = u64::BITS - self.known_bits - self.digit_bits();
        matches.then_some((key >> shift) as usize & (DIGIT_BUCKETS - 1) & ((1 << self.digit_bits()) - 1))
    }
}

/// How many values have each next digit, one histogram a query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DigitCounts(pub Vec<Vec<u64>>);

impl DigitCounts {
    /// No counts yet.
    pub fn new(n_queries: usize) -> Self {
        Self(vec![vec![0; DIGIT_BUCKETS]; n_queries])
    }

    /// Counts the values of one column of one block for query `query_idx`; missing values do not count.
    pub fn count(&mut self, query_idx: usize, query: &DigitQuery, values: impl Iterator<Item = f64>) {
        for value in values.filter(|value| !value.is_nan()) {
            if let Some(digit) = query.digit_of(value) {
                self.0[query_idx][digit] += 1;
            }
        }
    }
}

impl Merge for DigitCounts {
    fn merge(&mut self, other: Self) {
        for (counts, more) in self.0.iter_mut().zip(other.0) {
            counts.iter_mut().zip(more).for_each(|(count, more)| *count += more);
        }
    }
}

/// The search for some quantiles of some columns: asks [`QuantileSearch::queries`], takes the counts, until done.
#[derive(Debug)]
pub struct QuantileSearch {
    targets: Vec<Target>,
}

/// One order statistic that is being searched: the value with `rank` smaller ones before it.
#[derive(Debug)]
struct Target {
    query: DigitQuery,
    rank: u64,
}

impl QuantileSearch {
    /// Searches for each (column, number of values, quantile) two neighbours in rank, as linear interpolation needs
    /// (numpy's default method). Columns must have at least one value.
    pub fn new(wanted: &[(usize, u64, f64)]) -> Self {
        let mut targets = Vec::new();
        for &(column, n_values, quantile) in wanted {
            let position = quantile * (n_values - 1) as f64;
            for rank in [position.floor() as u64, position.ceil() as u64] {
                targets.push(Target { query: DigitQuery { column, known_bits: 0, prefix: 0 }, rank });
            }
        }
        Self { targets }
    }

    /// What to count next; empty when every value is known.
    pub fn queries(&self) -> Vec<DigitQuery> {
        self.targets.iter().map(|target| target.query).filter(|query| query.known_bits < u64::BITS).collect()
    }

    /// Takes the counts of [`QuantileSearch::queries`], in the same order.
    pub fn advance(&mut self, counts: &DigitCounts) {
        for (target, counts) in self.targets.iter_mut().zip(&counts.0) {
            let mut digit = 0;
            while digit + 1 < counts.len() && target.rank >= counts[digit] {
                target.rank -= counts[digit];
                digit += 1;
            }
            let bits = target.query.digit_bits();
            target.query.prefix = target.query.prefix << bits | digit as u64;
            target.query.known_bits += bits;
        }
    }

    /// The quantiles, in the order of `wanted` in [`QuantileSearch::new`].
    pub fn values(&self, wanted: &[(usize, u64, f64)]) -> Vec<f64> {
        let value_of = |target: &Target| from_ordered_bits(target.query.prefix);
        let interpolate = |(pair, &(_, n_values, quantile)): (&[Target], &(usize, u64, f64))| {
            let (low, high) = (value_of(&pair[0]), value_of(&pair[1]));
            let position = quantile * (n_values - 1) as f64;
            low + (high - low) * (position - position.floor())
        };
        self.targets.chunks_exact(2).zip(wanted).map(interpolate).collect()
    }
}

/// An integer with the order of the float: negative numbers reversed below positive ones.
fn ordered_bits(value: f64) -> u64 {
    let bits = value.to_bits();
    if value.is_sign_negative() { !bits } else { bits | 1 << 63 }
}

fn from_ordered_bits(key: u64) -> f64 {
    f64::from_bits(if key >> 63 == 1 { key & !(1 << 63) } else { !key })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn search(columns: &[Vec<f64>], wanted: &[(usize, u64, f64)]) -> Vec<f64> {
        let mut search = QuantileSearch::new(wanted);
        loop {
            let queries = search.queries();
            if queries.is_empty() {
                return search.values(wanted);
            }
            let mut counts = DigitCounts::new(queries.len());
            for (idx, query) in queries.iter().enumerate() {
                counts.count(idx, query, columns[query.column].iter().copied());
            }
            search.advance(&counts);
        }
    }

    proptest! {
        #[test]
        fn equals_sorting(mut values in prop::collection::vec(-1e9f64..1e9, 1..200), quantile in 0.0f64..=1.0) {
            let n = values.len() as u64;
            let found = search(&[values.clone()], &[(0, n, quantile)])[0];
            values.sort_by(f64::total_cmp);
            let position = quantile * (n - 1) as f64;
            let (low, high) = (values[position.floor() as usize], values[position.ceil() as usize]);
            prop_assert_eq!(found, low + (high - low) * (position - position.floor()));
        }
    }

    #[test]
    fn several_columns_and_quantiles_at_once() {
        let columns = [vec![3.0, f64::NAN, -1.0, 2.0], vec![0.0, -0.0, 5e-324, 1e300]];
        let wanted = [(0, 3, 0.5), (1, 4, 0.25), (1, 4, 1.0)];
        assert_eq!(search(&columns, &wanted), vec![2.0, 0.0, 1e300]);
    }
}
