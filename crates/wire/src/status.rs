//! Errors as gRPC statuses, and statuses as one line.

use crate::blocks::BlockError;
use crate::convert::WireError;
use shoal_clustering::ClusteringError;
use shoal_domain::DomainError;
use tonic::{Code, Status};

/// An error that has a gRPC code.
pub trait ToStatus {
    /// The status: the error's own line, under the code that tells a client what to do.
    fn to_status(&self) -> Status;
}

impl ToStatus for WireError {
    fn to_status(&self) -> Status {
        Status::invalid_argument(self.to_string())
    }
}

impl ToStatus for DomainError {
    fn to_status(&self) -> Status {
        Status::invalid_argument(self.to_string())
    }
}

impl ToStatus for BlockError {
    fn to_status(&self) -> Status {
        Status::invalid_argument(self.to_string())
    }
}

impl ToStatus for ClusteringError {
    fn to_status(&self) -> Status {
        let code = match self {
            Self::Cancelled => Code::Cancelled,
            Self::NoSuchBlock { .. } => Code::NotFound,
            // Not what a broken connection is taken for: the next worker would refuse as well.
            Self::Refused(_) => Code::FailedPrecondition,
            Self::DeviceFailed(_) | Self::Rows(_) => Code::Unavailable,
            _ => Code::InvalidArgument,
        };
        Status::new(code, self.to_string())
    }
}

/// A status in one line: `NOT_FOUND: jobs/7 does not exist`. One of a connection that broke tells of the innermost cause too.
pub fn one_line(status: &Status) -> String {
    let sources = std::iter::successors(std::error::Error::source(status), |error| error.source());
    let message = match (status.message(), sources.last().map(ToString::to_string)) {
        ("", Some(cause)) => cause,
        (message, Some(cause)) if !message.contains(&cause) => format!("{message} ({cause})"),
        (message, _) => message.to_owned(),
    };
    let code = format!("{:?}", status.code());
    let mut name = String::new();
    for character in code.chars() {
        if character.is_uppercase() && !name.is_empty() {
            name.push('_');
        }
        name.extend(character.to_uppercase());
    }
    format!("{name}: {message}")
}

/// Marks the status of a coordinator that does not lead.
const STANDBY: &str = "shoal-standby";

/// What a coordinator says that does not lead.
pub fn standby() -> Status {
    let mut status = Status::unavailable("this coordinator does not lead; another one does, or is about to");
    status.metadata_mut().insert(STANDBY, tonic::metadata::MetadataValue::from_static("1"));
    status
}

/// Whether a coordinator has answered that it does not lead.
pub fn is_standby(status: &Status) -> bool {
    status.metadata().contains_key(STANDBY)
}

/// Whether the connection broke, before or within a call: gRPC reports that under any of these.
pub fn is_connection_error(status: &Status) -> bool {
    matches!(status.code(), Code::Unavailable | Code::Unknown | Code::Cancelled)
}
