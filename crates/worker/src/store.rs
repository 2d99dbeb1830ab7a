//! What a worker holds: raw blocks by data set, prepared shards by run.

use crate::budget::{Budget, Reserved};
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
    _reserved: Vec<Arc<Reserved>>,
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
    pub(crate) budget: Arc<Budget>,
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
    n_blocks: usize,
    _reserved: Arc<Reserved>,
}

/// What prepared rows take: their values, a quarter more for what passes remember, and labels, bounds and norms.
fn prepared_bytes(n_rows: usize, n_features: usize) -> u64 {
    (n_rows * (n_features * 5 + 16)) as u64
}

impl Store {
    /// `memory_bytes` is what rows may take.
    pub(crate) fn new(machine: Machine, memory_bytes: u64) -> Self {
        let budget = Arc::new(Budget::new(memory_bytes));
        Self { machine, budget, data_sets: Mutex::default(), runs: Mutex::default() }
    }

    /// Adds blocks, and what was reserved for them, to a data set; a block that is here already is replaced by itself.
    pub(crate) fn put(&self, name: &str, schema: DataSetSchema, blocks: Vec<SourceBlock>, reserved: Reserved) {
        let mut data_sets = lock(&self.data_sets);
        let held = data_sets.get(name);
        let mut all = held.map(|data_set| data_set.blocks.clone()).unwrap_or_default();
        let mut all_reserved = held.map(|data_set| data_set._reserved.clone()).unwrap_or_default();
        all.extend(blocks.into_iter().map(|block| (block.raw.id(), Arc::new(block))));
        all_reserved.push(Arc::new(reserved));
        data_sets.insert(name.to_owned(), Arc::new(DataSet { schema, blocks: all, _reserved: all_reserved }));
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
        reserved: Reserved,
    ) -> Result<Vec<BlockId>, ClusteringError> {
        let number = lock(&self.runs).begin(run);
        let shard = data_set.rows(&self.machine).shard(preparation)?;
        let blocks = shard.block_ids();
        let (n_features, n_blocks) = (preparation.n_features(), blocks.len());
        let prepared = Run { shard: shard.into(), n_features, n_blocks, _reserved: Arc::new(reserved) };
        lock(&self.runs).end(run, number, prepared);
        Ok(blocks)
    }

    /// Reserves what preparing a data set takes.
    pub(crate) fn reserve_run(&self, run: &str, data_set: &DataSet) -> Result<Reserved, Status> {
        let n_rows = data_set.blocks.values().map(|block| block.raw.n_rows()).sum();
        self.budget.reserve(prepared_bytes(n_rows, data_set.schema.features.n_features()), &format!("run {run}"))
    }

    /// Reserves what a sample of a run takes.
    pub(crate) fn reserve_sample(&self, run: &Run, name: &str, sample: &Sample) -> Result<Reserved, Status> {
        let n_rows = run.n_blocks * sample.block_rows;
        self.budget.reserve(prepared_bytes(n_rows, run.n_features), &format!("run {name}"))
    }

    /// Samples a run and keeps the sample as a run of its own. Asked again, it does the same again.
    pub(crate) fn sample(
        &self,
        run: &Run,
        name: &str,
        sample: &Sample,
        reserved: Reserved,
    ) -> Result<(), ClusteringError> {
        let number = lock(&self.runs).begin(name);
        let shard = run.shard.sample(sample)?.into();
        let sampled = Run { shard, _reserved: Arc::new(reserved), ..run.clone() };
        lock(&self.runs).end(name, number, sampled);
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
