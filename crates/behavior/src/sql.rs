//! SQL expressions of a job: of the columns of one row, and of all rows of a customer.
//!
//! They are the query engine's own, but for what would not be the same bits every time: functions of chance and of the clock, and
//! aggregates whose result depends on the order of rows. Sums and means of fractions are of millionths, as amounts are.

use crate::columns::kind_of;
use crate::error::BehaviorError;
use arrow::datatypes::DataType;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::dataframe::DataFrame;
use datafusion::error::{DataFusionError, Result};
use datafusion::functions::math::expr_fn::isnan;
use datafusion::functions_aggregate::expr_fn::{count, max, min, sum};
use datafusion::logical_expr::expr::AggregateFunction;
use datafusion::logical_expr::{ExprSchemable, Volatility, when};
use datafusion::prelude::{Expr, cast, lit, not, try_cast};
use datafusion::sql::sqlparser::ast::{Expr as SqlExpr, Ident, visit_expressions};
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::parser::Parser;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

/// Aggregates that are the same in any order of rows.
const AGGREGATES: [&str; 8] = ["count", "sum", "avg", "min", "max", "median", "bool_and", "bool_or"];

/// Fractions are added as decimals with the digits of amounts.
const DECIMAL: DataType = DataType::Decimal128(38, 6);

/// A named expression of a job.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sql<'a> {
    /// The field of the job that has it.
    pub(crate) field: &'static str,
    pub(crate) name: &'a str,
    pub(crate) text: &'a str,
}

impl<'a> Sql<'a> {
    /// The expressions of a field.
    pub(crate) fn all(field: &'static str, named: &'a BTreeMap<String, String>) -> impl Iterator<Item = Self> {
        named.iter().map(move |(name, text)| Self { field, name, text })
    }

    /// An error about it.
    pub(crate) fn wrong(&self, reason: impl std::fmt::Display) -> BehaviorError {
        BehaviorError::Sql { field: self.field, name: self.name.to_owned(), reason: reason.to_string() }
    }

    /// Of the columns of one row.
    pub(crate) fn of_row(&self, table: &DataFrame) -> Result<Expr, BehaviorError> {
        let expression = self.parse(table)?;
        let is_aggregate = |expression: &Expr| Ok(matches!(expression, Expr::AggregateFunction(_)));
        match expression.exists(is_aggregate).map_err(|error| self.wrong(first_line(&error)))? {
            true => Err(self.wrong("is of one row, and cannot have aggregates")),
            false => Ok(expression),
        }
    }

    /// Whether a condition of a row holds; unknown is false.
    pub(crate) fn holds(&self, table: &DataFrame) -> Result<Expr, BehaviorError> {
        let condition = self.of_row(table)?;
        match self.type_of(&condition, table)? {
            DataType::Boolean => Ok(condition.is_true()),
            other => Err(self.wrong(format!("must be true or false, and is {}", kind_of(&other)))),
        }
    }

    /// Of all rows of a customer, as a float64.
    pub(crate) fn of_customer(&self, table: &DataFrame) -> Result<Expr, BehaviorError> {
        let expression = self.parse(table)?;
        let failed = |error: DataFusionError| self.wrong(first_line(&error));
        let mut refused = None;
        let mut n_aggregates = 0;
        let mut bare = None;
        expression
            .apply(|part| {
                if let Expr::AggregateFunction(aggregate) = part {
                    n_aggregates += 1;
                    let name = aggregate.func.name();
                    refused = refused.take().or((!AGGREGATES.contains(&name)).then(|| name.to_owned()));
                    return Ok(TreeNodeRecursion::Jump);
                }
                if let Expr::Column(column) = part {
                    bare = Some(column.name.clone());
                }
                Ok(TreeNodeRecursion::Continue)
            })
            .map_err(failed)?;
        if let Some(name) = refused {
            return Err(self.wrong(format!("`{name}` is none of {}", AGGREGATES.join(", "))));
        }
        if n_aggregates == 0 {
            return Err(self.wrong(format!("must be an aggregate of a customer's events: {}", AGGREGATES.join(", "))));
        }
        if let Some(column) = bare {
            return Err(self.wrong(format!("column `{column}` must be within an aggregate")));
        }
        let schema = table.schema();
        // Without aggregates in aggregates, which the engine refuses, each is rewritten by itself.
        let exact = expression.transform_down(|part| exact(part, schema).map(jumping)).map_err(failed)?.data;
        let data_type = self.type_of(&exact, table)?;
        match data_type.is_numeric() || matches!(data_type, DataType::Boolean | DataType::Null) {
            true => Ok(cast(exact, DataType::Float64)),
            false => Err(self.wrong(format!("must be a number, and is {}", kind_of(&data_type)))),
        }
    }

    fn type_of(&self, expression: &Expr, table: &DataFrame) -> Result<DataType, BehaviorError> {
        expression.get_type(table.schema()).map_err(|error| self.wrong(first_line(&error)))
    }

    fn parse(&self, table: &DataFrame) -> Result<Expr, BehaviorError> {
        let expression = table.parse_sql_expr(self.text).map_err(|error| self.wrong(first_line(&error)))?;
        let is_fixed = |part: &Expr| {
            Ok(match part {
                Expr::ScalarFunction(call) => call.func.signature().volatility == Volatility::Immutable,
                Expr::WindowFunction(_)
                | Expr::ScalarSubquery(_)
                | Expr::Exists(_)
                | Expr::InSubquery(_)
                | Expr::SetComparison(_) => false,
                _ => true,
            })
        };
        let is_odd = expression.exists(|part| is_fixed(part).map(|is_fixed| !is_fixed));
        match is_odd.map_err(|error| self.wrong(first_line(&error)))? {
            true => Err(self.wrong("cannot have functions of chance or the clock, windows or queries")),
            false => Ok(expression),
        }
    }

    /// The columns that it names: as they are written in double quotes, and otherwise in lower case.
    pub(crate) fn columns(&self) -> Result<BTreeSet<String>, BehaviorError> {
        let parsed = Parser::new(&GenericDialect {}).try_with_sql(self.text).and_then(|mut parser| parser.parse_expr());
        let parsed = parsed.map_err(|error| self.wrong(error))?;
        let mut columns = BTreeSet::new();
        let _: ControlFlow<()> = visit_expressions(&parsed, |part| {
            if let SqlExpr::Identifier(Ident { value, quote_style, .. }) = part {
                columns.insert(if quote_style.is_some() { value.clone() } else { value.to_ascii_lowercase() });
            }
            ControlFlow::Continue(())
        });
        Ok(columns)
    }
}

/// Sums and means as those of decimals, and the least and the greatest without what is no number: neither depends on the order of
/// rows then. What a type is, the engine decides later, so all sums are of decimals.
fn exact(part: Expr, schema: &datafusion::common::DFSchema) -> Result<Transformed<Expr>> {
    let Expr::AggregateFunction(AggregateFunction { func, params }) = &part else { return Ok(Transformed::no(part)) };
    let (name @ ("sum" | "avg" | "min" | "max"), [argument]) = (func.name(), params.args.as_slice()) else {
        return Ok(Transformed::no(part));
    };
    let is_extreme = matches!(name, "min" | "max");
    if is_extreme && !argument.get_type(schema)?.is_numeric() {
        return Ok(Transformed::no(part));
    }
    if params.distinct || params.filter.is_some() || !params.order_by.is_empty() {
        return datafusion::common::plan_err!("{name} cannot have DISTINCT, FILTER or ORDER BY; use CASE within it");
    }
    // A text that is no number would be taken for missing here; a cast of the job's own says so.
    let data_type = argument.get_type(schema)?;
    if !(data_type.is_numeric() || data_type.is_null()) {
        return datafusion::common::plan_err!("{name} is of numbers, and its argument is {}", kind_of(&data_type));
    }
    // NaN and infinity are no decimals, and count as missing.
    let decimal = || try_cast(argument.clone(), DECIMAL);
    let number = || cast(argument.clone(), DataType::Float64);
    let without_nan = || when(not(isnan(number())), number() + lit(0.0)).end();
    let total = || cast(sum(decimal()), DataType::Float64);
    Ok(Transformed::yes(match name {
        "sum" => total(),
        "avg" => total() / cast(count(decimal()), DataType::Float64),
        "min" => min(without_nan()?),
        _ => max(without_nan()?),
    }))
}

/// What was rewritten is not looked into again.
fn jumping(part: Transformed<Expr>) -> Transformed<Expr> {
    let tnr = if part.transformed { TreeNodeRecursion::Jump } else { part.tnr };
    Transformed { tnr, ..part }
}

/// What the engine says, without what it suggests to its developers.
pub(crate) fn first_line(error: &DataFusionError) -> String {
    let text = error.strip_backtrace();
    text.lines().next().unwrap_or_default().to_owned()
}
