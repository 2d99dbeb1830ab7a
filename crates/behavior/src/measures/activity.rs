//! On how many days, and how lately.

use super::{Family, Need, Settings};
use crate::day::DAY;
use crate::history::{Event, History};

/// - `n_events`: events of any kind.
/// - `days_since_active`: whole days from the last event to `as_of`.
/// - `tenure_days`: whole days from the first event to `as_of`.
/// - `active_days`: days (UTC) with an event; `active_days_7` and `active_days_28` those of the last 7 and 28 days before `as_of`,
///   known as L7 and L28 where power users are looked for.
pub(super) const FAMILY: Family = Family {
    names: &["n_events", "days_since_active", "tenure_days", "active_days", "active_days_7", "active_days_28"],
    need: Need::Nothing,
    measure,
};

fn measure(history: &History<'_>, _: &Settings, values: &mut [f64]) {
    let mut days: Vec<i64> = history.events.iter().map(|event| event.time.div_euclid(DAY)).collect();
    days.dedup();
    let end = history.as_of.div_euclid(DAY);
    let within = |n_days: i64| days.iter().rev().take_while(|day| **day >= end - n_days).count() as f64;
    let since = |event: Option<&Event>| event.map_or(f64::NAN, |event| history.days_since(event.time));
    values[0] = history.events.len() as f64;
    values[1] = since(history.events.last());
    values[2] = since(history.events.first());
    values[3] = days.len() as f64;
    values[4] = within(7);
    values[5] = within(28);
}
