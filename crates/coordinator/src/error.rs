use shoal_behavior::BehaviorError;
use shoal_clustering::ClusteringError;
use shoal_coordination::{LeaderError, StoreError};
use shoal_storage::StorageError;
use shoal_wire::blocks::BlockError;
use shoal_wire::status::{is_connection_error, one_line};
use thiserror::Error;
use tonic::{Code, Status};

/// Why the coordinator stopped.
#[derive(Debug, Error)]
pub enum CoordinatorError {
    /// Its server failed.
    #[error("the server stopped: {0}")]
    Server(#[from] tonic::transport::Error),
    /// What is in storage could not be taken up.
    #[error("--data: {0}")]
    Storage(String),
    /// The store of the records does not do its part.
    #[error("{0}")]
    Store(#[from] StoreError),
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
    /// There is nothing to hold.
    #[error("the data set has no rows")]
    NoRows,
    /// A worker has died or left, and its rows with it.
    #[error("worker {worker} ({address}) is gone, and {n_blocks} blocks with it")]
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
    #[error("data set {name} is not here, or was removed as the oldest of more than {max}")]
    NoDataSet { name: String, max: usize },
    /// The data set is there and cannot be read.
    #[error("data set {name}: {reason}")]
    Damaged { name: String, reason: String },
    /// The description of a job does not fit into the store.
    #[error("the job's description has {n_bytes} bytes, more than the {max} that are kept")]
    TooLarge { n_bytes: usize, max: usize },
    /// All data sets that may be held are in use.
    #[error("{max} data sets are in use by jobs; wait for one to end")]
    TooManyDataSets { max: usize },
    /// The workers' answers are about other blocks than the data set has.
    #[error("data set {data_set}: the workers answered for other blocks than it has")]
    OtherBlocks { data_set: String },
    /// A data set has no such block.
    #[error("data set {data_set} has no block {block}")]
    NoBlock { data_set: String, block: u64 },
    /// All workers are gone and none has come.
    #[error("data set {data_set}: every worker is gone and none has joined in {seconds} s")]
    AllGone { data_set: String, seconds: u64 },
    /// Workers were lost again and again while they took blocks.
    #[error("data set {data_set}: blocks could not be placed, {times} times a worker was lost while it took them")]
    NotPlaced { data_set: String, times: usize },
    /// Whoever is asked a question is lost.
    #[error("one question has cost workers {n_losses} times; the last: {last}")]
    Poison { n_losses: usize, last: String },
    /// Data at rest could not be written or read.
    #[error("storage: {0}")]
    Storage(#[from] StorageError),
    /// The coordinators of a fleet have different places for their data.
    #[error("{location} is not where this fleet keeps its data: give the same place as the other coordinators")]
    OtherStorage { location: String },
    /// A job at rest cannot be understood.
    #[error("{name} is damaged: {reason}")]
    Record { name: String, reason: String },
    /// This coordinator leads no more, or its records cannot be written.
    #[error("{0}")]
    Leader(#[from] LeaderError),
    /// Records cannot be read.
    #[error("{0}")]
    Store(#[from] StoreError),
    /// Rows could not even be looked at.
    #[error("checking the rows panicked; the coordinator's log says where")]
    CuttingPanicked,
    /// The job is to end.
    #[error("cancelled")]
    Cancelled,
    /// A document could not be written as JSON.
    #[error("the result is not JSON: {0}")]
    Document(#[from] serde_json::Error),
    /// The source of a job could not be read.
    #[error(transparent)]
    Source(#[from] BehaviorError),
    /// The rows of a source cannot be used.
    #[error("{0}")]
    Block(#[from] BlockError),
}

impl FleetError {
    /// Whether a worker was lost, and nothing else is wrong.
    pub(crate) fn is_loss(&self) -> bool {
        match self {
            Self::WorkerGone { .. } => true,
            Self::Worker { status, .. } => is_connection_error(status),
            _ => false,
        }
    }

    /// Whether a worker has no room for rows.
    pub(crate) fn is_full(&self) -> bool {
        matches!(self, Self::Worker { status, .. } if status.code() == Code::ResourceExhausted)
    }

    /// Whether it is an error of this coordinator's only, and the next one goes on.
    pub(crate) fn is_deposed(&self) -> bool {
        matches!(self, Self::Leader(LeaderError::Deposed))
    }

    /// The error as an algorithm passes it on.
    pub(crate) fn into_clustering(self) -> ClusteringError {
        match self {
            Self::Cancelled => ClusteringError::Cancelled,
            other => ClusteringError::rows(other),
        }
    }

    /// The gRPC status of the error.
    pub(crate) fn to_status(&self) -> Status {
        let message = self.to_string();
        match self {
            Self::NoWorkers | Self::WorkerGone { .. } | Self::AllGone { .. } => Status::unavailable(message),
            Self::NotPlaced { .. } | Self::Poison { .. } => Status::aborted(message),
            Self::Storage(_) | Self::OtherStorage { .. } | Self::Record { .. } | Self::Leader(_) | Self::Store(_) => {
                Status::unavailable(message)
            }
            Self::Cancelled => Status::cancelled(message),
            Self::Worker { status, .. } => Status::new(status.code(), message),
            Self::Answer { .. }
            | Self::Blocks { .. }
            | Self::OtherBlocks { .. }
            | Self::CuttingPanicked
            | Self::Document(_) => Status::internal(message),
            Self::TooManyValues { .. } | Self::TooManyDataSets { .. } => Status::resource_exhausted(message),
            Self::NoDataSet { .. } | Self::NoBlock { .. } => Status::not_found(message),
            Self::TooLarge { .. } | Self::NoRows => Status::invalid_argument(message),
            Self::Damaged { .. } => Status::data_loss(message),
            Self::Source(_) | Self::Block(_) => Status::invalid_argument(message),
        }
    }
}
