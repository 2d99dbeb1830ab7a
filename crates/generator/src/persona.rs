//! Kinds of customers: the segments that there are to be found.

/// How customers of one kind behave. Rates differ from person to person, as in the Pareto/NBD model (Schmittlein, Morrison & Colombo
/// 1987): purchases come at a gamma-distributed rate until the person leaves, after an exponential time whose rate is gamma-distributed too.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Persona {
    /// What the truth calls it.
    pub name: &'static str,
    /// Its share of all people.
    pub share: f64,
    /// Mean orders a year, while the person is there.
    pub orders: f64,
    /// Shape of the gamma distribution of order rates: the smaller, the more they differ.
    pub order_shape: f64,
    /// Mean years until the person leaves.
    pub years: f64,
    /// Mean visits a year without an order.
    pub visits: f64,
    /// Mean views of a visit.
    pub views: f64,
    /// Mean lines of an order.
    pub lines: f64,
    /// Mean logarithm of the price of a line, in the currency's unit.
    pub log_price: f64,
    /// The probability of being logged in during a visit without an order.
    pub login: f64,
    /// Mean calls for support a year.
    pub calls: f64,
    /// Came within so many days before the end, or at any time.
    pub came_within: Option<f64>,
}

/// They overlap: nobody can tell all of them apart by what they do.
pub const PERSONAS: [Persona; 6] = [
    Persona {
        name: "loyal",
        share: 0.16,
        orders: 9.0,
        order_shape: 3.0,
        years: 4.0,
        visits: 14.0,
        views: 4.0,
        lines: 2.2,
        log_price: 3.2,
        login: 0.8,
        calls: 0.3,
        came_within: None,
    },
    Persona {
        name: "power",
        share: 0.06,
        orders: 14.0,
        order_shape: 2.0,
        years: 3.0,
        visits: 70.0,
        views: 8.0,
        lines: 3.0,
        log_price: 3.6,
        login: 0.95,
        calls: 0.8,
        came_within: None,
    },
    Persona {
        name: "bargain hunter",
        share: 0.20,
        orders: 3.5,
        order_shape: 1.5,
        years: 2.0,
        visits: 18.0,
        views: 6.0,
        lines: 1.6,
        log_price: 2.3,
        login: 0.5,
        calls: 0.4,
        came_within: None,
    },
    Persona {
        name: "window shopper",
        share: 0.28,
        orders: 0.5,
        order_shape: 0.6,
        years: 1.2,
        visits: 9.0,
        views: 5.0,
        lines: 1.2,
        log_price: 3.0,
        login: 0.35,
        calls: 0.05,
        came_within: None,
    },
    Persona {
        name: "lapsing",
        share: 0.18,
        orders: 6.0,
        order_shape: 1.2,
        years: 0.25,
        visits: 10.0,
        views: 4.0,
        lines: 1.8,
        log_price: 3.1,
        login: 0.6,
        calls: 1.2,
        came_within: None,
    },
    Persona {
        name: "new",
        share: 0.12,
        orders: 5.0,
        order_shape: 1.0,
        years: 1.5,
        visits: 12.0,
        views: 5.0,
        lines: 1.7,
        log_price: 3.0,
        login: 0.55,
        calls: 0.3,
        came_within: Some(60.0),
    },
];
