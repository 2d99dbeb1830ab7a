//! The exact sum of many integers times powers of two.

use crate::ExactSum;
use shoal_domain::Merge;

/// Powers that terms may have: those of [`ExactSum`].
const LOWEST_POWER: i32 = -1074;
const N_POWERS: usize = 2098;
/// Terms below 2^112 in magnitude that 128 bits hold the sum of.
const TERMS_MAX: u32 = 1 << 15;

/// Sums integers times powers of two without rounding, a few instructions a term: integers of the same power are added in
/// 128 bits, and brought together at the end. What [`ExactSum`] is for one number a block, this is for one a value.
#[derive(Debug, Clone)]
pub struct ExactTerms {
    /// One a power.
    sums: Box<[i128]>,
    n_terms: u32,
    settled: ExactSum,
}

impl Default for ExactTerms {
    fn default() -> Self {
        Self { sums: vec![0; N_POWERS].into(), n_terms: 0, settled: ExactSum::default() }
    }
}

impl ExactTerms {
    /// Adds `factor x integer x 2^power`, whose factor is below 2^48 in magnitude.
    #[inline]
    pub fn add(&mut self, factor: i64, integer: i128, power: i32) {
        debug_assert!(factor.unsigned_abs() < 1 << 48, "{factor} is too large a factor");
        match i64::try_from(integer) {
            Ok(integer) => self.add_term(i128::from(factor) * i128::from(integer), power),
            Err(_) => {
                let low = integer & i128::from(u32::MAX);
                let middle = integer >> 32 & i128::from(u32::MAX);
                self.add_term(i128::from(factor) * low, power);
                self.add_term(i128::from(factor) * middle, power + 32);
                self.add_term(i128::from(factor) * (integer >> 64), power + 64);
            }
        }
    }

    #[inline]
    fn add_term(&mut self, term: i128, power: i32) {
        self.sums[(power - LOWEST_POWER) as usize] += term;
        self.n_terms += 1;
        if self.n_terms == TERMS_MAX {
            self.settle();
        }
    }

    fn settle(&mut self) {
        for (sum, power) in self.sums.iter_mut().zip(LOWEST_POWER..).filter(|(sum, _)| **sum != 0) {
            self.settled.add_integer(*sum, power);
            *sum = 0;
        }
        self.n_terms = 0;
    }

    /// The sum.
    pub fn total(mut self) -> ExactSum {
        self.settle();
        self.settled
    }
}

impl Merge for ExactTerms {
    fn merge(&mut self, other: Self) {
        self.settled.merge(other.total());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// The same as one exact sum of all the products, however large the integers are and how many.
        #[test]
        fn terms_add_like_their_products(
            terms in prop::collection::vec((-(1i64 << 48) + 1..1 << 48, any::<i128>(), 0u32..100, -900i32..700), 1..50),
            repeats in prop::sample::select(vec![1usize, 2 * TERMS_MAX as usize]),
        ) {
            let terms = terms.into_iter().map(|(factor, integer, shift, power)| (factor, integer >> shift, power));
            let (mut quick, mut plain) = (ExactTerms::default(), ExactSum::default());
            for (factor, integer, power) in terms {
                for _ in 0..repeats {
                    quick.add(factor, integer, power);
                }
                // In halves, so that no product needs more than 128 bits.
                let repeats = repeats as i128;
                plain.add_integer(i128::from(factor) * repeats * (integer & i128::from(u32::MAX)), power);
                plain.add_integer(i128::from(factor) * repeats * (integer >> 32 & i128::from(u32::MAX)), power + 32);
                plain.add_integer(i128::from(factor) * repeats * (integer >> 64 & i128::from(u32::MAX)), power + 64);
                plain.add_integer(i128::from(factor) * repeats * (integer >> 96), power + 96);
            }
            prop_assert_eq!(quick.total().to_digits(), plain.to_digits());
        }
    }
}
