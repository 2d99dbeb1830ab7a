//! Random numbers as a function of what they are for.

/// One block of Philox4x32-10.
///
/// Source: Salmon, Moraes, Dror & Shaw, "Parallel random numbers: as easy as 1, 2, 3" (SC 2011).
pub fn philox4x32_10(mut counter: [u32; 4], mut key: [u32; 2]) -> [u32; 4] {
    for _ in 0..10 {
        let low = u64::from(counter[0]) * 0xD251_1F53;
        let high = u64::from(counter[2]) * 0xCD9E_8D57;
        counter = [
            (high >> 32) as u32 ^ counter[1] ^ key[0],
            high as u32,
            (low >> 32) as u32 ^ counter[3] ^ key[1],
            low as u32,
        ];
        key = [key[0].wrapping_add(0x9E37_79B9), key[1].wrapping_add(0xBB67_AE85)];
    }
    counter
}

/// N blocks of Philox4x32-10 under one key, in a form that compilers turn into vector instructions.
#[inline(always)]
fn philox4x32_10_lanes<const N: usize>(mut counters: [[u32; N]; 4], mut key: [u32; 2]) -> [[u32; N]; 4] {
    for _ in 0..10 {
        let [a, b, c, d] = counters;
        let high: [u64; N] = std::array::from_fn(|lane| u64::from(a[lane]) * 0xD251_1F53);
        let low: [u64; N] = std::array::from_fn(|lane| u64::from(c[lane]) * 0xCD9E_8D57);
        counters = [
            std::array::from_fn(|lane| (low[lane] >> 32) as u32 ^ b[lane] ^ key[0]),
            std::array::from_fn(|lane| low[lane] as u32),
            std::array::from_fn(|lane| (high[lane] >> 32) as u32 ^ d[lane] ^ key[1]),
            std::array::from_fn(|lane| high[lane] as u32),
        ];
        key = [key[0].wrapping_add(0x9E37_79B9), key[1].wrapping_add(0xBB67_AE85)];
    }
    counters
}

/// Blocks that are computed together.
const PAIRS: usize = 8;

/// A stream of random numbers with one number for each row of the data set.
///
/// Because the number depends on seed, stream and row alone, it does not matter which worker holds the row or when it
/// is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RandomStream {
    /// The job's seed.
    pub seed: u64,
    /// What the numbers are for, for instance start and round.
    pub stream: u64,
}

impl RandomStream {
    /// A number strictly between 0 and 1, one of 2^53 equally likely ones.
    pub fn uniform(self, row: u64) -> f64 {
        let pair = row / 2;
        let counter = [pair as u32, (pair >> 32) as u32, self.stream as u32, (self.stream >> 32) as u32];
        let bits = philox4x32_10(counter, [self.seed as u32, (self.seed >> 32) as u32]);
        // A block has 128 bits, enough for two rows.
        if row.is_multiple_of(2) { uniform(bits[0], bits[1]) } else { uniform(bits[2], bits[3]) }
    }

    /// The numbers of sixteen rows from `first` on, which is even, as [`RandomStream::uniform`] gives them one by one.
    #[inline(always)]
    pub fn uniforms_from(self, first: u64) -> [f64; 2 * PAIRS] {
        let pairs: [u64; PAIRS] = std::array::from_fn(|pair| (first / 2).wrapping_add(pair as u64));
        let (low, high) = (pairs.map(|pair| pair as u32), pairs.map(|pair| (pair >> 32) as u32));
        let counters = [low, high, [self.stream as u32; PAIRS], [(self.stream >> 32) as u32; PAIRS]];
        let bits = philox4x32_10_lanes(counters, [self.seed as u32, (self.seed >> 32) as u32]);
        let number = |lane: usize| {
            let (pair, half) = (lane / 2, 2 * (lane % 2));
            uniform(bits[half][pair], bits[half + 1][pair])
        };
        std::array::from_fn(number)
    }

    /// When row `row` arrives in an exponential race: exponential with rate `weight`, so that the row which arrives
    /// first is a draw with probability proportional to the weights, and the first n are n draws without replacement
    /// (Efraimidis & Spirakis 2006). A weight of 0 never arrives.
    pub fn arrival(self, row: u64, weight: f64) -> f64 {
        if weight > 0.0 { -libm::log(self.uniform(row)) / weight } else { f64::INFINITY }
    }
}

/// 53 of 64 random bits as a number strictly between 0 and 1.
#[inline(always)]
fn uniform(high: u32, low: u32) -> f64 {
    let bits = (u64::from(high) << 32 | u64::from(low)) >> 11;
    // From 2^52 on a half is rounded to even, for the greatest number up to 1.
    ((bits as f64 + 0.5) / (1u64 << 53) as f64).min(1.0 - f64::EPSILON / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gives_the_known_answers() {
        // The known-answer vectors of the authors' Random123 library.
        assert_eq!(philox4x32_10([0; 4], [0; 2]), [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]);
        let counter = [0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344];
        let expected = [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1];
        assert_eq!(philox4x32_10(counter, [0xa409_3822, 0x299f_31d0]), expected);
    }

    #[test]
    fn many_at_once_are_the_same_numbers() {
        let stream = RandomStream { seed: u64::MAX - 5, stream: 1 << 40 };
        for first in [0, 2, 1_024, (1 << 32) - 6, 1 << 33, u64::MAX - 15] {
            let one_by_one: [f64; 16] = std::array::from_fn(|lane| stream.uniform(first + lane as u64));
            assert_eq!(stream.uniforms_from(first), one_by_one);
        }
    }

    #[test]
    fn the_first_to_arrive_is_a_weighted_draw() {
        let weights = [1.0, 0.0, 3.0, 6.0];
        let mut wins = [0u32; 4];
        for stream in 0..20_000 {
            let race = RandomStream { seed: 7, stream };
            let arrival = |row: &usize| race.arrival(*row as u64, weights[*row]);
            let winner = (0..4).min_by(|a, b| arrival(a).total_cmp(&arrival(b))).expect("four rows");
            wins[winner] += 1;
        }
        // Expected 2,000, 0, 6,000, 12,000; five standard deviations are at most 350.
        for (won, weight) in wins.iter().zip(weights) {
            assert!((f64::from(*won) - 2_000.0 * weight).abs() < 350.0, "{wins:?}");
        }
    }
}
