//! Counts of what follows what.

use shoal_domain::Merge;
use shoal_stats::{MarkovChain, order_bic};
use std::collections::BTreeMap;

/// The longest context that is counted.
pub const MAX_ORDER: usize = 3;

/// Stands for what was before the first state of a visit, and for its end.
const NOTHING: u16 = u16::MAX;

/// Steps of visits, each with what came before it, and the first steps by their place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JourneyCounts {
    n_states: usize,
    /// Visits.
    pub n_visits: u64,
    /// By the last [`MAX_ORDER`] states, the oldest first, and the next one.
    steps: BTreeMap<[u16; MAX_ORDER + 1], u64>,
    /// By place within the visit, for the first `n_places`: from a state to the next one or the end.
    places: BTreeMap<(u16, u16, u16), u64>,
    n_places: usize,
}

impl JourneyCounts {
    /// Of no visits.
    pub fn new(n_states: usize, n_places: usize) -> Self {
        Self { n_states, n_visits: 0, steps: BTreeMap::new(), places: BTreeMap::new(), n_places }
    }

    /// Adds a visit: the numbers of its states in order.
    pub fn add(&mut self, visit: &[u16]) {
        self.n_visits += 1;
        let mut context = [NOTHING; MAX_ORDER];
        for state in visit.iter().copied().chain([NOTHING]) {
            let mut step = [state; MAX_ORDER + 1];
            step[..MAX_ORDER].copy_from_slice(&context);
            *self.steps.entry(step).or_default() += 1;
            context.rotate_left(1);
            context[MAX_ORDER - 1] = state;
        }
        for (place, state) in visit.iter().enumerate().take(self.n_places) {
            let next = visit.get(place + 1).copied().unwrap_or(NOTHING);
            *self.places.entry((place as u16, *state, next)).or_default() += 1;
        }
    }

    /// The chain of order 1.
    pub fn chain(&self) -> MarkovChain {
        let mut chain = MarkovChain::new(self.n_states);
        for (step, count) in &self.steps {
            let [.., before, next] = *step;
            let row = if before == NOTHING { MarkovChain::BEGINNING } else { MarkovChain::row(usize::from(before)) };
            let column = if next == NOTHING { chain.end() } else { usize::from(next) };
            chain.add(row, column, *count);
        }
        chain
    }

    /// The Bayesian information criterion of each order from 1 to [`MAX_ORDER`], on the same steps; the lowest tells best what comes next.
    pub fn bic_by_order(&self) -> [f64; MAX_ORDER] {
        std::array::from_fn(|shorter| {
            let order = shorter + 1;
            let mut contexts: BTreeMap<&[u16], BTreeMap<u16, u64>> = BTreeMap::new();
            for (step, count) in &self.steps {
                let next = contexts.entry(&step[MAX_ORDER - order..MAX_ORDER]).or_default();
                *next.entry(step[MAX_ORDER]).or_default() += count;
            }
            let counts: Vec<Vec<u64>> = contexts.into_values().map(|next| next.into_values().collect()).collect();
            order_bic(counts.iter().map(Vec::as_slice), self.n_states + 1)
        })
    }

    /// Steps by place: place, state, next state or none for the end, visits.
    pub fn flows(&self) -> impl Iterator<Item = (usize, usize, Option<usize>, u64)> + '_ {
        self.places.iter().map(|((place, state, next), count)| {
            let next = (*next != NOTHING).then_some(usize::from(*next));
            (usize::from(*place), usize::from(*state), next, *count)
        })
    }
}

impl Merge for JourneyCounts {
    fn merge(&mut self, other: Self) {
        self.n_visits += other.n_visits;
        for (step, count) in other.steps {
            *self.steps.entry(step).or_default() += count;
        }
        for (place, count) in other.places {
            *self.places.entry(place).or_default() += count;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_of_parts_add_up_and_flow_is_kept() {
        let visits: [&[u16]; 4] = [&[0, 1, 2], &[0, 1, 1, 2], &[2], &[0, 2, 0, 1, 2]];
        let count = |visits: &[&[u16]]| {
            let mut counts = JourneyCounts::new(3, 3);
            visits.iter().for_each(|visit| counts.add(visit));
            counts
        };
        let whole = count(&visits);
        let mut parts = count(&visits[2..]);
        parts.merge(count(&visits[..2]));
        assert_eq!(parts, whole);
        let chain = whole.chain();
        assert_eq!(chain.row_sum(MarkovChain::BEGINNING), 4);
        assert_eq!((0..3).map(|state| chain.count(MarkovChain::row(state), chain.end())).sum::<u64>(), 4);
        // What comes to a state at a place leaves it there.
        for place in 1..3 {
            for state in 0..3 {
                let comes: u64 =
                    whole.flows().filter(|flow| flow.0 + 1 == place && flow.2 == Some(state)).map(|flow| flow.3).sum();
                let leaves: u64 =
                    whole.flows().filter(|flow| flow.0 == place && flow.1 == state).map(|flow| flow.3).sum();
                assert_eq!(comes, leaves, "state {state} at place {place}");
            }
        }
    }
}
