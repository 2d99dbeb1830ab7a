//! A sum of float64 numbers without rounding, so that it does not depend on their order.

use shoal_domain::Merge;

/// 32-bit digits that cover every finite float64 (2^-1074 to 2^1024) and leave 2^64 of headroom.
const N_DIGITS: usize = 68;
const DIGIT_BITS: u32 = 32;
/// The weight of the lowest digit's lowest bit, as a power of two.
const LOWEST_EXPONENT: i32 = -1074;
/// An addition changes a digit by less than 2^32, so an i64 digit holds 2^31 of them; carries are settled before that.
const MAX_UNSETTLED: u32 = 1 << 30;

/// The exact sum of any finite float64 values, rounded once when it is read.
///
/// Source: R. M. Neal, "Fast exact summation using small and large superaccumulators" (2015), the small one. An addition
/// costs about ten instructions and the sum 552 bytes, so it is meant for one number a block, not one a row.
#[derive(Debug, Clone)]
pub struct ExactSum {
    /// Signed digits, lowest first.
    digits: [i64; N_DIGITS],
    unsettled: u32,
}

impl Default for ExactSum {
    fn default() -> Self {
        Self { digits: [0; N_DIGITS], unsettled: 0 }
    }
}

impl ExactSum {
    /// Adds a finite number; an infinite one or NaN is a caller's error.
    pub fn add(&mut self, value: f64) {
        debug_assert!(value.is_finite(), "an exact sum holds finite numbers only");
        let bits = value.to_bits();
        let biased_exponent = ((bits >> 52) & 0x7ff) as u32;
        let fraction = (bits & ((1 << 52) - 1)) as i128;
        // A normal number has a hidden leading bit; a subnormal one has the exponent of the smallest normal one.
        let (mantissa, position) = match biased_exponent {
            0 => (fraction, 0),
            _ => (fraction | (1 << 52), biased_exponent - 1),
        };
        let signed = if value.is_sign_negative() { -mantissa } else { mantissa };
        let shifted = signed << (position % DIGIT_BITS);
        let first = (position / DIGIT_BITS) as usize;
        self.digits[first] += (shifted & 0xffff_ffff) as i64;
        self.digits[first + 1] += ((shifted >> 32) & 0xffff_ffff) as i64;
        self.digits[first + 2] += (shifted >> 64) as i64;
        self.count_addition();
    }

    /// Adds `value x 2^exponent`. The product must lie within what float64 numbers cover: no bit below 2^-1074, none from
    /// 2^1024 on.
    pub fn add_integer(&mut self, value: i128, exponent: i32) {
        let position = u32::try_from(exponent - LOWEST_EXPONENT).expect("no bit lies below the lowest digit");
        let (first, shift) = ((position / DIGIT_BITS) as usize, position % DIGIT_BITS);
        let magnitude = value.unsigned_abs();
        let sign = if value < 0 { -1 } else { 1 };
        let (low, high) = (magnitude << shift, magnitude.checked_shr(128 - shift).unwrap_or(0));
        for digit in 0..4 {
            self.digits[first + digit] += sign * ((low >> (DIGIT_BITS * digit as u32)) & 0xffff_ffff) as i64;
        }
        self.digits[first + 4] += sign * high as i64;
        self.count_addition();
    }

    fn count_addition(&mut self) {
        self.unsettled += 1;
        if self.unsettled == MAX_UNSETTLED {
            self.settle();
        }
    }

    /// The sum, rounded to the nearest float64.
    pub fn value(&self) -> f64 {
        let mut settled = self.clone();
        settled.settle();
        let negative = settled.digits[N_DIGITS - 1] < 0;
        if negative {
            settled.digits.iter_mut().for_each(|digit| *digit = -*digit);
            settled.settle();
        }
        let Some(top) = settled.digits.iter().rposition(|digit| *digit != 0) else {
            return 0.0;
        };
        // The three highest digits hold at least 65 significant bits; what lies below only decides a tie.
        let low = top.saturating_sub(2);
        let mut head: u128 = 0;
        for digit in settled.digits[low..=top].iter().rev() {
            head = (head << DIGIT_BITS) | *digit as u128;
        }
        let has_tail = settled.digits[..low].iter().any(|digit| *digit != 0);
        let rounded = (head | u128::from(has_tail)) as f64;
        let magnitude = libm::ldexp(rounded, LOWEST_EXPONENT + (low as i32) * DIGIT_BITS as i32);
        if negative { -magnitude } else { magnitude }
    }

    /// The digits in their only settled form, for sending: equal sums have equal digits.
    pub fn to_digits(&self) -> Vec<i64> {
        let mut settled = self.clone();
        settled.settle();
        settled.digits.to_vec()
    }

    /// The sum of [`ExactSum::to_digits`]; none when the number of digits or their size is wrong.
    pub fn from_digits(digits: &[i64]) -> Option<Self> {
        let digits: [i64; N_DIGITS] = digits.try_into().ok()?;
        let is_settled = digits[..N_DIGITS - 1].iter().all(|digit| (0..1 << DIGIT_BITS).contains(digit));
        (is_settled && digits[N_DIGITS - 1].unsigned_abs() < 1 << DIGIT_BITS).then_some(Self { digits, unsettled: 1 })
    }

    /// Carries, so that every digit but the highest lies in 0..2^32.
    fn settle(&mut self) {
        let mut carry = 0;
        for digit in &mut self.digits[..N_DIGITS - 1] {
            let total = *digit + carry;
            *digit = total & 0xffff_ffff;
            carry = total >> DIGIT_BITS;
        }
        self.digits[N_DIGITS - 1] += carry;
        self.unsettled = 1;
    }
}

impl Merge for ExactSum {
    fn merge(&mut self, other: Self) {
        if self.unsettled + other.unsettled >= MAX_UNSETTLED {
            self.settle();
        }
        for (digit, more) in self.digits.iter_mut().zip(other.digits) {
            *digit += more;
        }
        self.unsettled += other.unsettled;
    }
}

impl FromIterator<f64> for ExactSum {
    fn from_iter<I: IntoIterator<Item = f64>>(values: I) -> Self {
        let mut sum = Self::default();
        values.into_iter().for_each(|value| sum.add(value));
        sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn cancels_what_float_addition_loses() {
        let check = |values: &[f64], expected: f64| {
            let sum: ExactSum = values.iter().copied().collect();
            assert_eq!(sum.value(), expected, "{values:?}");
        };
        check(&[], 0.0);
        check(&[0.1, -0.1], 0.0);
        check(&[1e308, 1.0, -1e308], 1.0);
        check(&[1e16, 1.0, 1.0, -1e16], 2.0);
        check(&[0.1; 10], 1.0); // the float loop gives 0.9999999999999999, Python's math.fsum 1.0
        check(&[f64::MIN_POSITIVE / 4.0, -1.0], -1.0);
        check(&[5e-324, 5e-324], 1e-323);
        check(&[-1.5, -2.25], -3.75);
        check(&[1.0, 2f64.powi(-53), 2f64.powi(-105)], 1.0 + f64::EPSILON);
    }

    #[test]
    fn integers_of_any_scale_add_like_numbers() {
        let mut sum = ExactSum::default();
        sum.add_integer(i128::MAX, -200);
        sum.add_integer(-i128::MAX, -200);
        sum.add_integer(3, -2);
        sum.add_integer(-(1 << 100), 31);
        sum.add(2f64.powi(131));
        assert_eq!(sum.value(), 0.75);
        sum.add_integer(i128::MIN, -127);
        assert_eq!(sum.value(), -0.25);
        sum.add_integer(1, LOWEST_EXPONENT);
        sum.add(0.25);
        assert_eq!(sum.value(), 5e-324);
    }

    proptest! {
        #[test]
        fn does_not_depend_on_order_or_grouping(values in prop::collection::vec(prop::num::f64::NORMAL, 1..60), cut in 0usize..60) {
            let values: Vec<f64> = values.into_iter().map(|value| value % 1e300).collect();
            let forward: ExactSum = values.iter().copied().collect();
            let cut = cut % values.len();
            let mut parts: ExactSum = values[cut..].iter().rev().copied().collect();
            parts.merge(values[..cut].iter().copied().collect());
            prop_assert_eq!(forward.to_digits(), parts.to_digits());
            let sent = ExactSum::from_digits(&parts.to_digits()).expect("settled digits");
            prop_assert_eq!(forward.value().to_bits(), sent.value().to_bits());
        }
    }
}
