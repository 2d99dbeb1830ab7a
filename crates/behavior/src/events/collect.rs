//! The aggregate that brings a customer's events together.
//!
//! Events arrive in any order and from any thread. They are kept as they come, each with the number of its group (customer),
//! and brought together once at the end: no vector a customer, and no order of arrival that could show in a result. The state that
//! the engine may spill or send is the events themselves. What is made of them is a [`PerCustomer`].

use super::rows::{Columns, EventRows, MAX_COLUMNS, MAX_ROWS, pack};
use crate::history::{Event, Flawed};
use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Int64Array, ListArray};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType, Field, FieldRef, Int64Type};
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::AggregateOrderSensitivity;
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, EmitTo, GroupsAccumulator, Signature, Volatility,
};
use std::collections::BTreeMap;
use std::fmt::Debug;
use std::hash::Hash;
use std::sync::Arc;

/// What is made of the events of each customer.
pub(crate) trait PerCustomer: Debug + Clone + Eq + Hash + Send + Sync + 'static {
    /// Grows by a customer at a time.
    type Table: Send;

    /// Of the column that comes out.
    fn data_type(&self) -> DataType;

    /// With room for so many.
    fn table(&self, n_customers: usize) -> Self::Table;

    /// Adds a customer, whose events are in no order yet.
    fn add(&self, events: &mut Vec<Event>, flawed: Flawed, table: &mut Self::Table);

    /// The column.
    fn finish(&self, table: Self::Table) -> Result<ArrayRef>;
}

/// Events of each customer, and what is made of them.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Collect<T> {
    columns: Columns,
    made: T,
    signature: Signature,
}

impl<T: PerCustomer> Collect<T> {
    /// An aggregate of int64 columns: time, kind, then sequence, order and amount, item, message where `columns` has them.
    pub(crate) fn aggregate(columns: Columns, made: T) -> AggregateUDF {
        let signature = Signature::exact(vec![DataType::Int64; columns.count() + 1], Volatility::Immutable);
        AggregateUDF::from(Self { columns, made, signature })
    }
}

impl<T: PerCustomer> AggregateUDFImpl for Collect<T> {
    fn name(&self) -> &str {
        "of_customer"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(self.made.data_type())
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        AggregateOrderSensitivity::Insensitive
    }

    fn accumulator(&self, _: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        Err(DataFusionError::NotImplemented("it is of customers: GROUP BY is needed".to_owned()))
    }

    fn state_fields(&self, _: StateFieldsArgs<'_>) -> Result<Vec<FieldRef>> {
        let item = Arc::new(Field::new_list_field(DataType::Int64, false));
        let list = |column| Arc::new(Field::new(format!("column {column}"), DataType::List(Arc::clone(&item)), false));
        let nobody = Arc::new(Field::new("nobody", DataType::Int64, false));
        Ok(std::iter::once(nobody).chain((0..self.columns.count()).map(list)).collect())
    }

    fn groups_accumulator_supported(&self, _: AccumulatorArgs<'_>) -> bool {
        true
    }

    fn create_groups_accumulator(&self, _: AccumulatorArgs<'_>) -> Result<Box<dyn GroupsAccumulator>> {
        Ok(Box::new(Collector {
            columns: self.columns,
            made: self.made.clone(),
            rows: EventRows::new(self.columns),
            n_of_nobody: BTreeMap::new(),
            n_groups: 0,
        }))
    }
}

/// Events of one partition.
struct Collector<T> {
    columns: Columns,
    made: T,
    rows: EventRows,
    /// Events that the filter of the aggregate takes out, by group: only counted.
    n_of_nobody: BTreeMap<usize, u64>,
    n_groups: usize,
}

impl<T> Collector<T> {
    fn check_room(&self, n_more: usize) -> Result<()> {
        let has_room = self.rows.len() + n_more <= MAX_ROWS;
        let full =
            || DataFusionError::ResourcesExhausted(format!("a partition of a log holds at most {MAX_ROWS} events"));
        has_room.then_some(()).ok_or_else(full)
    }

    /// How many groups are given away now, and their events that are only counted; the other groups move up.
    fn take_groups(&mut self, emit_to: EmitTo) -> (usize, BTreeMap<usize, u64>) {
        let n_groups = match emit_to {
            EmitTo::All => self.n_groups,
            EmitTo::First(n_groups) => n_groups,
        };
        self.n_groups -= n_groups;
        let rest = self.n_of_nobody.split_off(&n_groups);
        let rest = rest.into_iter().map(|(group, n_events)| (group - n_groups, n_events)).collect();
        (n_groups, std::mem::replace(&mut self.n_of_nobody, rest))
    }
}

impl<T: PerCustomer> GroupsAccumulator for Collector<T> {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        group_indices: &[usize],
        opt_filter: Option<&BooleanArray>,
        total_num_groups: usize,
    ) -> Result<()> {
        self.n_groups = total_num_groups;
        let columns: Vec<&Int64Array> = values.iter().map(|column| column.as_primitive::<Int64Type>()).collect();
        let [time, kind, others @ ..] = columns.as_slice() else {
            return Err(DataFusionError::Internal("events have a time and a kind".to_owned()));
        };
        let amount = self.columns.orders.then(|| others[usize::from(self.columns.sequence) + 1]);
        self.check_room(group_indices.len())?;
        let is_known = |row: usize| opt_filter.is_none_or(|filter| filter.is_valid(row) && filter.value(row));
        let mut event = [0; MAX_COLUMNS];
        for (row, group) in group_indices.iter().enumerate() {
            if !is_known(row) {
                *self.n_of_nobody.entry(*group).or_default() += 1;
                continue;
            }
            let has_amount = amount.is_none_or(|amount| amount.is_valid(row));
            event[0] = pack(time.is_valid(row).then(|| time.value(row)), kind.value(row), has_amount);
            for (value, column) in event[1..].iter_mut().zip(others) {
                // What is null is nothing.
                *value = if column.is_valid(row) { column.value(row) } else { 0 };
            }
            self.rows.push(*group, &event[..self.columns.count()]);
        }
        Ok(())
    }

    fn evaluate(&mut self, emit_to: EmitTo) -> Result<ArrayRef> {
        let (n_groups, n_of_nobody) = self.take_groups(emit_to);
        let grouped = self.rows.take(n_groups);
        let mut table = self.made.table(n_groups);
        let mut events = Vec::new();
        for group in 0..n_groups {
            let mut flawed = grouped.events_of(group, &mut events);
            flawed.no_customer = n_of_nobody.get(&group).copied().unwrap_or(0);
            self.made.add(&mut events, flawed, &mut table);
        }
        self.made.finish(table)
    }

    fn state(&mut self, emit_to: EmitTo) -> Result<Vec<ArrayRef>> {
        let (n_groups, n_of_nobody) = self.take_groups(emit_to);
        let grouped = self.rows.take(n_groups);
        let nobody = (0..n_groups).map(|group| n_of_nobody.get(&group).map_or(0, |n_events| *n_events as i64));
        let nobody: ArrayRef = Arc::new(Int64Array::from_iter_values(nobody));
        let item = Arc::new(Field::new_list_field(DataType::Int64, false));
        let list = |values: Vec<i64>| -> Result<ArrayRef> {
            let offsets = OffsetBuffer::from_lengths(grouped.lengths());
            Ok(Arc::new(ListArray::try_new(Arc::clone(&item), offsets, Arc::new(Int64Array::from(values)), None)?))
        };
        std::iter::once(Ok(nobody)).chain(grouped.columns().map(list)).collect()
    }

    fn merge_batch(&mut self, values: &[ArrayRef], group_indices: &[usize], total_num_groups: usize) -> Result<()> {
        self.n_groups = total_num_groups;
        let (nobody, lists) = (values[0].as_primitive::<Int64Type>(), &values[1..]);
        let lists: Vec<&ListArray> = lists.iter().map(|column| column.as_list::<i32>()).collect();
        let mut event = [0; MAX_COLUMNS];
        for (row, group) in group_indices.iter().enumerate() {
            if nobody.value(row) > 0 {
                *self.n_of_nobody.entry(*group).or_default() += nobody.value(row) as u64;
            }
            let (start, end) = (lists[0].value_offsets()[row] as usize, lists[0].value_offsets()[row + 1] as usize);
            for position in start..end {
                self.check_room(1)?;
                for (value, list) in event.iter_mut().zip(&lists) {
                    *value = list.values().as_primitive::<Int64Type>().value(position);
                }
                self.rows.push(*group, &event[..lists.len()]);
            }
        }
        Ok(())
    }

    fn convert_to_state(&self, _: &[ArrayRef], _: Option<&BooleanArray>) -> Result<Vec<ArrayRef>> {
        Err(DataFusionError::NotImplemented("rows are not made states one by one".to_owned()))
    }

    fn size(&self) -> usize {
        self.rows.n_bytes()
    }
}
