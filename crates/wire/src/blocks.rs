//! Cuts a stream of record batches into blocks.
//!
//! Batches come as `id, feature, .., feature, weight?`, in any lengths; blocks leave with [`BLOCK_ROWS`] rows each, the
//! last one with the rest. What a model cannot use (an infinite value, an id that is null, a negative weight) stops here,
//! named by row and column; missing values go on as NaN, for the job's policy to decide.

use crate::ids::IdCounter;
use arrow::array::{Array, ArrayRef, AsArray};
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Float64Type, SchemaRef};
use arrow::error::ArrowError;
use arrow::record_batch::RecordBatch;
use arrow::row::{RowConverter, SortField};
use arrow::util::display::array_value_to_string;
use shoal_domain::{BLOCK_ROWS, BlockId, DomainError, FeatureNames, RawBlock};
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
        let float =
            |column: &[f64]| -> ArrayRef { std::sync::Arc::new(arrow::array::Float64Array::from(column.to_vec())) };
        let columns = self.raw.columns().iter().map(|column| float(column));
        let columns = std::iter::once(self.ids.clone()).chain(columns).chain(self.raw.weights().map(float));
        Ok(RecordBatch::try_new(schema.arrow.clone(), columns.collect())?)
    }
}

/// Collects batches until they fill a block.
pub struct BlockCutter {
    schema: DataSetSchema,
    converter: RowConverter,
    pending: Vec<RecordBatch>,
    n_pending: usize,
    next: BlockId,
    ids: Option<IdCounter>,
}

impl BlockCutter {
    /// Starts a data set.
    pub fn new(schema: DataSetSchema) -> Result<Self, BlockError> {
        let converter = RowConverter::new(vec![SortField::new(schema.arrow.field(0).data_type().clone())])?;
        Ok(Self { schema, converter, pending: Vec::new(), n_pending: 0, next: BlockId(0), ids: None })
    }

    /// Remembers ids, to tell at the end how many came again.
    pub fn counting_ids(self) -> Self {
        Self { ids: Some(IdCounter::default()), ..self }
    }

    /// Rows whose id another row had before; none where nobody was to count, or there were too many to.
    pub fn n_repeated_ids(self) -> Option<u64> {
        self.ids.and_then(IdCounter::n_repeated)
    }

    /// Makes one block of a batch that holds exactly its rows.
    pub fn one(schema: DataSetSchema, id: BlockId, rows: &RecordBatch) -> Result<SourceBlock, BlockError> {
        let mut cutter = Self::new(schema)?;
        cutter.check_schema(rows)?;
        cutter.next = id;
        cutter.cut(rows)
    }

    /// Takes a batch and gives back the blocks that it fills.
    pub fn push(&mut self, batch: RecordBatch) -> Result<Vec<SourceBlock>, BlockError> {
        self.check_schema(&batch)?;
        if batch.num_rows() == 0 {
            return Ok(Vec::new());
        }
        self.n_pending += batch.num_rows();
        self.pending.push(batch);
        let mut blocks = Vec::new();
        if self.n_pending >= BLOCK_ROWS {
            let rows = concat_batches(&self.schema.arrow, &self.pending)?;
            let n_full = rows.num_rows() / BLOCK_ROWS;
            for idx in 0..n_full {
                blocks.push(self.cut(&rows.slice(idx * BLOCK_ROWS, BLOCK_ROWS))?);
            }
            let rest = rows.slice(n_full * BLOCK_ROWS, rows.num_rows() - n_full * BLOCK_ROWS);
            self.n_pending = rest.num_rows();
            self.pending = vec![rest];
        }
        Ok(blocks)
    }

    /// The last block, when rows are left over.
    pub fn finish(&mut self) -> Result<Option<SourceBlock>, BlockError> {
        if self.n_pending == 0 {
            return Ok(None);
        }
        self.n_pending = 0;
        let rows = concat_batches(&self.schema.arrow, &std::mem::take(&mut self.pending))?;
        self.cut(&rows).map(Some)
    }

    fn check_schema(&self, batch: &RecordBatch) -> Result<(), BlockError> {
        let types = |schema: &SchemaRef| {
            let fields = schema.fields().iter();
            fields.map(|field| format!("{} {}", field.name(), field.data_type())).collect::<Vec<_>>().join(", ")
        };
        let (actual, wanted) = (types(&batch.schema()), types(&self.schema.arrow));
        (actual == wanted).then_some(()).ok_or(BlockError::SchemaChange { actual, wanted })
    }

    fn cut(&mut self, rows: &RecordBatch) -> Result<SourceBlock, BlockError> {
        let ids = rows.column(0).clone();
        let row_number = |row: usize| self.next.first_row() + row as u64 + 1;
        let column_name = |column: usize| self.schema.arrow.field(column).name().clone();
        if let Some(row) = (0..ids.len()).find(|row| ids.is_null(*row)) {
            return Err(BlockError::NullId { row: row_number(row), column: column_name(0) });
        }
        let id_of = |row: usize| array_value_to_string(&ids, row).unwrap_or_default();
        let mut columns: Vec<Vec<f64>> = rows.columns()[1..].iter().map(floats).collect();
        for (column, values) in columns.iter().enumerate() {
            if let Some(row) = values.iter().position(|value| value.is_infinite()) {
                let (column, value) = (column_name(column + 1), values[row]);
                return Err(BlockError::NotFinite { row: row_number(row), id: id_of(row), column, value });
            }
        }
        let weights = if self.schema.has_weight { columns.pop() } else { None };
        if let Some((row, value)) =
            weights.iter().flatten().enumerate().find(|(_, weight)| weight.is_nan() || **weight < 0.0)
        {
            let column = column_name(rows.num_columns() - 1);
            return Err(BlockError::Weight { row: row_number(row), id: id_of(row), column, value: *value });
        }
        let digest = self.digest(&ids, &columns, weights.as_deref())?;
        let raw = RawBlock::new(self.next, columns, weights, digest)?;
        self.next = BlockId(self.next.0 + 1);
        Ok(SourceBlock { raw, ids })
    }

    /// BLAKE3 over the ids, in Arrow's row format, and the bits of all numbers, column after column.
    fn digest(
        &mut self,
        ids: &ArrayRef,
        columns: &[Vec<f64>],
        weights: Option<&[f64]>,
    ) -> Result<[u8; 32], BlockError> {
        let mut hasher = blake3::Hasher::new();
        for row in self.converter.convert_columns(std::slice::from_ref(ids))?.iter() {
            hasher.update(row.as_ref());
            if let Some(ids) = &mut self.ids {
                ids.add(row.as_ref());
            }
        }
        let mut bytes = Vec::with_capacity(ids.len() * size_of::<f64>());
        for column in columns.iter().map(Vec::as_slice).chain(weights) {
            bytes.clear();
            // One bit pattern for all NaNs: a missing value is a missing value.
            bytes.extend(column.iter().flat_map(|value| if value.is_nan() { f64::NAN } else { *value }.to_le_bytes()));
            hasher.update(&bytes);
        }
        Ok(hasher.finalize().into())
    }
}

/// Float64 values, nulls as NaN.
fn floats(column: &ArrayRef) -> Vec<f64> {
    let column = column.as_primitive::<Float64Type>();
    match column.null_count() {
        0 => column.values().to_vec(),
        _ => column.iter().map(|value| value.unwrap_or(f64::NAN)).collect(),
    }
}
