//! Whether a log has the columns that a job names, and of which kind they are.

use crate::columns::{column_type, kind_of};
use crate::error::BehaviorError;
use arrow::datatypes::DataType;
use datafusion::dataframe::DataFrame;
use shoal_domain::events::EventsSpec;

/// Refuses a column that is not there, or not of its kind.
pub(super) fn check_columns(log: &DataFrame, spec: &EventsSpec, path: &str) -> Result<(), BehaviorError> {
    let schema = log.schema().as_arrow();
    let is_text = |data_type: &DataType| kind_of(data_type) == "text";
    let check = |field, column: &Option<String>, wanted, is_right: &dyn Fn(&DataType) -> bool| {
        let Some(column) = column else { return Ok(()) };
        let data_type = column_type(schema, field, column, path)?;
        let (column, actual) = (column.to_owned(), kind_of(data_type));
        is_right(data_type).then_some(()).ok_or(BehaviorError::ColumnType { field, column, actual, wanted })
    };
    let is_time = |data_type: &DataType| {
        matches!(data_type, DataType::Timestamp(..) | DataType::Date32 | DataType::Date64) || is_text(data_type)
    };
    let is_amount = |data_type: &DataType| data_type.is_numeric() || is_text(data_type);
    let is_whole = |data_type: &DataType| data_type.is_integer() || is_text(data_type);
    let any = |_: &DataType| true;
    check("source.events.customer", &Some(spec.customer.clone()), "a name", &any)?;
    check("source.events.anonymous", &spec.anonymous, "a name", &any)?;
    check("source.events.time", &Some(spec.time.clone()), "a timestamp or date", &is_time)?;
    check("source.events.sequence", &spec.sequence, "a whole number", &is_whole)?;
    check("source.events.kind", &spec.kind, "text", &is_text)?;
    check("source.events.order", &spec.order, "a name", &any)?;
    check("source.events.amount", &spec.amount, "a number", &is_amount)?;
    check("source.events.item", &spec.item, "a name", &any)?;
    check("source.events.state", &spec.state, "text", &is_text)?;
    if let Some(affinity) = &spec.affinity {
        column_type(schema, "source.events.affinity", &affinity.column, path)?;
    }
    for column in spec.plan.values().flatten() {
        column_type(schema, "source.events.plan", column, path)?;
    }
    check("source.events.message", &spec.message, "a name", &any)
}
