//! How often a customer needs help.

use super::{Family, Need, Settings};
use crate::day::DAY;
use crate::history::History;
use shoal_domain::events::EventKind;

/// - `support_contacts`: tickets, chats and calls; `support_contacts_90` those of the last 90 days before `as_of`.
/// - `support_share`: their share of all events.
pub(super) const FAMILY: Family =
    Family { names: &["support_contacts", "support_contacts_90", "support_share"], need: Need::Nothing, measure };

fn measure(history: &History<'_>, _: &Settings, values: &mut [f64]) {
    let contacts = || history.events.iter().filter(|event| event.kind == EventKind::Support);
    values[0] = contacts().count() as f64;
    values[1] = contacts().filter(|event| event.time >= history.as_of - 90 * DAY).count() as f64;
    values[2] = values[0] / history.events.len() as f64;
}
