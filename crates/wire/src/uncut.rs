//! Rows of a block before anybody has looked at them: what cutting them out of a stream leaves to be done, on any thread.

use crate::blocks::{BlockError, DataSetSchema, SourceBlock};
use crate::ids::hash_of;
use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{Float64Type, SchemaRef};
use arrow::record_batch::RecordBatch;
use arrow::row::{RowConverter, SortField};
use arrow::util::display::array_value_to_string;
use shoal_domain::{BlockId, RawBlock};
use std::sync::Arc;

/// The columns of a data set, and how its ids are read.
pub(crate) struct BlockColumns {
    schema: DataSetSchema,
    converter: RowConverter,
}

impl BlockColumns {
    pub(crate) fn new(schema: DataSetSchema) -> Result<Self, BlockError> {
        let converter = RowConverter::new(vec![SortField::new(schema.arrow.field(0).data_type().clone())])?;
        Ok(Self { schema, converter })
    }

    pub(crate) fn schema(&self) -> &SchemaRef {
        &self.schema.arrow
    }

    pub(crate) fn check_schema(&self, batch: &RecordBatch) -> Result<(), BlockError> {
        let types = |schema: &SchemaRef| {
            let fields = schema.fields().iter();
            fields.map(|field| format!("{} {}", field.name(), field.data_type())).collect::<Vec<_>>().join(", ")
        };
        let (actual, wanted) = (types(&batch.schema()), types(self.schema()));
        (actual == wanted).then_some(()).ok_or(BlockError::SchemaChange { actual, wanted })
    }
}

/// Rows that become a block.
pub struct UncutBlock {
    pub(crate) columns: Arc<BlockColumns>,
    pub(crate) id: BlockId,
    pub(crate) rows: RecordBatch,
}

impl UncutBlock {
    /// Checks the rows and makes the block.
    pub fn cut(&self) -> Result<SourceBlock, BlockError> {
        self.cut_and_hash(&mut None)
    }

    /// The same, with a hash of each id.
    pub fn cut_with_ids(&self) -> Result<(SourceBlock, Vec<u64>), BlockError> {
        let mut hashes = Some(Vec::with_capacity(self.rows.num_rows()));
        let block = self.cut_and_hash(&mut hashes)?;
        Ok((block, hashes.unwrap_or_default()))
    }

    fn cut_and_hash(&self, hashes: &mut Option<Vec<u64>>) -> Result<SourceBlock, BlockError> {
        let (rows, schema) = (&self.rows, &self.columns.schema);
        let ids = rows.column(0).clone();
        let row_number = |row: usize| self.id.first_row() + row as u64 + 1;
        let column_name = |column: usize| schema.arrow.field(column).name().clone();
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
        let weights = if schema.has_weight { columns.pop() } else { None };
        if let Some((row, value)) =
            weights.iter().flatten().enumerate().find(|(_, weight)| weight.is_nan() || **weight < 0.0)
        {
            let column = column_name(rows.num_columns() - 1);
            return Err(BlockError::Weight { row: row_number(row), id: id_of(row), column, value: *value });
        }
        let digest = self.digest(&ids, &columns, weights.as_deref(), hashes)?;
        let raw = RawBlock::new(self.id, columns, weights, digest)?;
        Ok(SourceBlock { raw, ids })
    }

    /// BLAKE3 over the ids, in Arrow's row format, and the bits of all numbers, column after column.
    fn digest(
        &self,
        ids: &ArrayRef,
        columns: &[Vec<f64>],
        weights: Option<&[f64]>,
        hashes: &mut Option<Vec<u64>>,
    ) -> Result<[u8; 32], BlockError> {
        // All bytes first: hashed piece by piece they would keep one lane of the hash busy, together they keep eight.
        let mut bytes = Vec::with_capacity(ids.len() * size_of::<f64>() * (columns.len() + 3));
        for row in self.columns.converter.convert_columns(std::slice::from_ref(ids))?.iter() {
            bytes.extend_from_slice(row.as_ref());
            if let Some(hashes) = hashes {
                hashes.push(hash_of(row.as_ref()));
            }
        }
        for column in columns.iter().map(Vec::as_slice).chain(weights) {
            let first = bytes.len();
            bytes.resize(first + size_of_val(column), 0);
            for (bytes, value) in bytes[first..].as_chunks_mut().0.iter_mut().zip(column) {
                // One bit pattern for all NaNs: a missing value is a missing value.
                *bytes = if value.is_nan() { f64::NAN } else { *value }.to_le_bytes();
            }
        }
        Ok(blake3::hash(&bytes).into())
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
