//! The answers. Each is a [`Merge`], exact where it adds, so that it does not matter who answered when.

pub use crate::partial::{ClusterWeights, Partial};
use shoal_domain::{BlockId, Centroids, Merge, RawBlock};
use shoal_stats::{ColumnMoments, ExactSum};
use std::collections::BTreeMap;

/// A row that was drawn or looked for.
#[derive(Debug, Clone, PartialEq)]
pub struct PickedRow {
    /// Its place: rows with a smaller number come first. Of a draw it is the time of arrival; of the farthest rows, minus their
    /// squared distance; of movers, minus what the move gains in inertia, both in squared prepared units times weight.
    pub order: f64,
    /// Its number in the data set, which settles ties.
    pub row: u64,
    /// The cluster it belongs to; 0 in a draw.
    pub cluster: u32,
    /// The cluster it would better be in, where that was the question; otherwise the same one.
    pub target: u32,
    /// Its weight in units of the weight grid.
    pub weight: u64,
    /// Its prepared values, n_features.
    pub values: Vec<f32>,
}

impl PickedRow {
    fn place(&self) -> (f64, u64) {
        (self.order, self.row)
    }
}

/// The first `n` rows in order.
#[derive(Debug, Clone)]
pub struct Picked {
    n: usize,
    rows: Vec<PickedRow>,
}

impl Picked {
    /// No rows yet.
    pub fn new(n: usize) -> Self {
        Self { n, rows: Vec::new() }
    }

    /// The first `n` of all that parts have.
    pub fn of_parts(n: usize, parts: Vec<Self>) -> Self {
        let mut picked = Self { n, rows: parts.into_iter().flat_map(|part| part.rows).collect() };
        picked.prune();
        picked
    }

    /// Takes a row if it may be among the first `n`; it is made only then. An infinite order is no place at all.
    pub fn offer(&mut self, order: f64, row: u64, make: impl FnOnce() -> PickedRow) {
        if !order.is_finite() || self.n == 0 {
            return;
        }
        // Between two prunings the vector may hold up to 2n rows, of which the first n are sorted.
        if self.rows.get(self.n - 1).is_some_and(|last| (order, row) > last.place()) {
            return;
        }
        self.rows.push(make());
        if self.rows.len() == self.n || self.rows.len() >= 2 * self.n {
            self.prune();
        }
    }

    /// No row whose order is greater is taken any more.
    pub fn latest(&self) -> f64 {
        match self.n {
            0 => f64::NEG_INFINITY,
            n => self.rows.get(n - 1).map_or(f64::INFINITY, |last| last.order),
        }
    }

    /// The rows in order, at most `n`.
    pub fn into_rows(mut self) -> Vec<PickedRow> {
        self.prune();
        self.rows
    }

    fn prune(&mut self) {
        self.rows.sort_by(|a, b| a.order.total_cmp(&b.order).then(a.row.cmp(&b.row)));
        self.rows.truncate(self.n);
    }
}

impl Merge for Picked {
    fn merge(&mut self, other: Self) {
        self.rows.extend(other.rows);
        self.prune();
    }
}

/// Distances of the rows of each cluster to a point of it.
#[derive(Debug, Clone)]
pub struct Spread {
    /// Rows of each cluster, n_clusters.
    pub counts: Vec<u64>,
    /// Sum of each cluster's rows without their weights, in units of the grid, n_clusters x n_features.
    pub sums: Vec<i128>,
    /// Sum of distances in prepared units, n_clusters.
    pub distances: Vec<ExactSum>,
    /// Sum of squared distances, n_clusters.
    pub squares: Vec<ExactSum>,
}

impl Spread {
    /// The spread of no rows.
    pub fn empty(n_clusters: usize, n_features: usize) -> Self {
        let none = vec![ExactSum::default(); n_clusters];
        Self {
            counts: vec![0; n_clusters],
            sums: vec![0; n_clusters * n_features],
            distances: none.clone(),
            squares: none,
        }
    }

    /// The means of all clusters, weights aside, as centroids; a cluster without rows keeps its row of `previous`.
    pub fn means(&self, units: &[f64], previous: &Centroids) -> Centroids {
        let values = self.sums.chunks_exact(units.len()).zip(&self.counts).zip(previous.rows());
        let mean = |((sums, count), previous): ((&[i128], &u64), &[f32])| match count {
            0 => previous.to_vec(),
            _ => sums.iter().zip(units).map(|(sum, unit)| (*sum as f64 / *count as f64 * unit) as f32).collect(),
        };
        Centroids::new(self.counts.len(), units.len(), values.flat_map(mean).collect())
            .expect("a mean of float32 numbers is a finite float32 number")
    }
}

impl Merge for Spread {
    fn merge(&mut self, other: Self) {
        self.counts.iter_mut().zip(other.counts).for_each(|(count, more)| *count += more);
        self.sums.iter_mut().zip(other.sums).for_each(|(sum, more)| *sum += more);
        self.distances.iter_mut().zip(other.distances).for_each(|(sum, more)| sum.merge(more));
        self.squares.iter_mut().zip(other.squares).for_each(|(sum, more)| sum.merge(more));
    }
}

/// For each queried row the sums of its distances to every cluster, n_rows x n_clusters, in units of the question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DistanceSums(pub Vec<i128>);

impl Merge for DistanceSums {
    fn merge(&mut self, other: Self) {
        self.0.iter_mut().zip(other.0).for_each(|(sum, more)| *sum += more);
    }
}

/// What has to be known to compare rows: how they are labelled, and how far apart they are typically.
#[derive(Debug, Clone, PartialEq)]
pub struct PairQuestion {
    /// Rows belong to the nearest of these.
    pub centroids: Centroids,
    /// Mean squared distance of each cluster's rows to its centroid, n_clusters; 0 where there are none. Decides which distances are
    /// computed fast and which with care, so it has to be the same wherever a pair is computed.
    pub mean_squares: Vec<f64>,
    /// Sums are in this power of two of prepared units.
    pub unit: f64,
}

/// The rows of a block, to be sent as a question.
#[derive(Debug, Clone, PartialEq)]
pub struct QueryRows {
    /// n_rows x n_features, row-major.
    pub values: Vec<f32>,
    /// The cluster of each row, n_rows.
    pub clusters: Vec<u32>,
}

/// Labels and distances of the rows of one block.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockLabels {
    /// The nearest centroid of each of n_rows rows, the lowest one on ties.
    pub labels: Vec<u32>,
    /// Its Euclidean distance in prepared units, n_rows.
    pub distances: Vec<f64>,
    /// Which rows of the raw block these are, n_rows in ascending order, when some were dropped.
    pub kept: Option<Vec<u32>>,
}

/// What reading all raw rows once tells, block by block.
#[derive(Debug, Clone, Default)]
pub struct Profile {
    /// Kept apart by block, since moments are joined in block order.
    pub blocks: BTreeMap<BlockId, ProfiledBlock>,
}

/// What reading one raw block tells.
#[derive(Debug, Clone, PartialEq)]
pub struct ProfiledBlock {
    /// Rows read.
    pub n_rows: u64,
    /// Rows that the reading keeps.
    pub n_kept: u64,
    /// Moments of each column.
    pub columns: Vec<ColumnMoments>,
    /// Largest weight, where the data set has weights.
    pub max_weight: Option<f64>,
    /// Smallest weight that is not 0.
    pub least_weight: Option<f64>,
    /// The first value that the reading cannot take.
    pub unusable: Option<Unusable>,
    /// Hash of the rows.
    pub digest: [u8; 32],
}

/// A value that a reading cannot take.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Unusable {
    /// The row in the data set, from 0.
    pub row: u64,
    /// The column.
    pub column: usize,
    /// The value; NaN when it is missing.
    pub value: f64,
}

impl Profile {
    /// The moments of a column over all blocks.
    pub fn moments(&self, column: usize) -> ColumnMoments {
        self.blocks.values().fold(ColumnMoments::EMPTY, |sum, block| sum.then(block.columns[column]))
    }

    /// Rows read.
    pub fn n_rows(&self) -> u64 {
        self.blocks.values().map(|block| block.n_rows).sum()
    }

    /// Rows that the reading keeps.
    pub fn n_kept(&self) -> u64 {
        self.blocks.values().map(|block| block.n_kept).sum()
    }

    /// Largest weight, where the data set has weights.
    pub fn max_weight(&self) -> Option<f64> {
        self.blocks.values().filter_map(|block| block.max_weight).reduce(f64::max)
    }

    /// Smallest weight that is not 0.
    pub fn least_weight(&self) -> Option<f64> {
        self.blocks.values().filter_map(|block| block.least_weight).reduce(f64::min)
    }

    /// BLAKE3 over the digests of all blocks in order, in hexadecimal digits.
    pub fn data_digest(&self) -> String {
        let mut hasher = blake3::Hasher::new();
        self.blocks.values().for_each(|block| {
            hasher.update(&block.digest);
        });
        hasher.finalize().to_hex().to_string()
    }
}

impl Merge for Profile {
    fn merge(&mut self, other: Self) {
        self.blocks.extend(other.blocks);
    }
}

/// Raw columns summed by cluster.
#[derive(Debug, Clone)]
pub struct Description {
    /// Values that are there, n_clusters x n_features.
    pub counts: Vec<u64>,
    /// Their sums, n_clusters x n_features.
    pub sums: Vec<ExactSum>,
}

impl Description {
    /// The description of no rows.
    pub fn empty(n_clusters: usize, n_features: usize) -> Self {
        let n = n_clusters * n_features;
        Self { counts: vec![0; n], sums: vec![ExactSum::default(); n] }
    }

    /// The description of one block, whose kept rows have these labels.
    pub fn of_block(raw: &RawBlock, labels: &BlockLabels, n_clusters: usize) -> Self {
        let n_features = raw.columns().len();
        let mut description = Self::empty(n_clusters, n_features);
        for (column, values) in raw.columns().iter().enumerate() {
            let mut sums = vec![0.0; n_clusters];
            for (idx, label) in labels.labels.iter().enumerate() {
                let row = labels.kept.as_ref().map_or(idx, |kept| kept[idx] as usize);
                if !values[row].is_nan() {
                    sums[*label as usize] += values[row];
                    description.counts[*label as usize * n_features + column] += 1;
                }
            }
            for (cluster, sum) in sums.into_iter().enumerate() {
                description.sums[cluster * n_features + column].add(sum);
            }
        }
        description
    }
}

impl Merge for Description {
    fn merge(&mut self, other: Self) {
        self.counts.iter_mut().zip(other.counts).for_each(|(count, more)| *count += more);
        self.sums.iter_mut().zip(other.sums).for_each(|(sum, more)| sum.merge(more));
    }
}
