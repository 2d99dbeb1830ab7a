//! The query that brings the events of each customer together.

use super::check::check_columns;
use super::collect::PerCustomer;
use super::customers::Customers;
use super::functions::{hash, kind, microseconds, millionths};
use super::kinds::Kinds;
use super::rows::Columns;
use crate::columns::query_error;
use crate::day::midnight;
use crate::error::BehaviorError;
use crate::history::Duplicates;
use crate::identity::{self, Links};
use arrow::datatypes::{DataType, TimeUnit};
use datafusion::dataframe::DataFrame;
use datafusion::error::Result;
use datafusion::prelude::{Expr, cast, ident, lit};
use datafusion::scalar::ScalarValue;
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

    /// What is made of the events of each customer. `item` is what events are about, as a number.
    pub(crate) async fn customers(
        &self,
        item: Option<Expr>,
        made: impl PerCustomer,
    ) -> Result<Customers, BehaviorError> {
        let columns = Columns {
            sequence: self.spec.sequence.is_some(),
            orders: self.spec.order.is_some() || self.spec.amount.is_some(),
            items: item.is_some(),
            messages: self.spec.message.is_some(),
        };
        let failed = query_error(self.path);
        let events = self.log.clone().select(self.recoded(item, columns)).map_err(&failed)?;
        // With cookies, events of nobody have been counted before.
        let events = match self.links.is_some() {
            true => events.filter(ident(CUSTOMER).is_not_null()).map_err(&failed)?,
            false => events,
        };
        Customers::new(events, columns, made).await.map_err(failed)
    }

    /// The customer, and then what the aggregate takes.
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
        expressions.extend(spec.sequence.iter().map(|column| cast(ident(column), DataType::Int64).alias("sequence")));
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
    let as_of = lit(ScalarValue::TimestampMicrosecond(Some(as_of), None));
    // A column of times is compared as it is, so that files may leave out what is later.
    let time = match log.schema().as_arrow().field_with_name(&spec.time)?.data_type() {
        DataType::Timestamp(TimeUnit::Microsecond, None) => ident(&spec.time),
        _ => cast(microseconds(ident(&spec.time)), DataType::Timestamp(TimeUnit::Microsecond, None)),
    };
    log.filter(time.clone().lt(as_of).or(time.is_null()))
}

/// Numbers of kinds.
pub(super) fn kind_column(spec: &EventsSpec) -> Expr {
    match (&spec.kind, spec.every) {
        (Some(column), _) => kind(ident(column), Kinds::new(&spec.kinds)),
        (None, every) => lit(every.unwrap_or(EventKind::Other) as i64),
    }
}
