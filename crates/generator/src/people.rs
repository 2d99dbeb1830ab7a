//! People one after the other, each with all that they did: the log in pieces that can be made in any order.

use crate::clock::{DAY, SECOND, days_since_1970};
use crate::dirt::soil;
use crate::event::{Event, Flaws, Kind, Origin};
use crate::person::Person;
use crate::random::Draws;
use crate::spec::{GeneratorError, GeneratorSpec};
use crate::visit;

/// People of one piece.
pub const PIECE_PEOPLE: u64 = 16_384;
/// Programs have numbers from here on, above those of all people.
pub const FIRST_BOT: u64 = 1 << 41;
/// Devices that two people share have numbers from here on.
const FIRST_TABLET: u64 = 1 << 48;
/// A person's own devices.
const DEVICES_OF_PERSON: u64 = 8;
/// How often people delete their cookies, by visit.
const COOKIE_RESET: f64 = 0.02;
/// After how long the cookies of a shared tablet are deleted.
const TABLET_RESET: i64 = 120 * DAY;
/// The share of their visits that people make on a tablet which they share.
const ON_TABLET: f64 = 0.3;
/// Random streams beside those of people.
const SEED_OF_TABLETS: u64 = 0x7ab1;
const SEED_OF_BOTS: u64 = 0xb075;
/// Mean events of a program's visit.
const BOT_VIEWS: f64 = 60.0;

/// The log that a spec describes.
#[derive(Debug, Clone, PartialEq)]
pub struct Log {
    spec: GeneratorSpec,
    start: i64,
    end: i64,
}

/// A person, as the truth knows them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Customer {
    /// The number.
    pub person: u64,
    /// The index of the persona.
    pub persona: usize,
    /// Visits with at least one event in the log.
    pub n_visits: u64,
    /// Orders.
    pub n_orders: u64,
    /// What was paid, less what was paid back.
    pub cents: i64,
}

/// People and what they did.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Piece {
    /// By the time at which they were received.
    pub events: Vec<Event>,
    /// By number.
    pub customers: Vec<Customer>,
}

impl Log {
    /// Checks the spec.
    pub fn new(spec: GeneratorSpec) -> Result<Self, GeneratorError> {
        spec.check()?;
        let start = days_since_1970(&spec.start).map_or(0, |day| day * DAY);
        let end = start + i64::from(spec.n_days) * DAY;
        Ok(Self { spec, start, end })
    }

    /// How many pieces there are.
    pub fn n_pieces(&self) -> u64 {
        self.spec.n_customers.div_ceil(PIECE_PEOPLE)
    }

    /// One piece, whatever others were made before.
    pub fn piece(&self, number: u64) -> Piece {
        let first = number * PIECE_PEOPLE;
        let last = (first + PIECE_PEOPLE).min(self.spec.n_customers);
        let mut piece = Piece::default();
        for person in first..last {
            self.live(person, &mut piece);
        }
        let n_visits: u64 = piece.customers.iter().map(|customer| customer.n_visits).sum();
        self.add_bots(number, (n_visits as f64 * self.spec.dirt.bots).round() as u64, &mut piece.events);
        piece.events.sort_unstable();
        piece
    }

    /// Adds a person and their events.
    fn live(&self, number: u64, piece: &mut Piece) {
        let draws = &mut Draws::new(self.spec.seed, number);
        let person = Person::new(&self.spec, self.start, self.end, draws);
        let tablet = self.tablet_of(number);
        let mut cookies = [0u32; DEVICES_OF_PERSON as usize];
        let skews: Vec<i64> = (0..person.n_devices).map(|_| self.skew(draws)).collect();
        let mut customer = Customer { person: number, persona: person.persona, n_visits: 0, n_orders: 0, cents: 0 };
        let mut events = Vec::new();
        for (start, purpose) in person.visits(self.start, self.end, draws) {
            let is_order = purpose == crate::person::Purpose::Order;
            customer.n_orders += u64::from(is_order);
            let mut visit = visit::events(&person, start, purpose, customer.n_orders, draws);
            // What is not over by the end of the log is not in it.
            if visit.last().is_some_and(|last| last.received >= self.end) {
                customer.n_orders -= u64::from(is_order);
                continue;
            }
            let device = draws.below(person.n_devices as u64);
            let on_tablet = tablet.filter(|_| draws.chance(ON_TABLET));
            let reset = draws.chance(COOKIE_RESET);
            cookies[device as usize] += u32::from(reset);
            let login = is_order || draws.chance(person.persona().login);
            let login_at = if self.spec.always_logged_in {
                0
            } else if login {
                draws.below(visit.len() as u64 / 2 + 1) as usize
            } else {
                usize::MAX
            };
            let (device_number, cookie, skew) = match on_tablet {
                Some(tablet) => (tablet, ((start - self.start) / TABLET_RESET) as u32, 0),
                None => (number * DEVICES_OF_PERSON + device, cookies[device as usize], skews[device as usize]),
            };
            for (position, event) in visit.iter_mut().enumerate() {
                let logged_in = position >= login_at;
                event.origin = Origin { device: device_number, cookie, logged_in };
                event.time = event.time.map(|time| time + skew);
                event.flaws.skewed = skew != 0;
                event.visit = customer.n_visits as u32;
                event.person = number;
            }
            customer.n_visits += 1;
            let refund =
                (is_order && draws.chance(self.spec.dirt.refunds)).then(|| self.refund(&visit, draws)).flatten();
            customer.n_visits += u64::from(refund.is_some());
            events.extend(visit);
            events.extend(refund);
        }
        customer.cents = events.iter().filter_map(|event| event.cents).sum();
        piece.customers.push(customer);
        piece.events.extend(soil(events, &self.spec.dirt, &mut 0, draws));
    }

    /// One line of an order is paid back some days later, by the shop's own system.
    fn refund(&self, visit: &[Event], draws: &mut Draws) -> Option<Event> {
        let line = visit.iter().rev().find(|event| event.kind == Kind::Purchase)?;
        let time = line.received + (draws.lognormal(2.0, 0.5) * DAY as f64) as i64;
        let cents = line.cents.map(|cents| -cents);
        let refund = Event { received: time, time: Some(time), cents, visit: line.visit + 1, ..*line };
        (time < self.end).then_some(refund)
    }

    /// The tablet that a person shares with the one whose number differs in the last bit.
    fn tablet_of(&self, person: u64) -> Option<u64> {
        let pair = person / 2;
        let shares = Draws::new(self.spec.seed ^ SEED_OF_TABLETS, pair).chance(self.spec.dirt.shared_tablets);
        shares.then_some(FIRST_TABLET + pair)
    }

    /// By how much a device's clock is wrong.
    fn skew(&self, draws: &mut Draws) -> i64 {
        match draws.chance(self.spec.dirt.skewed_clocks) {
            true => ((2.0 * draws.uniform() - 1.0) * 7_200.0) as i64 * SECOND,
            false => 0,
        }
    }

    /// Visits by programs: many views with no time to look at any of them.
    fn add_bots(&self, piece: u64, n_visits: u64, events: &mut Vec<Event>) {
        for number in 0..n_visits {
            let bot = FIRST_BOT + piece * (1 << 20) + number;
            let draws = &mut Draws::new(self.spec.seed ^ SEED_OF_BOTS, bot);
            let mut time = self.start + draws.below((self.end - self.start) as u64) as i64;
            let n_views = draws.geometric(BOT_VIEWS);
            for message in 0..n_views {
                if time >= self.end {
                    break;
                }
                let item = 1 + draws.below(4_800);
                let origin = Origin { device: bot, cookie: 0, logged_in: false };
                let flaws = Flaws { bot: true, ..Flaws::default() };
                events.push(Event { item, origin, flaws, person: bot, message, ..Event::at(time, Kind::Product) });
                time += SECOND;
            }
        }
    }
}
