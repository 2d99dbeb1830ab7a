//! How many get how far.

use shoal_domain::Merge;

/// Steps that visits should take in this order, other things in between allowed, and how many visits took the first one, the first two,
/// and so on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Funnel {
    steps: Vec<u16>,
    /// Visits that came so far, by step.
    pub n_visits: Vec<u64>,
}

impl Funnel {
    /// Of no visits.
    pub fn new(steps: Vec<u16>) -> Self {
        Self { n_visits: vec![0; steps.len()], steps }
    }

    /// The steps, and how many visits came so far.
    pub fn steps(&self) -> impl Iterator<Item = (usize, u64)> + '_ {
        self.steps.iter().map(|state| usize::from(*state)).zip(self.n_visits.iter().copied())
    }

    /// Adds a visit.
    pub fn add(&mut self, visit: &[u16]) {
        let mut reached = 0;
        for state in visit {
            if self.steps.get(reached) == Some(state) {
                self.n_visits[reached] += 1;
                reached += 1;
            }
        }
    }
}

impl Merge for Funnel {
    fn merge(&mut self, other: Self) {
        debug_assert_eq!(self.steps, other.steps);
        self.n_visits.iter_mut().zip(other.n_visits).for_each(|(sum, n_visits)| *sum += n_visits);
    }
}
