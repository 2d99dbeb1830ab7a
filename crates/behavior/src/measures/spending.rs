//! How much customers pay.

use super::series::{mean, median, slope};
use super::{Family, Need, Settings};
use crate::history::{History, orders_of};

/// - `monetary`: the sum of what was paid, refunds included. Added as whole numbers, so in no order.
/// - `order_value`, `order_value_median`: mean and median of what was paid for an order. Orders of nothing and refunds count as they are.
/// - `order_value_trend`: by how much each order is larger than the one before, by least squares.
pub(super) const FAMILY: Family = Family {
    names: &["monetary", "order_value", "order_value_median", "order_value_trend"],
    need: Need::Amounts,
    measure,
};

fn measure(history: &History<'_>, _: &Settings, values: &mut [f64]) {
    let orders = orders_of(history);
    let amounts: Vec<f64> = orders.iter().map(|order| order.amount as f64 / 1e6).collect();
    values[0] = orders.iter().map(|order| order.amount).sum::<i128>() as f64 / 1e6;
    values[1] = mean(&amounts);
    values[2] = median(&amounts);
    values[3] = slope(&amounts);
}
