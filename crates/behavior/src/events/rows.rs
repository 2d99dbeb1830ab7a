//! Events of many customers, in the order in which they came.

use super::functions::{AGAINST_PLAN, UNKNOWN_KIND};
use crate::history::{Event, Flawed};
use shoal_domain::events::EventKind;

/// Which columns events have beside time and kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Columns {
    /// What events of the same time are in order by.
    pub(crate) sequence: bool,
    /// Orders and amounts of purchases.
    pub(crate) orders: bool,
    /// What events are about.
    pub(crate) items: bool,
    /// What journeys go through.
    pub(crate) states: bool,
    /// Messages that told of them.
    pub(crate) messages: bool,
}

impl Columns {
    /// Columns as they are kept, time and kind in one.
    pub(super) fn count(self) -> usize {
        1 + usize::from(self.sequence)
            + 2 * usize::from(self.orders)
            + usize::from(self.items)
            + usize::from(self.states)
            + usize::from(self.messages)
    }
}

/// A time is kept with what the event is in its lowest bits: 8 bytes less an event. What is left are times of 18,000 years around 1970.
const TIME_SHIFT: u32 = 4;
const MARKS: i64 = 1 << TIME_SHIFT;
/// Marks of events with a flaw, beside [`AGAINST_PLAN`]; those below are kinds.
const NO_TIME: i64 = 8;
const NO_AMOUNT: i64 = 9;

/// Time and kind of an event in one number, or its flaw. Nulls are what is not known; `amount` is null of purchases without one.
pub(super) fn pack(time: Option<i64>, kind: i64, has_amount: bool) -> i64 {
    match time.and_then(|time| time.checked_mul(MARKS)) {
        None => NO_TIME,
        Some(_) if kind == EventKind::Purchase as i64 && !has_amount => NO_AMOUNT,
        Some(time) => time | kind,
    }
}

/// The most columns that an event has.
pub(super) const MAX_COLUMNS: usize = 7;

/// Events of a partition: rows and lists of them are counted in 31 bits.
pub(super) const MAX_ROWS: usize = i32::MAX as usize;

/// Rows of a chunk. Memory is taken a chunk at a time: what is there stays where it is, and no more than a chunk is empty.
const CHUNK_ROWS: usize = 1 << 13;

/// Events, each with the number of its customer, row by row: what is looked up is a whole event.
pub(super) struct EventRows {
    columns: Columns,
    chunks: Vec<Chunk>,
}

struct Chunk {
    customers: Vec<u32>,
    /// As many a row as [`Columns::count`].
    values: Vec<i64>,
}

impl EventRows {
    pub(super) fn new(columns: Columns) -> Self {
        debug_assert!(columns.count() <= MAX_COLUMNS);
        Self { columns, chunks: Vec::new() }
    }

    /// Adds an event; `values` are its columns.
    pub(super) fn push(&mut self, customer: usize, values: &[i64]) {
        debug_assert_eq!(values.len(), self.columns.count());
        if self.chunks.last().is_none_or(|chunk| chunk.customers.len() == CHUNK_ROWS) {
            let values = Vec::with_capacity(CHUNK_ROWS * self.columns.count());
            self.chunks.push(Chunk { customers: Vec::with_capacity(CHUNK_ROWS), values });
        }
        if let Some(chunk) = self.chunks.last_mut() {
            chunk
                .customers
                .push(u32::try_from(customer).expect("memory holds fewer than 2^32 customers of a partition"));
            chunk.values.extend_from_slice(values);
        }
    }

    /// How many events there are.
    pub(super) fn len(&self) -> usize {
        self.chunks.last().map_or(0, |last| (self.chunks.len() - 1) * CHUNK_ROWS + last.customers.len())
    }

    /// Bytes that the events take, and will take when they are brought together.
    pub(super) fn n_bytes(&self) -> usize {
        let row = self.columns.count() * size_of::<i64>() + size_of::<u32>() + size_of::<u32>();
        self.chunks.len() * CHUNK_ROWS * row
    }

    fn row(&self, row: usize) -> &[i64] {
        let (width, place) = (self.columns.count(), row % CHUNK_ROWS);
        &self.chunks[row / CHUNK_ROWS].values[place * width..(place + 1) * width]
    }

    fn customers(&self) -> impl Iterator<Item = u32> + '_ {
        self.chunks.iter().flat_map(|chunk| chunk.customers.iter().copied())
    }

    /// Takes the events of the first customers out; the others move up.
    pub(super) fn take(&mut self, n_customers: usize) -> ByCustomer {
        let mut rest = Self::new(self.columns);
        for (row, customer) in self.customers().enumerate() {
            if let Some(customer) = (customer as usize).checked_sub(n_customers) {
                rest.push(customer, self.row(row));
            }
        }
        ByCustomer::new(std::mem::replace(self, rest), n_customers)
    }
}

/// Events brought together by customer, by a counting sort of their row numbers.
pub(super) struct ByCustomer {
    rows: EventRows,
    /// Where the events of each customer begin in `order`, and where those of the last one end.
    starts: Vec<u32>,
    order: Vec<u32>,
}

impl ByCustomer {
    /// Leaves out customers from `n_customers` on.
    fn new(rows: EventRows, n_customers: usize) -> Self {
        let mut starts = vec![0u32; n_customers + 1];
        let is_taken = |customer: &u32| (*customer as usize) < n_customers;
        for customer in rows.customers().filter(is_taken) {
            starts[customer as usize + 1] += 1;
        }
        for customer in 0..n_customers {
            starts[customer + 1] += starts[customer];
        }
        let mut order = vec![0u32; starts[n_customers] as usize];
        let mut next = starts.clone();
        for (row, customer) in rows.customers().enumerate().filter(|(_, customer)| is_taken(customer)) {
            let place = &mut next[customer as usize];
            order[*place as usize] = row as u32;
            *place += 1;
        }
        Self { rows, starts, order }
    }

    fn rows_of(&self, customer: usize) -> &[u32] {
        &self.order[self.starts[customer] as usize..self.starts[customer + 1] as usize]
    }

    /// Puts the events of a customer into `events`, in no order, and tells of those that have a flaw.
    pub(super) fn events_of(&self, customer: usize, events: &mut Vec<Event>) -> Flawed {
        events.clear();
        let mut flawed = Flawed::default();
        let Columns { sequence, orders, items, states, messages } = self.rows.columns;
        for row in self.rows_of(customer) {
            let mut values = self.rows.row(*row as usize).iter().copied();
            let mut next = |is_there: bool| if is_there { values.next().unwrap_or(0) } else { 0 };
            let packed = next(true);
            let sequence = next(sequence);
            let (order, amount, item) = (next(orders), next(orders), next(items));
            let (state, message) = (next(states), next(messages));
            match packed & (MARKS - 1) {
                NO_TIME => flawed.no_time += 1,
                NO_AMOUNT => flawed.no_amount += 1,
                AGAINST_PLAN => flawed.against_plan += 1,
                kind => {
                    flawed.unknown_kind += u64::from(kind == UNKNOWN_KIND);
                    let kind = EventKind::ALL.get(kind as usize).copied().unwrap_or(EventKind::Other);
                    let time = packed >> TIME_SHIFT;
                    events.push(Event { time, sequence, kind, order, amount, item, state, message });
                }
            }
        }
        flawed
    }

    /// How many events each customer has, flawed ones included.
    pub(super) fn lengths(&self) -> impl Iterator<Item = usize> + '_ {
        self.starts.windows(2).map(|pair| (pair[1] - pair[0]) as usize)
    }

    /// The columns, events of one customer together.
    pub(super) fn columns(&self) -> impl Iterator<Item = Vec<i64>> + '_ {
        let column = |column: usize| self.order.iter().map(|row| self.rows.row(*row as usize)[column]).collect();
        (0..self.rows.columns.count()).map(column)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_come_back_by_customer_and_flaws_are_counted() {
        let columns = Columns { sequence: false, orders: true, items: false, states: false, messages: false };
        let mut rows = EventRows::new(columns);
        let purchase = EventKind::Purchase as i64;
        let events = [
            (2, pack(Some(-5), purchase, true), 7, 100),
            (0, pack(Some(9), EventKind::Other as i64, true), 0, 0),
            (2, pack(None, purchase, true), 8, 5),
            (1, pack(Some(3), purchase, false), 8, 0),
            (2, pack(Some(i64::MAX), purchase, true), 8, 5),
        ];
        for (customer, packed, order, amount) in events {
            rows.push(customer, &[packed, order, amount]);
        }
        let mut found = Vec::new();
        let first = rows.take(2);
        assert_eq!(first.events_of(0, &mut found), Flawed::default());
        assert_eq!((found[0].time, found[0].kind), (9, EventKind::Other));
        assert_eq!(first.events_of(1, &mut found), Flawed { no_amount: 1, ..Flawed::default() });
        assert!(found.is_empty());
        // What was the third customer is the first of those that are left.
        let rest = rows.take(1);
        assert_eq!(rest.events_of(0, &mut found), Flawed { no_time: 2, ..Flawed::default() });
        let kind = EventKind::Purchase;
        assert_eq!(
            found,
            [Event { time: -5, sequence: 0, kind, order: 7, amount: 100, item: 0, state: 0, message: 0 }]
        );
    }
}
