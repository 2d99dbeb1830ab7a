//! Markov chains of what follows what, with a beginning and an end.

/// How often each state came after each other one. Walks begin before their first state and end after their last, so a chain has one row
/// more than it has states (the first, for the beginning) and one column more (the last, for the end).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MarkovChain {
    n_states: usize,
    /// (n_states + 1) x (n_states + 1), by rows.
    counts: Vec<u64>,
    row_sums: Vec<u64>,
}

impl MarkovChain {
    /// Nothing counted yet.
    pub fn new(n_states: usize) -> Self {
        Self { n_states, counts: vec![0; (n_states + 1) * (n_states + 1)], row_sums: vec![0; n_states + 1] }
    }

    /// States, without beginning and end.
    pub fn n_states(&self) -> usize {
        self.n_states
    }

    /// The row of walks that begin.
    pub const BEGINNING: usize = 0;

    /// The row of a state.
    pub fn row(state: usize) -> usize {
        state + 1
    }

    /// The column of walks that end. The column of a state is its number.
    pub fn end(&self) -> usize {
        self.n_states
    }

    /// Adds so many steps from a row to a column.
    pub fn add(&mut self, row: usize, column: usize, n_steps: u64) {
        let place = row * (self.n_states + 1) + column;
        self.counts[place] += n_steps;
        self.row_sums[row] += n_steps;
    }

    /// Steps from a row to a column.
    pub fn count(&self, row: usize, column: usize) -> u64 {
        self.counts[row * (self.n_states + 1) + column]
    }

    /// All steps from a row.
    pub fn row_sum(&self, row: usize) -> u64 {
        self.row_sums[row]
    }

    /// The probability of a step, with `smoothing` steps added to every cell of the row (Laplace); 0 from a row that nobody left.
    pub fn probability(&self, row: usize, column: usize, smoothing: f64) -> f64 {
        let all = self.row_sum(row) as f64 + smoothing * (self.n_states + 1) as f64;
        if all > 0.0 { (self.count(row, column) as f64 + smoothing) / all } else { 0.0 }
    }

    /// The probability of coming to `target` before the end, from each row; 1 from the target itself. Where `removed` is given, whoever
    /// would come there ends instead.
    ///
    /// Source: Kemeny & Snell, "Finite Markov Chains" (1960), chapter 3: `(I - Q) x = r`.
    pub fn absorption(&self, target: usize, removed: Option<usize>) -> Vec<f64> {
        let transient: Vec<usize> =
            (0..self.n_states).filter(|state| *state != target && Some(*state) != removed).collect();
        let step = |row, column| self.probability(row, column, 0.0);
        let right: Vec<f64> = transient.iter().map(|state| step(Self::row(*state), target)).collect();
        let solved = self.solve(&transient, right);
        let mut reached = vec![0.0; self.n_states + 1];
        reached[Self::row(target)] = 1.0;
        for (state, probability) in transient.iter().zip(solved) {
            reached[Self::row(*state)] = probability;
        }
        let from_beginning = (0..self.n_states).filter(|state| Some(*state) != removed);
        reached[Self::BEGINNING] =
            from_beginning.map(|state| step(Self::BEGINNING, state) * reached[Self::row(state)]).sum();
        reached
    }

    /// The mean number of states that are still visited, this one included, from each row until the end.
    pub fn expected_steps(&self) -> Vec<f64> {
        let all: Vec<usize> = (0..self.n_states).collect();
        let solved = self.solve(&all, vec![1.0; self.n_states]);
        let mut steps = vec![0.0; self.n_states + 1];
        steps[1..].copy_from_slice(&solved);
        steps[Self::BEGINNING] =
            all.iter().map(|state| self.probability(Self::BEGINNING, *state, 0.0) * steps[Self::row(*state)]).sum();
        steps
    }

    /// By which share fewer walks come to `target` when a state is taken away, for each state: what is lost there at most.
    pub fn removal_effects(&self, target: usize) -> Vec<f64> {
        let with = self.absorption(target, None)[Self::BEGINNING];
        let without = |state| if state == target { 0.0 } else { self.absorption(target, Some(state))[Self::BEGINNING] };
        let effect = |state| if with > 0.0 { 1.0 - without(state) / with } else { 0.0 };
        (0..self.n_states).map(effect).collect()
    }

    /// Solves `(I - Q) x = right` for some states by Gaussian elimination with pivots from the diagonal's column. A state that is never left
    /// has an empty row of Q, and one that walks cannot leave for the end does not occur: each walk has one.
    fn solve(&self, states: &[usize], mut right: Vec<f64>) -> Vec<f64> {
        let n = states.len();
        let cell = |row: usize, column: usize| {
            let identity = if row == column { 1.0 } else { 0.0 };
            identity - self.probability(Self::row(states[row]), states[column], 0.0)
        };
        let mut matrix: Vec<Vec<f64>> = (0..n).map(|row| (0..n).map(|column| cell(row, column)).collect()).collect();
        for pivot in 0..n {
            let largest =
                (pivot..n).max_by(|one, other| matrix[*one][pivot].abs().total_cmp(&matrix[*other][pivot].abs()));
            let largest = largest.unwrap_or(pivot);
            matrix.swap(pivot, largest);
            right.swap(pivot, largest);
            let (above, below) = matrix.split_at_mut(pivot + 1);
            let head = &above[pivot];
            for (offset, row) in below.iter_mut().enumerate() {
                let factor = row[pivot] / head[pivot];
                if factor != 0.0 {
                    row[pivot..].iter_mut().zip(&head[pivot..]).for_each(|(value, head)| *value -= factor * head);
                    right[pivot + 1 + offset] -= factor * right[pivot];
                }
            }
        }
        for row in (0..n).rev() {
            let known: f64 = (row + 1..n).map(|column| matrix[row][column] * right[column]).sum();
            right[row] = (right[row] - known) / matrix[row][row];
        }
        right
    }
}

/// The Bayesian information criterion of a chain by the counts of each context: the lower, the better the order that has these contexts
/// tells what comes next. A context has `n_next - 1` free probabilities (Katz 1981, "On some criteria for estimating the order of a
/// Markov chain").
pub fn order_bic<'a>(contexts: impl Iterator<Item = &'a [u64]>, n_next: usize) -> f64 {
    let (mut log_likelihood, mut n_contexts, mut n_steps) = (0.0, 0u64, 0u64);
    for counts in contexts {
        let all: u64 = counts.iter().sum();
        n_contexts += 1;
        n_steps += all;
        for count in counts.iter().filter(|count| **count > 0) {
            log_likelihood += *count as f64 * libm::log(*count as f64 / all as f64);
        }
    }
    let n_free = n_contexts as f64 * (n_next.saturating_sub(1)) as f64;
    // Of no steps there is nothing to tell.
    n_free * libm::log(n_steps.max(1) as f64) - 2.0 * log_likelihood
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Beginning -> a; a -> a 1, b 2, end 1; b -> a 1, end 3.
    fn chain() -> MarkovChain {
        let mut chain = MarkovChain::new(2);
        for (row, column, n_steps) in [(0, 0, 4), (1, 0, 1), (1, 1, 2), (1, 2, 1), (2, 0, 1), (2, 2, 3)] {
            chain.add(row, column, n_steps);
        }
        chain
    }

    #[test]
    fn absorption_and_steps_are_what_a_pencil_says() {
        let chain = chain();
        let near = |value: f64, expected: f64| assert!((value - expected).abs() < 1e-12, "{value}, not {expected}");
        // From a: x = x / 4 + 1 / 2.
        near(chain.absorption(1, None)[MarkovChain::BEGINNING], 2.0 / 3.0);
        near(chain.absorption(1, Some(0))[MarkovChain::BEGINNING], 0.0);
        near(chain.removal_effects(1)[0], 1.0);
        // a = 1 + a / 4 + b / 2 and b = 1 + a / 4.
        near(chain.expected_steps()[MarkovChain::row(0)], 1.5 / 0.625);
        near(chain.probability(1, 1, 1.0), 3.0 / 7.0);
    }
}
