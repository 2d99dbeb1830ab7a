//! Recency, frequency and monetary value of every customer, from purchase lines.

use crate::columns::{column_type, kind_of, query_error};
use crate::day::{DAY, midnight};
use crate::error::BehaviorError;
use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{DataType, Int64Type, TimeUnit};
use arrow::record_batch::RecordBatch;
use arrow::util::display::array_value_to_string;
use datafusion::dataframe::DataFrame;
use datafusion::functions_aggregate::expr_fn::{count, count_distinct, max, sum};
use datafusion::prelude::{Expr, SessionContext, cast, ident, lit, try_cast};
use datafusion::scalar::ScalarValue;
use shoal_domain::job::PurchasesSpec;

/// The features, in column order: whole days since the last purchase, distinct orders, sum of amounts.
pub(crate) const FEATURES: [&str; 3] = ["recency", "frequency", "monetary"];

/// Amounts are summed as decimals, so that the sum does not depend on how the query was spread over threads. Six digits
/// after the point hold every currency's smallest unit.
const AMOUNT: DataType = DataType::Decimal128(38, 6);
const TIME: DataType = DataType::Timestamp(TimeUnit::Microsecond, None);

/// One row a customer, ascending by id: id, recency, frequency, monetary. Purchases at or after `as_of` do not count, so
/// that the features of a day stay what they were when later purchases come in.
pub(crate) async fn features(lines: DataFrame, spec: &PurchasesSpec, path: &str) -> Result<DataFrame, BehaviorError> {
    let failed = query_error(path);
    let (groups, as_of) = by_customer(lines, spec, path)?;
    let schema = groups.schema().as_arrow().clone();
    let customer = ident(&spec.customer);
    let groups = groups.collect().await.map_err(&failed)?;
    for batch in &groups {
        check_present(batch, spec)?;
    }
    if groups.iter().all(|batch| batch.num_rows() == 0) {
        return Err(BehaviorError::NoPurchases { as_of: spec.as_of.clone() });
    }
    let context = SessionContext::new();
    let groups = if groups.is_empty() { vec![RecordBatch::new_empty(schema.into())] } else { groups };
    let table = context.read_batches(groups).map_err(&failed)?;
    let elapsed = lit(as_of) - cast(ident("last"), DataType::Int64);
    let float = |expr: Expr, name: &str| cast(expr, DataType::Float64).alias(name);
    table
        .select(vec![
            customer,
            float(elapsed / lit(DAY), FEATURES[0]),
            float(ident("frequency"), FEATURES[1]),
            float(ident("monetary"), FEATURES[2]),
        ])
        .map_err(&failed)
}

/// The lines of each customer, summed and counted, and the job's day as a time.
pub(crate) fn by_customer(
    lines: DataFrame,
    spec: &PurchasesSpec,
    path: &str,
) -> Result<(DataFrame, i64), BehaviorError> {
    let failed = query_error(path);
    let wrong_day = || BehaviorError::AsOf { field: "source.purchases.as_of", value: spec.as_of.clone() };
    let as_of = midnight(&spec.as_of).ok_or_else(wrong_day)?;
    check_columns(&lines, spec, path)?;
    let lines = match column_type(lines.schema().as_arrow(), "source.purchases.customer", &spec.customer, path)?.clone()
    {
        // How a file encodes its ids is not part of their type.
        DataType::Dictionary(_, values) => {
            lines.with_column(&spec.customer, cast(ident(&spec.customer), *values)).map_err(&failed)?
        }
        _ => lines,
    };
    let customer = ident(&spec.customer);
    let time = cast(ident(&spec.time), TIME);
    let before_as_of = time.clone().lt(lit(ScalarValue::TimestampMicrosecond(Some(as_of), None)));
    let present = |column: &str| count(ident(column));
    // NaN, infinite and absurdly large amounts become null here, so that they are found by count and named by customer.
    let amount = try_cast(ident(&spec.amount), AMOUNT);
    let groups = lines
        .filter(before_as_of.or(ident(&spec.time).is_null()))
        .and_then(|lines| {
            let aggregates = vec![
                max(time).alias("last"),
                count_distinct(ident(&spec.order)).alias("frequency"),
                sum(amount.clone()).alias("monetary"),
                count(lit(1)).alias("n_lines"),
                present(&spec.customer).alias("n_customer"),
                present(&spec.time).alias("n_time"),
                present(&spec.order).alias("n_order"),
                count(amount).alias("n_amount"),
            ];
            lines.aggregate(vec![customer.clone()], aggregates)
        })
        .and_then(|groups| groups.sort(vec![customer.clone().sort(true, true)]))
        .map_err(&failed)?;
    Ok((groups, as_of))
}

fn check_columns(lines: &DataFrame, spec: &PurchasesSpec, path: &str) -> Result<(), BehaviorError> {
    let schema = lines.schema().as_arrow();
    column_type(schema, "source.purchases.customer", &spec.customer, path)?;
    column_type(schema, "source.purchases.order", &spec.order, path)?;
    let check = |field, column: &str, wanted, is_right: fn(&DataType) -> bool| {
        let data_type = column_type(schema, field, column, path)?;
        let (column, actual) = (column.to_owned(), kind_of(data_type));
        is_right(data_type).then_some(()).ok_or(BehaviorError::ColumnType { field, column, actual, wanted })
    };
    check("source.purchases.time", &spec.time, "a timestamp or date", |data_type| {
        matches!(data_type, DataType::Timestamp(..) | DataType::Date32 | DataType::Date64)
    })?;
    check("source.purchases.amount", &spec.amount, "a number", DataType::is_numeric)
}

/// Refuses lines without customer, time, order or amount: left out silently they would make a customer look different.
fn check_present(groups: &RecordBatch, spec: &PurchasesSpec) -> Result<(), BehaviorError> {
    let counts = |name: &str| -> &[i64] {
        let column = groups.column_by_name(name).expect("the aggregate has this column");
        column.as_primitive::<Int64Type>().values()
    };
    let wanted = [
        ("source.purchases.customer", &spec.customer, counts("n_customer")),
        ("source.purchases.time", &spec.time, counts("n_time")),
        ("source.purchases.order", &spec.order, counts("n_order")),
        ("source.purchases.amount", &spec.amount, counts("n_amount")),
    ];
    let ids = groups.column(0);
    for (group, n_lines) in counts("n_lines").iter().enumerate() {
        for (field, column, present) in &wanted {
            if present[group] < *n_lines {
                return Err(BehaviorError::MissingInPurchases {
                    field,
                    column: (*column).clone(),
                    customer: name_of(ids, group),
                    n_lines: n_lines - present[group],
                });
            }
        }
    }
    Ok(())
}

fn name_of(ids: &ArrayRef, row: usize) -> String {
    if ids.is_null(row) { "none".to_owned() } else { array_value_to_string(ids, row).unwrap_or_default() }
}
