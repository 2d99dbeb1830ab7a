//! Rows in files, as one process asks them.
//!
//! Files are read again for every question instead of being kept in memory as float64: what stays resident is the
//! prepared float32 matrix alone. A second reading must find what the first one found; if the files have changed in
//! between, the run ends with an error instead of a mixture.

use arrow::array::ArrayRef;
use rayon::prelude::*;
use shoal_behavior::{BehaviorError, FeatureSource, Quality, ReadOptions};
use shoal_clustering::cpu::{Assigner, CpuDevice};
use shoal_clustering::prepare::{Reading, prepare_block};
use shoal_clustering::{BlockLabels, ClusteringError, Description, Machine, Profile, Rows, Shard};
use shoal_domain::job::SourceSpec;
use shoal_domain::{Block, BlockId, Centroids, FeatureNames, Merge, Preparation};
use shoal_stats::{DigitCounts, DigitQuery};
use shoal_wire::blocks::{BlockCutter, BlockError, DataSetSchema, SourceBlock};
use shoal_wire::ids::IdCounter;
use shoal_wire::uncut::UncutBlock;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use thiserror::Error;
use tokio::runtime::Handle;
use tokio_stream::StreamExt;

/// Blocks that are worked on at a time for each thread, and as many are read ahead meanwhile.
const BLOCKS_OF_THREAD: usize = 4;

/// Why files could not be read.
#[derive(Debug, Error)]
pub(crate) enum LocalError {
    #[error(transparent)]
    Source(#[from] BehaviorError),
    #[error("`{path}`: {source}")]
    Block { path: String, source: BlockError },
    #[error("`{path}` has changed while it was read: block {block} is another one now")]
    Changed { path: String, block: BlockId },
    #[error("the reader of the source panicked")]
    Panicked,
}

/// A source, read by this process.
pub(crate) struct FileRows {
    source: Arc<FeatureSource>,
    path: String,
    schema: DataSetSchema,
    machine: Machine,
    runtime: Handle,
    /// Told the number of rows of each block that is read.
    on_rows: Arc<dyn Fn(u64) + Send + Sync>,
    /// Rows whose id another row had before, as the first reading has found.
    n_repeated_ids: Mutex<Option<u64>>,
    /// What the first reading found. A mutex since questions come by shared reference; nothing waits for it.
    first: Mutex<FirstReading>,
}

#[derive(Default)]
struct FirstReading {
    digests: BTreeMap<BlockId, [u8; 32]>,
    is_complete: bool,
}

impl FileRows {
    pub(crate) fn open(
        spec: &SourceSpec,
        options: &ReadOptions,
        machine: Machine,
        runtime: Handle,
        on_rows: Arc<dyn Fn(u64) + Send + Sync>,
    ) -> Result<Self, LocalError> {
        let source = runtime.block_on(FeatureSource::open(spec, options))?;
        let path = spec.path.clone();
        let schema = DataSetSchema::new(source.schema().into(), source.has_weight());
        let schema = schema.map_err(|source| LocalError::Block { path: path.clone(), source })?;
        let (source, n_repeated_ids, first) = (Arc::new(source), Mutex::default(), Mutex::default());
        Ok(Self { source, path, schema, machine, runtime, on_rows, n_repeated_ids, first })
    }

    /// What was wrong with the log, where rows are made of events.
    pub(crate) fn quality(&self) -> Option<&Quality> {
        self.source.quality()
    }

    pub(crate) fn schema(&self) -> &DataSetSchema {
        &self.schema
    }

    /// Blocks that are worked on at a time.
    fn batch_blocks(&self) -> usize {
        BLOCKS_OF_THREAD * self.machine.cpu.install(rayon::current_num_threads)
    }

    /// Reads the rows of all blocks, a few ahead of whoever takes them.
    fn uncut(&self) -> impl Iterator<Item = Result<UncutBlock, LocalError>> + use<> {
        let (sender, mut receiver) = tokio::sync::mpsc::channel(self.batch_blocks());
        let (source, schema, path) = (self.source.clone(), self.schema.clone(), self.path.clone());
        let reader = self.runtime.spawn(async move {
            let failed = |source| LocalError::Block { path: path.clone(), source };
            let read = async {
                let mut cutter = BlockCutter::new(schema).map_err(failed)?;
                let mut batches = source.batches().await?;
                while let Some(batch) = batches.next().await {
                    let batch = batch.map_err(|error| source.read_error(error))?;
                    for block in cutter.push_uncut(batch).map_err(failed)? {
                        // A closed channel means that nobody wants the rest.
                        if sender.send(Ok(block)).await.is_err() {
                            return Ok(None);
                        }
                    }
                }
                cutter.finish_uncut().map_err(failed)
            };
            let last = match read.await {
                Ok(last) => last.map(Ok),
                Err(error) => Some(Err(error)),
            };
            if let Some(last) = last {
                // As above: nobody wants it.
                let _ = sender.send(last).await;
            }
        });
        let (runtime, mut reader) = (self.runtime.clone(), Some(reader));
        std::iter::from_fn(move || match receiver.blocking_recv() {
            Some(block) => Some(block),
            // A reader that panicked has ended too, but not at the end of the data.
            None => runtime.block_on(reader.take()?).err().map(|_| Err(LocalError::Panicked)),
        })
    }

    /// Cuts blocks on all threads; an error is that of the first row that has one.
    fn cut(&self, uncut: &[UncutBlock], ids: &mut Option<IdCounter>) -> Result<Vec<SourceBlock>, LocalError> {
        let with_ids = ids.is_some();
        let cut = |uncut: &UncutBlock| match with_ids {
            true => uncut.cut_with_ids(),
            false => uncut.cut().map(|block| (block, Vec::new())),
        };
        let cut: Vec<_> = self.machine.cpu.install(|| uncut.par_iter().map(cut).collect());
        let failed = |source| LocalError::Block { path: self.path.clone(), source };
        let take = |cut: Result<(SourceBlock, Vec<u64>), BlockError>| {
            let (block, hashes) = cut.map_err(failed)?;
            ids.iter_mut().for_each(|ids| ids.add(&hashes));
            Ok(block)
        };
        cut.into_iter().map(take).collect()
    }

    /// Reads all blocks, some at a time, and checks that they are what they were.
    fn batches(&self) -> impl Iterator<Item = Result<Vec<SourceBlock>, ClusteringError>> {
        let (mut uncut, batch_blocks) = (self.uncut(), self.batch_blocks());
        let mut ids = (!self.first().is_complete).then(IdCounter::default);
        let mut n_blocks = 0;
        std::iter::from_fn(move || {
            let batch: Result<Vec<UncutBlock>, LocalError> = uncut.by_ref().take(batch_blocks).collect();
            let checked = batch.and_then(|uncut| self.cut(&uncut, &mut ids)).and_then(|batch| {
                n_blocks += batch.len();
                if let Some(ids) = ids.take_if(|_| batch.is_empty()) {
                    let n_repeated_ids = self.machine.cpu.install(|| ids.n_repeated());
                    *self.n_repeated_ids.lock().unwrap_or_else(PoisonError::into_inner) = n_repeated_ids;
                }
                self.check_unchanged(&batch, n_blocks)?;
                batch.iter().for_each(|block| (self.on_rows)(block.raw.n_rows() as u64));
                Ok(batch)
            });
            match checked {
                Ok(batch) if batch.is_empty() => None,
                checked => Some(checked.map_err(ClusteringError::rows)),
            }
        })
    }

    /// Reads all blocks and lets the threads work on several at a time; results come in block order.
    fn map_blocks<T: Send>(
        &self,
        work: impl Fn(&SourceBlock) -> Result<T, ClusteringError> + Sync,
        mut take: impl FnMut(T) -> Result<(), ClusteringError>,
    ) -> Result<(), ClusteringError> {
        for batch in self.batches() {
            let batch = batch?;
            let results: Vec<_> = self.machine.cpu.install(|| batch.par_iter().map(&work).collect());
            for result in results {
                take(result?)?;
            }
        }
        Ok(())
    }

    fn first(&self) -> MutexGuard<'_, FirstReading> {
        self.first.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Compares a batch with the first reading; an empty batch is the end, which must be where it was.
    fn check_unchanged(&self, batch: &[SourceBlock], n_blocks: usize) -> Result<(), LocalError> {
        let mut first = self.first();
        let changed = |block| LocalError::Changed { path: self.path.clone(), block };
        for block in batch {
            let (id, digest) = (block.raw.id(), block.raw.digest());
            let known =
                if first.is_complete { first.digests.get(&id) } else { first.digests.get(&id).or(Some(&digest)) };
            if known != Some(&digest) {
                return Err(changed(id));
            }
            first.digests.insert(id, digest);
        }
        if batch.is_empty() {
            first.is_complete = true;
            if first.digests.len() != n_blocks {
                return Err(changed(BlockId(n_blocks as u64)));
            }
        }
        Ok(())
    }

    /// The processor that works on them.
    pub(crate) fn cpu(&self) -> &CpuDevice {
        &self.machine.cpu
    }

    /// Labels and distances of all rows, block after block, with the ids.
    pub(crate) fn label(
        &self,
        preparation: &Preparation,
        centroids: &Centroids,
        mut take: impl FnMut(ArrayRef, BlockLabels) -> Result<(), ClusteringError>,
    ) -> Result<(), ClusteringError> {
        let assigner = Assigner::new(centroids, self.machine.cpu.isa());
        let label = |source: &SourceBlock| {
            let block = prepare_block(preparation, &source.raw)?;
            Ok((source.ids.clone(), assigner.block_labels(&block)))
        };
        self.map_blocks(label, |(ids, labels)| take(ids, labels))
    }
}

impl Rows for FileRows {
    fn features(&self) -> &FeatureNames {
        &self.schema.features
    }

    fn n_repeated_ids(&self) -> Option<u64> {
        *self.n_repeated_ids.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn profile(&self, reading: &Reading) -> Result<Profile, ClusteringError> {
        let mut profile = Profile::default();
        let of_block = |block: &SourceBlock| Ok((block.raw.id(), reading.profile(&block.raw)));
        self.map_blocks(of_block, |(id, block)| {
            profile.blocks.insert(id, block);
            Ok(())
        })?;
        Ok(profile)
    }

    fn count_digits(&self, reading: &Reading, queries: &[DigitQuery]) -> Result<DigitCounts, ClusteringError> {
        let mut counts = DigitCounts::new(queries.len());
        let of_block = |block: &SourceBlock| {
            let mut counts = DigitCounts::new(queries.len());
            reading.count_digits(&block.raw, queries, &mut counts);
            Ok(counts)
        };
        self.map_blocks(of_block, |more| {
            counts.merge(more);
            Ok(())
        })?;
        Ok(counts)
    }

    fn prepare(&self, preparation: &Preparation) -> Result<Box<dyn Shard + '_>, ClusteringError> {
        let prepare = |batch: &Vec<SourceBlock>| {
            let blocks = self
                .machine
                .cpu
                .install(|| batch.par_iter().map(|block| prepare_block(preparation, &block.raw)).collect());
            let blocks: Vec<Result<Block, ClusteringError>> = blocks;
            blocks
        };
        let batches = self.batches().flat_map(|batch| match batch {
            Ok(batch) => prepare(&batch),
            Err(error) => vec![Err(error)],
        });
        self.machine.engine.load(preparation, &mut batches.into_iter())
    }

    fn describe(&self, preparation: &Preparation, centroids: &Centroids) -> Result<Description, ClusteringError> {
        let mut description = Description::empty(centroids.n_clusters(), centroids.n_features());
        let assigner = Assigner::new(centroids, self.machine.cpu.isa());
        let of_block = |source: &SourceBlock| {
            let block = prepare_block(preparation, &source.raw)?;
            Ok(Description::of_block(&source.raw, &assigner.block_labels(&block), centroids.n_clusters()))
        };
        self.map_blocks(of_block, |more| {
            description.merge(more);
            Ok(())
        })?;
        Ok(description)
    }
}
