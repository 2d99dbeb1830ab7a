//! The tracking plan: which events there are, and what each must say.

use super::query::has_none;
use arrow::datatypes::DataType;
use datafusion::dataframe::DataFrame;
use datafusion::functions::core::expr_fn::coalesce;
use datafusion::prelude::{Expr, cast, ident, lit};
use shoal_domain::events::EventsSpec;

/// Every way to break the plan, and what is said of it; none without a plan.
pub(super) fn violations(spec: &EventsSpec, log: &DataFrame) -> Vec<(Expr, String)> {
    let Some(kind) = spec.kind.as_ref().filter(|_| !spec.plan.is_empty()) else { return Vec::new() };
    let name = || coalesce(vec![cast(ident(kind), DataType::Utf8), lit("")]);
    let listed = spec.plan.keys().map(|name| lit(name.as_str())).collect();
    let mut violations = vec![(name().in_list(listed, true), "the plan has no such event".to_owned())];
    for (event, columns) in &spec.plan {
        for column in columns {
            let lacks = name().eq(lit(event.as_str())).and(has_none(log, column));
            violations.push((lacks, format!("the plan wants `{column}` of `{event}`")));
        }
    }
    violations
}
