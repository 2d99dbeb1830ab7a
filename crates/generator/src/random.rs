//! Draws from distributions, one after the other, from a stream that belongs to one person.

use shoal_stats::RandomStream;

/// Random numbers of one person: a function of seed, purpose and person alone, so that people can be made in any order and on any
/// number of threads.
pub(crate) struct Draws {
    stream: RandomStream,
    next: u64,
}

impl Draws {
    pub(crate) fn new(seed: u64, person: u64) -> Self {
        Self { stream: RandomStream { seed, stream: person }, next: 0 }
    }

    /// Strictly between 0 and 1.
    pub(crate) fn uniform(&mut self) -> f64 {
        let number = self.stream.uniform(self.next);
        self.next += 1;
        number
    }

    pub(crate) fn chance(&mut self, probability: f64) -> bool {
        self.uniform() < probability
    }

    /// A whole number below `n`.
    pub(crate) fn below(&mut self, n: u64) -> u64 {
        ((self.uniform() * n as f64) as u64).min(n - 1)
    }

    /// One of the positions, by weights that need not sum to 1.
    pub(crate) fn pick(&mut self, weights: &[f64]) -> usize {
        let mut left = self.uniform() * weights.iter().sum::<f64>();
        for (idx, weight) in weights.iter().enumerate() {
            left -= weight;
            if left < 0.0 {
                return idx;
            }
        }
        weights.len() - 1
    }

    /// By the mean.
    pub(crate) fn exponential(&mut self, mean: f64) -> f64 {
        -mean * libm::log(self.uniform())
    }

    /// Box & Muller (1958); of the pair one is used.
    pub(crate) fn normal(&mut self) -> f64 {
        let radius = (-2.0 * libm::log(self.uniform())).sqrt();
        radius * libm::cos(2.0 * std::f64::consts::PI * self.uniform())
    }

    /// By mean and standard deviation of the logarithm.
    pub(crate) fn lognormal(&mut self, mean: f64, deviation: f64) -> f64 {
        libm::exp(mean + deviation * self.normal())
    }

    /// By shape, with mean 1. Marsaglia & Tsang (2000); below shape 1 by their boost of a larger shape.
    pub(crate) fn gamma_of_mean_one(&mut self, shape: f64) -> f64 {
        if shape < 1.0 {
            let boosted = self.gamma(shape + 1.0);
            return boosted * libm::pow(self.uniform(), 1.0 / shape) / shape;
        }
        self.gamma(shape) / shape
    }

    /// Of shape 1 or more, with scale 1.
    fn gamma(&mut self, shape: f64) -> f64 {
        let d = shape - 1.0 / 3.0;
        let c = 1.0 / (9.0 * d).sqrt();
        loop {
            let x = self.normal();
            let v = (1.0 + c * x).powi(3);
            if v > 0.0 && libm::log(self.uniform()) < 0.5 * x * x + d - d * v + d * libm::log(v) {
                return d * v;
            }
        }
    }

    /// At least 1, with the mean `mean`.
    pub(crate) fn geometric(&mut self, mean: f64) -> u64 {
        if mean <= 1.0 {
            return 1;
        }
        1 + (libm::log(self.uniform()) / libm::log1p(-1.0 / mean)) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Mean and variance of many draws.
    fn moments(draw: impl Fn(&mut Draws) -> f64) -> (f64, f64) {
        let n = 200_000;
        let mut draws = Draws::new(3, 5);
        let values: Vec<f64> = (0..n).map(|_| draw(&mut draws)).collect();
        let mean = values.iter().sum::<f64>() / f64::from(n);
        (mean, values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / f64::from(n))
    }

    #[test]
    fn distributions_have_their_moments() {
        let check = |what: &str, (mean, variance): (f64, f64), wanted: (f64, f64)| {
            let near = |value: f64, wanted: f64| (value - wanted).abs() < 0.03 * wanted.max(0.3);
            assert!(near(mean, wanted.0) && near(variance, wanted.1), "{what}: {mean} {variance}");
        };
        check("exponential", moments(|draws| draws.exponential(2.0)), (2.0, 4.0));
        check("normal", moments(|draws| draws.normal()), (0.0, 1.0));
        check("gamma 0.5", moments(|draws| draws.gamma_of_mean_one(0.5)), (1.0, 2.0));
        check("gamma 3", moments(|draws| draws.gamma_of_mean_one(3.0)), (1.0, 1.0 / 3.0));
        check("geometric", moments(|draws| draws.geometric(4.0) as f64), (4.0, 12.0));
        check("pick", moments(|draws| draws.pick(&[1.0, 0.0, 3.0]) as f64), (1.5, 0.75));
    }
}
