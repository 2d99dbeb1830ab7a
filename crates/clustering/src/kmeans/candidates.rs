//! From many weighted candidates to first centroids, in memory.

use crate::cpu::{Assigner, Isa, Nearest, nearer_squares};
use crate::error::ClusteringError;
use crate::observer::{Event, Observer, emit};
use shoal_domain::{BLOCK_ROWS, Block, BlockId, Centroids};
use shoal_stats::RandomStream;

/// Weighted greedy k-means++ among candidates in memory: of `2 + ln k` draws the one that lowers the inertia most is
/// taken (Arthur & Vassilvitskii 2007, section 6; as many draws as in scikit-learn).
pub(super) fn greedy_plus_plus(
    candidates: &Centroids,
    weights: &[f64],
    n_clusters: usize,
    stream: RandomStream,
    observer: &mut dyn Observer,
) -> Result<Centroids, ClusteringError> {
    let n_candidates = candidates.n_clusters();
    let n_trials = 2 + libm::log(n_clusters as f64) as usize;
    let mut nearest = vec![f64::INFINITY; n_candidates];
    let mut chosen: Vec<usize> = Vec::with_capacity(n_clusters);
    for round in 0..n_clusters {
        // Weight alone decides the first draw; later on a candidate's weight counts times its squared distance.
        let chance = |idx: usize| if round == 0 { weights[idx] } else { weights[idx] * nearest[idx] };
        let arrival = |idx: usize| stream.arrival((round * n_candidates + idx) as u64, chance(idx));
        let mut arrivals: Vec<(f64, usize)> = (0..n_candidates).map(|idx| (arrival(idx), idx)).collect();
        arrivals.retain(|(arrival, _)| arrival.is_finite());
        keep_first(&mut arrivals, if round == 0 { 1 } else { n_trials });
        let mut best: Option<(f64, usize, Vec<f64>)> = None;
        let trials: Vec<usize> = arrivals.into_iter().map(|(_, trial)| trial).collect();
        let of_trials = nearer_squares(candidates, &nearest, &trials);
        for (trial, squares) in trials.into_iter().zip(of_trials) {
            let inertia: f64 = squares.iter().zip(weights).map(|(square, weight)| square * weight).sum();
            if best.as_ref().is_none_or(|(lowest, ..)| inertia < *lowest) {
                best = Some((inertia, trial, squares));
            }
        }
        let Some((_, trial, squares)) = best else {
            break;
        };
        chosen.push(trial);
        nearest = squares;
        emit(observer, Event::Seeding)?;
    }
    let last = *chosen.last().ok_or(ClusteringError::NoWeight)?;
    chosen.resize(n_clusters, last);
    Ok(Centroids::from_rows(chosen.into_iter().map(|idx| candidates.row(idx)))?)
}

/// Keeps the first `n` in order of arrival; the lower number is first on ties.
fn keep_first(arrivals: &mut Vec<(f64, usize)>, n: usize) {
    let in_order = |a: &(f64, usize), b: &(f64, usize)| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1));
    if n < arrivals.len() {
        arrivals.select_nth_unstable_by(n, in_order);
        arrivals.truncate(n);
    }
    arrivals.sort_unstable_by(in_order);
}

/// The weighted means of the candidates that are nearest to each of the chosen ones: one step of Lloyd's algorithm among them. A chosen
/// one that is nearest to none stays as it is.
///
/// A candidate stands for rows around it, so their mean is a better beginning than any one of them: with 1,000 clusters of 100 rows each,
/// fits end after fewer passes and with less inertia; with few clusters nothing is lost. More steps gained no more.
pub(super) fn means_of_candidates(
    candidates: &Centroids,
    weights: &[f64],
    chosen: &Centroids,
) -> Result<Centroids, ClusteringError> {
    let n_features = chosen.n_features();
    let mut sums = vec![0.0; chosen.values().len()];
    let mut sums_of_weights = vec![0.0; chosen.n_clusters()];
    let assigner = Assigner::new(chosen, Isa::detect());
    let mut nearest = Nearest::default();
    let values = candidates.values().chunks(BLOCK_ROWS * n_features);
    for (values, weights) in values.zip(weights.chunks(BLOCK_ROWS)) {
        let block = Block::new(BlockId(0), n_features, values.to_vec(), None, None)?;
        assigner.assign(&block, &mut nearest);
        // Added in their order, so that the sums are the same bits everywhere.
        for ((row, label), weight) in values.chunks_exact(n_features).zip(nearest.labels()).zip(weights) {
            let cluster = *label as usize;
            sums_of_weights[cluster] += weight;
            let sums = &mut sums[cluster * n_features..(cluster + 1) * n_features];
            sums.iter_mut().zip(row).for_each(|(sum, value)| *sum += weight * f64::from(*value));
        }
    }
    let mean = |(idx, sum): (usize, f64)| match sums_of_weights[idx / n_features] {
        0.0 => chosen.values()[idx],
        weight => (sum / weight) as f32,
    };
    let means = sums.into_iter().enumerate().map(mean).collect();
    Ok(Centroids::new(chosen.n_clusters(), n_features, means)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_chosen_moves_to_the_weighted_mean_of_its_candidates() -> Result<(), ClusteringError> {
        // Two heaps on a line, more candidates than a block has rows, and a centroid that is there twice.
        let near = (0..2 * BLOCK_ROWS).map(|idx| (idx % 2) as f32);
        let candidates: Vec<f32> = near.chain([10.0, 13.0]).collect();
        let n_candidates = candidates.len();
        let mut weights = vec![1.0; n_candidates];
        weights[n_candidates - 1] = 2.0;
        let candidates = Centroids::new(n_candidates, 1, candidates)?;
        let chosen = Centroids::new(3, 1, vec![1.0, 10.0, 10.0])?;
        let means = means_of_candidates(&candidates, &weights, &chosen)?;
        assert_eq!(means.values(), [0.5, 12.0, 10.0]);
        Ok(())
    }
}
