//! How much of what there is a customer uses.

use super::{Family, Need, Settings};
use crate::history::History;

/// - `items`: distinct pages, products or features, the breadth of use.
/// - `item_entropy`: Shannon's entropy of the shares of their events, in bits: 0 for who uses one thing only.
/// - `item_gini`: Gini's coefficient of their events: 0 for who uses all of theirs alike.
pub(super) const FAMILY: Family = Family { names: &["items", "item_entropy", "item_gini"], need: Need::Items, measure };

fn measure(history: &History<'_>, _: &Settings, values: &mut [f64]) {
    let counts = counts(history);
    let total = counts.iter().sum::<u64>() as f64;
    let share = |count: &u64| *count as f64 / total;
    // Ascending counts: the same additions in the same order, whatever the items are called.
    let entropy: f64 = counts.iter().map(|count| -share(count) * libm::log2(share(count))).sum();
    let ranked: f64 = (1u64..).zip(&counts).map(|(rank, count)| (rank * count) as f64).sum();
    let n_items = counts.len() as f64;
    values[0] = n_items;
    (values[1], values[2]) = match counts.is_empty() {
        true => (f64::NAN, f64::NAN),
        // Plus zero, since one item has a negative one.
        false => (entropy + 0.0, 2.0 * ranked / (n_items * total) - (n_items + 1.0) / n_items),
    };
}

/// Events of each item, ascending. Events about nothing do not count.
fn counts(history: &History<'_>) -> Vec<u64> {
    let mut items: Vec<i64> = history.events.iter().map(|event| event.item).filter(|item| *item != 0).collect();
    items.sort_unstable();
    let mut counts: Vec<u64> = items.chunk_by(|one, other| one == other).map(|same| same.len() as u64).collect();
    counts.sort_unstable();
    counts
}
