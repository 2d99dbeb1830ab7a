//! wire
pub mod blocks;
