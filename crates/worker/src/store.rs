//! What a worker holds: raw blocks by data set, prepared shards by run.

use crate::budget::{Budget, Reserved};
use crate::computing::Computing;
use shoal_clustering::cpu::MemoryRows;
use shoal_clustering::{ClusteringError, Machine, Sample, Shard};
use shoal_domain::{BlockId, Preparation};
use shoal_wire::blocks::{DataSetSchema, SourceBlock};
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tonic::Status;

/// The blocks of one data set that are here.
pub(crate) struct DataSet {
    name: String,
    pub(crate) schema: DataSetSchema,
    pub(crate) blocks: BTreeMap<BlockId, Arc<HeldBlock>>,
}

/// A block and its place in the budget, which it has as long as any data set holds it.
pub(crate) struct HeldBlock {
    pub(crate) block: SourceBlock,
    pub(crate) _reserved: Reserved,
}

impl DataSet {
    /// The raw rows, to be asked.
    pub(crate) fn rows<'a>(&'a self, machine: &'a Machine) -> MemoryRows<'a> {
        let blocks = self.blocks.values().map(|held| &held.block.raw).collect();
        MemoryRows::new(&self.schema.features, blocks, machine)
    }
}

/// Data sets and runs. Both maps are locked only to look a pointer up or to replace one, never while anything is
/// computed, so std's mutex is the right one even beside async code.
pub(crate) struct Store {
    pub(crate) machine: Machine,
    pub(crate) computing: Computing,
    pub(crate) budget: Arc<Budget>,
    data_sets: Mutex<HashMap<String, Arc<DataSet>>>,
    runs: Mutex<Runs>,
}

/// Runs that can be asked, and those that are being prepared. One that is released meanwhile must not be kept when it is
/// ready: nobody would name it again.
#[derive(Default)]
struct Runs {
    ready: HashMap<String, Run>,
    /// The preparations that are wanted.
    under_way: HashMap<String, UnderWay>,
    n_begun: u64,
}

struct UnderWay {
    number: u64,
    data_set: String,
}

impl Runs {
    fn begin(&mut self, name: &str, data_set: &str) -> u64 {
        self.n_begun += 1;
        let number = self.n_begun;
        self.under_way.insert(name.to_owned(), UnderWay { number, data_set: data_set.to_owned() });
        number
    }

    fn end(&mut self, name: &str, number: u64, run: Run) {
        if self.under_way.get(name).is_some_and(|wanted| wanted.number == number) {
            self.under_way.remove(name);
            self.ready.insert(name.to_owned(), run);
        }
    }

    fn release(&mut self, name: &str) {
        self.ready.remove(name);
        self.under_way.remove(name);
    }

    /// Rows that were prepared from a data set are asked as part of it only.
    fn release_of(&mut self, data_set: &str) {
        self.ready.retain(|_, run| run.data_set != data_set);
        self.under_way.retain(|_, wanted| wanted.data_set != data_set);
    }
}

/// The prepared rows of a run.
#[derive(Clone)]
pub(crate) struct Run {
    pub(crate) shard: Arc<dyn Shard>,
    pub(crate) n_features: usize,
    /// The name of the data set whose rows these are.
    data_set: String,
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
        let computing = Computing::default();
        Self { machine, computing, budget, data_sets: Mutex::default(), runs: Mutex::default() }
    }

    /// Adds blocks to a data set; a block that is here already is replaced by itself.
    pub(crate) fn put(&self, name: &str, schema: DataSetSchema, blocks: Vec<HeldBlock>) {
        let mut data_sets = lock(&self.data_sets);
        let mut all = data_sets.get(name).map(|data_set| data_set.blocks.clone()).unwrap_or_default();
        all.extend(blocks.into_iter().map(|held| (held.block.raw.id(), Arc::new(held))));
        let name = name.to_owned();
        data_sets.insert(name.clone(), Arc::new(DataSet { name, schema, blocks: all }));
    }

    /// Makes some blocks of a data set a data set of their own, which shares them.
    pub(crate) fn part(&self, name: &str, part: &str, blocks: &[u64]) -> Result<(), Status> {
        let whole = self.data_set(name)?;
        let held = |id: &u64| {
            let held = whole.blocks.get(&BlockId(*id)).cloned();
            let not_here = || Status::invalid_argument(format!("blocks: {id} of data set {name} is not here"));
            held.map(|held| (BlockId(*id), held)).ok_or_else(not_here)
        };
        let blocks = blocks.iter().map(held).collect::<Result<_, _>>()?;
        let part = DataSet { name: part.to_owned(), schema: whole.schema.clone(), blocks };
        lock(&self.data_sets).insert(part.name.clone(), Arc::new(part));
        Ok(())
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
        let number = lock(&self.runs).begin(run, &data_set.name);
        let shard = data_set.rows(&self.machine).shard(preparation)?;
        let blocks = shard.block_ids();
        let (n_features, n_blocks) = (preparation.n_features(), blocks.len());
        let (data_set, _reserved) = (data_set.name.clone(), Arc::new(reserved));
        let prepared = Run { shard: shard.into(), n_features, data_set, n_blocks, _reserved };
        lock(&self.runs).end(run, number, prepared);
        Ok(blocks)
    }

    /// Reserves what preparing a data set takes.
    pub(crate) fn reserve_run(&self, run: &str, data_set: &DataSet) -> Result<Reserved, Status> {
        let n_rows = data_set.blocks.values().map(|held| held.block.raw.n_rows()).sum();
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
        let number = lock(&self.runs).begin(name, &run.data_set);
        let shard = run.shard.sample(sample)?.into();
        let sampled = Run { shard, _reserved: Arc::new(reserved), ..run.clone() };
        lock(&self.runs).end(name, number, sampled);
        Ok(())
    }

    pub(crate) fn run(&self, run: &str) -> Result<Run, Status> {
        let found = lock(&self.runs).ready.get(run).cloned();
        found.ok_or_else(|| Status::not_found(format!("this worker holds nothing of run {run}")))
    }

    /// Lets go of a run, of a data set with its runs, or both; an empty name is none.
    pub(crate) fn release(&self, run: &str, data_set: &str) {
        // The data set first: what is about to be prepared from it finds nothing, and what is being prepared is not kept.
        lock(&self.data_sets).remove(data_set);
        let mut runs = lock(&self.runs);
        runs.release(run);
        runs.release_of(data_set);
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
