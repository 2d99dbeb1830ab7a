//! Simplified silhouettes: rows against centroids.

use super::assign::{Nearest, squared_distance};
use crate::silhouette::{SimplifiedSilhouettes, silhouette_of};
use shoal_domain::{Block, Centroids};

/// Adds the rows of a block, in their order, whose nearest centroids are known.
pub(super) fn add_block(
    silhouettes: &mut SimplifiedSilhouettes,
    block: &Block,
    nearest: &Nearest,
    centroids: &Centroids,
) {
    let mut sums = vec![0.0f64; centroids.n_clusters()];
    for (row_idx, (label, square)) in nearest.labels().iter().zip(nearest.squares()).enumerate() {
        let row = block.row(row_idx);
        let others = centroids.rows().enumerate().filter(|(cluster, _)| *cluster != *label as usize);
        let other = others.map(|(_, centroid)| squared_distance(row, centroid)).fold(f64::INFINITY, f64::min);
        // Who is alone in a cluster, only all shards together know.
        sums[*label as usize] += silhouette_of(u64::MAX, square.sqrt(), other.sqrt());
        silhouettes.counts[*label as usize] += 1;
    }
    silhouettes.sums.iter_mut().zip(sums).for_each(|(sum, of_block)| sum.add(of_block));
}
