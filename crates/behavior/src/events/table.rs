//! What the aggregate has found, as a table.

use super::measured::COUNTS;
use super::rfm_cells::{CELL, SCORED, SCORES, cell, quintiles, reversed};
use crate::columns::query_error;
use crate::error::BehaviorError;
use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Float64Array, PrimitiveArray, StringArray, StructArray};
use arrow::compute::kernels::cmp::not_distinct;
use arrow::compute::{concat_batches, filter_record_batch};
use arrow::datatypes::{ArrowPrimitiveType, DataType, Field, FieldRef, Float64Type, Int64Type, Schema};
use arrow::error::ArrowError;
use arrow::record_batch::RecordBatch;
use datafusion::dataframe::DataFrame;
use datafusion::prelude::SessionContext;
use std::sync::Arc;

/// One row a customer who has an event that counts: the id, features as float64, counts as int64.
pub(super) struct Collected {
    id: Field,
    batches: Vec<RecordBatch>,
    /// Sums of the counts, in the order of [`COUNTS`].
    sums: [u64; COUNTS.len()],
}

impl Collected {
    /// From batches of the customer and a struct of the rest.
    pub(super) fn new(groups: Vec<RecordBatch>, customer: &str) -> Result<Self, ArrowError> {
        let data_type = groups.first().map_or(DataType::Utf8, |batch| batch.column(0).data_type().clone());
        let id = Field::new(customer, data_type, false);
        let mut it = Self { id, batches: Vec::new(), sums: [0; COUNTS.len()] };
        for group in groups {
            let (ids, rest) = (group.column(0), group.column(1).as_struct());
            let counts = COUNTS.map(|count| column::<Int64Type>(rest, count));
            for (sum, count) in it.sums.iter_mut().zip(counts) {
                *sum += count.values().iter().map(|count| *count as u64).sum::<u64>();
            }
            // Events of nobody are only counted, so nobody has none.
            let has_events: BooleanArray = counts[0].values().iter().map(|n_events| Some(*n_events > 0)).collect();
            let fields: Vec<FieldRef> = std::iter::once(Arc::new(it.id.clone().with_nullable(true)))
                .chain(rest.fields().iter().cloned())
                .collect();
            let columns = std::iter::once(Arc::clone(ids)).chain(rest.columns().iter().cloned()).collect();
            let batch = RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)?;
            it.batches.push(filter_record_batch(&batch, &has_events)?);
        }
        Ok(it)
    }

    pub(super) fn n_customers(&self) -> u64 {
        self.batches.iter().map(|batch| batch.num_rows() as u64).sum()
    }

    /// The sum of a count over all customers.
    pub(super) fn sum(&self, count: &str) -> u64 {
        COUNTS.iter().zip(self.sums).filter(|(name, _)| **name == count).map(|(_, sum)| sum).sum()
    }

    /// A feature of all customers, NaN where it is missing.
    fn values(&self, feature: &str) -> Vec<f64> {
        let columns = self.batches.iter().filter_map(|batch| batch.column_by_name(feature));
        columns
            .flat_map(|column| column.as_primitive::<Float64Type>().iter().map(|value| value.unwrap_or(f64::NAN)))
            .collect()
    }
}

fn column<'a, T: ArrowPrimitiveType>(columns: &'a StructArray, name: &str) -> &'a PrimitiveArray<T> {
    columns.column_by_name(name).expect("the aggregate has this column").as_primitive::<T>()
}

/// Scores of all customers, in the order of [`SCORES`].
struct Scores([Vec<Option<u8>>; 3]);

impl Scores {
    fn of(collected: &Collected) -> Self {
        let is_buyer: Vec<bool> = collected.values(SCORED[0]).iter().map(|recency| !recency.is_nan()).collect();
        // Who never bought has no place among those who did.
        let of_buyers = |feature: &str| -> Vec<f64> {
            let values = collected.values(feature).into_iter().zip(&is_buyer);
            values.map(|(value, is_buyer)| if *is_buyer { value } else { f64::NAN }).collect()
        };
        let [recency, frequency, monetary] = SCORED.map(|feature| quintiles(&of_buyers(feature)));
        // Few days are the best recency.
        let scores = [reversed(recency), frequency, monetary];
        Self(scores)
    }

    fn column(&self, name: &str, first: usize, n_rows: usize) -> Option<ArrayRef> {
        let (_, scores) = SCORES.iter().zip(&self.0).find(|(score, _)| **score == name)?;
        let scores = scores[first..first + n_rows].iter();
        Some(Arc::new(Float64Array::from_iter(scores.map(|score| score.map(f64::from)))))
    }

    fn cells(&self, first: usize, n_rows: usize) -> ArrayRef {
        let pairs = self.0[0].iter().zip(&self.0[1]).skip(first).take(n_rows);
        let cells = pairs
            .map(|(recency, frequency)| recency.zip(*frequency).map(|(recency, frequency)| cell(recency, frequency)));
        Arc::new(StringArray::from_iter(cells))
    }
}

/// Features of the job's own, in the order of the customers.
struct Measures(Option<RecordBatch>);

impl Measures {
    /// From batches of the customer and the measures.
    fn new(batches: &[RecordBatch]) -> Result<Self, ArrowError> {
        let Some(first) = batches.first() else { return Ok(Self(None)) };
        Ok(Self(Some(concat_batches(&first.schema(), batches)?)))
    }

    /// A measure of some customers, who must be the next ones.
    fn column(&self, name: &str, customers: &ArrayRef, first: usize) -> Result<Option<ArrayRef>, ArrowError> {
        let Some((all, idx)) = self.0.as_ref().and_then(|all| Some((all, all.schema().index_of(name).ok()?))) else {
            return Ok(None);
        };
        let n_rows = customers.len();
        let others = || ArrowError::ComputeError("measures are of other customers than the features".to_owned());
        if all.num_rows() < first + n_rows {
            return Err(others());
        }
        let rows = all.slice(first, n_rows);
        let is_same = not_distinct(rows.column(0), customers)?;
        if is_same.true_count() < n_rows { Err(others()) } else { Ok(Some(Arc::clone(rows.column(idx)))) }
    }
}

/// The wanted features, and the cells behind them if they are wanted and there are scores.
pub(super) fn features(
    collected: &Collected,
    measures: &[RecordBatch],
    names: &[String],
    with_cells: bool,
    path: &str,
) -> Result<DataFrame, BehaviorError> {
    let failed = |error: ArrowError| query_error(path)(error.into());
    let measures = Measures::new(measures).map_err(failed)?;
    let has_scores = names.iter().any(|name| SCORES.contains(&name.as_str()));
    let scores = has_scores.then(|| Scores::of(collected));
    let mut fields = vec![collected.id.clone()];
    fields.extend(names.iter().map(|name| Field::new(name, DataType::Float64, true)));
    if with_cells && has_scores {
        fields.push(Field::new(CELL, DataType::Utf8, true));
    }
    let schema = Arc::new(Schema::new(fields));
    let mut first = 0;
    let mut batches = Vec::new();
    for batch in &collected.batches {
        let n_rows = batch.num_rows();
        let mut columns = vec![Arc::clone(batch.column(0))];
        for name in names {
            let score = scores.as_ref().and_then(|scores| scores.column(name, first, n_rows));
            let measure = measures.column(name, batch.column(0), first).map_err(failed)?;
            columns.push(match score.or(measure) {
                Some(column) => column,
                None => Arc::clone(batch.column_by_name(name).expect("its family was measured")),
            });
        }
        if let Some(scores) = scores.as_ref().filter(|_| with_cells) {
            columns.push(scores.cells(first, n_rows));
        }
        first += n_rows;
        batches.push(RecordBatch::try_new(Arc::clone(&schema), columns).map_err(failed)?);
    }
    SessionContext::new().read_batches(batches).map_err(query_error(path))
}
