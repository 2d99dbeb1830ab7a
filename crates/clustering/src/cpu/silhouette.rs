//! Sums of distances between the rows of a shard, and between given rows and those of a shard.

use super::isa::Isa;
use super::pairs::{Broadcasts, Lanes, Pairs, RowSums, STRIP_ROWS};
use crate::answers::{DistanceSums, PairQuestion, QueryRows};
use crate::error::ClusteringError;
use crate::pairs::PairScale;
use crate::silhouette::{Silhouettes, mean_distance, silhouette_of};
use rayon::prelude::*;
use shoal_domain::{BLOCK_ROWS, Block};
use std::ops::Range;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

/// Comparisons of a strip with a cluster, for each thread, between two reports of progress, at most, ..
const TASKS_PER_THREAD: usize = 128;
/// .. and pairs of rows, about: a second or two. In between a job cannot be cancelled.
const PAIRS_PER_THREAD: usize = 2 << 30;
/// Strips of a shard that given rows are compared with in one piece of work.
const STRIPS_TOGETHER: usize = 16;

/// Lists of rows by cluster that are made at a time, at most, and rows that each cluster has in one, about.
const LISTS_MAX: usize = 64;
const LISTED_ROWS: usize = 256;

/// The order of a shard's rows by their clusters.
pub struct ClusterOrder {
    /// Rows by cluster, and within a cluster in the order of the data: block x BLOCK_ROWS + row.
    rows: Vec<u32>,
    /// Where each cluster's rows are in `rows`.
    clusters: Vec<Range<usize>>,
    /// Where each block's rows begin among those of all blocks.
    firsts: Vec<usize>,
}

impl ClusterOrder {
    /// `labels` are those of each block. On all threads of the pool that this is called in.
    pub fn new(labels: &[Vec<u32>], n_clusters: usize) -> Self {
        assert!(labels.len() <= u32::MAX as usize / BLOCK_ROWS, "a shard has fewer than 2^32 rows");
        let n_rows: usize = labels.iter().map(Vec::len).sum();
        // Some blocks' rows are listed by cluster at a time; lists of hardly any rows would cost more than they save.
        let n_lists = (n_rows / n_clusters.max(1) / LISTED_ROWS).clamp(1, LISTS_MAX);
        let n_together = labels.len().div_ceil(n_lists).max(1);
        let list = |(idx, labels): (usize, &[Vec<u32>])| rows_by_cluster(idx * n_together, labels, n_clusters);
        let lists: Vec<Vec<Vec<u32>>> = labels.par_chunks(n_together).enumerate().map(list).collect();
        let mut rows = vec![0u32; n_rows];
        let (mut clusters, mut rest, mut places) = (Vec::new(), &mut rows[..], Vec::new());
        for cluster in 0..n_clusters {
            let n = lists.iter().map(|list| list[cluster].len()).sum();
            let start = clusters.last().map_or(0, |before: &Range<usize>| before.end);
            clusters.push(start..start + n);
            let (own, others) = rest.split_at_mut(n);
            places.push(own);
            rest = others;
        }
        places.into_par_iter().enumerate().for_each(|(cluster, mut rest)| {
            for list in &lists {
                let (own, others) = rest.split_at_mut(list[cluster].len());
                own.copy_from_slice(&list[cluster]);
                rest = others;
            }
        });
        let firsts = labels.iter().scan(0, |first, labels| Some(std::mem::replace(first, *first + labels.len())));
        Self { rows, clusters, firsts: firsts.collect() }
    }

    /// Where each cluster's rows are in [`ClusterOrder::rows`].
    pub fn clusters(&self) -> &[Range<usize>] {
        &self.clusters
    }

    /// The rows by cluster, each by its number among all rows.
    pub fn rows(&self) -> impl Iterator<Item = usize> {
        self.rows.iter().map(|row| self.number(*row as usize))
    }

    fn number(&self, row: usize) -> usize {
        self.firsts[row / BLOCK_ROWS] + row % BLOCK_ROWS
    }

    /// The silhouettes of all rows in the order of the data, from the mean distances of the row at each position: to its
    /// own cluster, and to the nearest other one.
    pub fn silhouettes(&self, mean_distances: impl Fn(usize) -> (f64, f64)) -> Silhouettes {
        let mut silhouettes = Silhouettes { clusters: vec![0; self.rows.len()], values: vec![0.0; self.rows.len()] };
        for (cluster, positions) in self.clusters.iter().enumerate() {
            for position in positions.clone() {
                let idx = self.number(self.rows[position] as usize);
                let (within, nearest) = mean_distances(position);
                silhouettes.clusters[idx] = cluster as u32;
                silhouettes.values[idx] = silhouette_of(positions.len() as u64, within, nearest);
            }
        }
        silhouettes
    }
}

/// The rows of some blocks by cluster, the first block having this number.
fn rows_by_cluster(first_block: usize, labels: &[Vec<u32>], n_clusters: usize) -> Vec<Vec<u32>> {
    let mut rows = vec![Vec::new(); n_clusters];
    for (block, labels) in (first_block..).zip(labels) {
        for (row, label) in labels.iter().enumerate() {
            rows[*label as usize].push((block * BLOCK_ROWS + row) as u32);
        }
    }
    rows
}

/// The rows of a shard in the order of their clusters.
pub(super) struct ByCluster<'a> {
    blocks: &'a [Block],
    n_features: usize,
    order: &'a ClusterOrder,
}

impl<'a> ByCluster<'a> {
    pub(super) fn new(blocks: &'a [Block], n_features: usize, order: &'a ClusterOrder) -> Self {
        Self { blocks, n_features, order }
    }

    fn row(&self, position: usize) -> &'a [f32] {
        let row = self.order.rows[position] as usize;
        self.blocks[row / BLOCK_ROWS].row(row % BLOCK_ROWS)
    }

    /// The strips of a cluster.
    fn strips(&self, cluster: usize) -> impl Iterator<Item = Range<usize>> + use<> {
        let Range { start, end } = self.order.clusters[cluster].clone();
        (start..end).step_by(STRIP_ROWS).map(move |first| first..(first + STRIP_ROWS).min(end))
    }

    /// For each of the given rows, the sum of its distances to the rows of each cluster here.
    pub(super) fn distance_sums<'q>(&'q self, query: &'q QueryRows, question: &PairQuestion, isa: Isa) -> DistanceSums {
        let n_clusters = self.order.clusters.len();
        let mut by_cluster: Vec<Vec<usize>> = vec![Vec::new(); n_clusters];
        query.clusters.iter().enumerate().for_each(|(idx, cluster)| by_cluster[*cluster as usize].push(idx));
        let mut tasks: Vec<Comparison<'_>> = Vec::new();
        for (from, idxs) in by_cluster.iter().enumerate() {
            for to in 0..n_clusters {
                let strips: Vec<Range<usize>> = self.strips(to).collect();
                for idxs in idxs.chunks(STRIP_ROWS) {
                    let comparison = |strips: &[Range<usize>]| Comparison { from, idxs, to, strips: strips.to_vec() };
                    tasks.extend(strips.chunks(STRIPS_TOGETHER).map(comparison));
                }
            }
        }
        let sums_of = |scratch: &mut Scratch<'q>, task: &Comparison<'_>| {
            let scale = PairScale::new(question, task.from, task.to);
            let row = |idx: &usize| &query.values[idx * self.n_features..(idx + 1) * self.n_features];
            scratch.x.set(task.idxs.iter().map(row), self.n_features, &scale);
            scratch.x_sums.reset(task.idxs.len());
            for strip in &task.strips {
                scratch.y.set(strip.clone().map(|position| self.row(position)), self.n_features, &scale);
                scratch.add_pairs(self.n_features, question.unit, isa, false);
            }
            scratch.x_sums.in_units(&scale).collect::<Vec<i128>>()
        };
        let parts: Vec<Vec<i128>> = tasks.par_iter().map_init(Scratch::default, sums_of).collect();
        let mut sums = vec![0; query.clusters.len() * n_clusters];
        for (task, part) in tasks.iter().zip(parts) {
            task.idxs.iter().zip(part).for_each(|(idx, sum)| sums[idx * n_clusters + task.to] += sum);
        }
        DistanceSums(sums)
    }

    /// The silhouettes of all rows, where these are all rows there are. `on_done` is told the share of the work that is
    /// done, and may stop it.
    ///
    /// Each pair of rows is computed once, cluster after cluster: with one cluster all rows of later ones are compared,
    /// and what that tells is folded into two numbers a row. So memory does not grow with the number of clusters.
    pub(super) fn silhouettes(
        &self,
        question: &PairQuestion,
        isa: Isa,
        pool: &rayon::ThreadPool,
        on_done: &mut dyn FnMut(f64) -> Result<(), ClusteringError>,
    ) -> Result<Silhouettes, ClusteringError> {
        let folded = Folded::new(self.order.rows.len());
        let mut within = vec![0.0; self.order.rows.len()];
        let mut n_pairs_done = 0.0;
        for from in 0..self.order.clusters.len() {
            let others = (from..self.order.clusters.len()).filter(|to| !self.order.clusters[*to].is_empty());
            let tasks: Vec<(Range<usize>, usize)> =
                others.flat_map(|to| self.strips(from).map(move |strip| (strip, to))).collect();
            let largest = self.order.clusters[from..].iter().map(Range::len).max().unwrap_or(0) * STRIP_ROWS;
            let per_thread = (PAIRS_PER_THREAD / largest.max(1)).clamp(1, TASKS_PER_THREAD);
            for tasks in tasks.chunks(per_thread * pool.current_num_threads()) {
                let compare = |scratch: &mut Scratch<'a>, (strip, to): &(Range<usize>, usize)| {
                    self.compare(strip.clone(), (from, *to), question, isa, scratch, &folded);
                };
                pool.install(|| tasks.par_iter().for_each_init(Scratch::default, compare));
                let n_pairs = |(strip, to): &(Range<usize>, usize)| {
                    let n_others = if *to == from {
                        self.order.clusters[from].end - strip.start
                    } else {
                        self.order.clusters[*to].len()
                    };
                    strip.len() as f64 * n_others as f64
                };
                n_pairs_done += tasks.iter().map(n_pairs).sum::<f64>();
                on_done((2.0 * n_pairs_done / (self.order.rows.len() as f64).powi(2)).min(1.0))?;
            }
            let (own, later) =
                (self.order.clusters[from].clone(), self.order.clusters[from].end..self.order.rows.len());
            let n_from = own.len() as u64;
            pool.install(|| {
                within[own.clone()].par_iter_mut().zip(own).for_each(|(within, position)| {
                    // A row's distance to itself is in its sum, and is 0.
                    *within = mean_distance(folded.take_total(position), question.unit, n_from.max(2) - 1);
                });
                if n_from > 0 {
                    later.into_par_iter().for_each(|position| {
                        folded.meet(position, mean_distance(folded.take_total(position), question.unit, n_from));
                    });
                }
            });
        }
        Ok(self.order.silhouettes(|position| (within[position], folded.nearest(position))))
    }

    /// Compares a strip of one cluster with all rows of another, or with itself and the later rows of its own.
    fn compare(
        &self,
        strip: Range<usize>,
        (from, to): (usize, usize),
        question: &PairQuestion,
        isa: Isa,
        scratch: &mut Scratch<'a>,
        folded: &Folded,
    ) {
        let scale = PairScale::new(question, from, to);
        scratch.x.set(strip.clone().map(|position| self.row(position)), self.n_features, &scale);
        scratch.x_sums.reset(strip.len());
        for other in self.strips(to).filter(|other| from != to || other.start >= strip.start) {
            let is_itself = other == strip;
            scratch.y.set(other.clone().map(|position| self.row(position)), self.n_features, &scale);
            scratch.y_sums.reset(other.len());
            scratch.add_pairs(self.n_features, question.unit, isa, !is_itself);
            other.zip(scratch.y_sums.in_units(&scale)).for_each(|(position, sum)| folded.add_total(position, sum));
        }
        for (position, sum) in strip.zip(scratch.x_sums.in_units(&scale)) {
            if from == to {
                folded.add_total(position, sum);
            } else {
                // All rows of the other cluster were there.
                folded.meet(position, mean_distance(sum, question.unit, self.order.clusters[to].len() as u64));
            }
        }
    }
}

/// Some given rows of one cluster, compared with some strips of another.
struct Comparison<'a> {
    from: usize,
    /// Numbers of the given rows.
    idxs: &'a [usize],
    to: usize,
    strips: Vec<Range<usize>>,
}

/// What a thread needs to compare strips, kept between them.
#[derive(Default)]
struct Scratch<'r> {
    x: Lanes<'r>,
    y: Broadcasts<'r>,
    x_sums: RowSums,
    y_sums: RowSums,
    aside: Vec<(u32, u32)>,
}

impl Scratch<'_> {
    /// Adds the distances of all pairs of `x` and `y` to the sums of `x`, and perhaps to those of `y`.
    fn add_pairs(&mut self, n_features: usize, unit: f64, isa: Isa, for_both: bool) {
        let Self { x, y, x_sums, y_sums, aside } = self;
        isa.run(Pairs { x, y, n_features, unit, x_sums, y_sums: for_both.then_some(y_sums), aside });
    }
}

/// What rows have learned of their distances so far, written by all threads. Whole numbers are added and the lowest mean
/// is kept, so that it does not matter in which order.
struct Folded {
    /// The lowest mean distance to another cluster, as the bits of a float64: those of positive numbers are in order.
    nearest: Vec<AtomicU64>,
    /// The sum of distances to the cluster that is being compared: its lower 40 bits, and what is above them.
    totals: Vec<[AtomicI64; 2]>,
}

const LOW_BITS: u32 = 40;

impl Folded {
    fn new(n_rows: usize) -> Self {
        let infinite = || AtomicU64::new(f64::INFINITY.to_bits());
        let nearest = std::iter::repeat_with(infinite).take(n_rows).collect();
        Self { nearest, totals: std::iter::repeat_with(Default::default).take(n_rows).collect() }
    }

    fn meet(&self, position: usize, mean: f64) {
        self.nearest[position].fetch_min(mean.to_bits(), Ordering::Relaxed);
    }

    fn nearest(&self, position: usize) -> f64 {
        f64::from_bits(self.nearest[position].load(Ordering::Relaxed))
    }

    fn add_total(&self, position: usize, sum: i128) {
        if sum != 0 {
            let [low, high] = &self.totals[position];
            low.fetch_add((sum & ((1 << LOW_BITS) - 1)) as i64, Ordering::Relaxed);
            high.fetch_add((sum >> LOW_BITS) as i64, Ordering::Relaxed);
        }
    }

    fn take_total(&self, position: usize) -> i128 {
        let [low, high] = &self.totals[position];
        i128::from(low.swap(0, Ordering::Relaxed)) + (i128::from(high.swap(0, Ordering::Relaxed)) << LOW_BITS)
    }
}
