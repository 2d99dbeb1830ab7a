//! What a shard remembers between two Lloyd passes, so that the next one can leave most rows alone.
//!
//! For each row: its label, and how far centroids may move before another one could be nearer (Hamerly, "Making k-means
//! even faster", 2010, reduced to one number). The bound is kept as a mark on the way that centroids have travelled since
//! the memory began, so that a row which stays as it was costs a comparison and no write. For all rows together: their
//! sums by cluster, from which rows that change are taken away and to which they are added; sums are exact, so nothing
//! drifts.
//!
//! None of this shows in an answer. A memory is true of its labels, whatever they are, and any set of centroids may go on
//! from any memory of its shape; a better match only leaves more rows alone.

use crate::answers::Partial;
use shoal_domain::job::MAX_CLUSTERS;
use shoal_domain::{Block, Centroids, Preparation};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Memories of all starts together may take a quarter of what the rows take, or so many bytes if that is more.
const BYTES_MIN: usize = 64 << 20;

/// What memories may take beside the values of some blocks.
pub(super) fn memory_bytes(blocks: &[Block]) -> usize {
    let n_values: usize = blocks.iter().map(|block| block.values().len()).sum();
    (n_values * size_of::<f32>() / 4).max(BYTES_MIN)
}

/// Relative slack of bounds, well above the rounding of the few float32 operations that they go through.
const SLACK: f64 = 1.0 / (1 << 20) as f64;

/// What is remembered of some blocks that lie one after the other.
#[derive(Debug, Default)]
pub(super) struct ChunkMemory {
    /// The cluster of each row.
    pub(super) labels: Vec<u16>,
    /// A row keeps its label as long as this mark is greater than [`Way::to`].
    pub(super) until: Vec<f32>,
}

/// What is remembered of all rows under one set of centroids.
#[derive(Debug)]
pub(super) struct Memory {
    /// The centroids of the last pass.
    centroids: Centroids,
    /// How far two centroids may have come towards each other since the memory began.
    travelled: f64,
    /// Counts and sums by cluster, as `labels` say. Its inertia is not kept.
    pub(super) partial: Partial,
    /// Locked by the thread that works on the chunk; nobody waits.
    chunks: Vec<Mutex<ChunkMemory>>,
    /// Whether a pass has filled it.
    pub(super) is_filled: bool,
}

impl Memory {
    /// What a memory of a set takes.
    fn bytes(centroids: &Centroids, n_rows: usize) -> usize {
        let of_rows = n_rows * (size_of::<u16>() + size_of::<f32>());
        of_rows + centroids.values().len() * (size_of::<i128>() + size_of::<f32>())
    }

    fn new(centroids: &Centroids, blocks: &[Block], chunk_blocks: usize) -> Self {
        let chunk = |blocks: &[Block]| {
            let n_rows = blocks.iter().map(Block::n_rows).sum();
            Mutex::new(ChunkMemory { labels: vec![0; n_rows], until: vec![0.0; n_rows] })
        };
        Self {
            centroids: centroids.clone(),
            travelled: 0.0,
            partial: Partial::empty(centroids.n_clusters(), centroids.n_features()),
            chunks: blocks.chunks(chunk_blocks).map(chunk).collect(),
            is_filled: false,
        }
    }

    /// Lets the centroids move on. No two of them can come nearer to each other's rows than by the two longest ways.
    fn move_to(&mut self, centroids: &Centroids) {
        let mut longest = [0.0f64; 2];
        for (new, old) in centroids.rows().zip(self.centroids.rows()) {
            let square: f64 = new.iter().zip(old).map(|(new, old)| (f64::from(*new) - f64::from(*old)).powi(2)).sum();
            let way = square.sqrt();
            if way > longest[0] {
                longest = [way, longest[0]];
            } else if way > longest[1] {
                longest[1] = way;
            }
        }
        self.travelled += longest[0] + longest[1];
        self.centroids = centroids.clone();
    }

    /// Where the centroids are on their way: rounded down, where marks are counted from, and rounded up, where they are
    /// compared with, `tie` being a difference of distances that float64 may not see.
    pub(super) fn way(&self, tie: f64) -> Way {
        let here = (self.travelled * (1.0 - SLACK)) as f32;
        Way { from: here, to: ((self.travelled + tie) * (1.0 + SLACK)) as f32 }
    }

    pub(super) fn chunk(&self, chunk: usize) -> MutexGuard<'_, ChunkMemory> {
        self.chunks[chunk].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The way of centroids, in float32.
#[derive(Debug, Clone, Copy)]
pub(super) struct Way {
    from: f32,
    /// A row is certain of its label while its mark is greater.
    pub(super) to: f32,
}

impl Way {
    /// The mark of a row that is ahead so much: not a number, and so never greater, where the bound is none.
    #[inline(always)]
    pub(super) fn mark(self, ahead: f32) -> f32 {
        (ahead + self.from) * (1.0 - SLACK as f32)
    }
}

/// The memories of a shard.
#[derive(Debug)]
pub(super) struct Memories {
    /// The one that was used last comes last.
    held: Vec<Memory>,
    n_rows: usize,
    bytes_max: usize,
}

impl Memories {
    pub(super) fn new(blocks: &[Block], bytes_max: usize) -> Self {
        Self { held: Vec::new(), n_rows: blocks.iter().map(Block::n_rows).sum(), bytes_max }
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        self.held.clear();
    }

    fn bytes<'m>(&self, memories: impl Iterator<Item = &'m Memory>) -> usize {
        memories.map(|memory| Memory::bytes(&memory.centroids, self.n_rows)).sum()
    }

    /// Takes out a memory for each set, the one whose centroids are nearest, or a fresh one while there is room.
    pub(super) fn take(&mut self, sets: &[Centroids], blocks: &[Block], chunk_blocks: usize) -> Vec<Option<Memory>> {
        let mut taken: Vec<Option<Memory>> = sets.iter().map(|set| self.take_nearest(set)).collect();
        let mut bytes = self.bytes(taken.iter().flatten());
        for (memory, set) in taken.iter_mut().zip(sets) {
            if let Some(memory) = memory {
                memory.move_to(set);
                continue;
            }
            let bytes_more = Memory::bytes(set, self.n_rows);
            while !self.held.is_empty() && bytes + bytes_more + self.bytes(self.held.iter()) > self.bytes_max {
                self.held.remove(0);
            }
            // Labels are remembered as numbers of 16 bits.
            if bytes + bytes_more <= self.bytes_max && set.n_clusters() <= MAX_CLUSTERS {
                *memory = Some(Memory::new(set, blocks, chunk_blocks));
                bytes += bytes_more;
            }
        }
        taken
    }

    fn take_nearest(&mut self, set: &Centroids) -> Option<Memory> {
        let shape = (set.n_clusters(), set.n_features());
        let has_shape = |memory: &Memory| (memory.centroids.n_clusters(), memory.centroids.n_features()) == shape;
        let candidates = (0..self.held.len()).filter(|idx| has_shape(&self.held[*idx]));
        let shift = |idx: &usize| self.held[*idx].centroids.shift_squared(set);
        let nearest = candidates.min_by(|a, b| shift(a).total_cmp(&shift(b)))?;
        Some(self.held.remove(nearest))
    }

    /// Puts memories back after a pass.
    pub(super) fn put_back(&mut self, memories: impl Iterator<Item = Memory>) {
        self.held.extend(memories);
        // Questions that came at the same time may each have made as many as there is room for.
        while self.bytes(self.held.iter()) > self.bytes_max {
            self.held.remove(0);
        }
    }
}

/// A difference of distances that float64 may take for none, twice over: d terms of squares of at most the diameter.
pub(super) fn tie(preparation: &Preparation) -> f64 {
    libm::ldexp((preparation.n_features() + 8) as f64 * preparation.diameter(), -50)
}
