use thiserror::Error;

/// What makes a value impossible. Each variant names the field, column or row that was wrong.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum DomainError {
    /// The list of features is empty.
    #[error("source.features: at least one feature is needed")]
    NoFeatures,
    /// A feature is listed twice.
    #[error("source.features: `{0}` is listed twice")]
    DuplicateFeature(String),
    /// The values of a matrix do not fill `rows x columns`.
    #[error("{what}: {n_values} values do not fill {n_rows} rows of {n_features} features")]
    Shape {
        /// Which matrix.
        what: &'static str,
        /// How many values were given.
        n_values: usize,
        /// Rows expected.
        n_rows: usize,
        /// Columns expected.
        n_features: usize,
    },
    /// A block holds more rows than a block may, or none.
    #[error("block {block}: {n_rows} rows, where 1 to {max} are allowed", max = crate::BLOCK_ROWS)]
    BlockRows {
        /// The block's number.
        block: u64,
        /// Its rows.
        n_rows: usize,
    },
    /// A value that has to be a number is infinite or NaN.
    #[error("{what}: a value is not a finite number")]
    NotFinite {
        /// Where.
        what: &'static str,
    },
    /// A field of the job is missing, contradicts another one or is out of its range.
    #[error("{field}: {reason}")]
    Job {
        /// The field, as it is written in the job file.
        field: &'static str,
        /// What is wrong with it and what would be right.
        reason: &'static str,
    },
}
