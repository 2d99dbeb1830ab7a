//! An event log to one row of features a customer.
//!
//! The query engine reads, recodes, brings customers together and may spill; [`collect`] is the one aggregate of ours, and what it
//! computes of a customer are the pure functions of [`crate::history`] and [`crate::measures`].

mod check;
mod collect;
mod customers;
mod features;
mod functions;
mod identities;
mod kinds;
mod measured;
mod measures;
mod nothing;
mod plan;
mod quality;
mod query;
mod rfm_cells;
mod rows;
mod table;
mod wanted;

pub(crate) use collect::PerCustomer;
pub(crate) use customers::Customers;
pub(crate) use features::{Needed, explained, features, flawed};
pub(crate) use functions::{microseconds, recode_states};
pub(crate) use identities::identities;
pub use quality::{DuplicateCounts, Quality, QuarantineCounts, UnknownKind};
pub(crate) use query::Query;
pub(crate) use rfm_cells::CELL;
pub(crate) use wanted::is_feature_of;
