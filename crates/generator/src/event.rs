//! An event, and what is true of it.

/// What a customer did, by the name that the log has for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// The first page.
    Home,
    /// A search.
    Search,
    /// A product's page.
    Product,
    /// A product was put into the cart.
    Cart,
    /// The till.
    Checkout,
    /// A line of an order was paid for, or paid back.
    Purchase,
    /// A call for support.
    Support,
}

impl Kind {
    /// The name in the log: Google Analytics' where it has one.
    pub fn name(self) -> &'static str {
        match self {
            Self::Home => "page_view",
            Self::Search => "search",
            Self::Product => "view_item",
            Self::Cart => "add_to_cart",
            Self::Checkout => "begin_checkout",
            Self::Purchase => "purchase",
            Self::Support => "support",
        }
    }
}

/// Where an event came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Origin {
    /// The device's number: people's devices are numbered by person.
    pub device: u64,
    /// How often its cookies had been deleted.
    pub cookie: u32,
    /// Whether the customer was logged in, so that the log knows who it was.
    pub logged_in: bool,
}

/// One row of the log, and the truth about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Event {
    /// When the collector got it, in microseconds since 1970.
    pub received: i64,
    /// The message that told of it: its number among those of the person.
    pub message: u64,
    /// When it was by the device's clock.
    pub time: Option<i64>,
    /// What it was.
    pub kind: Kind,
    /// The product; 0 for none.
    pub item: u64,
    /// The order's number among those of the person, from 1; 0 for none.
    pub order: u64,
    /// What was paid for a line of an order; negative when it was paid back.
    pub cents: Option<i64>,
    /// Where it came from.
    pub origin: Origin,
    /// Whose it is: a person's number, or a program's after those of all people.
    pub person: u64,
    /// The visit's number among those of the person.
    pub visit: u32,
    /// What is wrong with it.
    pub flaws: Flaws,
}

impl Event {
    /// With nothing known of it but time and kind.
    pub(crate) fn at(time: i64, kind: Kind) -> Self {
        Self {
            received: time,
            message: 0,
            time: Some(time),
            kind,
            item: 0,
            order: 0,
            cents: None,
            origin: Origin::default(),
            person: 0,
            visit: 0,
            flaws: Flaws::default(),
        }
    }
}

/// What is wrong with an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Flaws {
    /// Its message was sent before.
    pub retry: bool,
    /// It fired a second time, by another message.
    pub double_fire: bool,
    /// It was received hours or days late.
    pub late: bool,
    /// Its device's clock is wrong.
    pub skewed: bool,
    /// Its time, amount or item is missing though there was one.
    pub incomplete: bool,
    /// A program did it.
    pub bot: bool,
}
