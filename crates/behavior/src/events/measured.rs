//! The features of each customer, and counts for the report.

use super::collect::PerCustomer;
use crate::history::{Duplicates, Event, Flawed, History};
use crate::measures::{Family, Settings};
use arrow::array::{ArrayRef, Float64Builder, Int64Array, StructArray};
use arrow::datatypes::{DataType, Field, Fields};
use datafusion::error::Result;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

/// Counts that come with the features.
pub(super) const COUNTS: [&str; 8] = [
    "events",
    "told by a message that was there before",
    "equal to one shortly before",
    "no customer",
    "no time",
    "no amount",
    "against the plan",
    "unknown kind",
];

/// What is asked of the events of each customer.
#[derive(Debug, Clone)]
pub(super) struct Measured {
    pub(super) duplicates: Duplicates,
    pub(super) families: Vec<Family>,
    pub(super) settings: Settings,
    /// Microseconds since 1970.
    pub(super) as_of: i64,
}

impl Measured {
    /// One float64 a feature, then the counts.
    fn fields(&self) -> Fields {
        let features = self.families.iter().flat_map(|family| family.names);
        let feature = |name: &&'static str| Field::new(*name, DataType::Float64, true);
        let count = |name: &&str| Field::new(*name, DataType::Int64, false);
        features.map(feature).chain(COUNTS.iter().map(count)).collect()
    }

    fn n_features(&self) -> usize {
        self.families.iter().map(|family| family.names.len()).sum()
    }
}

// Two of them in one plan are the same if they would compute the same; the names of the features stand for their functions.
impl PartialEq for Measured {
    fn eq(&self, other: &Self) -> bool {
        let key = |it: &Self| (it.duplicates, it.fields(), it.as_of);
        key(self) == key(other) && self.settings == other.settings
    }
}

impl Eq for Measured {}

impl Hash for Measured {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.duplicates, self.fields(), self.as_of).hash(state);
    }
}

/// Columns that grow by a customer at a time.
pub(super) struct MeasuredTable {
    features: Vec<Float64Builder>,
    counts: Vec<Vec<i64>>,
    /// Those of one customer.
    values: Vec<f64>,
}

impl PerCustomer for Measured {
    type Table = MeasuredTable;

    fn data_type(&self) -> DataType {
        DataType::Struct(self.fields())
    }

    fn table(&self, n_customers: usize) -> MeasuredTable {
        let mut features = Vec::new();
        features.resize_with(self.n_features(), || Float64Builder::with_capacity(n_customers));
        let counts = vec![Vec::with_capacity(n_customers); COUNTS.len()];
        MeasuredTable { features, counts, values: vec![0.0; self.n_features()] }
    }

    fn add(&self, events: &mut Vec<Event>, flawed: Flawed, table: &mut MeasuredTable) {
        let removed = self.duplicates.remove_from(events);
        let history = History { events, as_of: self.as_of };
        let mut rest = table.values.as_mut_slice();
        for family in &self.families {
            let (own, others) = rest.split_at_mut(family.names.len());
            family.measure(&history, &self.settings, own);
            rest = others;
        }
        for (column, value) in table.features.iter_mut().zip(&table.values) {
            column.append_option((!value.is_nan()).then_some(*value));
        }
        let Flawed { no_customer, no_time, no_amount, against_plan, unknown_kind } = flawed;
        let n_events = events.len() as u64;
        let counts =
            [n_events, removed.by_message, removed.near, no_customer, no_time, no_amount, against_plan, unknown_kind];
        for (column, count) in table.counts.iter_mut().zip(counts) {
            column.push(count as i64);
        }
    }

    fn finish(&self, table: MeasuredTable) -> Result<ArrayRef> {
        let features = table.features.into_iter().map(|mut column| Arc::new(column.finish()) as ArrayRef);
        let counts = table.counts.into_iter().map(|column| Arc::new(Int64Array::from(column)) as ArrayRef);
        Ok(Arc::new(StructArray::try_new(self.fields(), features.chain(counts).collect(), None)?))
    }
}
