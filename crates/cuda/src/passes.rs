//! Lloyd passes on a GPU: what each set of centroids needs is brought together, launched, and read back.

use crate::gpu::{Buffer, Growing, GpuError, Launch, Parcel};
use crate::lloyd::{LloydSet, StaleRows, describe};
use crate::packed::{PackedCentroids, scale};
use crate::rows::DeviceRows;
use rayon::prelude::*;
use shoal_clustering::memory::{Journey, Memories, Memory};
use shoal_clustering::{ClusterWeights, Partial};
use shoal_domain::job::MAX_CLUSTERS;
use shoal_domain::{Centroids, Preparation};

/// A list of stale rows pays if it leaves out more than a quarter of all.
const LISTED_SHARE_MAX: f64 = 0.75;
/// Limbs of a cluster's count and weight, and of a sum.
const WEIGHT_LIMBS: usize = 3;
const SUM_LIMBS: usize = 4;

/// What is remembered of all rows under one set of centroids, on the GPU.
pub(crate) struct DeviceMemory {
    journey: Journey,
    partial: Partial,
    labels: Buffer<u16>,
    until: Buffer<f32>,
    is_filled: bool,
    bytes: usize,
}

impl Memory for DeviceMemory {
    fn journey(&mut self) -> &mut Journey {
        &mut self.journey
    }

    fn bytes(&self) -> usize {
        self.bytes
    }
}

impl DeviceMemory {
    fn bytes_of(centroids: &Centroids, n_rows: usize) -> usize {
        n_rows * (size_of::<u16>() + size_of::<f32>()) + centroids.values().len() * size_of::<i128>()
    }

    /// None of a set with more clusters than labels of 16 bits can tell apart.
    fn new(centroids: &Centroids, rows: &DeviceRows) -> Result<Option<Self>, GpuError> {
        if centroids.n_clusters() > MAX_CLUSTERS {
            return Ok(None);
        }
        Ok(Some(Self {
            journey: Journey::new(centroids),
            partial: Partial::empty(centroids.n_clusters(), centroids.n_features()),
            labels: Buffer::new(&rows.gpu, rows.n_rows)?,
            until: Buffer::new(&rows.gpu, rows.n_rows)?,
            is_filled: false,
            bytes: Self::bytes_of(centroids, rows.n_rows),
        }))
    }
}

/// What passes over a shard keep on the GPU between them.
pub(crate) struct Passes {
    preparation: Preparation,
    /// A difference of distances that float64 may not see.
    tie: f64,
    memories: Memories<DeviceMemory>,
    parcel: Growing<u8>,
    answers: Growing<u64>,
    lists: Growing<u32>,
    n_listed: Growing<u32>,
}

/// What is asked of each set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wanted {
    Sums,
    Weights,
}

impl Passes {
    pub(crate) fn new(preparation: &Preparation, memory_bytes: usize) -> Self {
        Self {
            preparation: preparation.clone(),
            tie: shoal_clustering::memory::tie(preparation),
            memories: Memories::new(memory_bytes),
            parcel: Growing::new(),
            answers: Growing::new(),
            lists: Growing::new(),
            n_listed: Growing::new(),
        }
    }

    /// Forgets what earlier passes have found.
    pub(crate) fn forget(&mut self) {
        self.memories.clear();
    }

    /// A Lloyd pass: one partial a set, its inertia left out.
    pub(crate) fn assign(&mut self, rows: &DeviceRows, sets: &[Centroids]) -> Result<Vec<Partial>, GpuError> {
        let bytes_of = |set: &Centroids| DeviceMemory::bytes_of(set, rows.n_rows);
        let memories = self.memories.take(sets, bytes_of, |set| DeviceMemory::new(set, rows))?;
        let n_stale = self.list_stale(rows, &memories)?;
        let mut found = self.run(rows, sets, &memories, &n_stale, Wanted::Sums)?;
        let mut held = Vec::new();
        for (partial, memory) in found.iter_mut().zip(memories) {
            let Some(mut memory) = memory else { continue };
            add_change(partial, &memory.partial);
            memory.partial = partial.clone();
            memory.is_filled = true;
            held.push(memory);
        }
        self.memories.put_back(held.into_iter());
        Ok(found)
    }

    /// The weights of clusters only.
    pub(crate) fn weigh(&mut self, rows: &DeviceRows, sets: &[Centroids]) -> Result<Vec<ClusterWeights>, GpuError> {
        let memories: Vec<Option<DeviceMemory>> = sets.iter().map(|_| None).collect();
        let n_stale = vec![None; sets.len()];
        let found = self.run(rows, sets, &memories, &n_stale, Wanted::Weights)?;
        Ok(found.into_iter().map(|partial| ClusterWeights(partial.weights)).collect())
    }

    /// The label of each row.
    pub(crate) fn label(&mut self, rows: &DeviceRows, centroids: &Centroids) -> Result<Vec<u16>, GpuError> {
        let sets = std::slice::from_ref(centroids);
        let memories = [DeviceMemory::new(centroids, rows)?];
        self.run(rows, sets, &memories, &[None], Wanted::Weights)?;
        let [Some(memory)] = memories else { return Ok(Vec::new()) };
        memory.labels.read(0, rows.n_rows)
    }

    /// Lists the stale rows of each set that has a memory, one list after the other; how many each has.
    fn list_stale(
        &mut self,
        rows: &DeviceRows,
        memories: &[Option<DeviceMemory>],
    ) -> Result<Vec<Option<usize>>, GpuError> {
        let is_filled = |memory: &Option<DeviceMemory>| memory.as_ref().is_some_and(|memory| memory.is_filled);
        if !memories.iter().any(is_filled) {
            return Ok(vec![None; memories.len()]);
        }
        let lists = self.lists.with_room(&rows.gpu, rows.n_rows * memories.len())?;
        let n_listed = self.n_listed.with_room(&rows.gpu, memories.len())?;
        n_listed.clear()?;
        for (idx, memory) in memories.iter().enumerate() {
            let Some(memory) = memory.as_ref().filter(|memory| memory.is_filled) else { continue };
            let stale = StaleRows {
                until: memory.until.address(),
                list: lists.at(idx * rows.n_rows),
                n_listed: n_listed.at(idx),
                n_rows: rows.n_rows as u32,
                way: memory.journey.way(self.tie).to,
            };
            let n_blocks = (rows.n_rows.div_ceil(4096) as u32).min(rows.gpu.n_processors() * 8);
            let parameters = bytemuck::bytes_of(&stale);
            let launch = Launch { kernel: "list_stale", grid: (n_blocks, 1), shared_bytes: 0, parameters };
            // SAFETY: the structure is the kernel's; a list has room for all rows.
            unsafe { rows.gpu.launch(&launch)? };
        }
        let counts = n_listed.read(0, memories.len())?;
        Ok(memories.iter().zip(counts).map(|(memory, n)| is_filled(memory).then_some(n as usize)).collect())
    }

    /// Launches what sets and memories ask for; what is to be added to the memories' partials.
    fn run(
        &mut self,
        rows: &DeviceRows,
        sets: &[Centroids],
        memories: &[Option<DeviceMemory>],
        n_stale: &[Option<usize>],
        wanted: Wanted,
    ) -> Result<Vec<Partial>, GpuError> {
        let (kernel, with_sums) = (rows.kernel, wanted == Wanted::Sums);
        let scale = scale(&self.preparation, sets);
        let packed: Vec<PackedCentroids> =
            sets.par_iter().map(|set| PackedCentroids::new(set, kernel.n_steps(), scale)).collect();
        let parcel_bytes = |(set, packed): (&Centroids, &PackedCentroids)| {
            packed.fragments.len() * 16 + (packed.half_norms.len() + set.values().len()) * 4 + 64 + size_of::<LloydSet>()
        };
        let base = self.parcel.with_room(&rows.gpu, sets.iter().zip(&packed).map(parcel_bytes).sum())?;
        let answers = Answers::new(sets, with_sums);
        let answers_at = self.answers.with_room(&rows.gpu, answers.len)?;
        answers_at.clear()?;
        let mut parcel = Parcel::default();
        let mut described: Vec<LloydSet> = Vec::with_capacity(sets.len());
        for (idx, set) in sets.iter().enumerate() {
            let mut told = describe(set, &packed[idx], &mut parcel, base.address());
            told.weights = answers_at.at(answers.firsts[idx]);
            told.sums = if with_sums { told.weights + (WEIGHT_LIMBS * set.n_clusters() * 8) as u64 } else { 0 };
            if let Some(memory) = &memories[idx] {
                (told.labels, told.until) = (memory.labels.address(), memory.until.address());
                (told.way, told.is_filled) = (memory.journey.way(self.tie).from, u32::from(memory.is_filled));
            }
            described.push(told);
        }
        // Sets most of whose rows have to be looked at share the read of all rows; the others go their own way.
        let is_listed = |idx: &usize| {
            n_stale[*idx].is_some_and(|n_stale| (n_stale as f64) < LISTED_SHARE_MAX * rows.n_rows as f64)
        };
        let (listed, dense): (Vec<usize>, Vec<usize>) = (0..sets.len()).partition(is_listed);
        let dense: Vec<(usize, &Centroids)> = dense.into_iter().map(|idx| (idx, &sets[idx])).collect();
        let mut plans: Vec<(_, Option<usize>)> =
            kernel.plan(&dense, with_sums).into_iter().map(|plan| (plan, None)).collect();
        for idx in listed {
            // Where nothing is stale there is nothing to do.
            if n_stale[idx] != Some(0) {
                plans.extend(kernel.plan(&[(idx, &sets[idx])], with_sums).into_iter().map(|plan| (plan, Some(idx))));
            }
        }
        let mut launches = Vec::new();
        for (plan, list) in plans {
            let mut told: Vec<LloydSet> = plan.sets.iter().map(|idx| described[*idx]).collect();
            kernel.place(&plan, &mut told, with_sums);
            launches.push((base.address() + parcel.add(&told) as u64, plan, list));
        }
        base.write(0, parcel.bytes())?;
        for (sets_at, plan, list) in launches {
            let mut pass = rows.pass(scale);
            pass.sets = sets_at;
            let mut n_rows = rows.n_rows;
            if let Some(idx) = list {
                let lists = self.lists.with_room(&rows.gpu, 0)?;
                pass.list = lists.at(idx * rows.n_rows);
                pass.n_listed = self.n_listed.with_room(&rows.gpu, 0)?.at(idx);
                n_rows = n_stale[idx].unwrap_or(n_rows);
            }
            kernel.launch(rows.gpu.as_ref(), &plan, pass, n_rows)?;
        }
        let numbers = answers_at.read(0, answers.len)?;
        Ok(answers.partials(&numbers, sets, rows.weights.is_some()))
    }
}

/// Adds to a change what it is a change of. Its counts may be negative, modulo 2^64.
fn add_change(change: &mut Partial, before: &Partial) {
    change.counts.iter_mut().zip(&before.counts).for_each(|(count, before)| *count = count.wrapping_add(*before));
    change.weights.iter_mut().zip(&before.weights).for_each(|(weight, before)| *weight += before);
    change.sums.iter_mut().zip(&before.sums).for_each(|(sum, before)| *sum += before);
}

/// Where the answers of sets are in one buffer: weights, then sums.
struct Answers {
    firsts: Vec<usize>,
    len: usize,
    with_sums: bool,
}

impl Answers {
    fn new(sets: &[Centroids], with_sums: bool) -> Self {
        let mut len = 0;
        let mut place = |set: &Centroids| {
            let n_sums = if with_sums { SUM_LIMBS * set.values().len() } else { 0 };
            let first = len;
            len += WEIGHT_LIMBS * set.n_clusters() + n_sums;
            first
        };
        let firsts = sets.iter().map(&mut place).collect();
        Self { firsts, len, with_sums }
    }

    fn partials(&self, numbers: &[u64], sets: &[Centroids], has_weights: bool) -> Vec<Partial> {
        // The limbs of a sum: 32 bits, then what is above them with its sign.
        let whole = |low: u64, high: u64| i128::from(low) + (i128::from(high as i64) << 32);
        let partial = |(set, first): (&Centroids, &usize)| {
            let (n, n_values) = (set.n_clusters(), set.values().len());
            let (weights, sums) = numbers[*first..].split_at(WEIGHT_LIMBS * n);
            let mut partial = Partial::empty(n, set.n_features());
            for cluster in 0..n {
                let count = weights[cluster];
                // A change of the count may be negative; it is added to another count modulo 2^64.
                partial.counts[cluster] = count;
                partial.weights[cluster] = match has_weights {
                    true => whole(weights[n + cluster], weights[2 * n + cluster]),
                    false => i128::from(count as i64),
                };
            }
            if self.with_sums {
                for (value, sum) in partial.sums.iter_mut().enumerate() {
                    let limb = |idx: usize| sums[idx * n_values + value];
                    *sum = whole(limb(0), limb(1));
                    if has_weights {
                        *sum += whole(limb(2), limb(3)) << 20;
                    }
                }
            }
            partial
        };
        sets.iter().zip(&self.firsts).map(partial).collect()
    }
}
