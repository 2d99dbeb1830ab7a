//! Labels as Arrow rows: what `labels.parquet` and the labels' Flight stream hold.

use crate::blocks::BlockError;
use arrow::array::{ArrayRef, Float64Array, Int32Array, UInt32Array};
use arrow::compute::take;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use shoal_clustering::BlockLabels;
use std::sync::Arc;

/// The columns: the id as the source has it, label, distance in prepared units.
pub fn label_schema(id: &Field) -> SchemaRef {
    let label = Field::new("label", DataType::Int32, false);
    let distance = Field::new("distance", DataType::Float64, false);
    Arc::new(Schema::new(vec![Field::new(id.name(), id.data_type().clone(), false), label, distance]))
}

/// The rows of one block. `id` is the field of the ids.
pub fn label_batch(id: &Field, ids: &ArrayRef, labels: BlockLabels) -> Result<RecordBatch, BlockError> {
    let ids = match labels.kept {
        Some(kept) => take(ids, &UInt32Array::from(kept), None)?,
        None => ids.clone(),
    };
    let label: Int32Array = labels.labels.iter().map(|label| *label as i32).collect();
    let columns: Vec<ArrayRef> = vec![ids, Arc::new(label), Arc::new(Float64Array::from(labels.distances))];
    Ok(RecordBatch::try_new(label_schema(id), columns)?)
}
