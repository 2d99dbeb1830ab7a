//! First centroids.
//!
//! All random choices are exponential races (see [`RandomStream::arrival`]): each row draws its arrival time from its own
//! random number, and the first to arrive are chosen. A race needs one pass, merges by taking the earlier rows, and does
//! not depend on where rows are.

use super::candidates::{greedy_plus_plus, means_of_candidates};
use super::size::sets_per_question;
use crate::answers::PickedRow;
use crate::error::ClusteringError;
use crate::observer::{Event, Observer, emit};
use crate::questions::{Draw, Shard};
use crate::sample::Sample;
use crate::streams;
use shoal_domain::{BLOCK_ROWS, Centroids, job::Init};
use shoal_stats::RandomStream;

/// Rounds of k-means||. Bahmani et al. find that five suffice and that more gain little.
const PARALLEL_ROUNDS: u64 = 5;
/// Candidates of a k-means|| round, as a multiple of n_clusters: their "oversampling factor" of 2k.
const CANDIDATES_PER_CLUSTER: usize = 2;
/// Of more rows k-means|| is given a sample: so many rows, ..
const SAMPLE_ROWS: usize = 1 << 18;
/// .. or so many for each cluster, on average, where that is more.
const SAMPLE_ROWS_PER_CLUSTER: usize = 64;
/// The use of a start's random numbers that picks its sample.
const SAMPLE_USE: u64 = streams::PER_START - 1;

/// First centroids of `n_init` starts.
pub(super) fn seed(
    shard: &dyn Shard,
    init: Init,
    n_clusters: usize,
    n_init: usize,
    seed: u64,
    observer: &mut dyn Observer,
) -> Result<Vec<Centroids>, ClusteringError> {
    let stream = |start: u64, use_idx: u64| RandomStream { seed, stream: start * streams::PER_START + use_idx };
    let starts: Vec<u64> = (0..n_init as u64).collect();
    let block_rows = sample_block_rows(shard.block_ids().len(), n_clusters).filter(|_| init == Init::Parallel);
    let mut seeding = Seeding { shard, n_clusters, stream: &stream, observer };
    match (init, block_rows) {
        (Init::Random, _) => seeding.random(&starts),
        (Init::PlusPlus, _) => seeding.plus_plus(&starts),
        (Init::Parallel, None) => seeding.parallel(&starts),
        (Init::Parallel, Some(block_rows)) => starts.iter().map(|start| seeding.sampled(*start, block_rows)).collect(),
    }
}

/// Rows of a whole block in the sample for k-means||; none where that would be half of the rows or more.
fn sample_block_rows(n_blocks: usize, n_clusters: usize) -> Option<usize> {
    let n_rows = SAMPLE_ROWS.max(SAMPLE_ROWS_PER_CLUSTER.saturating_mul(n_clusters));
    let block_rows = n_rows.div_ceil(n_blocks.max(1));
    (block_rows < BLOCK_ROWS / 2).then_some(block_rows)
}

struct Seeding<'a> {
    shard: &'a dyn Shard,
    n_clusters: usize,
    /// The random stream of a start for its n-th use.
    stream: &'a dyn Fn(u64, u64) -> RandomStream,
    /// Told after every question, so that a long seeding can be cancelled.
    observer: &'a mut dyn Observer,
}

impl Seeding<'_> {
    /// Distinct rows, each with a chance in proportion to its weight.
    fn random(&mut self, starts: &[u64]) -> Result<Vec<Centroids>, ClusteringError> {
        let draw = |start: &u64| Draw {
            n: self.n_clusters,
            far_from: None,
            ignore_weights: false,
            stream: (self.stream)(*start, 0),
        };
        let drawn = self.draw(starts.iter().map(draw).collect())?;
        drawn.into_iter().map(|rows| self.filled_up(rows)).collect()
    }

    /// k-means++ (Arthur & Vassilvitskii 2007): each next centroid is a row drawn with probability proportional to its
    /// weight times its squared distance to the nearest centroid so far.
    fn plus_plus(&mut self, starts: &[u64]) -> Result<Vec<Centroids>, ClusteringError> {
        let mut chosen: Vec<Vec<PickedRow>> = vec![Vec::new(); starts.len()];
        for round in 0..self.n_clusters as u64 {
            self.draw_more(starts, &mut chosen, round, 1)?;
        }
        chosen.into_iter().map(|rows| self.filled_up(rows)).collect()
    }

    /// k-means|| among a random sample of the rows, another one for each start. It chooses few rows by what is far from what, of which a
    /// sample tells as much in a fraction of the time; what so few rows are that the sample has none of them, the next start
    /// may meet.
    fn sampled(&mut self, start: u64, block_rows: usize) -> Result<Centroids, ClusteringError> {
        let sample = self.shard.sample(&Sample { block_rows, stream: (self.stream)(start, SAMPLE_USE) })?;
        let (n_clusters, stream) = (self.n_clusters, self.stream);
        let mut seeding = Seeding { shard: sample.as_ref(), n_clusters, stream, observer: &mut *self.observer };
        let seeded = match seeding.parallel(&[start]) {
            // The sample may have no row with a weight; all rows have.
            Err(ClusteringError::NoWeight) => self.parallel(&[start]),
            seeded => seeded,
        };
        Ok(seeded?.remove(0))
    }

    /// k-means|| (Bahmani, Moseley, Vattani, Kumar & Vassilvitskii 2012): a few rounds draw 2k candidates each in the
    /// manner of k-means++, every candidate is weighted by the rows that are nearest to it, and weighted k-means++ and one
    /// step of Lloyd's algorithm make the centroids of them. Where the paper flips a coin for each row, and so draws about 2k, a race draws exactly 2k.
    fn parallel(&mut self, starts: &[u64]) -> Result<Vec<Centroids>, ClusteringError> {
        let mut candidates: Vec<Vec<PickedRow>> = vec![Vec::new(); starts.len()];
        self.draw_more(starts, &mut candidates, 0, 1)?;
        for round in 1..=PARALLEL_ROUNDS {
            self.draw_more(starts, &mut candidates, round, CANDIDATES_PER_CLUSTER * self.n_clusters)?;
        }
        let sets = candidates.iter().map(|rows| centroids_of(rows)).collect::<Result<Vec<_>, _>>()?;
        let mut weights = Vec::with_capacity(sets.len());
        for sets in sets.chunks(sets_per_question(sets.iter().map(|set| set.values().len()).max().unwrap_or(1))) {
            weights.extend(self.shard.weigh(sets)?.into_iter().map(|weights| weights.0));
        }
        let mut seeded = Vec::with_capacity(starts.len());
        for ((set, weights), start) in sets.iter().zip(weights).zip(starts) {
            let weights: Vec<f64> = weights.into_iter().map(|weight| weight as f64).collect();
            let stream = (self.stream)(*start, PARALLEL_ROUNDS + 1);
            let chosen = greedy_plus_plus(set, &weights, self.n_clusters, stream, self.observer)?;
            seeded.push(means_of_candidates(set, &weights, &chosen)?);
        }
        Ok(seeded)
    }

    /// Adds up to `n` rows to every start, far from those it has. Once every row lies on a chosen one, none arrive.
    fn draw_more(
        &mut self,
        starts: &[u64],
        chosen: &mut [Vec<PickedRow>],
        round: u64,
        n: usize,
    ) -> Result<(), ClusteringError> {
        let draw = |(start, rows): (&u64, &mut Vec<PickedRow>)| {
            let far_from = if rows.is_empty() { None } else { Some(centroids_of(rows)?) };
            Ok(Draw { n, far_from, ignore_weights: false, stream: (self.stream)(*start, round) })
        };
        let draws = starts.iter().zip(chosen.iter_mut()).map(draw).collect::<Result<Vec<_>, ClusteringError>>()?;
        for (rows, drawn) in chosen.iter_mut().zip(self.draw(draws)?) {
            rows.extend(drawn);
        }
        Ok(())
    }

    fn draw(&mut self, draws: Vec<Draw>) -> Result<Vec<Vec<PickedRow>>, ClusteringError> {
        // What goes down and what comes up both count; a row that comes up is taken for as wide as those that go down.
        let size_of = |draw: &Draw| {
            let (n_known, width) = draw.far_from.as_ref().map_or((0, 64), |set| (set.n_clusters(), set.n_features()));
            (n_known + draw.n) * width
        };
        let largest = draws.iter().map(size_of).max().unwrap_or(0);
        let mut drawn = Vec::with_capacity(draws.len());
        for draws in draws.chunks(sets_per_question(largest)) {
            drawn.extend(self.shard.draw(draws)?.into_iter().map(|picked| picked.into_rows()));
            emit(self.observer, Event::Seeding)?;
        }
        Ok(drawn)
    }

    /// The rows as centroids; the last one again where there were too few distinct rows.
    fn filled_up(&self, mut rows: Vec<PickedRow>) -> Result<Centroids, ClusteringError> {
        let last = rows.last().ok_or(ClusteringError::NoWeight)?.clone();
        rows.resize(self.n_clusters, last);
        centroids_of(&rows)
    }
}

fn centroids_of(rows: &[PickedRow]) -> Result<Centroids, ClusteringError> {
    if rows.is_empty() {
        return Err(ClusteringError::NoWeight);
    }
    Ok(Centroids::from_rows(rows.iter().map(|row| row.values.as_slice()))?)
}
