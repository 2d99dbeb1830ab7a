//! What a shard remembers between two Lloyd passes, so that the next one can leave most rows alone.
//!
//! For each row: its label, and how far centroids may move before another one could be nearer ([`crate::memory`]). For all
//! rows together: their sums by cluster, from which rows that change are taken away and to which they are added; sums are
//! exact, so nothing drifts.

use crate::answers::Partial;
use crate::memory::{Journey, Memory};
use shoal_domain::job::MAX_CLUSTERS;
use shoal_domain::{Block, Centroids};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Memories of all starts together may take a quarter of what the rows take, or so many bytes if that is more.
const BYTES_MIN: usize = 64 << 20;

/// What memories may take beside the values of some blocks.
pub(super) fn memory_bytes(blocks: &[Block]) -> usize {
    let n_values: usize = blocks.iter().map(|block| block.values().len()).sum();
    (n_values * size_of::<f32>() / 4).max(BYTES_MIN)
}

/// What is remembered of some blocks that lie one after the other.
#[derive(Debug, Default)]
pub(super) struct PieceMemory {
    /// The cluster of each row.
    pub(super) labels: Vec<u16>,
    /// A row keeps its label as long as this mark is greater than [`crate::memory::Way::ceiling`].
    pub(super) until: Vec<f32>,
}

/// What is remembered of all rows under one set of centroids.
#[derive(Debug)]
pub(super) struct ShardMemory {
    pub(super) journey: Journey,
    /// Counts and sums by cluster, as `labels` say. Its inertia is not kept.
    pub(super) partial: Partial,
    /// Locked by the thread that works on the piece; nobody waits.
    pieces: Vec<Mutex<PieceMemory>>,
    /// Whether a pass has filled it.
    pub(super) is_filled: bool,
    bytes: usize,
}

impl Memory for ShardMemory {
    fn journey(&mut self) -> &mut Journey {
        &mut self.journey
    }

    fn bytes(&self) -> usize {
        self.bytes
    }
}

impl ShardMemory {
    /// What a memory of a set takes.
    pub(super) fn bytes_of(centroids: &Centroids, n_rows: usize) -> usize {
        let of_rows = n_rows * (size_of::<u16>() + size_of::<f32>());
        of_rows + centroids.values().len() * (size_of::<i128>() + size_of::<f32>())
    }

    /// None of a set with more clusters than labels of 16 bits can tell apart.
    pub(super) fn new(centroids: &Centroids, blocks: &[Block], piece_blocks: usize) -> Option<Self> {
        if centroids.n_clusters() > MAX_CLUSTERS {
            return None;
        }
        let rows_of = |blocks: &[Block]| blocks.iter().map(Block::n_rows).sum::<usize>();
        let piece = |blocks: &[Block]| {
            let n_rows = rows_of(blocks);
            Mutex::new(PieceMemory { labels: vec![0; n_rows], until: vec![0.0; n_rows] })
        };
        Some(Self {
            journey: Journey::new(centroids),
            partial: Partial::empty(centroids.n_clusters(), centroids.n_features()),
            pieces: blocks.chunks(piece_blocks).map(piece).collect(),
            is_filled: false,
            bytes: Self::bytes_of(centroids, rows_of(blocks)),
        })
    }

    pub(super) fn piece(&self, piece: usize) -> MutexGuard<'_, PieceMemory> {
        self.pieces[piece].lock().unwrap_or_else(PoisonError::into_inner)
    }
}
