//! Events that were told twice.

use super::Event;

/// How repetitions are known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Duplicates {
    /// Events of one message are one event.
    pub by_message: bool,
    /// Equal events at most so many microseconds after one that stays are not counted again.
    pub within: Option<i64>,
}

/// How many events were removed by which rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Removed {
    /// Told by a message that was there before.
    pub by_message: u64,
    /// Equal to one shortly before.
    pub near: u64,
}

impl Duplicates {
    /// Removes repetitions from one customer's events and leaves the rest in order. Of one message the earliest event stays; of equal
    /// events those stay that are more than `within` after the last one that stayed.
    pub fn remove_from(&self, events: &mut Vec<Event>) -> Removed {
        let mut removed = Removed::default();
        if self.by_message {
            let before = events.len();
            events.sort_unstable_by_key(|event| (event.message, *event));
            events.dedup_by(|event, kept| event.message == kept.message && event.message != 0);
            removed.by_message = (before - events.len()) as u64;
        }
        if let Some(within) = self.within {
            let before = events.len();
            let content = |event: &Event| (event.kind, event.order, event.amount, event.item);
            events.sort_unstable_by_key(|event| (content(event), *event));
            events.dedup_by(|event, kept| content(event) == content(kept) && event.time - kept.time <= within);
            removed.near = (before - events.len()) as u64;
        }
        events.sort_unstable();
        removed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use shoal_domain::events::EventKind;

    fn event(time: i64, item: i64, message: i64) -> Event {
        Event { time, sequence: 0, kind: EventKind::Click, order: 0, amount: 0, item, state: 0, message }
    }

    fn check(rule: Duplicates, events: &[Event], kept: &[Event], removed: Removed) {
        let mut left = events.to_vec();
        left.reverse();
        assert_eq!(rule.remove_from(&mut left), removed);
        assert_eq!(left, kept);
    }

    #[test]
    fn a_message_counts_once_and_none_is_no_message() {
        let rule = Duplicates { by_message: true, within: None };
        let events = [event(1, 5, 9), event(2, 5, 0), event(3, 5, 0), event(4, 6, 9), event(5, 5, 8)];
        let kept = [events[0], events[1], events[2], events[4]];
        check(rule, &events, &kept, Removed { by_message: 1, near: 0 });
    }

    #[test]
    fn equal_events_count_again_only_after_a_while() {
        let rule = Duplicates { by_message: false, within: Some(2) };
        // The one at 3 is 2 after the first, the one at 4 is 3 after it: what was removed does not hide what follows.
        let events = [event(1, 5, 1), event(2, 6, 2), event(3, 5, 3), event(4, 5, 4), event(7, 5, 5)];
        let kept = [events[0], events[1], events[3], events[4]];
        check(rule, &events, &kept, Removed { by_message: 0, near: 1 });
    }
}
