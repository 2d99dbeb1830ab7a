//! Features of a history: what each is, in one place a family.
//!
//! A family computes its features together, since they look at the same sessions or orders. A feature that is not defined for a
//! customer, such as the time between purchases of one who bought once, is NaN here and missing in tables.

mod activity;
mod engagement;
mod purchases;
mod series;
mod sessions;
mod spending;
mod support;
mod usage;

use crate::history::History;
use shoal_domain::events::{EventKind, EventsSpec};

/// What features need to know besides the history.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// Microseconds without an event after which another session begins.
    pub session_gap: i64,
    /// How much an event of each kind counts for engagement, by the kind's number.
    pub weights: [f64; EventKind::ALL.len()],
    /// Microseconds after which an event counts half.
    pub half_life: f64,
}

impl Settings {
    /// Those of a job.
    pub fn of(spec: &EventsSpec) -> Self {
        let weight = |kind| spec.engagement.weights.get(&kind).copied().unwrap_or(1.0);
        Self {
            session_gap: (spec.session_gap_minutes * 60e6) as i64,
            weights: EventKind::ALL.map(weight),
            half_life: spec.engagement.half_life_days * crate::day::DAY as f64,
        }
    }
}

/// A column that a log may not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// None.
    Nothing,
    /// What was paid.
    Amounts,
    /// What events are about.
    Items,
}

/// Features that are computed together.
#[derive(Debug, Clone, Copy)]
pub struct Family {
    /// Their names.
    pub names: &'static [&'static str],
    /// What they need of the log.
    pub need: Need,
    /// Fills one value for each name.
    measure: fn(&History<'_>, &Settings, &mut [f64]),
}

/// All families, in the order of the columns.
pub const FAMILIES: [Family; 7] = [
    purchases::FAMILY,
    spending::FAMILY,
    activity::FAMILY,
    sessions::FAMILY,
    usage::FAMILY,
    engagement::FAMILY,
    support::FAMILY,
];

impl Family {
    /// Computes the features of a customer.
    pub fn measure(&self, history: &History<'_>, settings: &Settings, values: &mut [f64]) {
        debug_assert_eq!(values.len(), self.names.len());
        (self.measure)(history, settings, values);
    }
}
