//! What customers do one after the other: paths of states through visits, and what is counted of them.
//!
//! Every count is a sum over visits, so counts of parts of a log add up to those of the whole. A state is what the log calls an event.

mod collect;
mod counts;
mod funnel;
mod graph;
mod plan;
mod report;

pub use counts::{JourneyCounts, MAX_ORDER};
pub use funnel::Funnel;
pub(crate) use plan::journeys;
pub use plan::{Journeys, Path};
pub use report::{Flow, FunnelStep, JourneyReport, StateReport, Transition};
