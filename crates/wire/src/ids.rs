//! How many rows have the id of another row.

use rayon::prelude::*;
use std::hash::{DefaultHasher, Hasher};

/// Rows whose ids are remembered, eight bytes each. Of more nobody knows.
const MAX_ROWS: usize = 1 << 26;

/// The ids of all rows, as hashes of 64 bits: two ids of a million are taken for one with a chance of 3e-8.
#[derive(Debug, Default)]
pub struct IdCounter {
    hashes: Vec<u64>,
    is_full: bool,
}

/// The hash of an id, in Arrow's row format. Without a key of its own, unlike that of hash maps: every process counts the
/// same.
pub(crate) fn hash_of(id: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(id);
    hasher.finish()
}

impl IdCounter {
    /// Takes the hashes of the next rows' ids.
    pub fn add(&mut self, hashes: &[u64]) {
        if self.is_full {
            return;
        }
        if self.hashes.len() + hashes.len() > MAX_ROWS {
            *self = Self { hashes: Vec::new(), is_full: true };
            return;
        }
        self.hashes.extend_from_slice(hashes);
    }

    /// Rows whose id another row had before, found by all threads; none where there were too many rows to know.
    pub fn n_repeated(mut self) -> Option<u64> {
        self.hashes.par_sort_unstable();
        let n_repeated = self.hashes.windows(2).filter(|pair| pair[0] == pair[1]).count() as u64;
        (!self.is_full).then_some(n_repeated)
    }
}
