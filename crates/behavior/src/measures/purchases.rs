//! When customers buy.

use super::series::{gaps, mean, median, variation};
use super::{Family, Need, Settings};
use crate::day::DAY;
use crate::history::{History, orders_of};
use shoal_domain::events::EventKind;
use std::collections::HashSet;

const HOUR: f64 = 3_600e6;

/// - `recency`: whole days from the last purchase to `as_of`.
/// - `frequency`: orders.
/// - `order_gap_days`, `order_gap_days_median`: mean and median days from an order to the next one.
/// - `order_gap_variation`: their standard deviation by their mean.
/// - `hours_to_order`: median hours to an order from the first thing that the customer did after the order before, where there is one:
///   from browsing to buying.
pub(super) const FAMILY: Family = Family {
    names: &[
        "recency",
        "frequency",
        "order_gap_days",
        "order_gap_days_median",
        "order_gap_variation",
        "hours_to_order",
    ],
    need: Need::Nothing,
    measure,
};

fn measure(history: &History<'_>, _: &Settings, values: &mut [f64]) {
    let orders = orders_of(history);
    let last = orders.iter().map(|order| order.last).max();
    let gaps = gaps(orders.iter().map(|order| order.time), DAY as f64);
    values[0] = last.map_or(f64::NAN, |last| history.days_since(last));
    values[1] = orders.len() as f64;
    values[2] = mean(&gaps);
    values[3] = median(&gaps);
    values[4] = variation(&gaps);
    values[5] = median(&hours_to_order(history));
}

/// From the first event of another kind after an order, or of all, to the next order's first purchase. Further purchases of an order, and what
/// is paid back, are neither.
fn hours_to_order(history: &History<'_>) -> Vec<f64> {
    let mut hours = Vec::new();
    let mut begun: HashSet<i64> = HashSet::new();
    let mut browsing_since: Option<i64> = None;
    for event in history.events {
        let mut is_first_of_order = || event.order == 0 || begun.insert(event.order);
        if event.kind != EventKind::Purchase {
            browsing_since.get_or_insert(event.time);
        } else if is_first_of_order()
            && let Some(start) = browsing_since.take()
        {
            hours.push((event.time - start) as f64 / HOUR);
        }
    }
    hours
}
