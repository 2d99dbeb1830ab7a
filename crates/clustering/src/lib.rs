//! Features to clusters: what a machine can do with rows, and the algorithms that ask it.
//!
//! The crate has two halves. Below, [`Rows`] and [`Shard`] are the questions that rows can be asked: small things go
//! down (centroids, a draw, a preparation), answers that merge come up. The CPU engine answers them here; a GPU or a
//! fleet answers them elsewhere, through the same two traits. Above, the algorithms ([`segment`], [`sweep`], [`kmeans::fit`],
//! [`silhouette`]) are textbook loops over those questions and do not know who answers. That is why one process and
//! fifty workers return the same bits: the loop is the same code, and every answer merges exactly.
//!
//! Nothing here does I/O or reads a clock; seeds come in as arguments, progress goes out as [`Event`]s.

mod answers;
mod dispersion;
mod error;
mod machine;
mod notes;
mod observer;
mod partial;
mod questions;
mod sample;
mod segmentation;
mod segments;
mod streams;
mod sweep;

pub mod cpu;
pub mod kmeans;
pub mod memory;
pub mod pairs;
pub mod prepare;
pub mod silhouette;

pub use answers::{
    BlockLabels, ClusterWeights, Description, DistanceSums, PairQuestion, Partial, Picked, PickedRow, Profile,
    ProfiledBlock, QueryRows, Spread, Unusable,
};
pub use error::ClusteringError;
pub use machine::Machine;
pub use observer::{Event, Observer, PassRecord, Phase};
pub use questions::{Device, Draw, Rows, Shard};
pub use sample::Sample;
pub use segmentation::{Segmentation, segment, segment_from};
pub use sweep::sweep;
