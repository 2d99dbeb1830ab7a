//! What a worker's memory may hold.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tonic::Status;

/// Bytes that rows may take here, and how many they do.
#[derive(Debug)]
pub(crate) struct Budget {
    limit: u64,
    taken: AtomicU64,
}

/// A part of a budget, given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Reserved {
    budget: Arc<Budget>,
    bytes: u64,
}

impl Budget {
    pub(crate) fn new(limit: u64) -> Self {
        Self { limit, taken: AtomicU64::new(0) }
    }

    /// Takes a part for `what`, before any memory is; refused when it would not fit.
    pub(crate) fn reserve(self: &Arc<Self>, bytes: u64, what: &str) -> Result<Reserved, Status> {
        let fits = |taken: u64| taken.checked_add(bytes).filter(|sum| *sum <= self.limit);
        match self.taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits) {
            Ok(_) => Ok(Reserved { budget: self.clone(), bytes }),
            Err(taken) => {
                let [needed, taken, limit] = [bytes, taken, self.limit].map(|bytes| bytes.div_ceil(1 << 10));
                Err(Status::resource_exhausted(format!(
                    "{what}: {needed} KiB more do not fit, {taken} KiB of the worker's --memory of {limit} KiB are taken"
                )))
            }
        }
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        self.budget.taken.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}
