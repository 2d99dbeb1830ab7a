//! Which segment each customer is in, by a run's labels.

use anyhow::{Result, anyhow};
use arrow::array::{Array, AsArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int64Type};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use std::collections::HashMap;
use std::fs::File;
use std::path::Path;

/// The label of every customer of `labels.parquet`, whose first column is the id and which has a column `label`.
pub(crate) fn segments_of(labels: &Path) -> Result<HashMap<String, i64>> {
    let failed = |error: &dyn std::fmt::Display| anyhow!("--labels: {}: {error}", labels.display());
    let file = File::open(labels).map_err(|error| failed(&error))?;
    let reader = ParquetRecordBatchReaderBuilder::try_new(file)
        .and_then(|reader| reader.build())
        .map_err(|error| failed(&error))?;
    let mut segments = HashMap::new();
    for batch in reader {
        let batch = batch.map_err(|error| failed(&error))?;
        let label = batch.column_by_name("label").ok_or_else(|| failed(&"there is no column `label`"))?;
        let ids = cast(batch.column(0), &DataType::Utf8).map_err(|error| failed(&error))?;
        if !label.data_type().is_integer() {
            return Err(failed(&"the column `label` is none of whole numbers"));
        }
        let label = cast(label, &DataType::Int64).map_err(|error| failed(&error))?;
        let (ids, label) = (ids.as_string::<i32>(), label.as_primitive::<Int64Type>());
        for row in (0..batch.num_rows()).filter(|row| ids.is_valid(*row) && label.is_valid(*row)) {
            let (id, segment) = (ids.value(row), label.value(row));
            if segments.insert(id.to_owned(), segment).is_some_and(|other| other != segment) {
                return Err(failed(&format!("customer {id} is in two segments")));
            }
        }
    }
    Ok(segments)
}
