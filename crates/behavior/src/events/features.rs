//! From the rows of a log to one row of features a customer.

use super::functions::{hash, microseconds, millionths};
use super::measured::{COUNTS, Measured};
use super::quality::{DuplicateCounts, QuarantineCounts};
use super::query::{Query, as_of, before, kind_column};
use super::table::{self, Collected};
use super::{Quality, wanted};
use crate::columns::query_error;
use crate::error::BehaviorError;
use crate::identity::Links;
use crate::measures::Settings;
use datafusion::dataframe::DataFrame;
use datafusion::logical_expr::when;
use datafusion::prelude::{ident, lit};
use futures::TryStreamExt;
use shoal_domain::events::{EventKind, EventsSpec};

/// Features that were made of events.
pub(crate) struct Features {
    pub(crate) table: DataFrame,
    /// The numeric columns of the table.
    pub(crate) names: Vec<String>,
    pub(crate) quality: Quality,
}

/// One row a customer, ascending by id: id, the features, and the cell of recency and frequency where nothing is listed. Held in memory.
pub(crate) async fn features(
    log: DataFrame,
    spec: &EventsSpec,
    listed: Option<&[String]>,
    path: &str,
) -> Result<Features, BehaviorError> {
    let failed = query_error(path);
    let names = wanted::names(spec, listed)?;
    let query = Query::new(log, spec, path).await?;
    let families = wanted::families(spec, &names);
    let (duplicates, settings, as_of) = (query.duplicates(), Settings::of(spec), query.as_of);
    let item = spec.item.as_ref().map(|column| hash(ident(column)));
    let customers = query.customers(item, Measured { duplicates, families, settings, as_of }).await?;
    let groups = customers.stream().map_err(&failed)?.try_collect().await.map_err(&failed)?;
    let collected = Collected::new(groups, &spec.customer).map_err(|error| failed(error.into()))?;
    let quality = quality_of(&collected, query.links.as_deref());
    if quality.n_customers == 0 {
        let (as_of, n_rows) = (spec.as_of.clone(), quality.n_rows);
        return Err(BehaviorError::NoEvents { as_of, n_rows, n_quarantined: quality.quarantined.sum() });
    }
    let table = table::features(&collected, &names, listed.is_none(), path)?;
    Ok(Features { table, names, quality })
}

fn quality_of(collected: &Collected, links: Option<&Links>) -> Quality {
    let [n_events, message, near, of_nobody, no_time, no_amount] = COUNTS.map(|count| collected.sum(count));
    let no_customer = links.map_or(of_nobody, Links::n_of_nobody);
    let identity = links.map(Links::counts);
    let n_visitor_events = identity.map_or(0, |identity| identity.n_visitor_events);
    let duplicates = DuplicateCounts { message, near };
    let quarantined = QuarantineCounts { no_customer, no_time, no_amount };
    let n_rows = n_events + message + near + quarantined.sum() + n_visitor_events;
    Quality { n_customers: collected.n_customers(), n_rows, n_events, duplicates, quarantined, identity }
}

const NO_CUSTOMER: &str = "the customer is missing";
const NO_TIME: &str = "the time is missing, or no time";
const NO_AMOUNT: &str = "the amount of a purchase is missing, or no number";

/// The rows of a log that say too little to be in a feature, all their columns and the column `reason`.
pub(crate) fn flawed(log: DataFrame, spec: &EventsSpec, path: &str) -> Result<DataFrame, BehaviorError> {
    let failed = query_error(path);
    let as_of = as_of(spec)?;
    let reason = || {
        let is_of_nobody = match &spec.anonymous {
            Some(cookie) => ident(&spec.customer).is_null().and(ident(cookie).is_null()),
            None => ident(&spec.customer).is_null(),
        };
        let mut reason = when(is_of_nobody, lit(NO_CUSTOMER));
        reason.when(microseconds(ident(&spec.time)).is_null(), lit(NO_TIME));
        if let Some(amount) = &spec.amount {
            let is_purchase = kind_column(spec).eq(lit(EventKind::Purchase as i64));
            reason.when(is_purchase.and(millionths(ident(amount)).is_null()), lit(NO_AMOUNT));
        }
        reason.end()
    };
    before(log, spec, as_of)
        .and_then(|log| log.with_column("reason", reason()?))
        .and_then(|log| log.filter(ident("reason").is_not_null()))
        .map_err(failed)
}
