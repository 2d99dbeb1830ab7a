//! Events brought together by customer, as a physical plan.
//!
//! The engine's own plan for a GROUP BY aggregates each part of the log before it brings groups together, which is right for sums. Here
//! what is kept of a customer are the events themselves, and keeping them twice, in lists that are sent and taken apart again, took
//! half of the time and memory. So rows are spread by customer first, and each partition aggregates its own.

use super::collect::{Collect, PerCustomer};
use super::rows::Columns;
use arrow::datatypes::{DataType, Schema};
use datafusion::dataframe::DataFrame;
use datafusion::error::Result;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::Operator;
use datafusion::physical_expr::aggregate::AggregateExprBuilder;
use datafusion::physical_expr::expressions::{Column, IsNotNullExpr, binary, lit};
use datafusion::physical_expr::{LexOrdering, PhysicalExpr, PhysicalSortExpr};
use datafusion::physical_plan::aggregates::{AggregateExec, AggregateMode, PhysicalGroupBy};
use datafusion::physical_plan::repartition::RepartitionExec;
use datafusion::physical_plan::sorts::sort::SortExec;
use datafusion::physical_plan::sorts::sort_preserving_merge::SortPreservingMergeExec;
use datafusion::physical_plan::{ExecutionPlan, Partitioning, displayable, execute_stream};
use datafusion::scalar::ScalarValue;
use std::sync::Arc;

/// One row a customer, ascending: the id, and what is made of the events.
pub(crate) struct Customers {
    plan: Arc<dyn ExecutionPlan>,
    context: Arc<TaskContext>,
}

/// Whether there is an id: an empty text is none.
fn is_id(column: Arc<dyn PhysicalExpr>, schema: &Schema) -> Result<Arc<dyn PhysicalExpr>> {
    let is_there: Arc<dyn PhysicalExpr> = Arc::new(IsNotNullExpr::new(Arc::clone(&column)));
    let nothing = match column.data_type(schema)? {
        DataType::Utf8 => ScalarValue::Utf8(Some(String::new())),
        DataType::LargeUtf8 => ScalarValue::LargeUtf8(Some(String::new())),
        DataType::Utf8View => ScalarValue::Utf8View(Some(String::new())),
        _ => return Ok(is_there),
    };
    let is_text = binary(column, Operator::NotEq, lit(nothing), schema)?;
    binary(is_there, Operator::And, is_text, schema)
}

impl Customers {
    /// Of events whose first column is the customer, and the others what [`Collect`] takes. Events of nobody are only counted, as those
    /// of a customer whose id is null.
    pub(super) async fn new(events: DataFrame, columns: Columns, made: impl PerCustomer) -> Result<Self> {
        let context = Arc::new(events.task_ctx());
        let events = events.create_physical_plan().await?;
        let schema = events.schema();
        let column = |idx: usize| -> Arc<dyn PhysicalExpr> { Arc::new(Column::new(schema.field(idx).name(), idx)) };
        let aggregate = Arc::new(Collect::aggregate(columns, made));
        let arguments = (1..schema.fields().len()).map(column).collect();
        let aggregate =
            AggregateExprBuilder::new(aggregate, arguments).schema(Arc::clone(&schema)).alias("made").build()?;
        let is_somebody = is_id(column(0), &schema)?;
        let n_partitions = context.session_config().target_partitions();
        let spread = RepartitionExec::try_new(events, Partitioning::Hash(vec![column(0)], n_partitions))?;
        let customers = AggregateExec::try_new(
            AggregateMode::SinglePartitioned,
            PhysicalGroupBy::new_single(vec![(column(0), schema.field(0).name().clone())]),
            vec![Arc::new(aggregate)],
            vec![Some(is_somebody)],
            Arc::new(spread),
            Arc::clone(&schema),
        )?;
        let by_customer = LexOrdering::from([PhysicalSortExpr::new_default(column(0))]);
        let sorted = SortExec::new(by_customer.clone(), Arc::new(customers)).with_preserve_partitioning(true);
        let plan = Arc::new(SortPreservingMergeExec::new(by_customer, Arc::new(sorted)));
        Ok(Self { plan, context })
    }

    /// The plan, a line for each step, the last one first.
    pub(crate) fn explained(&self) -> String {
        displayable(self.plan.as_ref()).indent(false).to_string()
    }

    /// Runs the query.
    pub(crate) fn stream(&self) -> Result<SendableRecordBatchStream> {
        execute_stream(Arc::clone(&self.plan), Arc::clone(&self.context))
    }
}
