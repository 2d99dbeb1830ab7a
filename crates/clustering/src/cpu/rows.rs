//! Raw blocks in memory, asked on the threads of a machine.

use super::Assigner;
use crate::answers::{Description, Profile};
use crate::error::ClusteringError;
use crate::machine::Machine;
use crate::prepare::{Reading, prepare_block};
use crate::questions::{Rows, Shard};
use rayon::prelude::*;
use shoal_domain::{Block, Centroids, FeatureNames, Merge, Preparation, RawBlock};
use shoal_stats::{DigitCounts, DigitQuery};

/// Blocks that somebody holds, such as a worker those of a data set.
pub struct MemoryRows<'a> {
    features: &'a FeatureNames,
    blocks: Vec<&'a RawBlock>,
    machine: &'a Machine,
}

impl<'a> MemoryRows<'a> {
    /// Takes the blocks in any order.
    pub fn new(features: &'a FeatureNames, blocks: Vec<&'a RawBlock>, machine: &'a Machine) -> Self {
        Self { features, blocks, machine }
    }

    /// Prepares all blocks; the shard holds them on its own.
    pub fn shard(&self, preparation: &Preparation) -> Result<Box<dyn Shard>, ClusteringError> {
        let prepare = |block: &&RawBlock| prepare_block(preparation, block);
        let blocks: Vec<Result<Block, _>> = self.machine.cpu.install(|| self.blocks.par_iter().map(prepare).collect());
        self.machine.engine.load(preparation, &mut blocks.into_iter())
    }

    /// Folds all blocks into one answer on all threads. Answers merge exactly, so how the blocks were shared out does not
    /// show; only as many answers exist at a time as there are threads.
    fn fold<A: Merge + Send>(
        &self,
        empty: impl Fn() -> A + Sync,
        add: impl Fn(&mut A, &RawBlock) -> Result<(), ClusteringError> + Sync,
    ) -> Result<A, ClusteringError> {
        let n_threads = self.machine.cpu.install(rayon::current_num_threads);
        let n_together = self.blocks.len().div_ceil(n_threads).max(1);
        let fold = |blocks: &[&RawBlock]| {
            let mut answer = empty();
            blocks.iter().try_for_each(|block| add(&mut answer, block)).map(|()| answer)
        };
        let parts: Vec<Result<A, ClusteringError>> =
            self.machine.cpu.install(|| self.blocks.par_chunks(n_together).map(fold).collect());
        let mut answer = empty();
        for part in parts {
            answer.merge(part?);
        }
        Ok(answer)
    }
}

impl Rows for MemoryRows<'_> {
    fn features(&self) -> &FeatureNames {
        self.features
    }

    fn n_repeated_ids(&self) -> Option<u64> {
        // Ids stay with whoever has cut the blocks.
        Some(0)
    }

    fn profile(&self, reading: &Reading) -> Result<Profile, ClusteringError> {
        self.fold(Profile::default, |profile, block| {
            profile.blocks.insert(block.id(), reading.profile(block));
            Ok(())
        })
    }

    fn count_digits(&self, reading: &Reading, queries: &[DigitQuery]) -> Result<DigitCounts, ClusteringError> {
        let empty = || DigitCounts::new(queries.len());
        self.fold(empty, |counts, block| {
            reading.count_digits(block, queries, counts);
            Ok(())
        })
    }

    fn prepare(&self, preparation: &Preparation) -> Result<Box<dyn Shard + '_>, ClusteringError> {
        self.shard(preparation).map(|shard| shard as Box<dyn Shard>)
    }

    fn describe(&self, preparation: &Preparation, centroids: &Centroids) -> Result<Description, ClusteringError> {
        let assigner = Assigner::new(centroids, self.machine.cpu.isa());
        let empty = || Description::empty(centroids.n_clusters(), centroids.n_features());
        self.fold(empty, |description, raw| {
            let block = prepare_block(preparation, raw)?;
            description.merge(Description::of_block(raw, &assigner.block_labels(&block), centroids.n_clusters()));
            Ok(())
        })
    }
}
