//! Events to features, as DataFusion plans.
//!
//! A source is a file, a folder or an object-store URL. Whatever it holds, what leaves this crate is a stream of record
//! batches with one row a customer: the id in its own type, the features as float64, and a weight where there is one.
//! Rows come in the same order every time a source is read, since blocks are cut from that order.

mod columns;
mod csv_error;
mod day;
mod derived;
mod error;
mod events;
mod files;
mod jsonl;
mod paged;
mod rfm;
mod source;
mod sql;

pub mod history;
pub mod identity;
pub mod journeys;
pub mod measures;

pub use error::BehaviorError;
pub use events::{DuplicateCounts, Quality, QuarantineCounts, UnknownKind};
pub use source::{FeatureSource, ReadOptions, explain, identities, open_journeys, quarantine};
