//! Blocks side by side in large pieces of memory.
//!
//! A block of its own is a small allocation, which the allocator keeps for later when it is freed. Shards come and go by
//! the gigabyte, so their rows live in slabs: large enough that the system gives and takes them whole.

use shoal_domain::Block;
use std::sync::Arc;

/// Numbers of a slab: 64 MiB. Pages that no row has touched cost nothing.
const SLAB_VALUES: usize = 16 << 20;

/// Moves blocks into slabs, one after the other.
#[derive(Default)]
pub(super) struct Packer {
    packed: Vec<Block>,
    /// Blocks of the open slab; their values are in `open`.
    waiting: Vec<Block>,
    open: Vec<f32>,
}

impl Packer {
    pub(super) fn push(&mut self, block: Block) {
        let n_values = block.values().len();
        if self.open.len() + n_values > self.open.capacity() {
            self.close();
            self.open = Vec::with_capacity(SLAB_VALUES.max(n_values));
        }
        self.open.extend_from_slice(block.values());
        self.waiting.push(block.without_values());
    }

    /// All blocks, in the order in which they came.
    pub(super) fn finish(mut self) -> Vec<Block> {
        self.close();
        self.packed
    }

    fn close(&mut self) {
        let slab = Arc::new(std::mem::take(&mut self.open));
        let mut start = 0;
        for block in self.waiting.drain(..) {
            let end = start + block.n_rows() * block.n_features();
            self.packed.push(block.with_values(slab.clone(), start));
            start = end;
        }
    }
}
