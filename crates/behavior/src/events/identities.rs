//! Who was taken for whom, as a table.

use super::query::Query;
use crate::columns::query_error;
use crate::error::BehaviorError;
use crate::identity::{self, Evidence};
use arrow::array::{ArrayRef, BooleanArray, Float64Array, StringArray, UInt64Array};
use arrow::record_batch::RecordBatch;
use datafusion::dataframe::DataFrame;
use shoal_domain::events::EventsSpec;
use std::sync::Arc;

/// One row for each cookie and person, and for each customer who is another person by name.
pub(crate) async fn identities(log: DataFrame, spec: &EventsSpec, path: &str) -> Result<RecordBatch, BehaviorError> {
    let Some(cookie) = &spec.anonymous else { return Err(BehaviorError::NoCookies) };
    let rows = Query::before(log, spec, path)?;
    let evidence = identity::evidence_in(&rows.log, spec, cookie, path).await?;
    table(&evidence).map_err(|error| query_error(path)(error.into()))
}

fn table(evidence: &[Evidence]) -> Result<RecordBatch, arrow::error::ArrowError> {
    let text = |of: &dyn Fn(&Evidence) -> String| -> ArrayRef {
        Arc::new(StringArray::from_iter_values(evidence.iter().map(of)))
    };
    let n_events = evidence.iter().map(|it| it.n_events);
    let columns: [(&str, ArrayRef); 6] = [
        ("kind", text(&|it| it.kind.name().to_owned())),
        ("id", text(&|it| it.id.clone())),
        ("person", text(&|it| it.person.clone())),
        ("n_events", Arc::new(UInt64Array::from_iter_values(n_events))),
        ("confidence", Arc::new(Float64Array::from_iter_values(evidence.iter().map(|it| it.confidence)))),
        ("is_shared", Arc::new(BooleanArray::from_iter(evidence.iter().map(|it| Some(it.is_shared))))),
    ];
    RecordBatch::try_from_iter(columns)
}
