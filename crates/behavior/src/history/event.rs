//! One customer's events, in order.

use crate::day::DAY;
use shoal_domain::events::EventKind;

/// What a customer did at one moment. The order of the fields is the order of events, so that what happened at the same time is
/// always in the same order, however it was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Event {
    /// Microseconds since 1970, UTC.
    pub time: i64,
    /// Where it is among events of the same time; 0 where nothing says so.
    pub sequence: i64,
    /// What it was.
    pub kind: EventKind,
    /// A hash of the order of a purchase; 0 without one.
    pub order: i64,
    /// Millionths of what was paid.
    pub amount: i64,
    /// A hash of what it was about; 0 for nothing.
    pub item: i64,
    /// What a journey goes through, from 1; 0 for nothing.
    pub state: i64,
    /// A hash of the message that told of it; 0 without one.
    pub message: i64,
}

/// Events of a customer that were left out, or are told of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Flawed {
    /// Nobody knows whose they are.
    pub no_customer: u64,
    /// It is not said when they were.
    pub no_time: u64,
    /// Purchases of which it is not said what was paid.
    pub no_amount: u64,
    /// They are not as the tracking plan has them.
    pub against_plan: u64,
    /// Events that count, of a kind that nobody knows.
    pub unknown_kind: u64,
}

/// What a customer did before a point in time, without repetitions: what features are made of.
#[derive(Debug, Clone, Copy)]
pub struct History<'a> {
    /// Ascending, all before `as_of`.
    pub events: &'a [Event],
    /// Microseconds since 1970, UTC.
    pub as_of: i64,
}

impl History<'_> {
    /// Whole days from a time to `as_of`.
    pub(crate) fn days_since(&self, time: i64) -> f64 {
        ((self.as_of - time) / DAY) as f64
    }
}
