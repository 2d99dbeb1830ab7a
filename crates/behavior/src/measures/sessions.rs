//! How often customers visit, how long and how regularly.

use super::series::{gaps, mean, slope, variation};
use super::{Family, Need, Settings};
use crate::day::DAY;
use crate::history::{History, sessions_of};

const MINUTE: f64 = 60e6;

/// - `sessions`: visits.
/// - `sessions_per_week`: visits by the weeks from the first event to `as_of`, at least one.
/// - `session_minutes`: mean time from a visit's first event to its last.
/// - `session_events`: mean events of a visit, the depth of use.
/// - `session_gap_days`: mean days from the beginning of a visit to the beginning of the next.
/// - `session_gap_variation`: their standard deviation by their mean: 0 for clockwork, 1 for chance.
/// - `session_gap_trend`: by how many days each gap is longer than the one before, by least squares; above 0 for customers who slip away.
pub(super) const FAMILY: Family = Family {
    names: &[
        "sessions",
        "sessions_per_week",
        "session_minutes",
        "session_events",
        "session_gap_days",
        "session_gap_variation",
        "session_gap_trend",
    ],
    need: Need::Nothing,
    measure,
};

fn measure(history: &History<'_>, settings: &Settings, values: &mut [f64]) {
    let sessions = sessions_of(history, settings.session_gap);
    let n_sessions = sessions.len() as f64;
    let first = sessions.first().map_or(history.as_of, |session| session.start);
    let weeks = (history.as_of - first) as f64 / (7 * DAY) as f64;
    let microseconds: i64 = sessions.iter().map(|session| session.end - session.start).sum();
    let starts = sessions.iter().map(|session| session.start);
    let gaps = gaps(starts, DAY as f64);
    values[0] = n_sessions;
    values[1] = n_sessions / weeks.max(1.0);
    values[2] = microseconds as f64 / MINUTE / n_sessions;
    values[3] = history.events.len() as f64 / n_sessions;
    values[4] = mean(&gaps);
    values[5] = variation(&gaps);
    values[6] = slope(&gaps);
}
