//! Hartigan's criterion: what moving one row to another cluster would gain.

use super::assign::squared_distance;
use shoal_domain::Centroids;

/// The clusters between which a row may move.
pub(super) struct MoveCriterion<'a> {
    centroids: &'a Centroids,
    /// Weight of each cluster, in units of the weight grid.
    weights: Vec<f64>,
    /// Weight of the lightest cluster that has any.
    lightest: f64,
}

impl<'a> MoveCriterion<'a> {
    pub(super) fn new(centroids: &'a Centroids, weights: &[i128]) -> Self {
        let weights: Vec<f64> = weights.iter().map(|weight| *weight as f64).collect();
        let lightest = weights.iter().copied().filter(|weight| *weight > 0.0).fold(f64::INFINITY, f64::min);
        Self { centroids, weights, lightest }
    }

    /// Whether a row may gain at all. Its second nearest centroid has a squared distance of at least `square + 2 lead`; a
    /// gain needs that to be less than `square x W_a / (W_a - w) x (W_b + w) / W_b`. Most rows end here.
    pub(super) fn may_gain(&self, label: u32, square: f64, lead: f32, weight: f64) -> bool {
        let own = self.weights[label as usize];
        if own <= weight || weight == 0.0 {
            return false;
        }
        let largest_factor = own / (own - weight) * (self.lightest + weight) / self.lightest;
        square + 2.0 * f64::from(lead) <= square * largest_factor
    }

    /// The largest gain of a row and the cluster to move to, in units of the weight grid; the lowest cluster on ties.
    pub(super) fn best(&self, row: &[f32], label: u32, square: f64, weight: f64) -> (f64, u32) {
        let own = self.weights[label as usize];
        let leaving = own * weight / (own - weight) * square;
        let mut best = (0.0, label);
        for (cluster, centroid) in self.centroids.rows().enumerate() {
            let to = self.weights[cluster];
            if cluster == label as usize || to == 0.0 {
                continue;
            }
            let gain = leaving - to * weight / (to + weight) * squared_distance(row, centroid);
            if gain > best.0 {
                best = (gain, cluster as u32);
            }
        }
        best
    }
}
