use shoal_behavior::BehaviorError;
use shoal_wire::blocks::BlockError;
use shoal_wire::status::one_line;
use thiserror::Error;
use tonic::Status;

/// Why the coordinator stopped.
#[derive(Debug, Error)]
pub enum CoordinatorError {
    /// Its server failed.
    #[error("the server stopped: {0}")]
    Server(#[from] tonic::transport::Error),
    /// The reflection service could not be built.
    #[error("the protocol cannot be described: {0}")]
    Reflection(#[from] tonic_reflection::server::Error),
}

/// Why the fleet could not do what was asked.
#[derive(Debug, Error)]
pub(crate) enum FleetError {
    /// There is nobody to hold rows.
    #[error("no worker has joined the fleet")]
    NoWorkers,
    /// A worker has died or left, and its rows with it.
    #[error(
        "worker {worker} ({address}) is gone, and {n_blocks} of the data set's blocks with it; submit the job again"
    )]
    WorkerGone { worker: String, address: String, n_blocks: usize },
    /// A worker could not answer.
    #[error("worker {worker} ({address}): {}", one_line(status))]
    Worker { worker: String, address: String, status: Status },
    /// A worker's answer is not one.
    #[error("worker {worker} gave an impossible answer: {reason}")]
    Answer { worker: String, reason: String },
    /// A worker has confirmed fewer blocks than it was sent.
    #[error("worker {worker} took {taken} of {sent} blocks")]
    Blocks { worker: String, taken: u64, sent: u64 },
    /// The job's centroids do not fit into a message.
    #[error("n_clusters x n_features is {n_values}, more than the {max} that a fleet takes")]
    TooManyValues { n_values: usize, max: usize },
    /// The data set is not held any more, or never was.
    #[error("data set {name} is not here: it was let go with a worker, or as the oldest of more than {max}")]
    NoDataSet { name: String, max: usize },
    /// All data sets that may be held are in use.
    #[error("{max} data sets are in use by jobs; wait for one to end")]
    TooManyDataSets { max: usize },
    /// The source of a job could not be read.
    #[error(transparent)]
    Source(#[from] BehaviorError),
    /// The rows of a source cannot be used.
    #[error("{0}")]
    Block(#[from] BlockError),
}

impl FleetError {
    /// The gRPC status of the error.
    pub(crate) fn to_status(&self) -> Status {
        let message = self.to_string();
        match self {
            Self::NoWorkers | Self::WorkerGone { .. } => Status::unavailable(message),
            Self::Worker { status, .. } => Status::new(status.code(), message),
            Self::Answer { .. } | Self::Blocks { .. } => Status::internal(message),
            Self::TooManyValues { .. } | Self::TooManyDataSets { .. } => Status::resource_exhausted(message),
            Self::NoDataSet { .. } => Status::not_found(message),
            Self::Source(_) | Self::Block(_) => Status::invalid_argument(message),
        }
    }
}
