//! Blocks: sets of rows fixed when the data set is written and never cut again.

use crate::DomainError;
use std::fmt;
use std::sync::Arc;

/// Rows in a block, the last one of a data set aside.
///
/// The number is part of the data format: it decides which rows are added to each other first, so a model depends on it
/// in its last bits. 1,024 rows of 16 float32 features are 64 KiB: small enough that a few thousand customers spread over
/// several workers and a block with its scratch stays in a core's cache, large enough that what a block costs on top of
/// its rows (a sum per cluster and feature, a message) does not count. At most 8,192 would do: that many grid values a
/// float64 can add without rounding (see [`crate::prepare::GRID_BITS`]).
pub const BLOCK_ROWS: usize = 1024;

/// The number of a block in its data set. Block `b` holds the rows `b * BLOCK_ROWS ..`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlockId(pub u64);

impl BlockId {
    /// The data set's row number of the block's first row, counted from 0.
    pub fn first_row(self) -> u64 {
        self.0 * BLOCK_ROWS as u64
    }
}

impl fmt::Display for BlockId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", self.0)
    }
}

/// The names of the features in column order: at least one, none twice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FeatureNames(Vec<String>);

impl FeatureNames {
    /// Checks the names.
    pub fn new(names: Vec<String>) -> Result<Self, DomainError> {
        if names.is_empty() {
            return Err(DomainError::NoFeatures);
        }
        for (idx, name) in names.iter().enumerate() {
            if names[..idx].contains(name) {
                return Err(DomainError::DuplicateFeature(name.clone()));
            }
        }
        Ok(Self(names))
    }

    /// How many features there are; never 0.
    pub fn n_features(&self) -> usize {
        self.0.len()
    }

    /// The names in column order.
    pub fn as_slice(&self) -> &[String] {
        &self.0
    }
}

/// A block as it was collected: float64 columns in the customer's units, missing values as NaN, never infinite.
#[derive(Debug, Clone)]
pub struct RawBlock {
    id: BlockId,
    n_rows: usize,
    columns: Vec<Vec<f64>>,
    weights: Option<Vec<f64>>,
    digest: [u8; 32],
}

impl RawBlock {
    /// Checks the shape of `columns` (n_features x n_rows) and that no value is infinite and no weight negative.
    /// `digest` stands for the block's rows, their ids included.
    pub fn new(
        id: BlockId,
        columns: Vec<Vec<f64>>,
        weights: Option<Vec<f64>>,
        digest: [u8; 32],
    ) -> Result<Self, DomainError> {
        let n_rows = columns.first().ok_or(DomainError::NoFeatures)?.len();
        if n_rows == 0 || n_rows > BLOCK_ROWS {
            return Err(DomainError::BlockRows { block: id.0, n_rows });
        }
        for column in columns.iter().chain(&weights) {
            if column.len() != n_rows {
                return Err(DomainError::Shape { what: "block", n_values: column.len(), n_rows, n_features: 1 });
            }
            if column.iter().any(|value| value.is_infinite()) {
                return Err(DomainError::NotFinite { what: "block" });
            }
        }
        if weights.iter().flatten().any(|weight| weight.is_nan() || *weight < 0.0) {
            return Err(DomainError::NotFinite { what: "sample weights" });
        }
        Ok(Self { id, n_rows, columns, weights, digest })
    }

    /// The block's number.
    pub fn id(&self) -> BlockId {
        self.id
    }

    /// Rows in the block.
    pub fn n_rows(&self) -> usize {
        self.n_rows
    }

    /// The columns, each of `n_rows` values.
    pub fn columns(&self) -> &[Vec<f64>] {
        &self.columns
    }

    /// One weight a row, where the data set has weights.
    pub fn weights(&self) -> Option<&[f64]> {
        self.weights.as_deref()
    }

    /// A hash of the block's rows, their ids included.
    pub fn digest(&self) -> [u8; 32] {
        self.digest
    }
}

/// A block made ready for clustering: float32 rows on the grid of their [`crate::Preparation`], nothing missing. Whoever makes one
/// sees to that; its shape is checked here.
///
/// Rows that the `drop` policy took out are gone; `kept` then says which rows of the raw block are left.
#[derive(Debug, Clone)]
pub struct Block {
    id: BlockId,
    n_rows: usize,
    n_features: usize,
    /// Holds the block's values from `start` on, and perhaps those of other blocks.
    values: Arc<Vec<f32>>,
    start: usize,
    kept: Option<Vec<u32>>,
    weights: Option<Vec<u64>>,
}

impl Block {
    /// Checks the shape of `values` (n_rows x n_features, row-major, at most [`BLOCK_ROWS`] rows) against `kept` and `weights`.
    pub fn new(
        id: BlockId,
        n_features: usize,
        values: Vec<f32>,
        kept: Option<Vec<u32>>,
        weights: Option<Vec<u64>>,
    ) -> Result<Self, DomainError> {
        let n_rows = values.len().checked_div(n_features).ok_or(DomainError::NoFeatures)?;
        let lengths = [kept.as_ref().map(Vec::len), weights.as_ref().map(Vec::len)];
        if n_rows * n_features != values.len() || lengths.into_iter().flatten().any(|length| length != n_rows) {
            return Err(DomainError::Shape { what: "block", n_values: values.len(), n_rows, n_features });
        }
        if n_rows > BLOCK_ROWS {
            return Err(DomainError::BlockRows { block: id.0, n_rows });
        }
        Ok(Self { id, n_rows, n_features, values: Arc::new(values), start: 0, kept, weights })
    }

    /// The block without its values, until [`Block::with_values`] gives them back.
    pub fn without_values(self) -> Self {
        Self { values: Arc::default(), start: 0, ..self }
    }

    /// The block with its values in `slab`, from `start` on. Panics when the slab ends before they do.
    pub fn with_values(self, slab: Arc<Vec<f32>>, start: usize) -> Self {
        assert!(start + self.n_rows * self.n_features <= slab.len(), "the slab holds the whole block");
        Self { values: slab, start, ..self }
    }

    /// Some of the block's rows, given in ascending order, as a block of the same number.
    pub fn select(&self, row_idxs: &[usize]) -> Self {
        let mut values = Vec::with_capacity(row_idxs.len() * self.n_features);
        row_idxs.iter().for_each(|row_idx| values.extend_from_slice(self.row(*row_idx)));
        let offset = |row_idx: &usize| (self.data_set_row(*row_idx) - self.id.first_row()) as u32;
        Self {
            id: self.id,
            n_rows: row_idxs.len(),
            n_features: self.n_features,
            values: Arc::new(values),
            start: 0,
            kept: Some(row_idxs.iter().map(offset).collect()),
            weights: self.weights.as_ref().map(|weights| row_idxs.iter().map(|row_idx| weights[*row_idx]).collect()),
        }
    }

    /// The block's number.
    pub fn id(&self) -> BlockId {
        self.id
    }

    /// Rows in the block; 0 when every row was dropped.
    pub fn n_rows(&self) -> usize {
        self.n_rows
    }

    /// Columns in the block.
    pub fn n_features(&self) -> usize {
        self.n_features
    }

    /// All values, n_rows x n_features, row-major.
    #[inline]
    pub fn values(&self) -> &[f32] {
        &self.values[self.start..self.start + self.n_rows * self.n_features]
    }

    /// One row, n_features values.
    #[inline]
    pub fn row(&self, row_idx: usize) -> &[f32] {
        &self.values()[row_idx * self.n_features..(row_idx + 1) * self.n_features]
    }

    /// The data set's row number of row `row_idx` of this block.
    pub fn data_set_row(&self, row_idx: usize) -> u64 {
        let offset = self.kept.as_ref().map_or(row_idx as u64, |kept| u64::from(kept[row_idx]));
        self.id.first_row() + offset
    }

    /// Which rows of the raw block are left, when some were dropped.
    pub fn kept(&self) -> Option<&[u32]> {
        self.kept.as_deref()
    }

    /// The weight of a row in units of the preparation's weight grid; 1 where the data set has no weights.
    pub fn weight(&self, row_idx: usize) -> u64 {
        self.weights.as_ref().map_or(1, |weights| weights[row_idx])
    }

    /// One weight a row, where the data set has weights.
    #[inline]
    pub fn weights(&self) -> Option<&[u64]> {
        self.weights.as_deref()
    }
}
