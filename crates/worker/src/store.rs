//! What a worker holds: raw blocks by data set, prepared shards by run.

use shoal_clustering::cpu::MemoryRows;
use shoal_clustering::{ClusteringError, Machine, Sample, Shard};
use shoal_domain::{BlockId, Preparation};
use shoal_wire::blocks::{DataSetSchema, SourceBlock};
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tonic::Status;

/// The blocks of one data set that are here.
pub(crate) struct DataSet {
    pub(crate) schema: DataSetSchema,
    pub(crate) blocks: BTreeMap<BlockId, Arc<SourceBlock>>,
}

impl DataSet {
    /// The raw rows, to be asked.
    pub(crate) fn rows<'a>(&'a self, machine: &'a Machine) -> MemoryRows<'a> {
        let blocks = self.blocks.values().map(|block| &block.raw).collect();
        MemoryRows::new(&self.schema.features, blocks, machine)
    }
}

/// Data sets and runs. Both maps are locked only to look a pointer up or to replace one, never while anything is
/// computed, so std's mutex is the right one even beside async code.
pub(crate) struct Store {
    pub(crate) machine: Machine,
    data_sets: Mutex<HashMap<String, Arc<DataSet>>>,
    runs: Mutex<Runs>,
}

/// Runs that can be asked, and those that are being prepared. One that is released meanwhile must not be kept when it is
/// ready: nobody would name it again.
#[derive(Default)]
struct Runs {
    ready: HashMap<String, Run>,
    /// The number of the preparation that is wanted.
    under_way: HashMap<String, u64>,
    n_begun: u64,
}

impl Runs {
    fn begin(&mut self, name: &str) -> u64 {
        self.n_begun += 1;
        self.under_way.insert(name.to_owned(), self.n_begun);
        self.n_begun
    }

    fn end(&mut self, name: &str, number: u64, run: Run) {
        if self.under_way.get(name) == Some(&number) {
            self.under_way.remove(name);
            self.ready.insert(name.to_owned(), run);
        }
    }
}

/// The prepared rows of a run.
#[derive(Clone)]
pub(crate) struct Run {
    pub(crate) shard: Arc<dyn Shard>,
    pub(crate) n_features: usize,
}

impl Store {
    pub(crate) fn new(machine: Machine) -> Self {
        Self { machine, data_sets: Mutex::default(), runs: Mutex::default() }
    }

    /// Adds blocks to a data set; a block that is here already is replaced by itself.
    pub(crate) fn put(&self, name: &str, schema: DataSetSchema, blocks: Vec<SourceBlock>) {
        let mut data_sets = lock(&self.data_sets);
        let held = data_sets.get(name).map(|data_set| data_set.blocks.clone()).unwrap_or_default();
        let blocks = blocks.into_iter().map(|block| (block.raw.id(), Arc::new(block)));
        let blocks = held.into_iter().chain(blocks).collect();
        data_sets.insert(name.to_owned(), Arc::new(DataSet { schema, blocks }));
    }

    pub(crate) fn data_set(&self, name: &str) -> Result<Arc<DataSet>, Status> {
        let found = lock(&self.data_sets).get(name).cloned();
        found.ok_or_else(|| Status::not_found(format!("this worker holds nothing of data set {name}")))
    }

    /// Prepares a data set for a run and keeps the result. Asked again, it does the same again.
    pub(crate) fn prepare(
        &self,
        run: &str,
        data_set: &DataSet,
        preparation: &Preparation,
    ) -> Result<Vec<BlockId>, ClusteringError> {
        let number = lock(&self.runs).begin(run);
        let shard = data_set.rows(&self.machine).shard(preparation)?;
        let blocks = shard.block_ids();
        let n_features = preparation.n_features();
        lock(&self.runs).end(run, number, Run { shard: shard.into(), n_features });
        Ok(blocks)
    }

    /// Samples a run and keeps the sample as a run of its own. Asked again, it does the same again.
    pub(crate) fn sample(&self, run: &Run, name: &str, sample: &Sample) -> Result<(), ClusteringError> {
        let number = lock(&self.runs).begin(name);
        let shard = run.shard.sample(sample)?.into();
        lock(&self.runs).end(name, number, Run { shard, n_features: run.n_features });
        Ok(())
    }

    pub(crate) fn run(&self, run: &str) -> Result<Run, Status> {
        let found = lock(&self.runs).ready.get(run).cloned();
        found.ok_or_else(|| Status::not_found(format!("this worker holds nothing of run {run}")))
    }

    /// Lets go of a run, a data set, or both; an empty name is none.
    pub(crate) fn release(&self, run: &str, data_set: &str) {
        let mut runs = lock(&self.runs);
        runs.ready.remove(run);
        runs.under_way.remove(run);
        drop(runs);
        lock(&self.data_sets).remove(data_set);
    }

    /// Lets go of everything: the coordinator that these rows belonged to is another one now.
    pub(crate) fn clear(&self) {
        let mut runs = lock(&self.runs);
        runs.ready.clear();
        runs.under_way.clear();
        drop(runs);
        lock(&self.data_sets).clear();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A map is whole between two statements; a panic elsewhere cannot have torn it.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
