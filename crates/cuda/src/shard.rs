//! A shard whose rows lie in the memory of a GPU, and in that of the machine.

use crate::gpu::{Gpu, GpuError};
use crate::ordered::OrderedRows;
use crate::passes::Passes;
use crate::rows::{DeviceRows, LIST_BYTES};
use crate::silhouette;
use crate::{distances, moves};
use rayon::prelude::*;
use shoal_clustering::cpu::{CpuDevice, CpuShard, ExactInertia, VALUES_ALONE};
use shoal_clustering::silhouette::{Silhouettes, SimplifiedSilhouettes};
use shoal_clustering::{
    ClusterWeights, ClusteringError, Device, DistanceSums, Draw, PairQuestion, Partial, Picked, QueryRows, Sample,
    Shard, Spread,
};
use shoal_domain::job::MAX_CLUSTERS;
use shoal_domain::{Block, BlockId, Centroids, Merge, Preparation};
use shoal_stats::ExactSum;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// A GPU with the processor beside it, which answers what is asked once or twice a job.
#[derive(Clone)]
pub struct CudaDevice {
    gpu: Arc<dyn Gpu>,
    cpu: CpuDevice,
}

impl CudaDevice {
    /// On this GPU.
    pub fn new(gpu: Arc<dyn Gpu>, cpu: CpuDevice) -> Self {
        Self { gpu, cpu }
    }

    /// A shard of some blocks.
    pub fn shard(&self, preparation: &Preparation, host: CpuShard) -> Result<CudaShard, GpuError> {
        let rows = DeviceRows::new(&self.gpu, preparation, host.blocks())?;
        // Half of what is free for memories, a quarter for the lists of one pass; scores have it to themselves.
        let free = self.gpu.free_bytes()?;
        let sets_together = free / 4 / (rows.n_rows * LIST_BYTES).max(1);
        Ok(CudaShard {
            rows,
            host,
            device: self.clone(),
            preparation: preparation.clone(),
            inertia: ExactInertia::new(preparation),
            squares: OnceLock::new(),
            passes: Mutex::new(Passes::new(preparation, free / 2)),
            sets_together: sets_together.max(1),
            ordered: Mutex::default(),
        })
    }
}

impl Device for CudaDevice {
    fn name(&self) -> String {
        format!("{} and {}", self.gpu.name(), self.cpu.name())
    }

    fn load(
        &self,
        preparation: &Preparation,
        blocks: &mut dyn Iterator<Item = Result<Block, ClusteringError>>,
    ) -> Result<Box<dyn Shard>, ClusteringError> {
        let host = self.cpu.load_shard(preparation, blocks)?;
        Ok(Box::new(self.shard(preparation, host).map_err(ClusteringError::from)?))
    }
}

/// Prepared rows on a GPU.
pub struct CudaShard {
    rows: DeviceRows,
    /// The same rows in the memory of the machine.
    host: CpuShard,
    device: CudaDevice,
    preparation: Preparation,
    inertia: ExactInertia,
    /// Sum of `w |x|^2` over all rows, computed when a pass first needs it.
    squares: OnceLock<ExactSum>,
    /// Sets of centroids that one round of launches has room for.
    sets_together: usize,
    /// Locked during a pass: a GPU does one thing after the other anyway.
    passes: Mutex<Passes>,
    /// The rows by cluster, for scores.
    ordered: Mutex<Option<Arc<OrderedRows>>>,
}

impl CudaShard {
    /// Forgets what earlier questions have found; the next ones take longer, and their answers are the same.
    pub fn forget(&self) {
        self.passes.lock().unwrap_or_else(PoisonError::into_inner).forget();
        *self.ordered.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Does it on the threads of the processor if there is enough to do beside the GPU for them.
    fn on_threads<A: Send>(&self, sets: &[Centroids], work: impl FnOnce() -> A + Send) -> A {
        let n_values: usize = sets.iter().map(|set| set.values().len()).sum();
        if n_values <= VALUES_ALONE { work() } else { self.device.cpu.install(work) }
    }

    fn with_passes<A: Send>(
        &self,
        sets: &[Centroids],
        ask: impl FnOnce(&mut Passes, &DeviceRows) -> Result<A, GpuError> + Send,
    ) -> Result<A, ClusteringError> {
        let mut locked = self.passes.lock().unwrap_or_else(PoisonError::into_inner);
        let passes: &mut Passes = &mut locked;
        Ok(self.on_threads(sets, || ask(passes, &self.rows))?)
    }

    /// Whether the GPU has anything to do with these sets, and room for their counts; if not, the processor answers.
    fn takes(&self, sets: &[Centroids]) -> bool {
        self.rows.n_rows > 0 && sets.iter().all(|set| moves::fits(&self.rows, set.n_clusters()))
    }

    fn squares(&self) -> &ExactSum {
        self.squares.get_or_init(|| {
            let isa = self.device.cpu.isa();
            let add = |mut squares: ExactSum, block: &Block| {
                self.inertia.add_squares(block, isa, &mut squares);
                squares
            };
            let merge = |mut sum: ExactSum, other: ExactSum| {
                sum.merge(other);
                sum
            };
            let blocks = self.host.blocks();
            self.device.cpu.install(|| blocks.par_iter().fold(ExactSum::default, add).reduce(ExactSum::default, merge))
        })
    }

    /// The rows in the order of their clusters, which is kept for the next question about these centroids.
    fn ordered(&self, centroids: &Centroids) -> Result<Arc<OrderedRows>, ClusteringError> {
        let mut held = self.ordered.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(ordered) = held.as_ref().filter(|ordered| ordered.centroids == *centroids) {
            return Ok(ordered.clone());
        }
        *held = None;
        let labels = self.with_passes(std::slice::from_ref(centroids), |passes, rows| {
            // Scores come when the passes are over, and need memory of their own.
            passes.forget();
            passes.label(rows, centroids)
        })?;
        let order = || OrderedRows::new(&self.rows, self.host.blocks(), centroids, &labels);
        let ordered = Arc::new(self.device.cpu.install(order)?);
        *held = Some(ordered.clone());
        Ok(ordered)
    }

    /// Whether the GPU compares rows under this question.
    fn compares(&self, question: &PairQuestion) -> bool {
        question.centroids.n_clusters() <= MAX_CLUSTERS && self.takes(std::slice::from_ref(&question.centroids))
    }
}

impl Shard for CudaShard {
    fn block_ids(&self) -> Vec<BlockId> {
        self.host.block_ids()
    }

    fn sample(&self, sample: &Sample) -> Result<Box<dyn Shard>, ClusteringError> {
        let host = self.host.sampled(sample);
        Ok(Box::new(self.device.shard(&self.preparation, host).map_err(ClusteringError::from)?))
    }

    fn assign(&self, sets: &[Centroids]) -> Result<Vec<Partial>, ClusteringError> {
        if !self.takes(sets) {
            return self.host.assign(sets);
        }
        let mut partials = Vec::with_capacity(sets.len());
        for sets in sets.chunks(self.sets_together) {
            partials.extend(self.with_passes(sets, |passes, rows| passes.assign(rows, sets))?);
        }
        let squares = self.squares();
        self.on_threads(sets, || {
            for (partial, centroids) in partials.iter_mut().zip(sets) {
                partial.inertia = self.inertia.of(squares, partial, centroids);
            }
        });
        Ok(partials)
    }

    fn weigh(&self, sets: &[Centroids]) -> Result<Vec<ClusterWeights>, ClusteringError> {
        if !self.takes(sets) {
            return self.host.weigh(sets);
        }
        let mut weights = Vec::with_capacity(sets.len());
        for sets in sets.chunks(self.sets_together) {
            weights.extend(self.with_passes(sets, |passes, rows| passes.weigh(rows, sets))?);
        }
        Ok(weights)
    }

    fn draw(&self, draws: &[Draw]) -> Result<Vec<Picked>, ClusteringError> {
        self.host.draw(draws)
    }

    fn farthest(&self, centroids: &Centroids, n: usize) -> Result<Picked, ClusteringError> {
        self.host.farthest(centroids, n)
    }

    fn movers(&self, centroids: &Centroids, weights: &[i128], n: usize) -> Result<Picked, ClusteringError> {
        self.host.movers(centroids, weights, n)
    }

    fn spread(&self, label_by: &Centroids, measure_from: &Centroids) -> Result<Spread, ClusteringError> {
        self.host.spread(label_by, measure_from)
    }

    fn query_rows(&self, block: BlockId, centroids: &Centroids) -> Result<QueryRows, ClusteringError> {
        self.host.query_rows(block, centroids)
    }

    fn distance_sums(&self, query: &QueryRows, question: &PairQuestion) -> Result<DistanceSums, ClusteringError> {
        if !self.compares(question) || query.clusters.is_empty() {
            return self.host.distance_sums(query, question);
        }
        let ordered = self.ordered(&question.centroids)?;
        Ok(distances::distance_sums(&self.rows, &ordered, query, question)?)
    }

    fn simplified_silhouettes(&self, centroids: &Centroids) -> Result<SimplifiedSilhouettes, ClusteringError> {
        self.host.simplified_silhouettes(centroids)
    }

    fn silhouettes(
        &self,
        question: &PairQuestion,
        on_done: &mut dyn FnMut(f64) -> Result<(), ClusteringError>,
    ) -> Result<Option<Silhouettes>, ClusteringError> {
        if !self.compares(question) {
            return self.host.silhouettes(question, on_done);
        }
        let ordered = self.ordered(&question.centroids)?;
        silhouette::silhouettes(&self.rows, &self.device.cpu, &ordered, question, on_done).map(Some)
    }
}
