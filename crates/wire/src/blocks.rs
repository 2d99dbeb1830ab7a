//! Cuts a stream of record batches into blocks.
//!
//! Batches come as `id, feature, .., feature, weight?`, in any lengths; blocks leave with [`BLOCK_ROWS`] rows each, the
//! last one with the rest. What a model cannot use (an infinite value, an id that is null, a negative weight) stops here,
//! named by row and column; missing values go on as NaN, for the job's policy to decide.

use crate::uncut::{BlockColumns, UncutBlock};
use arrow::array::ArrayRef;
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, SchemaRef};
use arrow::error::ArrowError;
use arrow::record_batch::RecordBatch;
use shoal_domain::{BLOCK_ROWS, BlockId, DomainError, FeatureNames, RawBlock};
use std::sync::Arc;
use thiserror::Error;

/// Why rows could not become blocks.
#[derive(Debug, Error)]
pub enum BlockError {
    /// A column has another type than promised.
    #[error("column `{column}` is {actual}, but {wanted} is needed")]
    ColumnType {
        /// The column.
        column: String,
        /// Its type.
        actual: String,
        /// What is needed.
        wanted: &'static str,
    },
    /// A job has fewer silhouettes than labels.
    #[error("there are fewer silhouettes than labels")]
    FewSilhouettes,
    /// The id column has the name of a column that labels have beside it.
    #[error("column `{column}`: an id cannot have this name, since labels.parquet has a column of that name")]
    ReservedName {
        /// The column.
        column: String,
    },
    /// A stream needs an id column and at least one feature.
    #[error("{n_columns} columns do not hold an id and a feature")]
    TooFewColumns {
        /// Columns there are.
        n_columns: usize,
    },
    /// A row has no id.
    #[error("row {row}: the id (column `{column}`) is null")]
    NullId {
        /// The row, counted from 1.
        row: u64,
        /// The id column.
        column: String,
    },
    /// A value is infinite.
    #[error("row {row} (id {id}), column `{column}`: {value} is not a finite number")]
    NotFinite {
        /// The row, counted from 1.
        row: u64,
        /// The row's id.
        id: String,
        /// The column.
        column: String,
        /// The value.
        value: f64,
    },
    /// A weight is missing or negative.
    #[error("row {row} (id {id}), column `{column}`: {value} is not a weight; weights are 0 or more")]
    Weight {
        /// The row, counted from 1.
        row: u64,
        /// The row's id.
        id: String,
        /// The column.
        column: String,
        /// The value.
        value: f64,
    },
    /// A later batch has other columns than the first.
    #[error("the columns change within the stream: {actual} instead of {wanted}")]
    SchemaChange {
        /// Its columns.
        actual: String,
        /// The first batch's columns.
        wanted: String,
    },
    /// Arrow could not put the rows together.
    #[error(transparent)]
    Arrow(#[from] ArrowError),
    /// The values do not make a block.
    #[error(transparent)]
    Domain(#[from] DomainError),
}

/// What the columns of a data set are.
#[derive(Debug, Clone, PartialEq)]
pub struct DataSetSchema {
    /// The Arrow schema: id, features as float64, weight as float64 when there is one.
    pub arrow: SchemaRef,
    /// The features' names.
    pub features: FeatureNames,
    /// Whether the last column is a weight.
    pub has_weight: bool,
}

impl DataSetSchema {
    /// Checks names and types.
    pub fn new(arrow: SchemaRef, has_weight: bool) -> Result<Self, BlockError> {
        let n_columns = arrow.fields().len();
        if n_columns < 2 + usize::from(has_weight) {
            return Err(BlockError::TooFewColumns { n_columns });
        }
        let id = arrow.field(0);
        if matches!(id.data_type(), DataType::Dictionary(..)) {
            let (column, actual) = (id.name().clone(), id.data_type().to_string());
            return Err(BlockError::ColumnType { column, actual, wanted: "an id without dictionary" });
        }
        if ["label", "distance", "silhouette"].contains(&id.name().as_str()) {
            return Err(BlockError::ReservedName { column: id.name().clone() });
        }
        let not_a_number = |field: &&arrow::datatypes::FieldRef| *field.data_type() != DataType::Float64;
        if let Some(field) = arrow.fields()[1..].iter().find(not_a_number) {
            let (column, actual) = (field.name().clone(), field.data_type().to_string());
            return Err(BlockError::ColumnType { column, actual, wanted: "float64" });
        }
        let features = arrow.fields()[1..n_columns - usize::from(has_weight)].iter();
        let features = FeatureNames::new(features.map(|field| field.name().clone()).collect())?;
        Ok(Self { arrow, features, has_weight })
    }
}

/// A block with the ids of its rows, in the type that the source gave them.
#[derive(Debug, Clone)]
pub struct SourceBlock {
    /// Numbers.
    pub raw: RawBlock,
    /// One id a row.
    pub ids: ArrayRef,
}

impl SourceBlock {
    /// What it takes in memory.
    pub fn n_bytes(&self) -> usize {
        let n_columns = self.raw.columns().len() + usize::from(self.raw.weights().is_some());
        n_columns * self.raw.n_rows() * size_of::<f64>() + self.ids.get_array_memory_size()
    }

    /// The block as a record batch of the data set's schema, for sending.
    pub fn to_batch(&self, schema: &DataSetSchema) -> Result<RecordBatch, BlockError> {
        let float = |column: &[f64]| -> ArrayRef { Arc::new(arrow::array::Float64Array::from(column.to_vec())) };
        let columns = self.raw.columns().iter().map(|column| float(column));
        let columns = std::iter::once(self.ids.clone()).chain(columns).chain(self.raw.weights().map(float));
        Ok(RecordBatch::try_new(schema.arrow.clone(), columns.collect())?)
    }
}

/// Collects batches until they fill a block.
pub struct BlockCutter {
    columns: Arc<BlockColumns>,
    pending: Vec<RecordBatch>,
    n_pending: usize,
    next: BlockId,
}

impl BlockCutter {
    /// Starts a data set.
    pub fn new(schema: DataSetSchema) -> Result<Self, BlockError> {
        let columns = Arc::new(BlockColumns::new(schema)?);
        Ok(Self { columns, pending: Vec::new(), n_pending: 0, next: BlockId(0) })
    }

    /// Makes one block of a batch that holds exactly its rows.
    pub fn one(schema: DataSetSchema, id: BlockId, rows: &RecordBatch) -> Result<SourceBlock, BlockError> {
        let columns = Arc::new(BlockColumns::new(schema)?);
        columns.check_schema(rows)?;
        UncutBlock { columns, id, rows: rows.clone() }.cut()
    }

    /// Takes a batch and gives back the blocks that it fills.
    pub fn push(&mut self, batch: RecordBatch) -> Result<Vec<SourceBlock>, BlockError> {
        self.push_uncut(batch)?.iter().map(UncutBlock::cut).collect()
    }

    /// The last block, when rows are left over.
    pub fn finish(&mut self) -> Result<Option<SourceBlock>, BlockError> {
        self.finish_uncut()?.map(|uncut| uncut.cut()).transpose()
    }

    /// As [`BlockCutter::push`], but leaves the work on the blocks to whoever has threads for it.
    pub fn push_uncut(&mut self, batch: RecordBatch) -> Result<Vec<UncutBlock>, BlockError> {
        self.columns.check_schema(&batch)?;
        if batch.num_rows() == 0 {
            return Ok(Vec::new());
        }
        self.n_pending += batch.num_rows();
        self.pending.push(batch);
        let mut blocks = Vec::new();
        if self.n_pending >= BLOCK_ROWS {
            let rows = concat_batches(self.columns.schema(), &self.pending)?;
            let n_full = rows.num_rows() / BLOCK_ROWS;
            for idx in 0..n_full {
                blocks.push(self.uncut(rows.slice(idx * BLOCK_ROWS, BLOCK_ROWS)));
            }
            let rest = rows.slice(n_full * BLOCK_ROWS, rows.num_rows() - n_full * BLOCK_ROWS);
            self.n_pending = rest.num_rows();
            self.pending = vec![rest];
        }
        Ok(blocks)
    }

    /// As [`BlockCutter::finish`], likewise.
    pub fn finish_uncut(&mut self) -> Result<Option<UncutBlock>, BlockError> {
        if self.n_pending == 0 {
            return Ok(None);
        }
        self.n_pending = 0;
        let rows = concat_batches(self.columns.schema(), &std::mem::take(&mut self.pending))?;
        Ok(Some(self.uncut(rows)))
    }

    fn uncut(&mut self, rows: RecordBatch) -> UncutBlock {
        let id = self.next;
        self.next = BlockId(id.0 + 1);
        UncutBlock { columns: self.columns.clone(), id, rows }
    }
}
