//! Davies-Bouldin and Calinski-Harabasz, both from one pass.

use crate::answers::{Partial, Spread};
use crate::cpu::squared_distance;
use crate::error::ClusteringError;
use crate::questions::Shard;
use shoal_domain::Centroids;

/// How compact clusters are against how far they lie apart. None where an index is undefined.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Dispersion {
    /// Davies & Bouldin (1979), lower is better.
    pub(crate) davies_bouldin: Option<f64>,
    /// Calinski & Harabasz (1974), higher is better.
    pub(crate) calinski_harabasz: Option<f64>,
}

/// Computes both indices of the rows as `centroids` label them, about the means of the labelled rows (which are the
/// centroids once Lloyd has come to rest), as scikit-learn does. Sample weights do not count.
pub(crate) fn dispersion(
    shard: &dyn Shard,
    centroids: &Centroids,
    partial: &Partial,
    units: &[f64],
) -> Result<Dispersion, ClusteringError> {
    // Weighted sums give weighted means; without weights they are in the partial already.
    let means = match partial.weights.iter().zip(&partial.counts).all(|(weight, count)| *weight == i128::from(*count)) {
        true => partial.means(units, centroids),
        false => shard.spread(centroids, centroids)?.means(units, centroids),
    };
    let spread = shard.spread(centroids, &means)?;
    let used: Vec<usize> = (0..means.n_clusters()).filter(|cluster| spread.counts[*cluster] > 0).collect();
    if used.len() < 2 {
        return Ok(Dispersion { davies_bouldin: None, calinski_harabasz: None });
    }
    Ok(Dispersion {
        davies_bouldin: davies_bouldin(&spread, &means, &used),
        calinski_harabasz: calinski_harabasz(&spread, &means, &used),
    })
}

/// The mean over clusters of the worst `(s_i + s_j) / distance(i, j)`, s being the mean distance to the cluster's mean. Undefined
/// where two clusters with any spread have their means in one place.
fn davies_bouldin(spread: &Spread, means: &Centroids, used: &[usize]) -> Option<f64> {
    let within = |cluster: usize| spread.distances[cluster].value() / spread.counts[cluster] as f64;
    let ratio = |i: usize, j: usize| {
        let between = squared_distance(means.row(i), means.row(j)).sqrt();
        let both = within(i) + within(j);
        // Without any spread they are as compact as they can be, wherever they are.
        if both > 0.0 { both / between } else { 0.0 }
    };
    let worst = |i: usize| used.iter().filter(|j| **j != i).map(|j| ratio(i, *j)).fold(0.0, f64::max);
    let mean = used.iter().map(|i| worst(*i)).sum::<f64>() / used.len() as f64;
    mean.is_finite().then_some(mean)
}

/// `(B / (k - 1)) / (W / (n - k))` of the sums of squares between and within clusters.
fn calinski_harabasz(spread: &Spread, means: &Centroids, used: &[usize]) -> Option<f64> {
    let n: u64 = spread.counts.iter().sum();
    let mut overall = vec![0.0f64; means.n_features()];
    for cluster in used {
        let share = spread.counts[*cluster] as f64 / n as f64;
        overall.iter_mut().zip(means.row(*cluster)).for_each(|(sum, value)| *sum += share * f64::from(*value));
    }
    let square_to_overall = |cluster: usize| {
        let differences = means.row(cluster).iter().zip(&overall).map(|(value, mean)| f64::from(*value) - mean);
        differences.map(|difference| difference * difference).sum::<f64>()
    };
    let between: f64 = used.iter().map(|cluster| spread.counts[*cluster] as f64 * square_to_overall(*cluster)).sum();
    let within: f64 = used.iter().map(|cluster| spread.squares[*cluster].value()).sum();
    let k = used.len() as u64;
    (within > 0.0 && n > k).then(|| (between / (k - 1) as f64) / (within / (n - k) as f64))
}
