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

/// How many blocks each worker gives to those that hold much less than their share, and which these are; none where
/// nothing is to move. Nobody gives more than it has beyond its own share, so no block moves that need not.
pub(crate) fn moves(loads: &[Load]) -> Option<(Vec<usize>, Vec<usize>)> {
    let n_blocks: usize = loads.iter().map(|load| load.n_blocks).sum();
    let weight: f64 = loads.iter().map(|load| load.weight).sum();
    let share = |load: &Load| n_blocks as f64 * load.weight / weight;
    let low: Vec<usize> = (0..loads.len()).filter(|idx| loads[*idx].is_low(share(&loads[*idx]))).collect();
    let lacking = low.iter().map(|idx| (share(&loads[*idx]) - loads[*idx].n_blocks as f64).round() as usize);
    let mut n_wanted: usize = lacking.sum();
    let mut given = vec![0; loads.len()];
    for (given, load) in given.iter_mut().zip(loads) {
        // Negative where there is nothing to give.
        let surplus = (load.n_blocks as f64 - share(load)).floor().max(0.0) as usize;
        *given = surplus.min(n_wanted);
        n_wanted -= *given;
    }
    given.iter().any(|n| *n > 0).then_some((given, low))
}
