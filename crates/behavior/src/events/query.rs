//! The query that brings the events of each customer together.

use super::check::check_columns;
use super::collect::{Collect, PerCustomer};
use super::functions::{hash, kind, microseconds, millionths};
use super::kinds::Kinds;
use super::rows::Columns;
use crate::columns::query_error;
use crate::day::midnight;
use crate::error::BehaviorError;
use crate::history::Duplicates;
use crate::identity::{self, Links};
use datafusion::dataframe::DataFrame;
use datafusion::error::Result;
use datafusion::logical_expr::Partitioning;
use datafusion::prelude::{Expr, ident, lit};
use shoal_domain::events::{EventKind, EventsSpec};
use std::sync::Arc;

/// Customers under another name than any column of a log has.
const CUSTOMER: &str = "customer of the event";

/// The events of a log that count, and whose they are.
pub(crate) struct Query<'a> {
    spec: &'a EventsSpec,
    path: &'a str,
    /// Before `as_of`, all columns.
    log: DataFrame,
    /// Microseconds since 1970.
    pub(crate) as_of: i64,
    /// Where cookies are stitched to customers.
    pub(crate) links: Option<Arc<Links>>,
}

impl<'a> Query<'a> {
    /// Checks the columns, and finds out who is who where the log has cookies.
    pub(crate) async fn new(log: DataFrame, spec: &'a EventsSpec, path: &'a str) -> Result<Self, BehaviorError> {
        let as_of = as_of(spec)?;
        check_columns(&log, spec, path)?;
        let log = before(log, spec, as_of).map_err(query_error(path))?;
        let links = match &spec.anonymous {
            Some(cookie) => Some(Arc::new(identity::links(&log, spec, cookie, path).await?)),
            None => None,
        };
        Ok(Self { spec, path, log, as_of, links })
    }

    /// How repetitions are known.
    pub(crate) fn duplicates(&self) -> Duplicates {
        let within = self.spec.near_duplicate_seconds.map(|seconds| (seconds * 1e6) as i64);
        Duplicates { by_message: self.spec.message.is_some(), within }
    }

    /// Rows of the log.
    pub(crate) fn log(&self) -> &DataFrame {
        &self.log
    }

    /// The customer, and what is made of their events, ascending by customer. `item` is what events are about, as a number. Without
    /// stitching, the events of nobody are a customer whose id is null.
    pub(crate) fn customers(&self, item: Option<Expr>, made: impl PerCustomer) -> Result<DataFrame, BehaviorError> {
        let columns = Columns {
            orders: self.spec.order.is_some() || self.spec.amount.is_some(),
            items: item.is_some(),
            messages: self.spec.message.is_some(),
        };
        let n_partitions = self.log.task_ctx().session_config().target_partitions();
        let is_somebody = if self.links.is_some() { ident(CUSTOMER).is_not_null() } else { lit(true) };
        let customer = || ident(CUSTOMER);
        let columns_of_events = self.recoded(item, columns);
        let aggregate = |events: &DataFrame| {
            let arguments = events.schema().columns().iter().skip(1).map(|column| ident(column.name())).collect();
            Collect::aggregate(columns, made).call(arguments).alias("made")
        };
        // Brought together before they are aggregated: an aggregate that begins before would keep every customer in every partition.
        self.log
            .clone()
            .select(columns_of_events)
            .and_then(|events| events.filter(is_somebody))
            .and_then(|events| events.repartition(Partitioning::Hash(vec![customer()], n_partitions)))
            .and_then(|events| {
                let aggregate = aggregate(&events);
                events.aggregate(vec![customer()], vec![aggregate])
            })
            .and_then(|customers| customers.sort(vec![customer().sort(true, true)]))
            .map_err(query_error(self.path))
    }

    /// The customer, and then what [`Collect`] takes.
    fn recoded(&self, item: Option<Expr>, columns: Columns) -> Vec<Expr> {
        let spec = self.spec;
        let nothing = || lit(0i64);
        let hashed = |column: &Option<String>| column.as_ref().map_or_else(nothing, |column| hash(ident(column)));
        let amount = || spec.amount.as_ref().map_or_else(nothing, |column| millionths(ident(column)));
        let customer = match (&self.links, &spec.anonymous) {
            (Some(links), Some(cookie)) => identity::person(Arc::clone(links), spec, cookie),
            _ => ident(&spec.customer),
        };
        let mut expressions = vec![customer.alias(CUSTOMER)];
        expressions.extend([microseconds(ident(&spec.time)).alias("time"), kind_column(spec).alias("kind")]);
        if columns.orders {
            expressions.extend([hashed(&spec.order).alias("order"), amount().alias("amount")]);
        }
        expressions.extend(item.map(|item| item.alias("item")));
        if columns.messages {
            expressions.push(hashed(&spec.message).alias("message"));
        }
        expressions
    }
}

/// The job's day, as a time.
pub(super) fn as_of(spec: &EventsSpec) -> Result<i64, BehaviorError> {
    let wrong = || BehaviorError::AsOf { field: "source.events.as_of", value: spec.as_of.clone() };
    midnight(&spec.as_of).ok_or_else(wrong)
}

/// Events before a point in time, and those of which it is not known when they were.
pub(super) fn before(log: DataFrame, spec: &EventsSpec, as_of: i64) -> Result<DataFrame> {
    let time = || microseconds(ident(&spec.time));
    log.filter(time().lt(lit(as_of)).or(time().is_null()))
}

/// Numbers of kinds.
pub(super) fn kind_column(spec: &EventsSpec) -> Expr {
    match (&spec.kind, spec.every) {
        (Some(column), _) => kind(ident(column), Kinds::new(&spec.kinds)),
        (None, every) => lit(every.unwrap_or(EventKind::Other) as i64),
    }
}
