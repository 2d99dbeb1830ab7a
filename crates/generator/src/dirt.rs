//! What goes wrong on an event's way to the log.

use crate::clock::{DAY, SECOND};
use crate::event::{Event, Flaws, Kind};
use crate::random::Draws;
use crate::spec::DirtSpec;

/// How long an event takes to the collector when nothing is wrong.
const ON_THE_WAY: f64 = 0.3 * SECOND as f64;

/// The events of one person as the collector gets them; `next_message` numbers them.
pub(crate) fn soil(events: Vec<Event>, dirt: &DirtSpec, next_message: &mut u64, draws: &mut Draws) -> Vec<Event> {
    let mut received = Vec::with_capacity(events.len() + events.len() / 16);
    for mut event in events {
        number(&mut event, next_message);
        event.received += draws.exponential(ON_THE_WAY) as i64;
        if draws.chance(dirt.late) {
            // Mostly hours, sometimes many days.
            event.received += (draws.lognormal(9.0, 1.5) * SECOND as f64).min(60.0 * DAY as f64) as i64;
            event.flaws.late = true;
        }
        let fires_twice = draws.chance(dirt.double_fires);
        forget(&mut event, dirt, draws);
        if draws.chance(dirt.retries) {
            let again = event.received + draws.exponential(20.0 * SECOND as f64) as i64;
            received.push(Event { received: again, flaws: Flaws { retry: true, ..event.flaws }, ..event });
        }
        if fires_twice {
            let later = 1 + draws.below(1_500_000) as i64;
            let mut second =
                Event { received: event.received + later, time: event.time.map(|time| time + later), ..event };
            second.flaws.double_fire = true;
            number(&mut second, next_message);
            received.push(second);
        }
        received.push(event);
    }
    received
}

fn number(event: &mut Event, next_message: &mut u64) {
    event.message = *next_message;
    *next_message += 1;
}

/// Leaves out what the log should have.
fn forget(event: &mut Event, dirt: &DirtSpec, draws: &mut Draws) {
    if event.kind == Kind::Purchase && draws.chance(dirt.missing_amounts) {
        event.cents = None;
        event.flaws.incomplete = true;
    }
    if event.item != 0 && draws.chance(dirt.missing_items) {
        event.item = 0;
        event.flaws.incomplete = true;
    }
    if draws.chance(dirt.missing_times) {
        event.time = None;
        event.flaws.incomplete = true;
    }
}
