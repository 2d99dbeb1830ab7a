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

/// The silhouettes of rows as one more column of their labels, or no such column.
pub struct SilhouetteColumn {
    /// The silhouettes that are left, in the order of the labels; none at all where they are undefined.
    rest: Option<std::vec::IntoIter<f64>>,
    is_wanted: bool,
}

impl SilhouetteColumn {
    /// Silhouettes of all rows in the order in which their labels will come; none where they are undefined.
    pub fn new(is_wanted: bool, silhouettes: Option<Vec<f64>>) -> Self {
        Self { rest: silhouettes.map(Vec::into_iter), is_wanted }
    }

    /// The columns of labels with this one.
    pub fn schema(&self, labels: &Schema) -> SchemaRef {
        let silhouette = self.is_wanted.then(|| Arc::new(Field::new("silhouette", DataType::Float64, true)));
        Arc::new(Schema::new(labels.fields().iter().cloned().chain(silhouette).collect::<Vec<_>>()))
    }

    fn next(&mut self, n: usize) -> Result<Float64Array, BlockError> {
        let Some(rest) = &mut self.rest else {
            return Ok(Float64Array::new_null(n));
        };
        let next: Float64Array = rest.take(n).map(Some).collect();
        if next.len() == n { Ok(next) } else { Err(BlockError::FewSilhouettes) }
    }

    /// Puts the next silhouettes beside the next labels.
    pub fn put_beside(&mut self, labels: &RecordBatch) -> Result<RecordBatch, BlockError> {
        let mut columns = labels.columns().to_vec();
        if self.is_wanted {
            columns.push(Arc::new(self.next(labels.num_rows())?));
        }
        Ok(RecordBatch::try_new(self.schema(labels.schema_ref()), columns)?)
    }
}
