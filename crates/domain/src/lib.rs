//! The nouns of Shoal, each with its invariants: blocks of rows, centroids, preparation, job, model, sweep, report.
//!
//! Every other crate speaks in these types, and none of them knows a wire format, a file or a clock. A value that exists
//! has been checked: constructors refuse what is wrong and fields stay private where an invariant ties them together.
//! The price is a conversion at each edge; the gain is that nothing inside has to look twice.

mod error;
mod merge;

pub mod block;
pub mod centroids;
pub mod events;
pub mod job;
pub mod model;
pub mod prepare;
pub mod report;
pub mod sweep;

pub use block::{BLOCK_ROWS, Block, BlockId, FeatureNames, RawBlock};
pub use centroids::Centroids;
pub use error::DomainError;
pub use job::JobSpec;
pub use merge::Merge;
pub use model::Model;
pub use prepare::{ColumnPreparation, Preparation, Transform};
pub use report::Report;
pub use sweep::Sweep;
