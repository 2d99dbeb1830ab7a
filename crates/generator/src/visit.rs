//! What somebody does during a visit.

use crate::clock::SECOND;
use crate::event::{Event, Kind};
use crate::person::{CATEGORIES, Person, Purpose};
use crate::random::Draws;

/// Products of a department.
const PRODUCTS: u64 = 400;
/// Slope of how often products are looked at, by their rank.
const ZIPF: f64 = 0.761;
/// Seconds between two events of a visit: mean and standard deviation of the logarithm, and the most, which keeps a visit one visit.
const DWELL: (f64, f64, f64) = (3.2, 1.0, 1_500.0);
/// How often a look becomes a cart that is left behind.
const ABANDONED: f64 = 0.12;
const SEARCH: f64 = 0.25;

/// The events of a visit in order, without who and from where.
pub(crate) fn events(person: &Person, start: i64, purpose: Purpose, order: u64, draws: &mut Draws) -> Vec<Event> {
    let persona = person.persona();
    let mut visit = Visit { time: start, events: Vec::new() };
    if purpose == Purpose::Call {
        visit.does(Kind::Support, draws);
        return visit.events;
    }
    visit.does(Kind::Home, draws);
    let n_views = draws.geometric(persona.views);
    let mut viewed = Vec::new();
    for _ in 0..n_views {
        if draws.chance(SEARCH) {
            visit.does(Kind::Search, draws);
        }
        let category = draws.pick(&person.taste);
        let product = product(category, draws);
        visit.does(Kind::Product, draws).item = product;
        viewed.push(product);
    }
    if purpose == Purpose::Look {
        if draws.chance(ABANDONED) {
            let last = viewed[viewed.len() - 1];
            visit.does(Kind::Cart, draws).item = last;
        }
        return visit.events;
    }
    let n_lines = draws.geometric(persona.lines);
    let chosen: Vec<u64> = (0..n_lines).map(|_| viewed[draws.below(viewed.len() as u64) as usize]).collect();
    for product in &chosen {
        visit.does(Kind::Cart, draws).item = *product;
    }
    visit.does(Kind::Checkout, draws);
    let paid = visit.next_time(draws);
    for product in &chosen {
        let price = draws.lognormal(persona.log_price, 0.7) * person.purse;
        let cents = (price * 100.0).round().clamp(1.0, 1e9) as i64;
        visit.events.push(Event { item: *product, order, cents: Some(cents), ..Event::at(paid, Kind::Purchase) });
    }
    visit.events
}

struct Visit {
    time: i64,
    events: Vec<Event>,
}

impl Visit {
    /// Adds an event, a while after the one before.
    fn does(&mut self, kind: Kind, draws: &mut Draws) -> &mut Event {
        let time = if self.events.is_empty() { self.time } else { self.next_time(draws) };
        self.events.push(Event::at(time, kind));
        let last = self.events.len() - 1;
        &mut self.events[last]
    }

    fn next_time(&mut self, draws: &mut Draws) -> i64 {
        let (mean, deviation, most) = DWELL;
        self.time += (draws.lognormal(mean, deviation).min(most) * SECOND as f64) as i64;
        self.time
    }
}

/// A product of a department: 1 and more, so that 0 is none. Few are looked at often.
fn product(category: usize, draws: &mut Draws) -> u64 {
    // The inverse of a continuous distribution with density rank^-slope.
    let power = 1.0 - ZIPF;
    let top = libm::pow(PRODUCTS as f64 + 1.0, power) - 1.0;
    let rank = libm::pow(1.0 + draws.uniform() * top, 1.0 / power) as u64;
    1 + category as u64 * PRODUCTS + rank.clamp(1, PRODUCTS) - 1
}

/// The department of a product.
pub(crate) fn category(product: u64) -> u64 {
    ((product - 1) / PRODUCTS).min(CATEGORIES as u64 - 1)
}
