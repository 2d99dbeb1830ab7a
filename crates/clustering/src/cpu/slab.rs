//! Blocks side by side in large pieces of memory.
//!
//! A block of its own is a small allocation, which the allocator keeps for later when it is freed. Shards come and go by
//! the gigabyte, so their rows live in slabs: large enough that the system gives and takes them whole.

use shoal_domain::Block;
use std::sync::Arc;

/// Numbers of a slab: 64 MiB. Pages that no row has touched cost nothing.
const SLAB_VALUES: usize = 16 << 20;
/// Blocks begin at a cache line, since a vector that lies across two costs as much as two.
const ALIGNMENT: usize = 64;

/// Moves blocks into slabs, one after the other.
#[derive(Default)]
pub(super) struct Packer {
    packed: Vec<Block>,
    /// Blocks of the open slab, and where their values are in `open`.
    waiting: Vec<(Block, usize)>,
    open: Vec<f32>,
}

impl Packer {
    pub(super) fn push(&mut self, block: Block) {
        let n_values = block.values().len();
        if self.open.len() + n_values + ALIGNMENT > self.open.capacity() {
            self.close();
            self.open = Vec::with_capacity(SLAB_VALUES.max(n_values) + 2 * ALIGNMENT);
            ask_for_huge_pages(&mut self.open);
        }
        let n_padding = self.open.as_ptr_range().end.align_offset(ALIGNMENT);
        self.open.resize(self.open.len() + n_padding.min(ALIGNMENT), 0.0);
        let start = self.open.len();
        self.open.extend_from_slice(block.values());
        self.waiting.push((block.without_values(), start));
    }

    /// All blocks, in the order in which they came.
    pub(super) fn finish(mut self) -> Vec<Block> {
        self.close();
        self.packed
    }

    fn close(&mut self) {
        let slab = Arc::new(std::mem::take(&mut self.open));
        let placed = self.waiting.drain(..).map(|(block, start)| block.with_values(slab.clone(), start));
        self.packed.extend(placed);
    }
}

/// Asks the system to back memory that nothing has touched yet by huge pages: with small ones a pass spends more time on
/// finding pages than on arithmetic. A system that has none to give changes nothing.
#[cfg(target_os = "linux")]
pub(super) fn ask_for_huge_pages<T>(values: &mut Vec<T>) {
    // SAFETY: a question that has an answer on every system.
    let page = usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(4096);
    let spare = values.spare_capacity_mut();
    let (start, n_bytes) = (spare.as_mut_ptr().cast::<u8>(), size_of_val(spare));
    let skipped = start.align_offset(page).min(n_bytes);
    // SAFETY: the range is this vector's own, on whole pages, and the advice changes none of its contents.
    let _ = unsafe { libc::madvise(start.add(skipped).cast(), (n_bytes - skipped) / page * page, libc::MADV_HUGEPAGE) };
}

#[cfg(not(target_os = "linux"))]
pub(super) fn ask_for_huge_pages<T>(_: &mut Vec<T>) {}

/// Keeps what all threads allocate in one heap, for a process that does nothing but one run. Blocks are read by some threads
/// and let go by others; with a heap for each thread, glibc's way, a run held a quarter more than its rows in pieces that
/// nobody used. Other systems' allocators are left as they are.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
pub fn share_one_heap() {
    // SAFETY: a setting of the allocator, which takes any value and returns 0 for one that it does not take.
    let _ = unsafe { libc::mallopt(libc::M_ARENA_MAX, 1) };
}

/// As above: nothing to do here.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub fn share_one_heap() {}
