//! Features that a job computes from others: of one customer's, in SQL.

use crate::columns::{kind_of, query_error};
use crate::error::BehaviorError;
use crate::sql::Sql;
use arrow::datatypes::DataType;
use datafusion::dataframe::DataFrame;
use datafusion::logical_expr::ExprSchemable;
use datafusion::prelude::{cast, ident};
use shoal_domain::job::SourceSpec;
use std::collections::BTreeSet;

fn all(spec: &SourceSpec) -> impl Iterator<Item = Sql<'_>> {
    Sql::all("source.derive", &spec.derive)
}

/// The features to be made: those that are listed or, where some of these are derived, what they are derived from. None where nothing
/// is listed.
pub(crate) fn needed(spec: &SourceSpec) -> Result<Option<Vec<String>>, BehaviorError> {
    let Some(listed) = &spec.features else { return Ok(None) };
    let is_listed = |derived: &Sql<'_>| listed.iter().any(|feature| feature == derived.name);
    let mut names: Vec<String> = listed.iter().filter(|name| !spec.derive.contains_key(*name)).cloned().collect();
    let mut sources = BTreeSet::new();
    for derived in all(spec).filter(is_listed) {
        sources.extend(derived.columns()?);
    }
    sources.retain(|source| !names.contains(source));
    names.extend(sources);
    Ok(Some(names))
}

/// The table with the derived features behind the others, or the listed ones in their order; the id stays first and what is no feature
/// last.
pub(crate) fn with_derived(
    table: DataFrame,
    made: &[String],
    spec: &SourceSpec,
) -> Result<(DataFrame, Vec<String>), BehaviorError> {
    if spec.derive.is_empty() {
        return Ok((table, made.to_vec()));
    }
    let schema = table.schema().as_arrow().clone();
    let mut wide = table.clone();
    for derived in all(spec) {
        if schema.field_with_name(derived.name).is_ok() {
            return Err(derived.wrong("is the name of another column of the features"));
        }
        if spec.features.as_ref().is_some_and(|listed| listed.iter().all(|name| name != derived.name)) {
            continue;
        }
        let value = derived.of_row(&table)?;
        let data_type = value.get_type(table.schema()).map_err(|error| derived.wrong(error.strip_backtrace()))?;
        if !(data_type.is_numeric() || data_type == DataType::Boolean) {
            return Err(derived.wrong(format!("must be a number, and is {}", kind_of(&data_type))));
        }
        wide = wide.with_column(derived.name, cast(value, DataType::Float64)).map_err(query_error(&spec.path))?;
    }
    let names = match &spec.features {
        Some(listed) => listed.clone(),
        None => made.iter().chain(spec.derive.keys()).cloned().collect(),
    };
    let others = schema.fields().iter().skip(1).map(|field| field.name()).filter(|name| !made.contains(name));
    let columns = std::iter::once(schema.field(0).name()).chain(&names).chain(others);
    let table = wide.select(columns.map(ident).collect::<Vec<_>>()).map_err(query_error(&spec.path))?;
    Ok((table, names))
}
