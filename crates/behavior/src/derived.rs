//! Features that a job computes from others: of one customer's, in SQL.

use crate::columns::{kind_of, query_error};
use crate::error::BehaviorError;
use crate::events::{self, Needed};
use crate::sql::Sql;
use arrow::datatypes::DataType;
use datafusion::dataframe::DataFrame;
use datafusion::logical_expr::ExprSchemable;
use datafusion::prelude::{cast, ident};
use shoal_domain::events::EventsSpec;
use shoal_domain::job::SourceSpec;
use std::collections::BTreeSet;

const TAKEN: &str = "is the name of another column of the features";

fn all(spec: &SourceSpec) -> impl Iterator<Item = Sql<'_>> {
    Sql::all("source.derive", &spec.derive)
}

/// The features of events to be made: those that are listed or, where some of these are derived, what they are derived from. None where
/// nothing is listed. What is no feature is found out when the expression is read.
pub(crate) fn needed(spec: &SourceSpec, events: &EventsSpec) -> Result<Option<Needed>, BehaviorError> {
    if let Some(derived) = all(spec).find(|derived| events::is_feature_of(events, derived.name)) {
        return Err(derived.wrong(TAKEN));
    }
    let Some(listed) = &spec.features else { return Ok(None) };
    let is_listed = |derived: &Sql<'_>| listed.iter().any(|feature| feature == derived.name);
    let mut names: Vec<String> = listed.iter().filter(|name| !spec.derive.contains_key(*name)).cloned().collect();
    let mut sources = BTreeSet::new();
    for derived in all(spec).filter(is_listed) {
        sources.extend(derived.columns()?);
    }
    let cells = sources.contains(events::CELL);
    if cells {
        sources.extend(["recency_score", "frequency_score"].map(str::to_owned));
    }
    sources.retain(|source| events::is_feature_of(events, source) && !names.contains(source));
    names.extend(sources);
    Ok(Some(Needed { names, cells }))
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
            return Err(derived.wrong(TAKEN));
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
    let is_other = |name: &&String| spec.features.is_none() && !made.contains(name);
    let others = schema.fields().iter().skip(1).map(|field| field.name()).filter(is_other);
    let columns = std::iter::once(schema.field(0).name()).chain(&names).chain(others);
    let table = wide.select(columns.map(ident).collect::<Vec<_>>()).map_err(query_error(&spec.path))?;
    Ok((table, names))
}
