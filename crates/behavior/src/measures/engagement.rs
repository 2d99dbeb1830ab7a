//! One number for how much a customer is there.

use super::{Family, Need, Settings};
use crate::history::History;

/// - `engagement`: the sum of what events weigh by their kind, each halved for every half-life since it happened.
pub(super) const FAMILY: Family = Family { names: &["engagement"], need: Need::Nothing, measure };

fn measure(history: &History<'_>, settings: &Settings, values: &mut [f64]) {
    values[0] = 0.0;
    for event in history.events {
        let half_lives = (history.as_of - event.time) as f64 / settings.half_life;
        values[0] += settings.weights[event.kind as usize] * libm::exp2(-half_lives);
    }
}
