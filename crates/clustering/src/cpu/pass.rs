//! A Lloyd pass over the blocks of a shard, for any number of sets of centroids at once.
//!
//! Every row is read at most once from main memory: a block stays in a core's cache while all sets are asked about it,
//! its rows are scored tile by tile, and those that changed their cluster are moved between exact sums. Rows that cannot
//! have changed are not read at all ([`super::memory`]). No distances are computed, since inertia follows from the sums
//! ([`super::inertia`]).

use super::assign::ALL_ROWS;
use super::isa::{Isa, Kernel};
use super::memory::{CHUNK_BLOCKS, ChunkMemory, Memory, Way};
use super::packed::PackedCentroids;
use super::sums::GridSums;
use super::tile::{Ahead, Score, Scored};
use super::vector::Vector;
use crate::answers::Partial;
use shoal_domain::{BLOCK_ROWS, Block, Centroids};
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};

/// One set of centroids in a pass.
struct SetPass<'a> {
    packed: PackedCentroids<'a>,
    memory: Option<(Memory, Way)>,
}

/// A pass over some blocks.
pub(super) struct Pass<'a> {
    blocks: &'a [Block],
    /// Grid step of each column.
    units: &'a [f64],
    isa: Isa,
    sets: Vec<SetPass<'a>>,
    /// The next chunk that a thread may take.
    next_chunk: AtomicUsize,
}

impl<'a> Pass<'a> {
    /// `tie` is the difference of distances that float64 may not see.
    pub(super) fn new(
        blocks: &'a [Block],
        units: &'a [f64],
        isa: Isa,
        sets: impl Iterator<Item = (&'a Centroids, Option<Memory>)>,
        tie: f64,
    ) -> Self {
        let set = |(centroids, memory): (&'a Centroids, Option<Memory>)| {
            let memory = memory.map(|memory| {
                let way = memory.way(tie);
                (memory, way)
            });
            SetPass { packed: PackedCentroids::new(centroids), memory }
        };
        Self { blocks, units, isa, sets: sets.map(set).collect(), next_chunk: AtomicUsize::new(0) }
    }

    /// The part of one thread: chunk after chunk, until none are left.
    pub(super) fn work<'s>(&'s self) -> Vec<GridSums> {
        let sums = |set: &SetPass<'_>| GridSums::new(set.packed.centroids().n_clusters(), self.units);
        let mut sums: Vec<GridSums> = self.sets.iter().map(sums).collect();
        let mut scratch = Scratch::default();
        loop {
            let chunk_idx = self.next_chunk.fetch_add(1, Ordering::Relaxed);
            let Some(blocks) = self.blocks.chunks(CHUNK_BLOCKS).nth(chunk_idx) else {
                return sums;
            };
            let lock = |set: &'s SetPass<'_>| set.memory.as_ref().map(|(memory, _)| memory.chunk(chunk_idx));
            let mut memories: Vec<_> = self.sets.iter().map(lock).collect();
            let mut first_row = 0;
            for block in blocks {
                let rows = first_row..first_row + block.n_rows();
                for ((set, memory), sums) in self.sets.iter().zip(&mut memories).zip(&mut sums) {
                    let memory = memory.as_mut().and_then(|memory| set.remembered(memory, rows.clone()));
                    self.isa.run(BlockPass { packed: &set.packed, block, memory, sums, scratch: &mut scratch });
                }
                first_row = rows.end;
            }
        }
    }

    /// The partials of all sets, their inertia left out, and the memories.
    pub(super) fn finish(self, of_threads: Vec<Vec<GridSums>>) -> Vec<(Partial, Option<Memory>)> {
        let mut by_set: Vec<(Partial, Option<Memory>)> = self.sets.into_iter().map(SetPass::into_parts).collect();
        for of_thread in of_threads {
            for (sums, (partial, _)) in of_thread.into_iter().zip(&mut by_set) {
                sums.add_to(partial);
            }
        }
        for (partial, memory) in &mut by_set {
            if let Some(memory) = memory {
                memory.partial = partial.clone();
                memory.is_filled = true;
            }
        }
        by_set
    }
}

impl SetPass<'_> {
    /// The memory of some rows of a locked chunk.
    fn remembered<'m>(&self, chunk: &'m mut ChunkMemory, rows: Range<usize>) -> Option<Remembered<'m>> {
        let (memory, way) = self.memory.as_ref()?;
        let (labels, until) = (&mut chunk.labels[rows.clone()], &mut chunk.until[rows]);
        Some(Remembered { labels, until, way: *way, is_filled: memory.is_filled })
    }

    /// What the pass adds to, and the memory.
    fn into_parts(self) -> (Partial, Option<Memory>) {
        let centroids = self.packed.centroids();
        match self.memory {
            Some((memory, _)) => (memory.partial.clone(), Some(memory)),
            None => (Partial::empty(centroids.n_clusters(), centroids.n_features()), None),
        }
    }
}

/// What a thread needs for a block, kept between blocks.
struct Scratch {
    scored: Scored,
    /// The rows that have to be looked at.
    stale: Box<[u16; BLOCK_ROWS]>,
}

impl Default for Scratch {
    fn default() -> Self {
        Self { scored: Scored::default(), stale: Box::new([0; BLOCK_ROWS]) }
    }
}

/// What is remembered of a block's rows.
struct Remembered<'a> {
    labels: &'a mut [u16],
    until: &'a mut [f32],
    way: Way,
    is_filled: bool,
}

/// One block and one set of centroids.
struct BlockPass<'a> {
    packed: &'a PackedCentroids<'a>,
    block: &'a Block,
    memory: Option<Remembered<'a>>,
    sums: &'a mut GridSums,
    scratch: &'a mut Scratch,
}

impl Kernel for BlockPass<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector, const N: usize, const G: usize>(self) {
        let Self { packed, block, memory, sums, scratch: Scratch { scored, stale } } = self;
        let all = &ALL_ROWS[..block.n_rows()];
        let rows = match &memory {
            // SAFETY: the caller has enabled V.
            Some(memory) if memory.is_filled => unsafe { stale_rows::<V>(memory, stale) },
            _ => all,
        };
        // SAFETY: as above.
        unsafe { Score { packed, block, rows, ahead: Ahead::Gap, scored }.run::<V, N, G>() };
        match memory {
            Some(mut memory) if memory.is_filled => update(block, rows, scored, &mut memory, sums),
            Some(memory) => {
                memory.labels.copy_from_slice(&scored.labels[..rows.len()]);
                for idx in 0..rows.len() {
                    memory.until[idx] = memory.way.mark(scored.ahead[idx]);
                }
                sums.add_block(block, memory.labels);
            }
            None => sums.add_block(block, &scored.labels[..rows.len()]),
        }
    }
}

/// The rows whose centroids may have changed.
#[inline(always)]
unsafe fn stale_rows<'a, V: Vector>(memory: &Remembered<'_>, stale: &'a mut [u16; BLOCK_ROWS]) -> &'a [u16] {
    let mut n_stale = 0;
    let whole = memory.until.len() / V::LANES * V::LANES;
    for first in (0..whole).step_by(V::LANES) {
        // SAFETY: the caller has enabled V; LANES marks lie from `first` on.
        let fresh = unsafe { V::load(memory.until.as_ptr().add(first)).greater(V::splat(memory.way.to)) };
        let mut unsure = !fresh & (u32::MAX >> (32 - V::LANES));
        while unsure != 0 {
            stale[n_stale] = (first + unsure.trailing_zeros() as usize) as u16;
            n_stale += 1;
            unsure &= unsure - 1;
        }
    }
    for row in whole..memory.until.len() {
        if memory.until[row] > memory.way.to {
            continue;
        }
        stale[n_stale] = row as u16;
        n_stale += 1;
    }
    &stale[..n_stale]
}

/// Takes over what was found for the rows that had to be looked at.
#[inline(always)]
fn update(block: &Block, rows: &[u16], scored: &Scored, memory: &mut Remembered<'_>, sums: &mut GridSums) {
    for (idx, row) in rows.iter().enumerate() {
        let row = usize::from(*row);
        let (old, new) = (memory.labels[row], scored.labels[idx]);
        if old != new {
            sums.move_row(block, row, old, new);
            memory.labels[row] = new;
        }
        memory.until[row] = memory.way.mark(scored.ahead[idx]);
    }
}
