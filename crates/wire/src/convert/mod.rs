//! Domain values to protocol messages and back, one file for each group of messages.

mod answers;
mod checkpoint;
mod events;
mod job;
mod questions;

use shoal_domain::DomainError;
use thiserror::Error;

pub use answers::{partials_from, picked_from, picked_to};
pub use questions::{f32s_from_bytes, f32s_to_bytes, i128s_from_bytes, i128s_to_bytes};

/// Why a message is not a value.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum WireError {
    /// A field that must be there is not.
    #[error("{field}: is missing")]
    Missing {
        /// The field.
        field: &'static str,
    },
    /// A field has an impossible value.
    #[error("{field}: {reason}")]
    Invalid {
        /// The field.
        field: &'static str,
        /// What is wrong.
        reason: &'static str,
    },
    /// The value breaks an invariant of its type.
    #[error(transparent)]
    Domain(#[from] DomainError),
}

/// The field's value, or an error that names it.
pub fn required<T>(field: &'static str, value: Option<T>) -> Result<T, WireError> {
    value.ok_or(WireError::Missing { field })
}
