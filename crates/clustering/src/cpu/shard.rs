//! Blocks in memory, and the folds over them that answer the questions.

use super::Isa;
use super::assign::{ALL_ROWS, Assigner, Nearest};
use super::draws::DrawMemory;
use super::inertia::Exponents;
use super::memory::{Memories, tie};
use super::moves::MoveCriterion;
use super::packed::PackedCentroids;
use super::pass::Pass;
use super::silhouette::ByCluster;
use super::slab::Packer;
use super::tile::{Ahead, Score, Scored};
use crate::answers::{ClusterWeights, DistanceSums, PairQuestion, Partial, Picked, PickedRow, QueryRows, Spread};
use crate::error::ClusteringError;
use crate::questions::{Device, Draw, Shard};
use crate::silhouette::Silhouettes;
use rayon::prelude::*;
use shoal_domain::{Block, BlockId, Centroids, Merge, Preparation};
use shoal_stats::ExactSum;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// The CPU with a pool of threads.
#[derive(Clone)]
pub struct CpuDevice {
    pool: Arc<rayon::ThreadPool>,
    isa: Isa,
}

impl CpuDevice {
    /// All cores when `n_threads` is 0.
    pub fn new(n_threads: usize) -> Result<Self, ClusteringError> {
        Self::with_isa(n_threads, Isa::detect())
    }

    /// With kernels for a given instruction set, which must be [`Isa::detect`]'s or [`Isa::Portable`].
    fn with_isa(n_threads: usize, isa: Isa) -> Result<Self, ClusteringError> {
        let named = |idx| format!("shoal-cpu-{idx}");
        let pool = rayon::ThreadPoolBuilder::new().num_threads(n_threads).thread_name(named).build();
        Ok(Self { pool: Arc::new(pool.map_err(ClusteringError::rows)?), isa })
    }

    /// The plain kernels that every machine can run; slower, and the same bits.
    pub fn portable(n_threads: usize) -> Result<Self, ClusteringError> {
        Self::with_isa(n_threads, Isa::Portable)
    }

    /// The instruction set of the kernels.
    pub fn isa(&self) -> Isa {
        self.isa
    }

    /// Threads of the pool.
    pub fn n_threads(&self) -> usize {
        self.pool.current_num_threads()
    }

    /// Runs something on every thread of the pool, which is told the thread's number.
    pub(super) fn broadcast<T: Send>(&self, work: impl Fn(usize) -> T + Sync) -> Vec<T> {
        self.pool.broadcast(|context| work(context.index()))
    }

    /// Runs blocking work on the pool, for callers that prepare blocks in parallel.
    pub fn install<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        self.pool.install(work)
    }

    /// A shard of some blocks.
    pub fn shard(&self, preparation: &Preparation, mut blocks: Vec<Block>) -> CpuShard {
        blocks.sort_by_key(Block::id);
        CpuShard {
            device: self.clone(),
            units: preparation.units(),
            exponents: Exponents::new(preparation),
            tie: tie(preparation),
            squares: OnceLock::new(),
            memories: Mutex::new(Memories::new(&blocks)),
            draws: DrawMemory::new(&blocks),
            weight_unit: preparation.weight_exponent.map_or(1.0, |exponent| libm::ldexp(1.0, exponent)),
            blocks,
            labels: Mutex::new(None),
        }
    }
}

impl Device for CpuDevice {
    fn name(&self) -> String {
        format!("cpu ({}, {} threads)", self.isa.name(), self.n_threads())
    }

    fn load(
        &self,
        preparation: &Preparation,
        blocks: &mut dyn Iterator<Item = Result<Block, ClusteringError>>,
    ) -> Result<Box<dyn Shard>, ClusteringError> {
        let mut packer = Packer::default();
        for block in blocks {
            packer.push(block?);
        }
        Ok(Box::new(self.shard(preparation, packer.finish())))
    }
}

/// Prepared blocks in memory.
pub struct CpuShard {
    device: CpuDevice,
    /// Step of each column's grid.
    units: Vec<f64>,
    exponents: Exponents,
    weight_unit: f64,
    /// A difference of distances that float64 may not see.
    tie: f64,
    /// In ascending order.
    blocks: Vec<Block>,
    /// Sum of `w |x|^2` over all rows, computed when a pass first needs it.
    squares: OnceLock<ExactSum>,
    /// What Lloyd passes have found. Locked only to take memories out and to put them back, never during a pass.
    memories: Mutex<Memories>,
    draws: DrawMemory,
    /// Labels of all blocks for the centroids that were asked last; the silhouette asks for the same ones block after
    /// block. Locked only to read or replace the pointer, never while labels are computed.
    labels: Mutex<Option<Arc<Labelled>>>,
}

struct Labelled {
    centroids: Centroids,
    /// One vector a block, in block order.
    labels: Vec<Vec<u16>>,
}

/// A block with what was found for its rows.
struct Assigned<'a> {
    block: &'a Block,
    nearest: &'a Nearest,
}

impl CpuShard {
    /// Assigns every block and folds the assignments into an answer: the one loop behind all questions.
    fn fold<A: Merge + Send>(
        &self,
        centroids: &Centroids,
        empty: impl Fn() -> A + Sync,
        add: impl Fn(&mut A, Assigned<'_>) + Sync,
    ) -> A {
        let assigner = Assigner::new(centroids, self.device.isa);
        let scratch = || (Nearest::default(), empty());
        let fold = |(mut nearest, mut answer): (Nearest, A), block: &Block| {
            assigner.assign(block, &mut nearest);
            add(&mut answer, Assigned { block, nearest: &nearest });
            (nearest, answer)
        };
        let parts = self.device.pool.install(|| self.blocks.par_iter().fold(scratch, fold).collect::<Vec<_>>());
        let mut answer = empty();
        parts.into_iter().for_each(|(_, part)| answer.merge(part));
        answer
    }

    fn pick(&self, centroids: &Centroids, n: usize, order: impl Fn(u64, u64, f64) -> f64 + Sync) -> Picked {
        self.fold(
            centroids,
            || Picked::new(n),
            |picked, Assigned { block, nearest }| {
                for (row_idx, (label, square)) in nearest.labels().iter().zip(nearest.squares()).enumerate() {
                    let order = order(block.data_set_row(row_idx), block.weight(row_idx), *square);
                    picked.offer(order, block.data_set_row(row_idx), || {
                        picked_row(block, row_idx, order, u32::from(*label), u32::from(*label))
                    });
                }
            },
        )
    }

    fn block_position(&self, block: BlockId) -> Result<usize, ClusteringError> {
        let position = self.blocks.binary_search_by_key(&block, Block::id);
        position.map_err(|_| ClusteringError::NoSuchBlock { block: block.0 })
    }

    fn by_cluster(&self, labelled: &Labelled) -> ByCluster<'_> {
        ByCluster::new(&self.blocks, self.units.len(), &labelled.labels, labelled.centroids.n_clusters())
    }

    /// Labels of all blocks, computed when they were not asked for these centroids last time.
    fn labelled(&self, centroids: &Centroids) -> Arc<Labelled> {
        let held = self.labels.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(labelled) = held.filter(|labelled| labelled.centroids == *centroids) {
            return labelled;
        }
        // Scores come when the passes are over, and need memory of their own.
        *self.memories.lock().unwrap_or_else(PoisonError::into_inner) = Memories::new(&self.blocks);
        let assigner = Assigner::new(centroids, self.device.isa);
        let label = |block: &Block| {
            let mut nearest = Nearest::default();
            assigner.assign(block, &mut nearest);
            nearest.labels().to_vec()
        };
        let labels = self.device.pool.install(|| self.blocks.par_iter().map(label).collect());
        let labelled = Arc::new(Labelled { centroids: centroids.clone(), labels });
        *self.labels.lock().unwrap_or_else(PoisonError::into_inner) = Some(labelled.clone());
        labelled
    }
}

fn merged<A: Merge>(mut answer: A, other: A) -> A {
    answer.merge(other);
    answer
}

fn picked_row(block: &Block, row_idx: usize, order: f64, cluster: u32, target: u32) -> PickedRow {
    let (row, weight) = (block.data_set_row(row_idx), block.weight(row_idx));
    PickedRow { order, row, cluster, target, weight, values: block.row(row_idx).to_vec() }
}

impl Shard for CpuShard {
    fn block_ids(&self) -> Vec<BlockId> {
        self.blocks.iter().map(Block::id).collect()
    }

    fn assign(&self, sets: &[Centroids]) -> Result<Vec<Partial>, ClusteringError> {
        // Lloyd's passes come when the draws are over.
        self.draws.clear();
        let lock = || self.memories.lock().unwrap_or_else(PoisonError::into_inner);
        let memories = lock().take(sets, &self.blocks);
        let squares_of = self.squares.get().is_none().then_some(&self.exponents);
        let sets_and_memories = sets.iter().zip(memories);
        let pass = Pass::new(&self.blocks, &self.units, squares_of, self.device.isa, sets_and_memories, self.tie);
        let of_threads = self.device.broadcast(|_| pass.work());
        let squares = self.squares.get_or_init(|| {
            let mut squares = ExactSum::default();
            of_threads.iter().for_each(|work| squares.merge(work.squares.clone()));
            squares
        });
        let (mut partials, memories): (Vec<Partial>, Vec<_>) = pass.finish(of_threads).into_iter().unzip();
        lock().put_back(memories.into_iter().flatten());
        self.device.install(|| {
            partials.par_iter_mut().zip(sets).for_each(|(partial, centroids)| {
                partial.inertia = self.exponents.inertia(squares, partial, centroids);
            });
        });
        Ok(partials)
    }

    fn weigh(&self, sets: &[Centroids]) -> Result<Vec<ClusterWeights>, ClusteringError> {
        let weigh = |centroids: &Centroids| {
            let packed = PackedCentroids::new(centroids);
            let empty = || ClusterWeights(vec![0; centroids.n_clusters()]);
            let add = |(mut scored, mut weights): (Scored, ClusterWeights), block: &Block| {
                let rows = &ALL_ROWS[..block.n_rows()];
                self.device.isa.run(Score { packed: &packed, block, rows, ahead: Ahead::Lead, scored: &mut scored });
                for (row, label) in rows.iter().zip(scored.labels.iter()) {
                    weights.0[usize::from(*label)] += i128::from(block.weight(usize::from(*row)));
                }
                (scored, weights)
            };
            let parts = self.blocks.par_iter().fold(|| (Scored::default(), empty()), add).map(|(_, weights)| weights);
            self.device.install(|| parts.reduce(empty, merged))
        };
        Ok(sets.iter().map(weigh).collect())
    }

    fn draw(&self, draws: &[Draw]) -> Result<Vec<Picked>, ClusteringError> {
        let draw = |draw: &Draw| self.draws.draw(draw, &self.blocks, self.device.isa);
        Ok(self.device.install(|| draws.iter().map(draw).collect()))
    }

    fn farthest(&self, centroids: &Centroids, n: usize) -> Result<Picked, ClusteringError> {
        // A row without weight could not hold a cluster.
        let order = |_, weight, square: f64| if weight > 0 && square > 0.0 { -square } else { f64::INFINITY };
        Ok(self.pick(centroids, n, order))
    }

    fn movers(&self, centroids: &Centroids, weights: &[i128], n: usize) -> Result<Picked, ClusteringError> {
        let criterion = MoveCriterion::new(centroids, weights);
        Ok(self.fold(
            centroids,
            || Picked::new(n),
            |picked, Assigned { block, nearest }| {
                for row_idx in 0..block.n_rows() {
                    let (label, square) = (u32::from(nearest.labels()[row_idx]), nearest.squares()[row_idx]);
                    let weight = block.weight(row_idx) as f64;
                    if !criterion.may_gain(label, square, nearest.leads()[row_idx], weight) {
                        continue;
                    }
                    let (gain, target) = criterion.best(block.row(row_idx), label, square, weight);
                    if gain > 0.0 {
                        let order = -gain * self.weight_unit;
                        picked.offer(order, block.data_set_row(row_idx), || {
                            picked_row(block, row_idx, order, label, target)
                        });
                    }
                }
            },
        ))
    }

    fn spread(&self, label_by: &Centroids, measure_from: &Centroids) -> Result<Spread, ClusteringError> {
        let n_clusters = label_by.n_clusters();
        let add = |spread: &mut Spread, assigned: Assigned<'_>| {
            let mut sums = vec![(0.0, 0.0); n_clusters];
            for (row_idx, label) in assigned.nearest.labels().iter().enumerate() {
                let cluster = usize::from(*label);
                let square = super::squared_distance(assigned.block.row(row_idx), measure_from.row(cluster));
                sums[cluster].0 += square.sqrt();
                sums[cluster].1 += square;
                spread.counts[cluster] += 1;
                let row = assigned.block.row(row_idx).iter().zip(&self.units);
                let cluster_sums = spread.sums[cluster * self.units.len()..].iter_mut();
                cluster_sums.zip(row).for_each(|(sum, (value, unit))| *sum += (f64::from(*value) / unit) as i128);
            }
            for (cluster, (distance, square)) in sums.into_iter().enumerate() {
                spread.distances[cluster].add(distance);
                spread.squares[cluster].add(square);
            }
        };
        Ok(self.fold(label_by, || Spread::empty(n_clusters, label_by.n_features()), add))
    }

    fn query_rows(&self, block: BlockId, centroids: &Centroids) -> Result<QueryRows, ClusteringError> {
        let position = self.block_position(block)?;
        let clusters = self.labelled(centroids).labels[position].iter().map(|label| u32::from(*label)).collect();
        Ok(QueryRows { values: self.blocks[position].values().to_vec(), clusters })
    }

    fn distance_sums(&self, query: &QueryRows, question: &PairQuestion) -> Result<DistanceSums, ClusteringError> {
        let labelled = self.labelled(&question.centroids);
        let rows = self.by_cluster(&labelled);
        Ok(self.device.pool.install(|| rows.distance_sums(query, question, self.device.isa)))
    }

    fn silhouettes(
        &self,
        question: &PairQuestion,
        on_done: &mut dyn FnMut(f64) -> Result<(), ClusteringError>,
    ) -> Result<Option<Silhouettes>, ClusteringError> {
        let labelled = self.labelled(&question.centroids);
        let rows = self.by_cluster(&labelled);
        rows.silhouettes(question, self.device.isa, &self.device.pool, on_done).map(Some)
    }
}
