//! Lloyd passes on a GPU: what each set of centroids needs is brought together, launched, and read back.

use crate::gpu::{Buffer, GpuError, NULL};
use crate::round::{Round, Scratch, SetInRound};
use crate::rows::DeviceRows;
use crate::stale::{Lists, Marks};
use shoal_clustering::memory::{Journey, Memories, Memory};
use shoal_clustering::{ClusterWeights, Partial};
use shoal_domain::job::MAX_CLUSTERS;
use shoal_domain::{Centroids, Preparation};

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
    /// A difference of distances that float64 may not see.
    tie: f64,
    memories: Memories<DeviceMemory>,
    scratch: Scratch,
    /// Stale rows of each set.
    lists: Lists,
}

impl Passes {
    pub(crate) fn new(preparation: &Preparation, memory_bytes: usize) -> Self {
        Self {
            tie: shoal_clustering::memory::tie(preparation),
            memories: Memories::new(memory_bytes),
            scratch: Scratch::new(),
            lists: Lists::new(),
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
        let marks = |memory: &Option<DeviceMemory>| {
            let memory = memory.as_ref().filter(|memory| memory.is_filled)?;
            Some(Marks { until: memory.until.address(), way: memory.journey.way(self.tie).ceiling })
        };
        let marks: Vec<Option<Marks>> = memories.iter().map(marks).collect();
        let lists = self.lists.list(rows, &marks)?;
        let asked = sets.iter().zip(&memories).zip(lists);
        let asked = asked.map(|((set, memory), list)| SetInRound { stale: list, ..in_round(set, memory, self.tie) });
        let mut found = self.run(rows, asked.collect(), true)?;
        let mut held = Vec::new();
        for (partial, memory) in found.iter_mut().zip(memories) {
            let Some(mut memory) = memory else { continue };
            add_change(partial, &memory.partial);
            memory.partial.copy_from(partial);
            memory.is_filled = true;
            held.push(memory);
        }
        self.memories.put_back(held.into_iter());
        Ok(found)
    }

    /// The weights of clusters only.
    pub(crate) fn weigh(&mut self, rows: &DeviceRows, sets: &[Centroids]) -> Result<Vec<ClusterWeights>, GpuError> {
        let asked = sets.iter().map(|set| in_round(set, &None, self.tie)).collect();
        let found = self.run(rows, asked, false)?;
        Ok(found.into_iter().map(|partial| ClusterWeights(partial.weights)).collect())
    }

    /// The label of each row.
    pub(crate) fn label(&mut self, rows: &DeviceRows, centroids: &Centroids) -> Result<Vec<u16>, GpuError> {
        let memory = DeviceMemory::new(centroids, rows)?;
        self.run(rows, vec![in_round(centroids, &memory, self.tie)], false)?;
        memory.map_or(Ok(Vec::new()), |memory| memory.labels.read(0, rows.n_rows))
    }

    fn run(&mut self, rows: &DeviceRows, sets: Vec<SetInRound<'_>>, with_sums: bool) -> Result<Vec<Partial>, GpuError> {
        Round::new(rows, sets, with_sums).run(&mut self.scratch)
    }
}

/// What a round has to know of a set and its memory.
fn in_round<'a>(centroids: &'a Centroids, memory: &Option<DeviceMemory>, tie: f64) -> SetInRound<'a> {
    let mut set = SetInRound { centroids, labels: NULL, until: NULL, way: 0.0, is_filled: false, stale: None };
    if let Some(memory) = memory {
        (set.labels, set.until) = (memory.labels.address(), memory.until.address());
        (set.way, set.is_filled) = (memory.journey.way(tie).floor, memory.is_filled);
    }
    set
}

/// Adds to a change what it is a change of. Its counts may be negative, modulo 2^64.
fn add_change(change: &mut Partial, before: &Partial) {
    change.counts.iter_mut().zip(&before.counts).for_each(|(count, before)| *count = count.wrapping_add(*before));
    change.weights.iter_mut().zip(&before.weights).for_each(|(weight, before)| *weight += before);
    change.sums.iter_mut().zip(&before.sums).for_each(|(sum, before)| *sum += before);
}
