//! Lloyd's algorithm without I/O.

use crate::answers::{Partial, PickedRow};
use shoal_domain::Centroids;

/// What a pass has led to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// Another pass is needed.
    Continue,
    /// The centroids have come to rest.
    Converged,
    /// `max_iter` passes were made and the centroids still move. The result is usable; it says so.
    Exhausted,
}

/// Where a start is between two passes: with this and its parameters it can go on anywhere, to the same bits.
#[derive(Debug, Clone, PartialEq)]
pub struct LloydState {
    /// The centroids of the next pass.
    pub centroids: Centroids,
    /// Passes made.
    pub n_iter: usize,
    /// See [`Lloyd::shift`].
    pub shift: f64,
    /// What the last pass has led to.
    pub progress: Progress,
    /// The tolerance, which may have been lowered on the way.
    pub shift_squared_max: f64,
}

/// One start of k-means (Lloyd 1982), between two passes.
///
/// ```text
/// while progress is Continue:
///     partial = assign every row to its nearest centroid, sum by cluster     (the caller, anywhere)
///     progress = lloyd.advance(partial)                                      (here)
/// ```
#[derive(Debug, Clone)]
pub struct Lloyd {
    centroids: Centroids,
    units: Vec<f64>,
    max_iter: usize,
    shift_squared_max: f64,
    /// Where chance counts, how much.
    chance: Option<Chance>,
    n_iter: usize,
    shift: f64,
    progress: Progress,
}

#[derive(Debug, Clone, Copy)]
struct Chance {
    share: f64,
    weight_unit: f64,
}

impl Lloyd {
    /// Starts from some centroids. `units` are the grid steps of the columns; the start has converged when the centroids'
    /// summed squared shift is at most `shift_squared_max`.
    pub fn new(initial: Centroids, units: Vec<f64>, max_iter: usize, shift_squared_max: f64) -> Self {
        let progress = Progress::Continue;
        let shift = f64::INFINITY;
        Self { centroids: initial, units, max_iter, shift_squared_max, chance: None, n_iter: 0, shift, progress }
    }

    /// Where it is.
    pub fn state(&self) -> LloydState {
        let Self { centroids, n_iter, shift, progress, shift_squared_max, .. } = self.clone();
        LloydState { centroids, n_iter, shift, progress, shift_squared_max }
    }

    /// Goes on from where another one of the same parameters was.
    pub fn from_state(state: LloydState, units: Vec<f64>, max_iter: usize) -> Self {
        let LloydState { centroids, n_iter, shift, progress, shift_squared_max } = state;
        Self { centroids, units, max_iter, shift_squared_max, chance: None, n_iter, shift, progress }
    }

    /// Lets the start converge as soon as a pass moves the centroids, squared, by less than `share` of what they differ from
    /// those of as many other rows of the same kind (Newling & Fleuret 2016). `weight_unit` is the grid step of the weights.
    pub fn within_chance(self, share: f64, weight_unit: f64) -> Self {
        Self { chance: Some(Chance { share, weight_unit }), ..self }
    }

    /// The centroids that the next pass should assign rows to.
    pub fn centroids(&self) -> &Centroids {
        &self.centroids
    }

    /// Passes made.
    pub fn n_iter(&self) -> usize {
        self.n_iter
    }

    /// Square root of the centroids' summed squared movement in the last pass.
    pub fn shift(&self) -> f64 {
        self.shift
    }

    /// What the last pass has led to.
    pub fn progress(&self) -> Progress {
        self.progress
    }

    /// Lowers the tolerance to nothing: a start that has converged and still moved in its last pass goes on.
    pub fn go_on_to_rest(&mut self) -> Progress {
        self.shift_squared_max = 0.0;
        if self.progress == Progress::Converged && self.shift > 0.0 {
            self.progress = if self.n_iter < self.max_iter { Progress::Continue } else { Progress::Exhausted };
        }
        self.progress
    }

    /// The most passes.
    pub fn max_iter(&self) -> usize {
        self.max_iter
    }

    /// Moves one row to the cluster it names, and the centroids to the means that result. Counts as a pass.
    pub fn move_row(&mut self, mut partial: Partial, mover: &PickedRow) {
        partial.relocate(mover, mover.target as usize, &self.units);
        self.centroids = partial.means(&self.units, &self.centroids);
        self.n_iter += 1;
        self.progress = if self.n_iter < self.max_iter { Progress::Continue } else { Progress::Exhausted };
    }

    /// Moves the centroids to the means of what the pass assigned to them.
    ///
    /// `strays` are needed when the partial has clusters without weight: the rows farthest from their centroids, the
    /// farthest first. Each becomes the centroid of an empty cluster, as in scikit-learn. With fewer strays than empty
    /// clusters (fewer distinct rows than clusters) the rest keep their centroids and stay empty.
    pub fn advance(&mut self, mut partial: Partial, strays: &[PickedRow]) -> Progress {
        let by_chance = |chance: Chance| chance.share * partial.variance_of_means(chance.weight_unit);
        let by_chance = self.chance.map_or(0.0, by_chance);
        for (cluster, stray) in partial.empty_clusters().into_iter().zip(strays) {
            partial.relocate(stray, cluster, &self.units);
        }
        let moved = partial.means(&self.units, &self.centroids);
        let shift_squared = moved.shift_squared(&self.centroids);
        self.centroids = moved;
        self.n_iter += 1;
        self.shift = shift_squared.sqrt();
        // Sums are exact, so rows that keep their labels leave the centroids exactly where they were: a shift of 0 is
        // what other libraries test as "no label has changed".
        self.progress = if shift_squared <= self.shift_squared_max.max(by_chance) {
            Progress::Converged
        } else if self.n_iter >= self.max_iter {
            Progress::Exhausted
        } else {
            Progress::Continue
        };
        self.progress
    }
}
