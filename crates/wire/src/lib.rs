//! The wire: protocol messages to domain values and back, Arrow batches to blocks, errors to gRPC statuses.
//!
//! This is the only home of prost types. Services convert at their first and last line and work with domain values in
//! between; a message that holds an impossible value is refused here, with the name of the field.

pub mod blocks;
pub mod convert;
pub mod documents;
pub mod epoch;
pub mod flight;
pub mod ids;
pub mod labels;
pub mod limits;
pub mod pace;
pub mod status;
pub mod tls;
pub mod uncut;

/// Protocol types, generated from `proto/` by `cargo xtask proto`.
#[allow(missing_docs, clippy::all, unreachable_pub)]
#[rustfmt::skip]
pub mod proto {
    include!("gen/shoal.v1.rs");

    /// All protocol files, for gRPC reflection.
    pub const DESCRIPTOR: &[u8] = include_bytes!("gen/descriptor.bin");
}
