//! Why no event of a log counts.

use super::Quality;
use super::features::{OTHER_REASON, REASON, flawed};
use super::functions::microseconds;
use crate::columns::query_error;
use crate::error::BehaviorError;
use arrow::array::{Array, ArrayRef};
use arrow::datatypes::{DataType, TimeUnit};
use arrow::util::display::array_value_to_string;
use datafusion::dataframe::DataFrame;
use datafusion::error::Result;
use datafusion::functions_aggregate::expr_fn::{max, min};
use datafusion::prelude::{cast, ident};
use shoal_domain::events::EventsSpec;

/// The error that helps: an example of what is wrong with the rows, or from when to when they are.
pub(super) async fn nothing_counts(log: DataFrame, spec: &EventsSpec, path: &str, quality: &Quality) -> BehaviorError {
    let n_visitor_events = quality.identity.map_or(0, |identity| identity.n_visitor_events);
    if n_visitor_events > 0 {
        return BehaviorError::OnlyVisitors { n_rows: n_visitor_events };
    }
    let told = match quality.n_in_quarantine() {
        0 => range(log, spec).await,
        n_rows => example(log, spec, path, n_rows).await,
    };
    told.unwrap_or_else(query_error(path))
}

async fn example(log: DataFrame, spec: &EventsSpec, path: &str, n_rows: u64) -> Result<BehaviorError> {
    let rows = match flawed(log, spec, path).await {
        Ok(rows) => rows,
        Err(error) => return Ok(error),
    };
    let is_there = |name: &&str| rows.schema().as_arrow().field_with_name(name).is_ok();
    let reason = [OTHER_REASON, REASON].into_iter().find(is_there).unwrap_or(REASON);
    // Of many examples always the same one.
    let columns = [Some(reason), Some(&spec.time), Some(&spec.customer), spec.amount.as_deref()].into_iter().flatten();
    let rows = rows.sort(columns.map(|column| ident(column).sort(true, true)).collect())?;
    let rows = rows.limit(0, Some(1))?.collect().await?;
    let value = |column: &str| -> Option<String> {
        let row = rows.iter().find(|batch| batch.num_rows() > 0)?;
        text(row.column_by_name(column)?, 0)
    };
    let reason = value(reason).unwrap_or_default();
    let said =
        |column: &str| value(column).map_or_else(|| format!("no `{column}`"), |value| format!("`{column}` {value}"));
    let columns = [Some(&spec.customer), Some(&spec.time), spec.kind.as_ref(), spec.amount.as_ref()];
    let row = columns.into_iter().flatten().map(|column| said(column)).collect::<Vec<_>>().join(", ");
    Ok(BehaviorError::AllFlawed { n_rows, reason, row })
}

async fn range(log: DataFrame, spec: &EventsSpec) -> Result<BehaviorError> {
    let time = || cast(microseconds(ident(&spec.time)), DataType::Timestamp(TimeUnit::Microsecond, None));
    let range = log.aggregate(vec![], vec![min(time()).alias("first"), max(time()).alias("last")])?.collect().await?;
    let found = range.first().and_then(|batch| Some((text(batch.column(0), 0)?, text(batch.column(1), 0)?)));
    let as_of = spec.as_of.clone();
    Ok(match found {
        Some((first, last)) => BehaviorError::NoEvents { as_of, first, last },
        None => BehaviorError::EmptyLog,
    })
}

fn text(column: &ArrayRef, row: usize) -> Option<String> {
    let is_there = row < column.len() && column.is_valid(row);
    is_there.then(|| array_value_to_string(column, row).unwrap_or_default())
}
