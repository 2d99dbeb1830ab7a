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
        let (path, column, available) = (path.to_owned(), column.to_owned(), names.join("`, `"));
        // Files of countries whose decimal point is a comma are separated otherwise.
        match names.iter().any(|name| name.contains([';', '\t'])) {
            true => BehaviorError::Semicolons { path, available },
            false => BehaviorError::NoColumn { field, path, column, available },
        }
    })
}

/// What people call a type.
pub(crate) fn kind_of(data_type: &DataType) -> String {
    match data_type {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => "text".to_owned(),
        DataType::Dictionary(_, values) => kind_of(values),
        DataType::Boolean => "true or false".to_owned(),
        DataType::Date32 | DataType::Date64 => "a date".to_owned(),
        DataType::Timestamp(..) => "a time".to_owned(),
        other if other.is_numeric() => "a number".to_owned(),
        DataType::Null => "empty".to_owned(),
        other => other.to_string(),
    }
}

/// Adds the path to an engine's error.
pub(crate) fn query_error(path: &str) -> impl Fn(DataFusionError) -> BehaviorError + '_ {
    |source| BehaviorError::Query { path: path.to_owned(), source: Box::new(source) }
}
