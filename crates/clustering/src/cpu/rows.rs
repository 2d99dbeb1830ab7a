//! Raw blocks in memory, asked on the threads of a device.

use super::{Assigner, CpuDevice};
use crate::answers::{Description, Profile};
use crate::error::ClusteringError;
use crate::prepare::{Reading, prepare_block};
use crate::questions::{Device, Rows, Shard};
use rayon::prelude::*;
use shoal_domain::{Block, Centroids, FeatureNames, Merge, Preparation, RawBlock};
use shoal_stats::{DigitCounts, DigitQuery};

/// Blocks that somebody holds, such as a worker those of a data set.
pub struct MemoryRows<'a> {
    features: &'a FeatureNames,
    blocks: Vec<&'a RawBlock>,
    device: &'a CpuDevice,
}

impl<'a> MemoryRows<'a> {
    /// Takes the blocks in any order.
    pub fn new(features: &'a FeatureNames, blocks: Vec<&'a RawBlock>, device: &'a CpuDevice) -> Self {
        Self { features, blocks, device }
    }

    /// Prepares all blocks; the shard holds them on its own.
    pub fn shard(&self, preparation: &Preparation) -> Result<Box<dyn Shard>, ClusteringError> {
        let blocks: Vec<Result<Block, _>> = self.map(|block| prepare_block(preparation, block));
        self.device.load(preparation, &mut blocks.into_iter())
    }

    fn map<T: Send>(&self, work: impl Fn(&RawBlock) -> T + Sync) -> Vec<T> {
        self.device.install(|| self.blocks.par_iter().map(|block| work(block)).collect())
    }
}

impl Rows for MemoryRows<'_> {
    fn features(&self) -> &FeatureNames {
        self.features
    }

    fn profile(&self, reading: &Reading) -> Result<Profile, ClusteringError> {
        let blocks = self.map(|block| (block.id(), reading.profile(block)));
        Ok(Profile { blocks: blocks.into_iter().collect() })
    }

    fn count_digits(&self, reading: &Reading, queries: &[DigitQuery]) -> Result<DigitCounts, ClusteringError> {
        let mut counts = DigitCounts::new(queries.len());
        let of_block = |block: &RawBlock| {
            let mut counts = DigitCounts::new(queries.len());
            reading.count_digits(block, queries, &mut counts);
            counts
        };
        self.map(of_block).into_iter().for_each(|more| counts.merge(more));
        Ok(counts)
    }

    fn prepare(&self, preparation: &Preparation) -> Result<Box<dyn Shard + '_>, ClusteringError> {
        self.shard(preparation).map(|shard| shard as Box<dyn Shard>)
    }

    fn describe(&self, preparation: &Preparation, centroids: &Centroids) -> Result<Description, ClusteringError> {
        let assigner = Assigner::new(centroids, self.device.isa());
        let of_block = |raw: &RawBlock| -> Result<Description, ClusteringError> {
            let block = prepare_block(preparation, raw)?;
            Ok(Description::of_block(raw, &assigner.block_labels(&block), centroids.n_clusters()))
        };
        let mut description = Description::empty(centroids.n_clusters(), centroids.n_features());
        for more in self.map(of_block) {
            description.merge(more?);
        }
        Ok(description)
    }
}
