//! The query that brings the events of each customer together.

use super::check::check_columns;
use super::collect::PerCustomer;
use super::customers::Customers;
use super::functions::{AGAINST_PLAN, UNKNOWN_KIND, hash, kind, microseconds, millionths, whole_number};
use super::kinds::Kinds;
use super::rows::Columns;
use super::{measures, plan};
use crate::columns::{kind_of, query_error};
use crate::day::midnight;
use crate::error::BehaviorError;
use crate::history::Duplicates;
use crate::identity::{self, Links};
use crate::sql::Sql;
use arrow::datatypes::{DataType, TimeUnit};
use datafusion::dataframe::DataFrame;
use datafusion::error::Result;
use datafusion::functions::core::expr_fn::coalesce;
use datafusion::functions_window::expr_fn::row_number;
use datafusion::logical_expr::{Case, ExprFunctionExt, when};
use datafusion::prelude::{Expr, cast, ident, lit, not};
use datafusion::scalar::ScalarValue;
use shoal_domain::events::{EventKind, EventsSpec};
use std::sync::Arc;

/// Customers under another name than any column of a log has.
pub(super) const CUSTOMER: &str = "customer of the event";

/// Where a row is among those of its message.
const PLACE: &str = "place of the message";

/// The events of a log that count, and whose they are.
pub(crate) struct Query<'a> {
    spec: &'a EventsSpec,
    path: &'a str,
    /// Before `as_of`, all columns.
    all: DataFrame,
    /// Those of them that no rule leaves out.
    log: DataFrame,
    /// Names and conditions of the rules.
    rules: Vec<(&'a str, Expr)>,
    /// Microseconds since 1970.
    pub(crate) as_of: i64,
    /// Where cookies are stitched to customers.
    pub(crate) links: Option<Arc<Links>>,
}

/// The rows of a log that a job is about.
pub(super) struct Rows<'a> {
    /// Microseconds since 1970.
    as_of: i64,
    /// Before `as_of`.
    all: DataFrame,
    /// Those of them that no rule leaves out.
    pub(super) log: DataFrame,
    rules: Vec<(&'a str, Expr)>,
}

impl<'a> Query<'a> {
    /// Checks the columns, and finds out who is who where the log has cookies.
    pub(crate) async fn new(log: DataFrame, spec: &'a EventsSpec, path: &'a str) -> Result<Self, BehaviorError> {
        let Rows { as_of, all, log, rules } = Self::before(log, spec, path)?;
        let links = match &spec.anonymous {
            Some(cookie) => Some(Arc::new(identity::links(&log, spec, cookie, path).await?)),
            None => None,
        };
        Ok(Self { spec, path, all, log, rules, as_of, links })
    }

    /// Checks the columns, and finds the rows of a log that the job is about.
    pub(super) fn before(log: DataFrame, spec: &'a EventsSpec, path: &str) -> Result<Rows<'a>, BehaviorError> {
        let as_of = as_of(spec)?;
        check_columns(&log, spec, path)?;
        let all = decoded(log, spec).and_then(|log| before(log, spec, as_of)).map_err(query_error(path))?;
        let rules = Sql::all("source.events.leave_out", &spec.leave_out);
        let rules: Vec<_> =
            rules.map(|rule| Ok((rule.name, rule.holds(&all)?))).collect::<Result<_, BehaviorError>>()?;
        let log = match rules.iter().map(|(_, holds)| holds.clone()).reduce(Expr::or) {
            Some(is_left_out) => all.clone().filter(not(is_left_out)).map_err(query_error(path))?,
            None => all.clone(),
        };
        Ok(Rows { as_of, all, log, rules })
    }

    /// What the job says of its events.
    pub(super) fn spec(&self) -> &'a EventsSpec {
        self.spec
    }

    /// Where the log is.
    pub(super) fn path(&self) -> &'a str {
        self.path
    }

    /// The rows that features are made of, with whose they are. Of a message that was sent twice to one customer the first row is
    /// there, in the order of events.
    pub(super) fn counted(&self) -> Result<DataFrame> {
        let spec = self.spec;
        let has_customer = match self.links.is_some() {
            true => lit(true),
            false => not(has_none(&self.log, &spec.customer)),
        };
        let log = self.log.clone().filter(has_customer)?.with_column(CUSTOMER, self.person())?;
        let time = microseconds(ident(&spec.time));
        let kind = self.kind();
        let mut counts = ident(CUSTOMER).is_not_null().and(time.clone().is_not_null());
        counts = counts.and(kind.clone().not_eq(lit(AGAINST_PLAN)));
        let amount = spec.amount.as_ref().map(|amount| millionths(ident(amount)));
        if let Some(amount) = &amount {
            let is_purchase = kind.clone().eq(lit(EventKind::Purchase as i64));
            counts = counts.and(not(is_purchase.and(amount.clone().is_null())));
        }
        let log = log.filter(counts)?;
        let Some(message) = &spec.message else { return Ok(log) };
        // The order of events, in which nothing is 0 and an unknown kind is another one.
        let or_zero = |value: Expr| coalesce(vec![value, lit(0i64)]);
        let hashed = |column: &Option<String>| column.as_ref().map(|column| or_zero(hash(ident(column))));
        let sequence = spec.sequence.as_ref().map(|column| or_zero(whole_number(ident(column))));
        let kind = when(kind.clone().eq(lit(UNKNOWN_KIND)), lit(EventKind::Other as i64)).otherwise(kind)?;
        let order = [Some(time), sequence, Some(kind), hashed(&spec.order), amount.map(or_zero), hashed(&spec.item)];
        // Rows that are the same as events may still differ in what is measured.
        let measured = measures::columns(spec);
        let fields = self.log.schema().as_arrow().fields().iter();
        let others = fields.filter(|field| measured.contains(field.name())).map(|field| ident(field.name()));
        let order = order.into_iter().flatten().chain(others).map(|by| by.sort(true, true)).collect();
        let place = row_number().partition_by(vec![ident(CUSTOMER), hash(ident(message))]).order_by(order).build()?;
        let log = log.with_column(PLACE, place)?;
        log.filter(ident(PLACE).eq(lit(1u64)).or(hash(ident(message)).is_null()))
    }

    /// How repetitions are known.
    pub(crate) fn duplicates(&self) -> Duplicates {
        let within = self.spec.near_duplicate_seconds.map(|seconds| (seconds * 1e6) as i64);
        Duplicates { by_message: self.spec.message.is_some(), within }
    }

    /// Rows of the log that no rule leaves out.
    pub(crate) fn log(&self) -> &DataFrame {
        &self.log
    }

    /// All of its rows before `as_of`.
    pub(super) fn all(&self) -> &DataFrame {
        &self.all
    }

    /// Names and conditions of the rules that leave rows out.
    pub(super) fn rules(&self) -> &[(&'a str, Expr)] {
        &self.rules
    }

    /// What is made of the events of each customer. `state` is what journeys go through, as a number.
    pub(crate) async fn customers(
        &self,
        state: Option<Expr>,
        made: impl PerCustomer,
    ) -> Result<Customers, BehaviorError> {
        let columns = Columns {
            sequence: self.spec.sequence.is_some(),
            orders: self.spec.order.is_some() || self.spec.amount.is_some(),
            items: self.spec.item.is_some(),
            states: state.is_some(),
            messages: self.spec.message.is_some(),
        };
        let failed = query_error(self.path);
        let events = self.log.clone().select(self.recoded(state, columns)).map_err(&failed)?;
        // With cookies, events of nobody have been counted before.
        let events = match self.links.is_some() {
            true => events.filter(ident(CUSTOMER).is_not_null()).map_err(&failed)?,
            false => events,
        };
        Customers::new(events, columns, made).await.map_err(failed)
    }

    /// The number of an event's kind, or that it is against the plan.
    fn kind(&self) -> Expr {
        let broken =
            plan::violations(self.spec, &self.log).into_iter().map(|(is_broken, _)| is_broken).reduce(Expr::or);
        let kind = kind_column(self.spec);
        match broken {
            Some(broken) => {
                Expr::Case(Case::new(None, vec![(Box::new(broken), Box::new(lit(AGAINST_PLAN)))], Some(Box::new(kind))))
            }
            None => kind,
        }
    }

    /// Whose an event is; null where nobody knows.
    pub(super) fn person(&self) -> Expr {
        match (&self.links, &self.spec.anonymous) {
            (Some(links), Some(cookie)) => identity::person(Arc::clone(links), self.spec, cookie),
            _ => ident(&self.spec.customer),
        }
    }

    /// The customer, and then what the aggregate takes.
    fn recoded(&self, state: Option<Expr>, columns: Columns) -> Vec<Expr> {
        let spec = self.spec;
        let nothing = || lit(0i64);
        let hashed = |column: &Option<String>| column.as_ref().map_or_else(nothing, |column| hash(ident(column)));
        let amount = || spec.amount.as_ref().map_or_else(nothing, |column| millionths(ident(column)));
        let mut expressions = vec![self.person().alias(CUSTOMER)];
        expressions.extend([microseconds(ident(&spec.time)).alias("time"), self.kind().alias("kind")]);
        expressions.extend(spec.sequence.iter().map(|column| whole_number(ident(column)).alias("sequence")));
        if columns.orders {
            expressions.extend([hashed(&spec.order).alias("order"), amount().alias("amount")]);
        }
        if columns.items {
            expressions.push(hashed(&spec.item).alias("item"));
        }
        expressions.extend(state.map(|state| state.alias("state")));
        if columns.messages {
            expressions.push(hashed(&spec.message).alias("message"));
        }
        expressions
    }
}

/// The log with its customers in their own type: how a file encodes them is not part of it.
fn decoded(log: DataFrame, spec: &EventsSpec) -> Result<DataFrame> {
    match log.schema().as_arrow().field_with_name(&spec.customer)?.data_type().clone() {
        DataType::Dictionary(_, values) => log.with_column(&spec.customer, cast(ident(&spec.customer), *values)),
        _ => Ok(log),
    }
}

/// Whether a log has no id in a column: an empty text is none.
pub(super) fn has_none(log: &DataFrame, column: &str) -> Expr {
    let data_type = log.schema().as_arrow().field_with_name(column).map(|field| kind_of(field.data_type()));
    let is_text = data_type.is_ok_and(|data_type| data_type == "text");
    let is_null = ident(column).is_null();
    if is_text { is_null.or(cast(ident(column), DataType::Utf8).eq(lit(""))) } else { is_null }
}

/// The job's day, as a time.
fn as_of(spec: &EventsSpec) -> Result<i64, BehaviorError> {
    let wrong = || BehaviorError::AsOf { field: "source.events.as_of", value: spec.as_of.clone() };
    midnight(&spec.as_of).ok_or_else(wrong)
}

/// Events before a point in time, and those of which it is not known when they were.
fn before(log: DataFrame, spec: &EventsSpec, as_of: i64) -> Result<DataFrame> {
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
