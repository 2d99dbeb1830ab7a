//! The queries that find out who is who, and the function that says so of each event.

use super::{Evidence, Links, Rules, Seen, evidence};
use crate::columns::query_error;
use crate::error::BehaviorError;
use crate::events::microseconds;
use arrow::array::{Array, AsArray, BooleanArray, StringArray, StringBuilder};
use arrow::compute::cast as cast_array;
use arrow::datatypes::{DataType, Int64Type};
use datafusion::dataframe::DataFrame;
use datafusion::error::Result;
use datafusion::functions_aggregate::expr_fn::count;
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility};
use datafusion::prelude::{Expr, cast, ident, lit};
use futures::TryStreamExt;
use shoal_domain::events::EventsSpec;
use std::collections::HashSet;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

/// Who is who in the rows of a log.
pub(crate) async fn links(
    log: &DataFrame,
    spec: &EventsSpec,
    cookie: &str,
    path: &str,
) -> Result<Links, BehaviorError> {
    let mut links = Links::new(seen(log, spec, cookie, path).await?, &rules(spec));
    tell_apart(&mut links, log, spec, cookie).await.map_err(query_error(path))?;
    Ok(links)
}

/// Why who is taken for whom in the rows of a log.
pub(crate) async fn evidence_in(
    log: &DataFrame,
    spec: &EventsSpec,
    cookie: &str,
    path: &str,
) -> Result<Vec<Evidence>, BehaviorError> {
    let (seen, rules) = (seen(log, spec, cookie, path).await?, rules(spec));
    let links = Links::new(seen.clone(), &rules);
    Ok(evidence(&seen, &links, &rules))
}

fn rules(spec: &EventsSpec) -> Rules {
    let apart = spec.identity.apart.iter().map(|it| (it.customer.clone(), it.anonymous.clone())).collect();
    Rules { merge_up_to: spec.identity.merge_customers_up_to, apart }
}

/// Who was seen with which cookie.
async fn seen(log: &DataFrame, spec: &EventsSpec, cookie: &str, path: &str) -> Result<Vec<Seen>, BehaviorError> {
    let failed = query_error(path);
    let is_timed = microseconds(ident(&spec.time)).is_not_null();
    let pairs = vec![name(&spec.customer).alias("customer"), name(cookie).alias("cookie"), is_timed.alias("is_timed")];
    let seen = log
        .clone()
        .select(pairs)
        .and_then(|pairs| {
            pairs.aggregate(
                vec![ident("customer"), ident("cookie"), ident("is_timed")],
                vec![count(lit(1)).alias("n_events")],
            )
        })
        .map_err(&failed)?;
    let mut seen = seen.execute_stream().await.map_err(&failed)?;
    let mut all = Vec::new();
    while let Some(batch) = seen.try_next().await.map_err(&failed)? {
        let (customers, cookies) = (batch.column(0).as_string::<i32>(), batch.column(1).as_string::<i32>());
        let (is_timed, counts) = (batch.column(2).as_boolean(), batch.column(3).as_primitive::<Int64Type>());
        for row in 0..batch.num_rows() {
            let n_events = counts.value(row) as u64;
            all.push(Seen {
                customer: text(customers, row),
                cookie: text(cookies, row),
                n_events,
                is_timed: is_timed.value(row),
            });
        }
    }
    Ok(all)
}

/// Looks at the events of shared cookies, which are few.
async fn tell_apart(links: &mut Links, log: &DataFrame, spec: &EventsSpec, cookie: &str) -> Result<()> {
    let shared: Arc<HashSet<String>> = Arc::new(links.shared().map(str::to_owned).collect());
    if shared.is_empty() {
        return Ok(());
    }
    let columns = vec![
        name(cookie).alias("cookie"),
        microseconds(ident(&spec.time)).alias("time"),
        name(&spec.customer).alias("customer"),
    ];
    let events = log.clone().select(columns)?;
    let events = events.filter(is_one_of(shared, ident("cookie")).and(ident("time").is_not_null()))?;
    let events = events.sort(vec![ident("cookie").sort(true, true), ident("time").sort(true, true)])?;
    let mut batches = events.execute_stream().await?;
    let gap = (spec.session_gap_minutes * 60e6) as i64;
    let mut current: Option<String> = None;
    let mut visits = Vec::new();
    while let Some(batch) = batches.try_next().await? {
        let (cookies, customers) = (batch.column(0).as_string::<i32>(), batch.column(2).as_string::<i32>());
        let times = batch.column(1).as_primitive::<Int64Type>();
        for row in 0..batch.num_rows() {
            if current.as_deref() != Some(cookies.value(row)) {
                if let Some(last) = current.replace(cookies.value(row).to_owned()) {
                    links.tell_apart(&last, &visits, gap);
                }
                visits.clear();
            }
            visits.push((times.value(row), text(customers, row)));
        }
    }
    if let Some(last) = current {
        links.tell_apart(&last, &visits, gap);
    }
    Ok(())
}

/// Whether a text is one of a set, which may be large.
fn is_one_of(set: Arc<HashSet<String>>, column: Expr) -> Expr {
    ScalarUDF::from(OneOf { set, signature: Signature::any(1, Volatility::Immutable) }).call(vec![column])
}

#[derive(Debug, PartialEq, Eq)]
struct OneOf {
    set: Arc<HashSet<String>>,
    signature: Signature,
}

impl Hash for OneOf {
    fn hash<H: Hasher>(&self, state: &mut H) {
        Arc::as_ptr(&self.set).hash(state);
    }
}

impl ScalarUDFImpl for OneOf {
    fn name(&self) -> &str {
        "one_of"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Boolean)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let column = args.args[0].to_array(args.number_rows)?;
        let is_in = column.as_string::<i32>().iter().map(|text| text.map(|text| self.set.contains(text)));
        Ok(ColumnarValue::Array(Arc::new(BooleanArray::from_iter(is_in))))
    }
}

/// Ids are compared as text, whatever their type.
fn name(column: &str) -> Expr {
    cast(ident(column), DataType::Utf8)
}

/// An id; an empty text is none.
fn id(column: &StringArray, row: usize) -> Option<&str> {
    column.is_valid(row).then(|| column.value(row)).filter(|id| !id.is_empty())
}

fn text(column: &StringArray, row: usize) -> Option<String> {
    id(column, row).map(str::to_owned)
}

/// The person of each event; null where nobody knows.
pub(crate) fn person(links: Arc<Links>, spec: &EventsSpec, cookie: &str) -> Expr {
    let signature = Signature::any(3, Volatility::Immutable);
    let arguments = vec![ident(&spec.customer), ident(cookie), microseconds(ident(&spec.time))];
    ScalarUDF::from(Person { links, signature }).call(arguments)
}

#[derive(Debug)]
struct Person {
    links: Arc<Links>,
    signature: Signature,
}

// The links of one query are in one place.
impl PartialEq for Person {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.links, &other.links)
    }
}

impl Eq for Person {}

impl Hash for Person {
    fn hash<H: Hasher>(&self, state: &mut H) {
        Arc::as_ptr(&self.links).hash(state);
    }
}

impl ScalarUDFImpl for Person {
    fn name(&self) -> &str {
        "person"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let column = |idx: usize| args.args[idx].to_array(args.number_rows);
        let customers = cast_array(&column(0)?, &DataType::Utf8)?;
        let cookies = cast_array(&column(1)?, &DataType::Utf8)?;
        let times = column(2)?;
        let (customers, cookies) = (customers.as_string::<i32>(), cookies.as_string::<i32>());
        let times = times.as_primitive::<Int64Type>();
        let mut people = StringBuilder::with_capacity(args.number_rows, args.number_rows * 8);
        for row in 0..args.number_rows {
            let (customer, cookie) = (id(customers, row), id(cookies, row));
            let time = times.is_valid(row).then(|| times.value(row));
            people.append_option(self.links.person(customer, cookie, time));
        }
        Ok(ColumnarValue::Array(Arc::new(people.finish())))
    }
}
