//! Raw blocks in memory, asked as one process asks them, or as a fleet does.
//!
//! With one device this is the plain local run. With several, blocks are dealt out to as many workers, and answers are
//! put together in reverse order: what a network would do at its worst, without a network.

use shoal_clustering::cpu::{Assigner, Isa};
use shoal_clustering::prepare::{Reading, prepare_block};
use shoal_clustering::silhouette::SimplifiedSilhouettes;
use shoal_clustering::{
    BlockLabels, ClusterWeights, ClusteringError, Description, Device, DistanceSums, Draw, PairQuestion, Partial,
    Picked, Profile, QueryRows, Rows, Sample, Shard, Spread,
};
use shoal_domain::{BlockId, Centroids, FeatureNames, Merge, Preparation, RawBlock};
use shoal_stats::{DigitCounts, DigitQuery};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A data set that is held by workers.
pub(crate) struct MemoryRows {
    features: FeatureNames,
    workers: Vec<Worker>,
}

struct Worker {
    device: Arc<dyn Device>,
    blocks: Vec<RawBlock>,
}

impl MemoryRows {
    /// Deals the blocks out in turn, one worker a device.
    pub(crate) fn new(features: FeatureNames, blocks: Vec<RawBlock>, devices: Vec<Arc<dyn Device>>) -> Self {
        let n_workers = devices.len();
        let mut workers: Vec<Worker> =
            devices.into_iter().map(|device| Worker { device, blocks: Vec::new() }).collect();
        for (idx, block) in blocks.into_iter().enumerate() {
            workers[idx % n_workers].blocks.push(block);
        }
        Self { features, workers }
    }

    /// Labels and distances of all rows, block after block.
    pub(crate) fn labels(
        &self,
        preparation: &Preparation,
        centroids: &Centroids,
    ) -> Result<Vec<BlockLabels>, ClusteringError> {
        let mut labels = BTreeMap::new();
        for worker in &self.workers {
            let assigner = Assigner::new(centroids, Isa::detect());
            for raw in &worker.blocks {
                labels.insert(raw.id(), assigner.block_labels(&prepare_block(preparation, raw)?));
            }
        }
        Ok(labels.into_values().collect())
    }
}

impl Rows for MemoryRows {
    fn features(&self) -> &FeatureNames {
        &self.features
    }

    fn n_repeated_ids(&self) -> Option<u64> {
        Some(0)
    }

    fn profile(&self, reading: &Reading) -> Result<Profile, ClusteringError> {
        let of_worker = |worker: &Worker| {
            let blocks = worker.blocks.iter().map(|block| (block.id(), reading.profile(block)));
            Ok(Profile { blocks: blocks.collect() })
        };
        merged(self.workers.iter().map(of_worker))
    }

    fn count_digits(&self, reading: &Reading, queries: &[DigitQuery]) -> Result<DigitCounts, ClusteringError> {
        let of_worker = |worker: &Worker| {
            let mut counts = DigitCounts::new(queries.len());
            worker.blocks.iter().for_each(|block| reading.count_digits(block, queries, &mut counts));
            Ok(counts)
        };
        merged(self.workers.iter().map(of_worker))
    }

    fn prepare(&self, preparation: &Preparation) -> Result<Box<dyn Shard + '_>, ClusteringError> {
        let load = |worker: &Worker| {
            // A device takes blocks in any order, so it gets them backwards.
            let mut blocks = worker.blocks.iter().rev().map(|block| prepare_block(preparation, block));
            worker.device.load(preparation, &mut blocks)
        };
        let mut shards = self.workers.iter().map(load).collect::<Result<Vec<_>, _>>()?;
        match shards.len() {
            1 => Ok(shards.remove(0)),
            _ => Ok(Box::new(FleetShard { shards })),
        }
    }

    fn describe(&self, preparation: &Preparation, centroids: &Centroids) -> Result<Description, ClusteringError> {
        let of_worker = |worker: &Worker| {
            let assigner = Assigner::new(centroids, Isa::detect());
            let mut description = Description::empty(centroids.n_clusters(), centroids.n_features());
            for raw in &worker.blocks {
                let labels = assigner.block_labels(&prepare_block(preparation, raw)?);
                description.merge(Description::of_block(raw, &labels, centroids.n_clusters()));
            }
            Ok(description)
        };
        merged(self.workers.iter().map(of_worker))
    }
}

/// The shards of several workers as one.
struct FleetShard {
    shards: Vec<Box<dyn Shard>>,
}

impl FleetShard {
    /// The shard that holds a block.
    fn holder(&self, block: BlockId) -> Result<&dyn Shard, ClusteringError> {
        let holder = self.shards.iter().find(|shard| shard.block_ids().contains(&block));
        holder.map(AsRef::as_ref).ok_or(ClusteringError::NoSuchBlock { block: block.0 })
    }

    fn ask<A: Merge>(&self, ask: impl Fn(&dyn Shard) -> Result<A, ClusteringError>) -> Result<A, ClusteringError> {
        merged(self.shards.iter().map(|shard| ask(shard.as_ref())))
    }

    /// For questions that have one answer for each of several parts.
    fn ask_each<A: Merge>(
        &self,
        ask: impl Fn(&dyn Shard) -> Result<Vec<A>, ClusteringError>,
    ) -> Result<Vec<A>, ClusteringError> {
        Ok(self.ask(|shard| ask(shard).map(Each))?.0)
    }
}

struct Each<A>(Vec<A>);

impl<A: Merge> Merge for Each<A> {
    fn merge(&mut self, other: Self) {
        self.0.iter_mut().zip(other.0).for_each(|(answer, more)| answer.merge(more));
    }
}

/// Puts answers together, the last worker's first.
fn merged<A: Merge>(
    answers: impl DoubleEndedIterator<Item = Result<A, ClusteringError>>,
) -> Result<A, ClusteringError> {
    let mut answers = answers.rev();
    let mut merged = answers.next().expect("there is at least one worker")?;
    for answer in answers {
        merged.merge(answer?);
    }
    Ok(merged)
}

impl Shard for FleetShard {
    fn block_ids(&self) -> Vec<BlockId> {
        let mut block_ids: Vec<BlockId> = self.shards.iter().flat_map(|shard| shard.block_ids()).collect();
        block_ids.sort();
        block_ids
    }

    fn sample(&self, sample: &Sample) -> Result<Box<dyn Shard>, ClusteringError> {
        let shards = self.shards.iter().map(|shard| shard.sample(sample)).collect::<Result<_, _>>()?;
        Ok(Box::new(FleetShard { shards }))
    }

    fn assign(&self, sets: &[Centroids]) -> Result<Vec<Partial>, ClusteringError> {
        self.ask_each(|shard| shard.assign(sets))
    }

    fn weigh(&self, sets: &[Centroids]) -> Result<Vec<ClusterWeights>, ClusteringError> {
        self.ask_each(|shard| shard.weigh(sets))
    }

    fn draw(&self, draws: &[Draw]) -> Result<Vec<Picked>, ClusteringError> {
        self.ask_each(|shard| shard.draw(draws))
    }

    fn farthest(&self, centroids: &Centroids, n: usize) -> Result<Picked, ClusteringError> {
        self.ask(|shard| shard.farthest(centroids, n))
    }

    fn movers(&self, centroids: &Centroids, weights: &[i128], n: usize) -> Result<Picked, ClusteringError> {
        self.ask(|shard| shard.movers(centroids, weights, n))
    }

    fn spread(&self, label_by: &Centroids, measure_from: &Centroids) -> Result<Spread, ClusteringError> {
        self.ask(|shard| shard.spread(label_by, measure_from))
    }

    fn simplified_silhouettes(&self, centroids: &Centroids) -> Result<SimplifiedSilhouettes, ClusteringError> {
        self.ask(|shard| shard.simplified_silhouettes(centroids))
    }

    fn query_rows(&self, block: BlockId, centroids: &Centroids) -> Result<QueryRows, ClusteringError> {
        self.holder(block)?.query_rows(block, centroids)
    }

    fn distance_sums(&self, query: &QueryRows, question: &PairQuestion) -> Result<DistanceSums, ClusteringError> {
        self.ask(|shard| shard.distance_sums(query, question))
    }
}
