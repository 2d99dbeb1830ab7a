//! The silhouette (Rousseeuw 1987), exact or from a sample of rows.
//!
//! `s(i) = (b - a) / max(a, b)`, where a is the mean distance of row i to the other rows of its cluster and b the lowest
//! mean distance to the rows of another cluster. A shard that holds all rows compares each pair of them once. Otherwise
//! blocks of rows go down as a question, and sums of their distances to every cluster come up. No matrix of distances
//! exists anywhere, and both ways lead to the same bits.

use crate::answers::{PairQuestion, QueryRows};
use crate::error::ClusteringError;
use crate::observer::{Event, Observer, emit};
use crate::questions::{Draw, Shard};
use crate::streams;
use shoal_domain::{BLOCK_ROWS, Centroids, Merge};
use shoal_stats::{ExactSum, RandomStream};

/// Sums, rows x n_clusters, that one question brings up: 16 MiB. More clusters mean fewer rows a question.
pub const MAX_SUMS_PER_QUESTION: usize = 1 << 20;

/// Which rows are looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// All of them.
    Exact,
    /// All of them, against centroids instead of rows.
    Simplified,
    /// So many, drawn at random without replacement, each against all rows.
    Sampled {
        /// Rows wanted; one is taken in any case.
        n_rows: usize,
        /// Seed of the draw.
        seed: u64,
    },
}

/// The silhouette of a clustering.
#[derive(Debug, Clone, PartialEq)]
pub struct SilhouetteScore {
    /// Mean over the rows that were looked at.
    pub mean: f64,
    /// Mean over the rows of each cluster that were looked at; none where there were none.
    pub by_cluster: Vec<Option<f64>>,
    /// Rows looked at.
    pub n_rows: u64,
    /// Standard error of the mean when only a sample was looked at.
    pub standard_error: Option<f64>,
    /// The silhouette of every row in the order of the data, where every row was compared with every other.
    pub rows: Option<Vec<f64>>,
}

/// Computes the silhouette of the rows as `centroids` label them. None where it is undefined: fewer than two clusters
/// have rows. `counts` are the rows of each cluster, `unit` the grid of the distances.
pub fn silhouette(
    shard: &dyn Shard,
    centroids: &Centroids,
    counts: &[u64],
    unit: f64,
    mode: Mode,
    observer: &mut dyn Observer,
) -> Result<Option<SilhouetteScore>, ClusteringError> {
    if counts.iter().filter(|count| **count > 0).count() < 2 {
        return Ok(None);
    }
    let n_samples: u64 = counts.iter().sum();
    let is_sample = matches!(mode, Mode::Sampled { .. });
    let mut tally = Tally::new(counts.len());
    let silhouettes = match mode {
        Mode::Simplified => return simplified(shard, centroids, counts).map(Some),
        Mode::Exact => silhouette_samples(shard, centroids, counts, unit, observer)?,
        Mode::Sampled { n_rows, seed } => {
            let sample = sample(shard, centroids, n_rows.max(1), seed)?;
            let mut asking = Asking::new(shard, centroids, counts, unit, sample.clusters.len() as u64)?;
            asking.ask(&sample, observer)?;
            asking.silhouettes
        }
    };
    let rows = silhouettes.clusters.iter().zip(&silhouettes.values);
    rows.for_each(|(cluster, value)| tally.add(*cluster as usize, *value));
    let rows = (!is_sample).then_some(silhouettes.values);
    Ok(Some(SilhouetteScore { rows, ..tally.score(n_samples, is_sample) }))
}

/// The simplified score (Hruschka, de Castro & Campello 2004). Empty clusters stand for nothing, so their centroids are not asked about, which changes no label;
/// the only row of a cluster has 0, as in the silhouette itself.
fn simplified(shard: &dyn Shard, centroids: &Centroids, counts: &[u64]) -> Result<SilhouetteScore, ClusteringError> {
    let used: Vec<usize> = (0..counts.len()).filter(|cluster| counts[*cluster] > 0).collect();
    let set = Centroids::from_rows(used.iter().map(|cluster| centroids.row(*cluster)))?;
    let found = shard.simplified_silhouettes(&set)?;
    let mut total = ExactSum::default();
    let mut by_cluster = vec![None; counts.len()];
    for (idx, cluster) in used.into_iter().enumerate() {
        let is_alone = counts[cluster] == 1;
        by_cluster[cluster] = Some(if is_alone { 0.0 } else { found.sums[idx].value() / counts[cluster] as f64 });
        if !is_alone {
            total.merge(found.sums[idx].clone());
        }
    }
    let n_rows: u64 = counts.iter().sum();
    let mean = total.value() / n_rows as f64;
    Ok(SilhouetteScore { mean, by_cluster, n_rows, standard_error: None, rows: None })
}

/// Computes the silhouette of every row as `centroids` label them; at least two clusters must have rows.
pub fn silhouette_samples(
    shard: &dyn Shard,
    centroids: &Centroids,
    counts: &[u64],
    unit: f64,
    observer: &mut dyn Observer,
) -> Result<Silhouettes, ClusteringError> {
    let n_rows: u64 = counts.iter().sum();
    let mut asking = Asking::new(shard, centroids, counts, unit, n_rows)?;
    let mut on_done = |share: f64| emit(observer, Event::Silhouette { n_done: (share * n_rows as f64) as u64, n_rows });
    if let Some(silhouettes) = shard.silhouettes(&asking.question, &mut on_done)? {
        assert_eq!(silhouettes.values.len() as u64, n_rows, "a shard that answers for all rows has all rows");
        return Ok(silhouettes);
    }
    for block in shard.block_ids() {
        asking.ask(&shard.query_rows(block, centroids)?, observer)?;
    }
    Ok(asking.silhouettes)
}

/// Rows are compared with all others by asking every shard for the sums of their distances.
struct Asking<'a> {
    shard: &'a dyn Shard,
    question: PairQuestion,
    counts: &'a [u64],
    /// Rows that will be asked about, for the records.
    n_wanted: u64,
    silhouettes: Silhouettes,
}

impl<'a> Asking<'a> {
    fn new(
        shard: &'a dyn Shard,
        centroids: &Centroids,
        counts: &'a [u64],
        unit: f64,
        n_wanted: u64,
    ) -> Result<Self, ClusteringError> {
        let spread = shard.spread(centroids, centroids)?;
        let mean = |(sum, count): (&ExactSum, &u64)| if *count > 0 { sum.value() / *count as f64 } else { 0.0 };
        let mean_squares = spread.squares.iter().zip(&spread.counts).map(mean).collect();
        let question = PairQuestion { centroids: centroids.clone(), mean_squares, unit };
        Ok(Self { shard, question, counts, n_wanted, silhouettes: Silhouettes::default() })
    }

    /// Asks about some rows, in as many questions as the size of the answers needs.
    fn ask(&mut self, rows: &QueryRows, observer: &mut dyn Observer) -> Result<(), ClusteringError> {
        let (n_clusters, n_features) = (self.counts.len(), self.question.centroids.n_features());
        let n_together = (MAX_SUMS_PER_QUESTION / n_clusters).clamp(1, BLOCK_ROWS);
        for (values, clusters) in rows.values.chunks(n_together * n_features).zip(rows.clusters.chunks(n_together)) {
            let query = QueryRows { values: values.to_vec(), clusters: clusters.to_vec() };
            let sums = self.shard.distance_sums(&query, &self.question)?;
            for (own, sums) in clusters.iter().zip(sums.0.chunks_exact(n_clusters)) {
                self.silhouettes.clusters.push(*own);
                self.silhouettes.values.push(of_row(*own as usize, sums, self.counts, self.question.unit));
            }
            let n_done = self.silhouettes.values.len() as u64;
            emit(observer, Event::Silhouette { n_done, n_rows: self.n_wanted })?;
        }
        Ok(())
    }
}

/// Rows drawn with equal chances, with the clusters they belong to.
fn sample(shard: &dyn Shard, centroids: &Centroids, n: usize, seed: u64) -> Result<QueryRows, ClusteringError> {
    let draw = Draw {
        n,
        far_from: None,
        ignore_weights: true,
        stream: RandomStream { seed, stream: streams::OF_SILHOUETTES },
    };
    let drawn = shard.draw(&[draw])?.pop().map(|picked| picked.into_rows()).unwrap_or_default();
    let nearest = |row: &[f32]| {
        let distance = |centroid: &[f32]| crate::cpu::squared_distance(row, centroid);
        let squares: Vec<f64> = centroids.rows().map(distance).collect();
        (0..squares.len()).min_by(|a, b| squares[*a].total_cmp(&squares[*b])).unwrap_or(0) as u32
    };
    Ok(QueryRows {
        clusters: drawn.iter().map(|row| nearest(&row.values)).collect(),
        values: drawn.into_iter().flat_map(|row| row.values).collect(),
    })
}

/// The silhouettes of rows, in the order of the data.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Silhouettes {
    /// The cluster of each row, n_rows.
    pub clusters: Vec<u32>,
    /// Its silhouette, from -1 to 1; 0 for the only row of a cluster.
    pub values: Vec<f64>,
}

/// The silhouette of one row from its sums of distances to every cluster.
fn of_row(own: usize, sums: &[i128], counts: &[u64], unit: f64) -> f64 {
    let within = mean_distance(sums[own], unit, counts[own].max(2) - 1);
    let others = (0..counts.len()).filter(|cluster| *cluster != own && counts[*cluster] > 0);
    let nearest =
        others.map(|cluster| mean_distance(sums[cluster], unit, counts[cluster])).fold(f64::INFINITY, f64::min);
    silhouette_of(counts[own], within, nearest)
}

/// Simplified silhouettes of rows, by cluster: a row's distance to its centroid stands for its mean distance to the rows of
/// its cluster, and the distance to the nearest other centroid for that to the rows of another one.
#[derive(Debug, Clone)]
pub struct SimplifiedSilhouettes {
    /// Rows of each cluster.
    pub counts: Vec<u64>,
    /// Sum of their silhouettes.
    pub sums: Vec<ExactSum>,
}

impl SimplifiedSilhouettes {
    /// Those of no rows.
    pub fn empty(n_clusters: usize) -> Self {
        Self { counts: vec![0; n_clusters], sums: vec![ExactSum::default(); n_clusters] }
    }
}

impl Merge for SimplifiedSilhouettes {
    fn merge(&mut self, other: Self) {
        self.counts.iter_mut().zip(other.counts).for_each(|(count, more)| *count += more);
        self.sums.iter_mut().zip(other.sums).for_each(|(sum, more)| sum.merge(more));
    }
}

/// The mean of `n` distances from their sum in units.
pub fn mean_distance(sum: i128, unit: f64, n: u64) -> f64 {
    sum as f64 * unit / n as f64
}

/// The silhouette of a row from its mean distances within its cluster, which has so many rows, and to the nearest other
/// one; 0 for the only row of a cluster, as Rousseeuw defines it.
pub(crate) fn silhouette_of(n_own: u64, within: f64, nearest: f64) -> f64 {
    let larger = within.max(nearest);
    if n_own > 1 && larger > 0.0 { (nearest - within) / larger } else { 0.0 }
}

/// Sums of silhouettes by cluster.
struct Tally {
    counts: Vec<u64>,
    sums: Vec<ExactSum>,
    squares: ExactSum,
}

impl Tally {
    fn new(n_clusters: usize) -> Self {
        let sums = vec![ExactSum::default(); n_clusters];
        Self { counts: vec![0; n_clusters], sums, squares: ExactSum::default() }
    }

    fn add(&mut self, cluster: usize, value: f64) {
        self.counts[cluster] += 1;
        self.sums[cluster].add(value);
        self.squares.add(value * value);
    }

    fn n_rows(&self) -> u64 {
        self.counts.iter().sum()
    }

    fn score(&self, n_samples: u64, is_sample: bool) -> SilhouetteScore {
        let n = self.n_rows() as f64;
        let sums: Vec<f64> = self.sums.iter().map(ExactSum::value).collect();
        let mean = sums.iter().copied().collect::<ExactSum>().value() / n;
        // Of the mean of n rows drawn without replacement from N: s / sqrt(n) x sqrt(1 - n / N).
        let standard_error = || {
            let variance = (self.squares.value() / n - mean * mean).max(0.0) * n / (n - 1.0);
            (variance / n * (1.0 - n / n_samples as f64)).sqrt()
        };
        let of_cluster = |(sum, count): (&f64, &u64)| (*count > 0).then(|| sum / *count as f64);
        SilhouetteScore {
            mean,
            by_cluster: sums.iter().zip(&self.counts).map(of_cluster).collect(),
            n_rows: self.n_rows(),
            standard_error: (is_sample && n > 1.0).then(standard_error),
            rows: None,
        }
    }
}
