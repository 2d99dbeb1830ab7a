//! What kind of thing an event's name stands for.

use shoal_domain::events::EventKind;
use std::collections::BTreeMap;

/// Names that are understood without being listed, in lower case with underscores: our kinds, Segment's calls and e-commerce events, and
/// Google Analytics' recommended events.
const KNOWN: [(EventKind, &[&str]); 7] = [
    (
        EventKind::PageView,
        &[
            "page_view",
            "page",
            "pageview",
            "product_viewed",
            "product_list_viewed",
            "cart_viewed",
            "view_item",
            "view_item_list",
            "view_cart",
        ],
    ),
    (EventKind::Screen, &["screen", "screen_view"]),
    (
        EventKind::Click,
        &[
            "click",
            "product_clicked",
            "products_searched",
            "promotion_clicked",
            "select_item",
            "select_content",
            "select_promotion",
            "search",
        ],
    ),
    (EventKind::Cart, &["cart", "add_to_cart", "product_added"]),
    (EventKind::Purchase, &["purchase", "order_completed", "in_app_purchase"]),
    (EventKind::Support, &["support", "ticket", "chat", "call"]),
    (EventKind::Other, &["other", "identify", "group", "alias"]),
];

/// Names of events by kind.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Kinds {
    /// As they are written.
    listed: BTreeMap<String, EventKind>,
    /// In lower case with underscores.
    known: BTreeMap<&'static str, EventKind>,
}

impl Kinds {
    /// What the job lists, and what is known beside it.
    pub(super) fn new(listed: &BTreeMap<EventKind, Vec<String>>) -> Self {
        let listed = listed.iter().flat_map(|(kind, names)| names.iter().map(|name| (name.clone(), *kind)));
        let known = KNOWN.iter().flat_map(|(kind, names)| names.iter().map(|name| (*name, *kind)));
        Self { listed: listed.collect(), known: known.collect() }
    }

    /// The kind of an event by its name, if anyone knows it.
    pub(super) fn of(&self, name: &str) -> Option<EventKind> {
        let known = || {
            let plain = name.trim().to_lowercase().replace([' ', '-'], "_");
            self.known.get(plain.as_str()).copied()
        };
        self.listed.get(name).copied().or_else(known)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listed_name_goes_before_a_known_one() {
        let listed = BTreeMap::from([(EventKind::Support, vec!["purchase".to_owned(), "Rückruf".to_owned()])]);
        let kinds = Kinds::new(&listed);
        let cases = [
            ("purchase", EventKind::Support),
            ("Rückruf", EventKind::Support),
            ("Order Completed", EventKind::Purchase),
            ("add_to_cart", EventKind::Cart),
            ("PAGE", EventKind::PageView),
            ("Other", EventKind::Other),
        ];
        for (name, kind) in cases {
            assert_eq!(kinds.of(name), Some(kind), "{name}");
        }
        assert_eq!([kinds.of("Product Removed"), kinds.of("")], [None, None]);
    }
}
