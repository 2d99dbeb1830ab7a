//! From the rows of a log to one row of features a customer.

use super::customers::Customers;
use super::functions::{UNKNOWN_KIND, microseconds, millionths};
use super::measured::{COUNTS, Measured};
use super::nothing::nothing_counts;
use super::quality::{DuplicateCounts, QuarantineCounts, UnknownKind};
use super::query::{Query, has_none, kind_column};
use super::table::{self, Collected};
use super::{Quality, measures, plan, wanted};
use crate::columns::query_error;
use crate::error::BehaviorError;
use crate::identity::Links;
use crate::measures::Settings;
use arrow::array::AsArray;
use arrow::compute::cast as cast_array;
use arrow::datatypes::{DataType, Int64Type};
use datafusion::dataframe::DataFrame;
use datafusion::error::Result;
use datafusion::functions::core::expr_fn::coalesce;
use datafusion::functions_aggregate::expr_fn::count;
use datafusion::logical_expr::when;
use datafusion::prelude::{cast, ident, lit};
use futures::TryStreamExt;
use shoal_domain::events::{EventKind, EventsSpec};
use std::collections::BTreeMap;

/// The features that a job lists, and what those that it derives are derived from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Needed {
    pub(crate) names: Vec<String>,
    /// Whether the names of cells are needed.
    pub(crate) cells: bool,
}

/// Features that were made of events.
pub(crate) struct Features {
    pub(crate) table: DataFrame,
    /// The numeric columns of the table.
    pub(crate) names: Vec<String>,
    pub(crate) quality: Quality,
}

/// One row a customer, ascending by id: id, the features, and the cell of recency and frequency where nothing is listed or it is needed. Held in memory.
pub(crate) async fn features(
    log: DataFrame,
    spec: &EventsSpec,
    listed: Option<&Needed>,
    path: &str,
) -> Result<Features, BehaviorError> {
    let failed = query_error(path);
    let mut names = wanted::names(spec, listed.map(|needed| needed.names.as_slice()))?;
    if wanted::is_feature(&spec.customer) {
        let (field, column) = ("source.events.customer", spec.customer.clone());
        let (actual, wanted) = ("called like a feature".to_owned(), "another name");
        return Err(BehaviorError::ColumnType { field, column, actual, wanted });
    }
    let query = Query::new(log.clone(), spec, path).await?;
    if listed.is_none() {
        names.extend(measures::most_frequent(&query).await.map_err(&failed)?);
    }
    let customers = measured(&query, &names).await?;
    let groups = customers.stream().map_err(&failed)?.try_collect().await.map_err(&failed)?;
    let collected = Collected::new(groups, &spec.customer).map_err(|error| failed(error.into()))?;
    let mut quality = quality_of(&collected, query.links.as_deref());
    quality.left_out = left_out(&query).await.map_err(&failed)?;
    quality.n_rows += quality.left_out.values().sum::<u64>();
    if quality.n_customers == 0 {
        return Err(nothing_counts(log, spec, path, &quality).await);
    }
    if quality.n_unknown_kinds > 0 {
        quality.unknown_kinds = unknown_kinds(query.log(), spec).await.map_err(&failed)?;
    }
    let measures = measures::values(&query, &names).await?;
    let table = table::features(&collected, &measures, &names, listed.is_none_or(|needed| needed.cells), path)?;
    Ok(Features { table, names, quality })
}

/// The query behind the features of events.
async fn measured(query: &Query<'_>, names: &[String]) -> Result<Customers, BehaviorError> {
    let families = wanted::families(query.spec(), names);
    let (duplicates, settings, as_of) = (query.duplicates(), Settings::of(query.spec()), query.as_of);
    query.customers(None, Measured { duplicates, families, settings, as_of }).await
}

/// How the query engine goes about it, a line for each step, the last one first. Where there are cookies, it is found out who is who
/// on the way.
pub(crate) async fn explained(
    log: DataFrame,
    spec: &EventsSpec,
    listed: Option<&Needed>,
    path: &str,
) -> Result<String, BehaviorError> {
    let names = wanted::names(spec, listed.map(|needed| needed.names.as_slice()))?;
    let query = Query::new(log, spec, path).await?;
    Ok(measured(&query, &names).await?.explained())
}

fn quality_of(collected: &Collected, links: Option<&Links>) -> Quality {
    let [n_events, message, near, of_nobody, no_time, no_amount, against_plan, n_unknown_kinds] =
        COUNTS.map(|count| collected.sum(count));
    let no_customer = links.map_or(of_nobody, Links::n_of_nobody);
    let identity = links.map(Links::counts);
    let n_visitor_events = identity.map_or(0, |identity| identity.n_visitor_events);
    let duplicates = DuplicateCounts { message, near };
    let quarantined = QuarantineCounts { no_customer, no_time, no_amount, against_plan };
    let n_rows = n_events + message + near + quarantined.sum() + n_visitor_events;
    let n_customers = collected.n_customers();
    let unknown_kinds = Vec::new();
    let left_out = BTreeMap::new();
    Quality {
        n_customers,
        n_rows,
        n_events,
        duplicates,
        quarantined,
        left_out,
        n_unknown_kinds,
        unknown_kinds,
        identity,
    }
}

/// Rows that each rule leaves out, those of several under the first.
async fn left_out(query: &Query<'_>) -> Result<BTreeMap<String, u64>> {
    let mut counts = BTreeMap::new();
    let [(first, holds), others @ ..] = query.rules() else { return Ok(counts) };
    let mut rule = when(holds.clone(), lit(*first));
    others.iter().for_each(|(name, holds)| drop(rule.when(holds.clone(), lit(*name))));
    let by_rule =
        query.all().clone().aggregate(vec![rule.end()?.alias("rule")], vec![count(lit(1)).alias("n_rows")])?;
    for batch in by_rule.collect().await? {
        let (rules, n_rows) = (cast_array(batch.column(0), &DataType::Utf8)?, batch.column(1));
        let n_rows = n_rows.as_primitive::<Int64Type>().values();
        let named = rules.as_string::<i32>().iter().zip(n_rows);
        counts.extend(named.filter_map(|(rule, n_rows)| Some((rule?.to_owned(), *n_rows as u64))));
    }
    Ok(counts)
}

const NO_CUSTOMER: &str = "the customer is missing";
const NO_TIME: &str = "the time is missing, or no time";
const NO_AMOUNT: &str = "the amount of a purchase is missing, no number, or beyond 9e12";

/// Names of unknown kinds that are told.
const NAMES_TOLD: usize = 20;

/// What the log calls events of no known kind, the most frequent first.
async fn unknown_kinds(log: &DataFrame, spec: &EventsSpec) -> Result<Vec<UnknownKind>> {
    let Some(column) = &spec.kind else { return Ok(Vec::new()) };
    let name = coalesce(vec![cast(ident(column), DataType::Utf8), lit("")]).alias("name");
    let names = log.clone().filter(kind_column(spec).eq(lit(UNKNOWN_KIND)))?;
    let names = names.aggregate(vec![name], vec![count(lit(1)).alias("n_rows")])?;
    let names = names.sort(vec![ident("n_rows").sort(false, false), ident("name").sort(true, true)])?;
    let mut kinds = Vec::new();
    for batch in names.limit(0, Some(NAMES_TOLD))?.collect().await? {
        let (names, counts) = (batch.column(0).as_string::<i32>(), batch.column(1).as_primitive::<Int64Type>());
        let kind = |row: usize| UnknownKind { name: names.value(row).to_owned(), n_rows: counts.value(row) as u64 };
        kinds.extend((0..batch.num_rows()).map(kind));
    }
    Ok(kinds)
}

/// The rows of a log that say too little to be in a feature, as [`Quality`] counts them: all their columns and why, in a column `reason`
/// or, where the log has one, `reason (shoal)`.
pub(crate) async fn flawed(log: DataFrame, spec: &EventsSpec, path: &str) -> Result<DataFrame, BehaviorError> {
    let failed = query_error(path);
    let query = Query::new(log, spec, path).await?;
    let person = query.person();
    let reason = || {
        let of_nobody = match &spec.anonymous {
            Some(cookie) => has_none(query.log(), &spec.customer).and(has_none(query.log(), cookie)),
            None => has_none(query.log(), &spec.customer),
        };
        let is_known = || person.clone().is_not_null();
        // The empty rule never holds: there must be one to begin with.
        let mut reason = when(lit(false), lit(""));
        for (rule, holds) in query.rules() {
            reason.when(holds.clone(), lit(*rule));
        }
        reason.when(of_nobody, lit(NO_CUSTOMER));
        reason.when(is_known().and(microseconds(ident(&spec.time)).is_null()), lit(NO_TIME));
        for (is_broken, reason_of_plan) in plan::violations(spec, query.log()) {
            reason.when(is_known().and(is_broken), lit(reason_of_plan));
        }
        if let Some(amount) = &spec.amount {
            let is_purchase = kind_column(spec).eq(lit(EventKind::Purchase as i64));
            reason.when(is_known().and(is_purchase).and(millionths(ident(amount)).is_null()), lit(NO_AMOUNT));
        }
        reason.end()
    };
    let has_reason = query.log().schema().as_arrow().field_with_name(REASON).is_ok();
    let name = if has_reason { OTHER_REASON } else { REASON };
    let log = query.all().clone();
    log.with_column(name, reason().map_err(&failed)?)
        .and_then(|log| log.filter(ident(name).is_not_null()))
        .map_err(failed)
}

/// The column that says why a row is in quarantine, and its name in logs that have such a column themselves.
pub(super) const REASON: &str = "reason";
pub(super) const OTHER_REASON: &str = "reason (shoal)";
