//! Blocks in memory, and the folds over them that answer the questions.

use super::Isa;
use super::assign::{Assigner, Nearest};
use super::distances::DistanceQuery;
use super::moves::MoveCriterion;
use super::slab::Packer;
use crate::answers::{DistanceSums, Partial, Picked, PickedRow, QueryRows, Spread};
use crate::error::ClusteringError;
use crate::questions::{Device, Draw, Shard};
use rayon::prelude::*;
use shoal_domain::{Block, BlockId, Centroids, Merge, Preparation};
use std::sync::{Arc, Mutex, PoisonError};

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
            weight_unit: preparation.weight_exponent.map_or(1.0, |exponent| libm::ldexp(1.0, exponent)),
            blocks,
            labels: Mutex::new(None),
        }
    }
}

impl Device for CpuDevice {
    fn name(&self) -> String {
        format!("cpu ({}, {} threads)", self.isa.name(), self.pool.current_num_threads())
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
    weight_unit: f64,
    /// In ascending order.
    blocks: Vec<Block>,
    /// Labels of all blocks for the centroids that were asked last; the silhouette asks for the same ones block after
    /// block. Locked only to read or replace the pointer, never while labels are computed.
    labels: Mutex<Option<Arc<Labelled>>>,
}

struct Labelled {
    centroids: Centroids,
    /// One vector a block, in block order.
    labels: Vec<Vec<u32>>,
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

    /// Sums of one block in grid order: exact, since a float64 holds the sum of a block's grid values.
    fn add_to_partial(&self, partial: &mut Partial, assigned: &Assigned<'_>) {
        let Assigned { block, nearest: Nearest { labels, squares, .. } } = assigned;
        let mut inertia = 0.0;
        match block.weights() {
            None => {
                let mut sums = vec![0.0f64; partial.sums.len()];
                for ((row, label), square) in block.values().chunks_exact(self.units.len()).zip(labels).zip(squares) {
                    let cluster = *label as usize;
                    let sum = &mut sums[cluster * self.units.len()..(cluster + 1) * self.units.len()];
                    sum.iter_mut().zip(row).for_each(|(sum, value)| *sum += f64::from(*value));
                    partial.counts[cluster] += 1;
                    partial.weights[cluster] += 1;
                    inertia += square;
                }
                for (sum, (addend, unit)) in partial.sums.iter_mut().zip(sums.iter().zip(self.units.iter().cycle())) {
                    *sum += (addend / unit) as i128;
                }
            }
            Some(weights) => {
                for (row_idx, (label, weight)) in labels.iter().zip(weights).enumerate() {
                    let cluster = *label as usize;
                    let sum = &mut partial.sums[cluster * self.units.len()..(cluster + 1) * self.units.len()];
                    for ((sum, value), unit) in sum.iter_mut().zip(block.row(row_idx)).zip(&self.units) {
                        *sum += i128::from(*weight) * (f64::from(*value) / unit) as i128;
                    }
                    partial.counts[cluster] += 1;
                    partial.weights[cluster] += i128::from(*weight);
                    inertia += *weight as f64 * self.weight_unit * squares[row_idx];
                }
            }
        }
        partial.inertia.add(inertia);
    }

    fn pick(&self, centroids: &Centroids, n: usize, order: impl Fn(u64, u64, f64) -> f64 + Sync) -> Picked {
        self.fold(
            centroids,
            || Picked::new(n),
            |picked, Assigned { block, nearest }| {
                for (row_idx, (label, square)) in nearest.labels.iter().zip(&nearest.squares).enumerate() {
                    let order = order(block.data_set_row(row_idx), block.weight(row_idx), *square);
                    picked.offer(order, block.data_set_row(row_idx), || {
                        picked_row(block, row_idx, order, *label, *label)
                    });
                }
            },
        )
    }

    /// A draw by weight alone needs no distances.
    fn pick_by_weight(&self, draw: &Draw) -> Picked {
        let add = |mut picked: Picked, block: &Block| {
            for row_idx in 0..block.n_rows() {
                let row = block.data_set_row(row_idx);
                let weight = if draw.ignore_weights { 1 } else { block.weight(row_idx) };
                let arrival = draw.stream.arrival(row, weight as f64);
                picked.offer(arrival, row, || picked_row(block, row_idx, arrival, 0, 0));
            }
            picked
        };
        let empty = || Picked::new(draw.n);
        let parts = self.device.pool.install(|| self.blocks.par_iter().fold(empty, add).collect::<Vec<_>>());
        let mut picked = empty();
        parts.into_iter().for_each(|part| picked.merge(part));
        picked
    }

    fn block_position(&self, block: BlockId) -> Result<usize, ClusteringError> {
        let position = self.blocks.binary_search_by_key(&block, Block::id);
        position.map_err(|_| ClusteringError::NoSuchBlock { block: block.0 })
    }

    /// Labels of all blocks, computed when they were not asked for these centroids last time.
    fn labelled(&self, centroids: &Centroids) -> Arc<Labelled> {
        let held = self.labels.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(labelled) = held.filter(|labelled| labelled.centroids == *centroids) {
            return labelled;
        }
        let assigner = Assigner::new(centroids, self.device.isa);
        let label = |block: &Block| {
            let mut nearest = Nearest::default();
            assigner.assign(block, &mut nearest);
            nearest.labels
        };
        let labels = self.device.pool.install(|| self.blocks.par_iter().map(label).collect());
        let labelled = Arc::new(Labelled { centroids: centroids.clone(), labels });
        *self.labels.lock().unwrap_or_else(PoisonError::into_inner) = Some(labelled.clone());
        labelled
    }
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
        let assign = |centroids: &Centroids| {
            let empty = || Partial::empty(centroids.n_clusters(), centroids.n_features());
            self.fold(centroids, empty, |partial, assigned| self.add_to_partial(partial, &assigned))
        };
        Ok(sets.iter().map(assign).collect())
    }

    fn draw(&self, draws: &[Draw]) -> Result<Vec<Picked>, ClusteringError> {
        let pick = |draw: &Draw| match &draw.far_from {
            None => self.pick_by_weight(draw),
            Some(centroids) => {
                self.pick(centroids, draw.n, |row, weight, square| draw.stream.arrival(row, weight as f64 * square))
            }
        };
        Ok(draws.iter().map(pick).collect())
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
                    let (label, square) = (nearest.labels[row_idx], nearest.squares[row_idx]);
                    let weight = block.weight(row_idx) as f64;
                    if !criterion.may_gain(label, square, nearest.leads[row_idx], weight) {
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
            for (row_idx, label) in assigned.nearest.labels.iter().enumerate() {
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

    fn query_rows(&self, block: BlockId, centroids: &Centroids) -> Result<QueryRows, ClusteringError> {
        let position = self.block_position(block)?;
        let clusters = self.labelled(centroids).labels[position].clone();
        Ok(QueryRows { values: self.blocks[position].values().to_vec(), clusters })
    }

    fn distance_sums(&self, values: &[f32], centroids: &Centroids, unit: f64) -> Result<DistanceSums, ClusteringError> {
        let n_clusters = centroids.n_clusters();
        let query = DistanceQuery { values, n_features: self.units.len(), n_clusters, unit };
        let labelled = self.labelled(centroids);
        let n_sums = values.len() / self.units.len() * n_clusters;
        let add = |mut sums: Vec<i128>, (block, labels): (&Block, &Vec<u32>)| {
            query.add(block, labels, self.device.isa, &mut sums);
            sums
        };
        let work = self.blocks.par_iter().zip(labelled.labels.par_iter());
        let parts = self.device.pool.install(|| work.fold(|| vec![0; n_sums], add).collect::<Vec<_>>());
        let mut sums = DistanceSums(vec![0; n_sums]);
        parts.into_iter().for_each(|part| sums.merge(DistanceSums(part)));
        Ok(sums)
    }
}
