//! Visits: events with no long pause between them.

use super::History;

/// One visit of a customer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Session {
    /// The time of its first event, in microseconds.
    pub start: i64,
    /// The time of its last event.
    pub end: i64,
    /// Its events.
    pub n_events: u64,
}

/// The sessions of a history, in order: an event that comes more than `gap` microseconds after the one before begins another one.
pub fn sessions_of(history: &History<'_>, gap: i64) -> Vec<Session> {
    let mut sessions: Vec<Session> = Vec::new();
    for event in history.events {
        match sessions.last_mut() {
            Some(session) if event.time - session.end <= gap => {
                session.end = event.time;
                session.n_events += 1;
            }
            _ => sessions.push(Session { start: event.time, end: event.time, n_events: 1 }),
        }
    }
    sessions
}
