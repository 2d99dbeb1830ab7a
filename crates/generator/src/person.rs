//! A person's life as a customer: who they are, and when they come.

use crate::clock::{CANDIDATES, DAY, acceptance};
use crate::persona::{PERSONAS, Persona};
use crate::random::Draws;
use crate::spec::GeneratorSpec;

const YEAR: f64 = 365.0 * DAY as f64;
/// Shape of the gamma distribution of the rates at which people leave, as fitted to CDNOW's customers.
const LEAVING_SHAPE: f64 = 0.606;
/// Devices of a person, by how likely they are.
const DEVICES: [f64; 4] = [0.55, 0.30, 0.11, 0.04];
/// Departments of the shop.
pub(crate) const CATEGORIES: usize = 12;
/// How much people differ in what they like: the shape of the gamma variables that a Dirichlet draw is made of.
const TASTE: f64 = 0.35;

/// Who comes, and for what.
pub(crate) struct Person {
    pub(crate) persona: usize,
    /// Own devices; the shared one is not among them.
    pub(crate) n_devices: usize,
    /// The share of visits to each department.
    pub(crate) taste: [f64; CATEGORIES],
    /// Multiplies prices.
    pub(crate) purse: f64,
    came: i64,
    left: i64,
    /// Orders, visits and calls by microsecond.
    rates: [f64; 3],
}

/// Why somebody comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Purpose {
    Order,
    Look,
    Call,
}

impl Person {
    /// One of the people of a spec whose time is from `start` to `end`.
    pub(crate) fn new(spec: &GeneratorSpec, start: i64, end: i64, draws: &mut Draws) -> Self {
        let persona_idx = draws.pick(&PERSONAS.map(|persona| persona.share));
        let persona: &Persona = &PERSONAS[persona_idx];
        // Those who were there before the log began came at any time of a year before it, or of the log.
        let came = match persona.came_within {
            Some(days) => end - (draws.uniform() * (days * DAY as f64).min((end - start) as f64)) as i64,
            None => start + (draws.uniform() * ((end - start) as f64 + YEAR) - YEAR) as i64,
        };
        let leaving = draws.gamma_of_mean_one(LEAVING_SHAPE) / (persona.years * YEAR);
        // Nobody who is here now left before the log began: they are the customers that a shop knows of.
        let left = came.max(start) + draws.exponential(1.0 / leaving).min(1e18) as i64;
        let purse = draws.lognormal(0.0, 0.5);
        let eagerness = draws.gamma_of_mean_one(persona.order_shape);
        // Who buys more also looks more, and the other way round, but not by as much.
        let curiosity = (eagerness * draws.gamma_of_mean_one(2.0)).sqrt();
        let yearly = [persona.orders * eagerness, persona.visits * curiosity, persona.calls];
        let rates = yearly.map(|rate| rate * spec.activity / YEAR);
        let n_devices = 1 + draws.pick(&DEVICES);
        let taste = std::array::from_fn(|_| draws.gamma_of_mean_one(TASTE));
        Self { persona: persona_idx, n_devices, taste, purse, came, left, rates }
    }

    pub(crate) fn persona(&self) -> &'static Persona {
        &PERSONAS[self.persona]
    }

    /// When the person comes and why, in order.
    pub(crate) fn visits(&self, start: i64, end: i64, draws: &mut Draws) -> Vec<(i64, Purpose)> {
        let mut visits = Vec::new();
        for (purpose, rate) in [Purpose::Order, Purpose::Look, Purpose::Call].into_iter().zip(self.rates) {
            let mean_gap = 1.0 / (rate * CANDIDATES);
            let mut time = self.came.max(start) as f64;
            loop {
                time += draws.exponential(mean_gap);
                if time >= self.left.min(end) as f64 {
                    break;
                }
                if draws.chance(acceptance(time as i64)) {
                    visits.push((time as i64, purpose));
                }
            }
        }
        visits.sort_unstable();
        visits
    }
}
