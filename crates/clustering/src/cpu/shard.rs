//! Blocks in memory, and the folds over them that answer the questions.

use super::assign::{ALL_ROWS, Assigner, Nearest};
use super::device::CpuDevice;
use super::draws::DrawMemory;
use super::inertia::ExactInertia;
use super::memory::{ShardMemory, memory_bytes};
use super::moves::MoveCriterion;
use super::packed::PackedCentroids;
use super::pass::{Pass, Work};
use super::silhouette::{ByCluster, ClusterOrder};
use super::simplified;
use super::slab::Packer;
use super::sums::GridSums;
use super::tile::{Ahead, FindNearest, Found};
use crate::answers::{ClusterWeights, DistanceSums, PairQuestion, Partial, Picked, PickedRow, QueryRows, Spread};
use crate::error::ClusteringError;
use crate::memory::{Memories, tie};
use crate::questions::{Draw, Shard};
use crate::sample::{Sample, Sampler};
use crate::silhouette::{Silhouettes, SimplifiedSilhouettes};
use rayon::prelude::*;
use shoal_domain::{Block, BlockId, Centroids, Merge, Preparation};
use shoal_stats::ExactSum;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// Pieces of a pass that each thread has on average, at least.
const PIECES_PER_THREAD: usize = 8;
/// Blocks of a piece at most.
const PIECE_BLOCKS_MAX: usize = 16;
/// Answers that each thread may begin.
const ANSWERS_OF_THREAD: usize = 4;
/// What the sums of all threads may take in one pass; more sets than fit take turns.
const SUMS_BYTES_MAX: usize = 256 << 20;

/// Prepared blocks in memory.
pub struct CpuShard {
    device: CpuDevice,
    preparation: Preparation,
    /// Step of each column's grid.
    units: Vec<f64>,
    inertia: ExactInertia,
    weight_unit: f64,
    /// A difference of distances that float64 may not see.
    tie: f64,
    /// In ascending order.
    blocks: Vec<Block>,
    n_rows: usize,
    /// Blocks that a thread takes at a time in a pass.
    piece_blocks: usize,
    /// Sum of `w |x|^2` over all rows, computed when a pass first needs it.
    squares: OnceLock<ExactSum>,
    /// What Lloyd passes have found. Locked only to take memories out and to put them back, never during a pass.
    memories: Mutex<Memories<ShardMemory>>,
    draws: DrawMemory,
    /// Labels of all blocks for the centroids that were asked last; the silhouette asks for the same ones block after
    /// block. Locked only to read or replace the pointer, never while labels are computed.
    labels: Mutex<Option<Arc<Labelled>>>,
}

struct Labelled {
    centroids: Centroids,
    /// One vector a block, in block order.
    labels: Vec<Vec<u32>>,
    order: ClusterOrder,
}

/// A block with what was found for its rows.
struct Assigned<'a> {
    block: &'a Block,
    nearest: &'a Nearest,
}

impl CpuShard {
    pub(super) fn new(device: &CpuDevice, preparation: &Preparation, mut blocks: Vec<Block>) -> Self {
        blocks.sort_by_key(Block::id);
        let bytes_max = device.memory_bytes_max.unwrap_or_else(|| memory_bytes(&blocks));
        // Enough pieces for threads to share evenly, and few enough for a piece to be worth its lock.
        let piece_blocks = (blocks.len() / (PIECES_PER_THREAD * device.n_threads())).clamp(1, PIECE_BLOCKS_MAX);
        Self {
            piece_blocks,
            device: device.clone(),
            preparation: preparation.clone(),
            units: preparation.units(),
            inertia: ExactInertia::new(preparation),
            tie: tie(preparation),
            squares: OnceLock::new(),
            memories: Mutex::new(Memories::new(bytes_max)),
            draws: DrawMemory::new(&blocks, bytes_max),
            weight_unit: preparation.weight_unit(),
            n_rows: blocks.iter().map(Block::n_rows).sum(),
            blocks,
            labels: Mutex::new(None),
        }
    }

    /// The blocks, in ascending order.
    pub fn blocks(&self) -> &[Block] {
        &self.blocks
    }

    /// A shard of a sample of the rows.
    pub fn sampled(&self, sample: &Sample) -> Self {
        let sampler = Sampler::new(*sample);
        let pick = |blocks: &[Block]| {
            let mut packer = Packer::default();
            blocks.iter().for_each(|block| packer.push(sampler.pick(block)));
            packer.finish()
        };
        let n_together = self.blocks.len().div_ceil(self.device.n_threads()).max(1);
        let blocks = self.device.install(|| self.blocks.par_chunks(n_together).flat_map_iter(pick).collect());
        self.device.shard(&self.preparation, blocks)
    }

    /// Assigns every block and folds the assignments into an answer: the one loop behind all questions. Only a few answers
    /// exist at a time for each thread, since some are large.
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
        let n_together = self.blocks.len().div_ceil(ANSWERS_OF_THREAD * self.device.n_threads()).max(1);
        let blocks = self.blocks.par_iter().with_min_len(n_together);
        let parts = self.device.pool.install(|| blocks.fold(scratch, fold).collect::<Vec<_>>());
        let mut answer = empty();
        parts.into_iter().for_each(|(_, part)| answer.merge(part));
        answer
    }

    /// A Lloyd pass for several sets at once.
    fn pass(&self, sets: &[Centroids]) -> Vec<Partial> {
        let lock = || self.memories.lock().unwrap_or_else(PoisonError::into_inner);
        let bytes_of = |set: &Centroids| ShardMemory::bytes_of(set, self.n_rows);
        let fresh = |set: &Centroids| Ok::<_, Infallible>(ShardMemory::new(set, &self.blocks, self.piece_blocks));
        let Ok(memories) = lock().take(sets, bytes_of, fresh);
        let squares_of = self.squares.get().is_none().then_some(&self.inertia);
        let sets_and_memories = sets.iter().zip(memories);
        let blocks = (&self.blocks[..], self.piece_blocks);
        let pass = Pass::new(blocks, &self.units, squares_of, self.device.isa, sets_and_memories, self.tie);
        // No more threads than there are pieces: to wake the others would cost more than they could do.
        let n_workers = self.device.n_threads().min(self.blocks.len().div_ceil(self.piece_blocks)).max(1);
        let workers = (0..n_workers).into_par_iter().with_max_len(1);
        let of_threads: Vec<Work> = self.device.install(|| workers.map(|_| pass.work()).collect());
        let squares = self.squares.get_or_init(|| {
            let mut squares = ExactSum::default();
            of_threads.iter().for_each(|work| squares.merge(work.squares.clone()));
            squares
        });
        let (mut partials, memories): (Vec<Partial>, Vec<_>) = pass.finish(of_threads).into_iter().unzip();
        lock().put_back(memories.into_iter().flatten());
        self.device.install(|| {
            partials.par_iter_mut().zip(sets).for_each(|(partial, centroids)| {
                partial.inertia = self.inertia.of(squares, partial, centroids);
            });
        });
        partials
    }

    fn pick(&self, centroids: &Centroids, n: usize, order: impl Fn(u64, u64, f64) -> f64 + Sync) -> Picked {
        self.fold(
            centroids,
            || Picked::new(n),
            |picked, Assigned { block, nearest }| {
                for (row_idx, (label, square)) in nearest.labels().iter().zip(nearest.squares()).enumerate() {
                    let order = order(block.data_set_row(row_idx), block.weight(row_idx), *square);
                    picked.offer(order, block.data_set_row(row_idx), || {
                        picked_row(block, row_idx, order, *label, *label)
                    });
                }
            },
        )
    }

    fn block_position(&self, block: BlockId) -> Result<usize, ClusteringError> {
        let position = self.blocks.binary_search_by_key(&block, Block::id);
        position.map_err(|_| ClusteringError::NoSuchBlock { block: block.0 })
    }

    fn by_cluster<'a>(&'a self, labelled: &'a Labelled) -> ByCluster<'a> {
        ByCluster::new(&self.blocks, self.units.len(), &labelled.order)
    }

    /// Labels of all blocks, computed when they were not asked for these centroids last time.
    fn labelled(&self, centroids: &Centroids) -> Arc<Labelled> {
        let held = self.labels.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(labelled) = held.filter(|labelled| labelled.centroids == *centroids) {
            return labelled;
        }
        // Scores come when the passes are over, and need memory of their own.
        self.memories.lock().unwrap_or_else(PoisonError::into_inner).clear();
        let assigner = Assigner::new(centroids, self.device.isa);
        let label = |block: &Block| {
            let mut nearest = Nearest::default();
            assigner.assign(block, &mut nearest);
            nearest.labels().to_vec()
        };
        let labels: Vec<Vec<u32>> = self.device.install(|| self.blocks.par_iter().map(label).collect());
        let order = self.device.install(|| ClusterOrder::new(&labels, centroids.n_clusters()));
        let labelled = Arc::new(Labelled { centroids: centroids.clone(), labels, order });
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

    fn sample(&self, sample: &Sample) -> Result<Box<dyn Shard>, ClusteringError> {
        Ok(Box::new(self.sampled(sample)))
    }

    fn assign(&self, sets: &[Centroids]) -> Result<Vec<Partial>, ClusteringError> {
        // Lloyd's passes come when the draws are over.
        self.draws.clear();
        let mut partials = Vec::with_capacity(sets.len());
        let n_values = sets.iter().map(|set| set.values().len()).max().unwrap_or(1);
        let sums_bytes = n_values * GridSums::BYTES_PER_VALUE * self.device.n_threads();
        for sets in sets.chunks((SUMS_BYTES_MAX / sums_bytes).max(1)) {
            partials.extend(self.pass(sets));
        }
        Ok(partials)
    }

    fn weigh(&self, sets: &[Centroids]) -> Result<Vec<ClusterWeights>, ClusteringError> {
        let weigh = |centroids: &Centroids| {
            let packed = PackedCentroids::new(centroids);
            let empty = || ClusterWeights(vec![0; centroids.n_clusters()]);
            let add = |(mut found, mut weights): (Found, ClusterWeights), block: &Block| {
                let rows = &ALL_ROWS[..block.n_rows()];
                self.device.isa.run(FindNearest {
                    packed: &packed,
                    block,
                    rows,
                    ahead: Ahead::Lead,
                    found: &mut found,
                });
                for (row, label) in rows.iter().zip(found.labels.iter()) {
                    weights.0[*label as usize] += i128::from(block.weight(usize::from(*row)));
                }
                (found, weights)
            };
            let parts = self.blocks.par_iter().fold(|| (Found::default(), empty()), add).map(|(_, weights)| weights);
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
                    let (label, square) = (nearest.labels()[row_idx], nearest.squares()[row_idx]);
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
                let cluster = *label as usize;
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

    fn simplified_silhouettes(&self, centroids: &Centroids) -> Result<SimplifiedSilhouettes, ClusteringError> {
        let empty = || SimplifiedSilhouettes::empty(centroids.n_clusters());
        Ok(self.fold(centroids, empty, |silhouettes, Assigned { block, nearest }| {
            simplified::add_block(silhouettes, block, nearest, centroids);
        }))
    }

    fn query_rows(&self, block: BlockId, centroids: &Centroids) -> Result<QueryRows, ClusteringError> {
        let position = self.block_position(block)?;
        let clusters = self.labelled(centroids).labels[position].clone();
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
