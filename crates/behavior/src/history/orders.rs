//! Orders: purchases that belong together.

use super::History;
use shoal_domain::events::EventKind;

/// What a customer bought at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Order {
    /// The time of its first purchase, in microseconds.
    pub time: i64,
    /// The time of its last purchase.
    pub last: i64,
    /// Millionths of the sum of what was paid.
    pub amount: i128,
}

/// The orders of a history, by the time of their first purchase. A purchase without an order is one by itself.
pub fn orders_of(history: &History<'_>) -> Vec<Order> {
    let purchases = history.events.iter().filter(|event| event.kind == EventKind::Purchase);
    let mut lines: Vec<_> = purchases.map(|event| (event.order, event.time, event.amount)).collect();
    lines.sort_unstable();
    let mut orders: Vec<Order> = Vec::new();
    let mut last_id = 0;
    for (id, time, amount) in lines {
        match orders.last_mut() {
            Some(order) if id == last_id && id != 0 => {
                order.last = time;
                order.amount += i128::from(amount);
            }
            _ => orders.push(Order { time, last: time, amount: i128::from(amount) }),
        }
        last_id = id;
    }
    orders.sort_unstable();
    orders
}
