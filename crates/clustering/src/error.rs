use shoal_domain::DomainError;
use thiserror::Error;

/// Why a clustering could not be done.
#[derive(Debug, Error)]
pub enum ClusteringError {
    /// A value was impossible.
    #[error(transparent)]
    Domain(#[from] DomainError),
    /// The data set has no rows.
    #[error("the data set has no rows")]
    NoRows,
    /// Every row had a missing value and was dropped.
    #[error("no rows are left: all {n_rows} have a missing value (prepare.missing: drop)")]
    AllDropped {
        /// Rows before.
        n_rows: u64,
    },
    /// There are fewer rows than clusters.
    #[error("kmeans.n_clusters is {n_clusters}, but the data set has only {n_samples} rows")]
    TooFewRows {
        /// Clusters asked for.
        n_clusters: usize,
        /// Rows there are.
        n_samples: u64,
    },
    /// All weights are 0.
    #[error("the sample weights of all rows are 0")]
    NoWeight,
    /// The weights are of a size that their exact sums are not made for.
    #[error("source.weight: the largest weight is {weight:e}; it must lie between 1e-60 and 1e60, so rescale them")]
    WeightRange {
        /// The largest weight.
        weight: f64,
    },
    /// A weight would be rounded to none beside the largest one.
    #[error("source.weight: beside the largest weight, {largest:e}, one of {least:e} would be lost; clip the weights")]
    WeightLost {
        /// The smallest weight that is not 0.
        least: f64,
        /// The largest weight.
        largest: f64,
    },
    /// Beside its largest value all others of a column would be rounded to one.
    #[error(
        "column `{column}`: its largest value is {ratio:.0e} times the distance of its quartiles, and the others would be lost beside it; clip it"
    )]
    Outlier {
        /// The column's name.
        column: String,
        /// The largest prepared value, in distances of the quartiles.
        ratio: f64,
    },
    /// A value is missing and the job says that none may be.
    #[error("row {row}, column `{column}`: the value is missing (prepare.missing can drop or fill it)")]
    Missing {
        /// The row, counted from 1.
        row: u64,
        /// The column's name.
        column: String,
    },
    /// A value is none that the preparation was fitted for.
    #[error("row {row}, column `{column}`: {value} is not within what the preparation was fitted on")]
    NotPrepared {
        /// The row, counted from 1.
        row: u64,
        /// The column's name.
        column: String,
        /// The value, NaN where it is missing.
        value: f64,
    },
    /// A value has no logarithm.
    #[error("row {row}, column `{column}`: {value} has no log1p; values must be greater than -1")]
    Log1p {
        /// The row, counted from 1.
        row: u64,
        /// The column's name.
        column: String,
        /// The value.
        value: f64,
    },
    /// A column has no values that a missing one could be filled from.
    #[error("column `{column}`: every value is missing")]
    EmptyColumn {
        /// The column's name.
        column: String,
    },
    /// Prepared values do not fit into float32.
    #[error("column `{column}`: its values are too large, or too far apart, for float32 squares; rescale it")]
    TooLarge {
        /// The column's name.
        column: String,
        /// A bound of its prepared values.
        bound: f64,
    },
    /// Prepared values are lost in float32.
    #[error("column `{column}`: values up to {bound:e} are too small; choose a prepare.scale other than none")]
    TooSmall {
        /// The column's name.
        column: String,
        /// A bound of its prepared values.
        bound: f64,
    },
    /// A warm start does not fit the job.
    #[error("kmeans.warm_start: the model has {model}, the job {job}")]
    WarmStart {
        /// What the model has.
        model: String,
        /// What the job has.
        job: String,
    },
    /// The job was cancelled between two passes.
    #[error("cancelled")]
    Cancelled,
    /// A block was asked for that is not here.
    #[error("block {block} is not here")]
    NoSuchBlock {
        /// Its number.
        block: u64,
    },
    /// The engine does not do such a job, and says why; another one may.
    #[error("{0}")]
    Refused(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The device has failed; what it is asked from now on may fail too.
    #[error("{0}")]
    DeviceFailed(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// Where the rows are could not answer.
    #[error("{0}")]
    Rows(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl ClusteringError {
    /// Wraps the error of whatever holds the rows: a file, a worker, a device.
    pub fn rows(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::Rows(error.into())
    }

    /// The error in one line, after the name of the source if it is the source's rows that are at fault.
    pub fn about(&self, source: &str) -> String {
        match self {
            Self::NoRows
            | Self::AllDropped { .. }
            | Self::TooFewRows { .. }
            | Self::NoWeight
            | Self::WeightRange { .. }
            | Self::WeightLost { .. }
            | Self::Outlier { .. }
            | Self::Missing { .. }
            | Self::NotPrepared { .. }
            | Self::Log1p { .. }
            | Self::EmptyColumn { .. }
            | Self::TooLarge { .. }
            | Self::TooSmall { .. } => format!("`{source}`: {self}"),
            _ => self.to_string(),
        }
    }
}
