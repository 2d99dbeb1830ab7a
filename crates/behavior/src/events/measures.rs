//! Features that are SQL aggregates of the events of a customer that count: those of the job's own, and affinities.

use super::query::{CUSTOMER, Query, has_none};
use crate::columns::query_error;
use crate::error::BehaviorError;
use crate::sql::{Sql, first_line};
use arrow::array::AsArray;
use arrow::datatypes::{DataType, Float64Type};
use arrow::record_batch::RecordBatch;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::error::Result;
use datafusion::functions_aggregate::expr_fn::count;
use datafusion::logical_expr::utils::find_aggregate_exprs;
use datafusion::logical_expr::when;
use datafusion::prelude::{Expr, cast, ident, lit, not};
use shoal_domain::events::EventsSpec;
use std::collections::BTreeSet;

/// What the names of affinities begin with; the category follows.
pub(super) const AFFINITY: &str = "affinity_";

/// The measures of a job.
pub(super) fn of_job(spec: &EventsSpec) -> impl Iterator<Item = Sql<'_>> {
    Sql::all("source.events.measures", &spec.measures)
}

/// The columns that they read, as far as their SQL can be read.
pub(super) fn columns(spec: &EventsSpec) -> BTreeSet<String> {
    let in_sql = of_job(spec).filter_map(|measure| measure.columns().ok()).flatten();
    in_sql.chain(spec.affinity.iter().map(|affinity| affinity.column.clone())).collect()
}

/// The category of an affinity, where the job has some.
pub(super) fn category<'a>(spec: &EventsSpec, feature: &'a str) -> Option<&'a str> {
    spec.affinity.as_ref().and_then(|_| feature.strip_prefix(AFFINITY))
}

/// The affinities of the categories with the most events, the first in order of names among equals, in the order of their names.
pub(super) async fn most_frequent(query: &Query<'_>) -> Result<Vec<String>> {
    let Some(affinity) = &query.spec().affinity else { return Ok(Vec::new()) };
    let category = cast(ident(&affinity.column), DataType::Utf8);
    let counted = query.counted()?.filter(not(has_none(query.log(), &affinity.column)))?;
    let by_category = counted.aggregate(vec![category.alias("category")], vec![count(lit(1)).alias("n_events")])?;
    let order = vec![ident("n_events").sort(false, false), ident("category").sort(true, true)];
    let mut names = Vec::new();
    for batch in by_category.sort(order)?.limit(0, Some(affinity.top))?.collect().await? {
        names.extend(batch.column(0).as_string::<i32>().iter().flatten().map(|name| format!("{AFFINITY}{name}")));
    }
    names.sort();
    Ok(names)
}

/// Those of the wanted features that are such aggregates: one row a customer, ascending by id, the id first. Empty where there are
/// none.
pub(super) async fn values(query: &Query<'_>, names: &[String]) -> Result<Vec<RecordBatch>, BehaviorError> {
    let spec = query.spec();
    let failed = query_error(query.path());
    let counted = query.counted().map_err(&failed)?;
    let mut measures = Vec::new();
    let wanted: Vec<Sql<'_>> = of_job(spec).filter(|measure| names.iter().any(|name| name == measure.name)).collect();
    for measure in &wanted {
        measures.push((measure.name, measure.of_customer(&counted)?));
    }
    if let Some(affinity) = &spec.affinity {
        let categories = names.iter().filter_map(|name| Some((name.as_str(), category(spec, name)?)));
        for (name, category) in categories {
            let share = share_of(query, &affinity.column, category).map_err(&failed)?;
            measures.push((name, share));
        }
    }
    if measures.is_empty() {
        return Ok(Vec::new());
    }
    // The engine aggregates in one step, and computes with what comes of it in another.
    let aggregates = find_aggregate_exprs(measures.iter().map(|(_, measure)| measure));
    let mut columns = vec![ident(CUSTOMER)];
    for (name, measure) in measures {
        columns.push(of_aggregated(measure, &aggregates).map_err(&failed)?.alias(name));
    }
    let named = aggregates.iter().enumerate().map(|(idx, aggregate)| aggregate.clone().alias(aggregate_name(idx)));
    let by_customer = counted
        .aggregate(vec![ident(CUSTOMER)], named.collect())
        .and_then(|aggregated| aggregated.select(columns))
        .and_then(|measured| measured.sort(vec![ident(CUSTOMER).sort(true, true)]))
        .map_err(&failed)?;
    // Which of them it is, the engine does not say; the job's own are what can fail.
    let own = wanted.iter().map(|measure| measure.name).collect::<Vec<_>>().join(", ");
    let told = |error| match wanted.first() {
        Some(first) => Sql { name: &own, ..*first }.wrong(first_line(&error)),
        None => failed(error),
    };
    let values = by_customer.collect().await.map_err(told)?;
    for name in names.iter().filter(|name| category(spec, name).is_some()) {
        let column = |batch: &RecordBatch| batch.column_by_name(name).cloned();
        let is_there = values
            .iter()
            .filter_map(column)
            .any(|shares| shares.as_primitive::<Float64Type>().iter().flatten().any(|share| share > 0.0));
        if !is_there {
            let (field, name, reason) = ("source.features", name.clone(), "no event has this category".to_owned());
            return Err(BehaviorError::Sql { field, name, reason });
        }
    }
    Ok(values)
}

/// The share of a customer's events with a category that have this one; null without any.
fn share_of(query: &Query<'_>, column: &str, category: &str) -> Result<Expr> {
    let one_if = |holds: Expr| when(holds, lit(1i64)).end();
    let has_any = || not(has_none(query.log(), column));
    let n_any = || Ok::<_, datafusion::error::DataFusionError>(cast(count(one_if(has_any())?), DataType::Float64));
    let is_it = has_any().and(cast(ident(column), DataType::Utf8).eq(lit(category)));
    let n_of_it = cast(count(one_if(is_it)?), DataType::Float64);
    when(n_any()?.gt(lit(0.0)), n_of_it / n_any()?).end()
}

fn aggregate_name(idx: usize) -> String {
    format!("aggregate {idx}")
}

/// A measure over the columns of aggregates.
fn of_aggregated(measure: Expr, aggregates: &[Expr]) -> Result<Expr> {
    let computed = measure.transform_down(|part| {
        Ok(match aggregates.iter().position(|aggregate| *aggregate == part) {
            Some(idx) => Transformed::yes(ident(aggregate_name(idx))),
            None => Transformed::no(part),
        })
    });
    Ok(computed?.data)
}
