//! How blocks should be spread, when some workers have less than their share.

/// What a worker holds of a data set, and how much it should in comparison.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Load {
    pub(crate) n_blocks: usize,
    pub(crate) weight: f64,
}

impl Load {
    /// Whether it holds less than half of its share: one that has come later.
    fn is_low(&self, share: f64) -> bool {
        (self.n_blocks as f64) < share / 2.0
    }
}

/// What evens loads out.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Shift {
    /// How many blocks each worker gives.
    pub(crate) given: Vec<usize>,
    /// The workers that take them.
    pub(crate) takers: Vec<usize>,
}

/// What is to be given to the workers that hold much less than their share; none where nothing is to move. Nobody gives more
/// than it has beyond its own share, so no block moves that need not.
pub(crate) fn shift(loads: &[Load]) -> Option<Shift> {
    let n_blocks: usize = loads.iter().map(|load| load.n_blocks).sum();
    let weight: f64 = loads.iter().map(|load| load.weight).sum();
    let share = |load: &Load| n_blocks as f64 * load.weight / weight;
    let takers: Vec<usize> = (0..loads.len()).filter(|idx| loads[*idx].is_low(share(&loads[*idx]))).collect();
    let lacking = takers.iter().map(|idx| (share(&loads[*idx]) - loads[*idx].n_blocks as f64).round() as usize);
    let mut n_wanted: usize = lacking.sum();
    let mut given = vec![0; loads.len()];
    for (given, load) in given.iter_mut().zip(loads) {
        // Negative where there is nothing to give.
        let surplus = (load.n_blocks as f64 - share(load)).floor().max(0.0) as usize;
        *given = surplus.min(n_wanted);
        n_wanted -= *given;
    }
    given.iter().any(|n| *n > 0).then_some(Shift { given, takers })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn loads() -> impl Strategy<Value = Vec<Load>> {
        let load = (0usize..2_000, 1u32..64).prop_map(|(n_blocks, gib)| Load { n_blocks, weight: f64::from(gib) });
        prop::collection::vec(load, 1..20)
    }

    proptest! {
        /// Blocks go from those that have more than their share to those that have less than half of it, and to nobody else.
        #[test]
        fn only_surplus_moves(loads in loads()) {
            let (n_blocks, weight) = loads.iter().fold((0, 0.0), |(n, weight), load| (n + load.n_blocks, weight + load.weight));
            let share = |idx: usize| n_blocks as f64 * loads[idx].weight / weight;
            match shift(&loads) {
                None => {
                    let is_low = |idx: usize| (loads[idx].n_blocks as f64) < share(idx) / 2.0 && share(idx) - loads[idx].n_blocks as f64 >= loads.len() as f64;
                    prop_assert!(!(0..loads.len()).any(is_low), "a worker that lacks blocks gets none");
                }
                Some(Shift { given, takers }) => {
                    for idx in &takers {
                        prop_assert!((loads[*idx].n_blocks as f64) < share(*idx) / 2.0);
                        prop_assert_eq!(given[*idx], 0);
                    }
                    for (idx, given) in given.iter().enumerate() {
                        prop_assert!(*given == 0 || (loads[idx].n_blocks - given) as f64 >= share(idx));
                    }
                    let lacking: f64 = takers.iter().map(|idx| share(*idx) - loads[*idx].n_blocks as f64).sum();
                    prop_assert!(given.iter().sum::<usize>() as f64 <= lacking + takers.len() as f64);
                }
            }
        }
    }
}
