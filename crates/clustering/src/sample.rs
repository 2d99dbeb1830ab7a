//! Nested random samples of rows.

use shoal_domain::{BLOCK_ROWS, Block};
use shoal_stats::RandomStream;

/// A random sample with the same number of rows of every whole block, so that data which are sorted in some way are
/// sampled evenly.
///
/// Samples of one `stream` are nested: a larger one has all rows of a smaller one. Whether a row belongs to a sample
/// depends on its number alone, so it does not matter who holds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sample {
    /// Rows of a whole block, at most [`BLOCK_ROWS`]. Of rows that were dropped or blocks that are not full the same
    /// share is missing from the sample, up to chance.
    pub block_rows: usize,
    /// The random numbers.
    pub stream: RandomStream,
}

/// A sample that is ready to pick rows.
pub(crate) struct Sampler {
    /// The order in which positions of a block enter samples.
    ranks: Vec<u16>,
    sample: Sample,
}

impl Sampler {
    pub(crate) fn new(sample: Sample) -> Self {
        // Blocks' own numbers are counted from 0; positions come from the other end.
        let mut positions: Vec<usize> = (0..BLOCK_ROWS).collect();
        let number = |position: usize| sample.stream.uniform(u64::MAX - position as u64);
        positions.sort_by(|a, b| number(*a).total_cmp(&number(*b)));
        let mut ranks = vec![0; BLOCK_ROWS];
        positions.into_iter().enumerate().for_each(|(rank, position)| ranks[position] = rank as u16);
        Self { ranks, sample }
    }

    /// The sampled rows of a block as a block of the same number.
    pub(crate) fn pick(&self, block: &Block) -> Block {
        // One order would do for all blocks, but for data with a period; so each block has it shuffled by a mask of its own.
        let mask = (self.sample.stream.uniform(block.id().0) * BLOCK_ROWS as f64) as usize;
        let position = |row_idx: usize| (block.data_set_row(row_idx) - block.id().first_row()) as usize;
        let is_sampled = |row_idx: &usize| usize::from(self.ranks[position(*row_idx) ^ mask]) < self.sample.block_rows;
        block.select(&(0..block.n_rows()).filter(is_sampled).collect::<Vec<_>>())
    }
}

const _: () = assert!(BLOCK_ROWS.is_power_of_two(), "a mask of positions leads to positions");
