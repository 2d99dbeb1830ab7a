//! The query: from the rows of a log to the paths of each customer.

use super::collect::{ANOTHER_VISIT, Paths};
use crate::columns::query_error;
use crate::error::BehaviorError;
use crate::events::{Customers, Query, recode_states};
use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::UInt16Type;
use arrow::util::display::array_value_to_string;
use datafusion::dataframe::DataFrame;
use datafusion::functions_aggregate::expr_fn::count;
use datafusion::prelude::{cast, ident, lit};
use futures::TryStreamExt;
use shoal_domain::events::EventsSpec;

/// States of one log: more would be products or addresses, of which nobody wants a graph.
const MAX_STATES: usize = 200;

/// The paths of a log.
pub struct Journeys {
    /// The names of the states, ascending.
    pub states: Vec<String>,
    customers: Customers,
    path: String,
}

/// What one customer did.
#[derive(Debug)]
pub struct Path<'a> {
    /// Whose it is; as text, whatever the type of the column.
    pub customer: &'a str,
    /// Numbers of states, visit by visit.
    pub visits: Vec<&'a [u16]>,
}

/// Opens the paths of a log.
pub(crate) async fn journeys(log: DataFrame, spec: &EventsSpec, path: &str) -> Result<Journeys, BehaviorError> {
    let failed = query_error(path);
    let Some(column) = spec.state.as_ref().or(spec.kind.as_ref()) else { return Err(BehaviorError::NoState) };
    let query = Query::new(log, spec, path).await?;
    let state = || cast(ident(column), arrow::datatypes::DataType::Utf8);
    let names = query.log().clone().aggregate(vec![state().alias("state")], vec![count(lit(1))]).map_err(&failed)?;
    let mut states: Vec<String> = Vec::new();
    for batch in names.limit(0, Some(MAX_STATES + 2)).map_err(&failed)?.collect().await.map_err(&failed)? {
        states.extend(batch.column(0).as_string::<i32>().iter().flatten().map(str::to_owned));
    }
    states.sort_unstable();
    if states.len() > MAX_STATES {
        return Err(BehaviorError::TooManyStates { column: column.clone(), most: MAX_STATES });
    }
    let session_gap = (spec.session_gap_minutes * 60e6) as i64;
    let paths = Paths { duplicates: query.duplicates(), session_gap, as_of: query.as_of };
    let customers = query.customers(Some(recode_states(state(), &states)), paths).await?;
    Ok(Journeys { states, customers, path: path.to_owned() })
}

impl Journeys {
    /// Reads the paths of all customers, ascending by customer; those of nobody are left out.
    pub async fn for_each(&self, mut each: impl FnMut(Path<'_>)) -> Result<(), BehaviorError> {
        let failed = query_error(&self.path);
        let mut batches = self.customers.stream().map_err(&failed)?;
        while let Some(batch) = batches.try_next().await.map_err(&failed)? {
            let ids: &ArrayRef = batch.column(0);
            let lists = batch.column(1).as_list::<i32>();
            for row in (0..batch.num_rows()).filter(|row| ids.is_valid(*row)) {
                let customer = array_value_to_string(ids, row).map_err(|error| failed(error.into()))?;
                let states = lists.value(row);
                let states = states.as_primitive::<UInt16Type>().values();
                let visits = states.split(|state| *state == ANOTHER_VISIT).filter(|visit| !visit.is_empty()).collect();
                each(Path { customer: &customer, visits });
            }
        }
        Ok(())
    }
}
