//! What is generated.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// A shop on the web and its customers, for so many days.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct GeneratorSpec {
    /// People.
    pub n_customers: u64,
    /// The first day, `YYYY-MM-DD`.
    pub start: String,
    /// How many days.
    pub n_days: u32,
    /// Seed of every random choice.
    pub seed: u64,
    /// Multiplies how often everybody visits and buys.
    pub activity: f64,
    /// Everybody is logged in all the time, so that the log knows whose every event is.
    pub always_logged_in: bool,
    /// What goes wrong on the way of an event to its file.
    pub dirt: DirtSpec,
}

impl Default for GeneratorSpec {
    fn default() -> Self {
        Self {
            n_customers: 10_000,
            start: "2025-01-01".to_owned(),
            n_days: 365,
            seed: 0,
            activity: 1.0,
            always_logged_in: false,
            dirt: DirtSpec::default(),
        }
    }
}

/// The share of events, devices or sessions that something is wrong with.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct DirtSpec {
    /// Events that are sent twice by one message.
    pub retries: f64,
    /// Events that fire twice, at most 1.5 seconds apart, as two messages.
    pub double_fires: f64,
    /// Events that are received hours or days late.
    pub late: f64,
    /// Devices whose clock is up to two hours wrong.
    pub skewed_clocks: f64,
    /// Purchase lines without an amount.
    pub missing_amounts: f64,
    /// Events without an item.
    pub missing_items: f64,
    /// Events without a time.
    pub missing_times: f64,
    /// Visits by programs, by the visits of people: no pause, and long.
    pub bots: f64,
    /// Customers who share a tablet with another one.
    pub shared_tablets: f64,
    /// Orders that are sent back and paid back.
    pub refunds: f64,
}

impl Default for DirtSpec {
    fn default() -> Self {
        Self {
            retries: 0.02,
            double_fires: 0.01,
            late: 0.01,
            skewed_clocks: 0.02,
            missing_amounts: 0.002,
            missing_items: 0.01,
            missing_times: 0.001,
            bots: 0.03,
            shared_tablets: 0.04,
            refunds: 0.03,
        }
    }
}

impl DirtSpec {
    /// Nothing wrong at all.
    pub const NONE: Self = Self {
        retries: 0.0,
        double_fires: 0.0,
        late: 0.0,
        skewed_clocks: 0.0,
        missing_amounts: 0.0,
        missing_items: 0.0,
        missing_times: 0.0,
        bots: 0.0,
        shared_tablets: 0.0,
        refunds: 0.0,
    };

    fn rates(&self) -> [f64; 10] {
        let Self {
            retries,
            double_fires,
            late,
            skewed_clocks,
            missing_amounts,
            missing_items,
            missing_times,
            bots,
            shared_tablets,
            refunds,
        } = *self;
        [
            retries,
            double_fires,
            late,
            skewed_clocks,
            missing_amounts,
            missing_items,
            missing_times,
            bots,
            shared_tablets,
            refunds,
        ]
    }
}

/// What makes a spec impossible.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum GeneratorError {
    /// A field is out of its range.
    #[error("{field}: {reason}")]
    Field {
        /// The field.
        field: &'static str,
        /// What would be right.
        reason: &'static str,
    },
}

/// The most people: their numbers and those of their devices are laid out for it.
const MAX_CUSTOMERS: u64 = 1 << 40;
/// Thousands of visits a day.
const MAX_ACTIVITY: f64 = 1_000.0;
/// Some hundred years.
const MAX_DAYS: u32 = 36_500;

impl GeneratorSpec {
    /// Checks ranges.
    pub fn check(&self) -> Result<(), GeneratorError> {
        let wrong = |field, reason| Err(GeneratorError::Field { field, reason });
        if !(1..=MAX_CUSTOMERS).contains(&self.n_customers) {
            return wrong("n_customers", "must be from 1 to 2^40");
        }
        if !(1..=MAX_DAYS).contains(&self.n_days) {
            return wrong("n_days", "must be from 1 to 36500");
        }
        if !(self.activity > 0.0 && self.activity <= MAX_ACTIVITY) {
            return wrong("activity", "must be above 0, and at most 1000");
        }
        if crate::clock::days_since_1970(&self.start).is_none() {
            return wrong("start", "must be a date like 2025-01-01");
        }
        match self.dirt.rates().iter().all(|rate| (0.0..=1.0).contains(rate)) {
            true => Ok(()),
            false => wrong("dirt", "must be shares from 0 to 1"),
        }
    }
}
