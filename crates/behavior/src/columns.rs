//! Columns that must be there, and the engine's errors with the path that they belong to.

use crate::error::BehaviorError;
use arrow::datatypes::{DataType, Schema};
use datafusion::error::DataFusionError;

/// The type of a column, or an error that lists what there is.
pub(crate) fn column_type<'a>(
    schema: &'a Schema,
    field: &'static str,
    column: &str,
    path: &str,
) -> Result<&'a DataType, BehaviorError> {
    schema.field_with_name(column).map(|field| field.data_type()).map_err(|_| {
        let names: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
        BehaviorError::NoColumn { field, path: path.to_owned(), column: column.to_owned(), available: names.join(", ") }
    })
}

/// Adds the path to an engine's error.
pub(crate) fn query_error(path: &str) -> impl Fn(DataFusionError) -> BehaviorError + '_ {
    |source| BehaviorError::Query { path: path.to_owned(), source: Box::new(source) }
}
