//! A Lloyd pass over the blocks of a shard, for any number of sets of centroids at once.
//!
//! Every row is read at most once from main memory: a block stays in a core's cache while all sets are asked about it,
//! its rows are looked at tile by tile, and those that changed their cluster are moved between exact sums. Rows that cannot
//! have changed are not read at all ([`super::memory`]). No distances are computed, since inertia follows from the sums
//! ([`super::inertia`]).

use super::assign::ALL_ROWS;
use super::inertia::ExactInertia;
use super::isa::{Isa, Kernel};
use super::memory::{PieceMemory, ShardMemory};
use super::packed::PackedCentroids;
use super::sums::{AddRows, GridSums, Move, MoveRows};
use super::tile::{Ahead, FindNearest, Found};
use super::vector::Vector;
use crate::answers::Partial;
use crate::memory::Way;
use shoal_domain::{BLOCK_ROWS, Block, Centroids};
use shoal_stats::ExactSum;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};

/// One set of centroids in a pass.
struct SetPass<'a> {
    packed: PackedCentroids<'a>,
    memory: Option<(ShardMemory, Way)>,
}

/// A pass over some blocks.
pub(super) struct Pass<'a> {
    blocks: &'a [Block],
    /// Blocks that a thread takes at a time.
    piece_blocks: usize,
    /// Grid step of each column.
    units: &'a [f64],
    /// Given where the sum of squares has to be found on the way, as long as a block is at hand.
    squares_of: Option<&'a ExactInertia>,
    isa: Isa,
    sets: Vec<SetPass<'a>>,
    /// The next piece that a thread may take.
    next_piece: AtomicUsize,
}

/// What the work of threads adds up to.
pub(super) struct Work {
    /// One a set.
    sums: Vec<GridSums>,
    /// Sum of `w |x|^2` over the rows, where it was asked for.
    pub(super) squares: ExactSum,
}

impl<'a> Pass<'a> {
    /// `tie` is the difference of distances that float64 may not see.
    pub(super) fn new(
        (blocks, piece_blocks): (&'a [Block], usize),
        units: &'a [f64],
        squares_of: Option<&'a ExactInertia>,
        isa: Isa,
        sets: impl Iterator<Item = (&'a Centroids, Option<ShardMemory>)>,
        tie: f64,
    ) -> Self {
        let set = |(centroids, memory): (&'a Centroids, Option<ShardMemory>)| {
            let memory = memory.map(|memory| {
                let way = memory.journey.way(tie);
                (memory, way)
            });
            SetPass { packed: PackedCentroids::new(centroids), memory }
        };
        Self {
            blocks,
            piece_blocks,
            units,
            squares_of,
            isa,
            sets: sets.map(set).collect(),
            next_piece: AtomicUsize::new(0),
        }
    }

    /// The part of one thread: piece after piece, until none are left.
    pub(super) fn work<'s>(&'s self) -> Work {
        let sums = |set: &SetPass<'_>| GridSums::new(set.packed.centroids().n_clusters(), self.units);
        let mut work = Work { sums: self.sets.iter().map(sums).collect(), squares: ExactSum::default() };
        let mut scratch = Scratch::default();
        loop {
            let piece_idx = self.next_piece.fetch_add(1, Ordering::Relaxed);
            let Some(blocks) = self.blocks.chunks(self.piece_blocks).nth(piece_idx) else {
                return work;
            };
            let lock = |set: &'s SetPass<'_>| set.memory.as_ref().map(|(memory, _)| memory.piece(piece_idx));
            let mut memories: Vec<_> = self.sets.iter().map(lock).collect();
            let mut first_row = 0;
            for block in blocks {
                let rows = first_row..first_row + block.n_rows();
                for ((set, memory), sums) in self.sets.iter().zip(&mut memories).zip(&mut work.sums) {
                    let memory = memory.as_mut().and_then(|memory| set.remembered(memory, rows.clone()));
                    pass_block(self.isa, &set.packed, block, memory, sums, &mut scratch);
                }
                if let Some(inertia) = self.squares_of {
                    inertia.add_squares(block, self.isa, &mut work.squares);
                }
                first_row = rows.end;
            }
        }
    }

    /// The partials of all sets, their inertia left out, and the memories.
    pub(super) fn finish(self, of_threads: Vec<Work>) -> Vec<(Partial, Option<ShardMemory>)> {
        let mut by_set: Vec<(Partial, Option<ShardMemory>)> = self.sets.into_iter().map(SetPass::into_parts).collect();
        for of_thread in of_threads {
            for (sums, (partial, _)) in of_thread.sums.into_iter().zip(&mut by_set) {
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
    /// The memory of some rows of a locked piece.
    fn remembered<'m>(&self, piece: &'m mut PieceMemory, rows: Range<usize>) -> Option<Remembered<'m>> {
        let (memory, way) = self.memory.as_ref()?;
        let (labels, until) = (&mut piece.labels[rows.clone()], &mut piece.until[rows]);
        Some(Remembered { labels, until, way: *way, is_filled: memory.is_filled })
    }

    /// What the pass adds to, and the memory.
    fn into_parts(self) -> (Partial, Option<ShardMemory>) {
        let centroids = self.packed.centroids();
        match self.memory {
            Some((memory, _)) => (memory.partial.clone(), Some(memory)),
            None => (Partial::empty(centroids.n_clusters(), centroids.n_features()), None),
        }
    }
}

/// What a thread needs for a block, kept between blocks.
struct Scratch {
    found: Found,
    /// The rows that have to be looked at.
    stale: Box<[u16; BLOCK_ROWS]>,
    moves: Box<[Move; BLOCK_ROWS]>,
}

impl Default for Scratch {
    fn default() -> Self {
        Self {
            found: Found::default(),
            stale: Box::new([0; BLOCK_ROWS]),
            moves: Box::new([Move::default(); BLOCK_ROWS]),
        }
    }
}

/// What is remembered of a block's rows.
struct Remembered<'a> {
    labels: &'a mut [u16],
    until: &'a mut [f32],
    way: Way,
    is_filled: bool,
}

/// Assigns the rows of a block that may have changed their centroids, and brings the sums up to date.
fn pass_block(
    isa: Isa,
    packed: &PackedCentroids<'_>,
    block: &Block,
    memory: Option<Remembered<'_>>,
    sums: &mut GridSums,
    scratch: &mut Scratch,
) {
    let Scratch { found, stale, moves } = scratch;
    let all = &ALL_ROWS[..block.n_rows()];
    match memory {
        Some(mut memory) if memory.is_filled => {
            let n_stale = isa.run(Stale { until: memory.until, way: memory.way.ceiling, stale });
            let rows = &stale[..n_stale];
            isa.run(FindNearest { packed, block, rows, ahead: Ahead::Gap, found });
            let n_moves = memory.update(rows, found, moves);
            isa.run(MoveRows { sums, block, moves: &moves[..n_moves] });
        }
        Some(memory) => {
            isa.run(FindNearest { packed, block, rows: all, ahead: Ahead::Gap, found });
            memory.labels.iter_mut().zip(found.labels.iter()).for_each(|(label, found)| *label = *found as u16);
            memory.until.iter_mut().zip(found.ahead.iter()).for_each(|(until, ahead)| *until = memory.way.mark(*ahead));
            isa.run(AddRows { sums, block, labels: &found.labels[..all.len()] });
        }
        None => {
            isa.run(FindNearest { packed, block, rows: all, ahead: Ahead::Gap, found });
            isa.run(AddRows { sums, block, labels: &found.labels[..all.len()] });
        }
    }
}

impl Remembered<'_> {
    /// Takes over what was found for the rows that had to be looked at, and lists those that changed; how many they are.
    fn update(&mut self, rows: &[u16], found: &Found, moves: &mut [Move; BLOCK_ROWS]) -> usize {
        let mut n_moves = 0;
        for ((row, new), ahead) in rows.iter().zip(found.labels.iter()).zip(found.ahead.iter()) {
            let (label, until) = (&mut self.labels[usize::from(*row)], &mut self.until[usize::from(*row)]);
            // Written anyway and kept only if it is a move: which rows move, no branch can foresee.
            moves[n_moves] = Move { row: *row, from: u32::from(*label), to: *new };
            n_moves += usize::from(u32::from(*label) != *new);
            // A set that has a memory has few enough clusters.
            *label = *new as u16;
            *until = self.way.mark(*ahead);
        }
        n_moves
    }
}

/// Lists the rows whose centroids may have changed; how many they are.
struct Stale<'a> {
    until: &'a [f32],
    way: f32,
    stale: &'a mut [u16; BLOCK_ROWS],
}

impl Kernel for Stale<'_> {
    type Output = usize;

    #[inline(always)]
    unsafe fn run<V: Vector, const N: usize, const G: usize>(self) -> usize {
        let Self { until, way, stale } = self;
        let mut n_stale = 0;
        let mut list = |first: usize, mut unsure: u32| {
            while unsure != 0 {
                stale[n_stale] = (first + unsure.trailing_zeros() as usize) as u16;
                n_stale += 1;
                unsure &= unsure - 1;
            }
        };
        let mut first = 0;
        while first + V::LANES <= until.len() {
            // SAFETY: the caller has enabled V; LANES marks lie from `first` on.
            let fresh = unsafe { V::load(until.as_ptr().add(first)).greater(V::splat(way)) };
            list(first, !fresh & (u32::MAX >> (32 - V::LANES)));
            first += V::LANES;
        }
        for (row, until) in until.iter().enumerate().skip(first) {
            // Not a number is not fresh.
            let is_fresh = *until > way;
            list(row, u32::from(!is_fresh));
        }
        n_stale
    }
}
