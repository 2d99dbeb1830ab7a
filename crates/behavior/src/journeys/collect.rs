//! What the aggregate gives of each customer: the states of all visits, one after the other.

use crate::events::PerCustomer;
use crate::history::{Duplicates, Event, Flawed, History, sessions_of};
use arrow::array::{ArrayRef, ListBuilder, UInt16Builder};
use arrow::datatypes::{DataType, Field};
use datafusion::error::Result;
use std::sync::Arc;

/// Between two visits.
pub(super) const ANOTHER_VISIT: u16 = u16::MAX;

/// States of visits, from the states of events.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Paths {
    pub(super) duplicates: Duplicates,
    /// Microseconds without an event after which another visit begins.
    pub(super) session_gap: i64,
    /// Microseconds since 1970.
    pub(super) as_of: i64,
}

/// Lists of states that grow by a customer at a time.
pub(super) struct PathLists(ListBuilder<UInt16Builder>);

impl PerCustomer for Paths {
    type Table = PathLists;

    fn data_type(&self) -> DataType {
        DataType::List(Arc::new(Field::new_list_field(DataType::UInt16, true)))
    }

    fn table(&self, _: usize) -> PathLists {
        PathLists(ListBuilder::new(UInt16Builder::new()))
    }

    fn add(&self, events: &mut Vec<Event>, _: Flawed, table: &mut PathLists) {
        self.duplicates.remove_from(events);
        let mut rest = events.as_slice();
        for (visit, session) in sessions_of(&History { events, as_of: self.as_of }, self.session_gap).iter().enumerate()
        {
            let (own, others) = rest.split_at(session.n_events as usize);
            rest = others;
            if visit > 0 {
                table.0.values().append_value(ANOTHER_VISIT);
            }
            // What has no name is no state.
            for event in own.iter().filter(|event| event.state > 0) {
                table.0.values().append_value((event.state - 1) as u16);
            }
        }
        table.0.append(true);
    }

    fn finish(&self, mut table: PathLists) -> Result<ArrayRef> {
        Ok(Arc::new(table.0.finish()))
    }
}
