//! What the programs that measure share: rows to measure with, and processes to measure.

pub mod blobs;
pub mod fleet;
