//! Why who is taken for whom.

use super::{Links, Rules, Seen};
use std::collections::BTreeMap;

/// What an id says of a person.
#[derive(Debug, Clone, PartialEq)]
pub struct Evidence {
    /// A cookie, or a customer who has another name as a person.
    pub id: String,
    /// What the id is.
    pub kind: IdKind,
    /// Whose it is, or who had it among others.
    pub person: String,
    /// Events with the id during which the person was logged in.
    pub n_events: u64,
    /// Their share of all events with the id during which anyone was.
    pub confidence: f64,
    /// Whether others were logged in with it: then only visits during which the person was are theirs.
    pub is_shared: bool,
}

/// Kinds of ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum IdKind {
    /// A cookie or installation.
    Anonymous,
    /// A customer who was merged.
    Customer,
}

impl IdKind {
    /// Its name in tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Anonymous => "anonymous",
            Self::Customer => "customer",
        }
    }
}

/// One for each cookie and each person who was logged in with it before `as_of`, and one for each customer who is another person by
/// name; in the order of the kind, the id and the person. Observations that the rules leave out are left out.
pub fn evidence(seen: &[Seen], links: &Links, rules: &Rules) -> Vec<Evidence> {
    let mut on_cookie: BTreeMap<&str, BTreeMap<&str, u64>> = BTreeMap::new();
    let mut of_customer: BTreeMap<&str, u64> = BTreeMap::new();
    for seen in seen.iter().filter(|seen| seen.is_timed) {
        let Some(customer) = &seen.customer else { continue };
        let person = links.person_of_customer(customer);
        let is_apart = |cookie: &String| rules.apart.contains(&(customer.clone(), cookie.clone()));
        if seen.cookie.as_ref().is_some_and(is_apart) {
            continue;
        }
        if person != customer {
            *of_customer.entry(customer).or_default() += seen.n_events;
        }
        let Some(cookie) = &seen.cookie else { continue };
        *on_cookie.entry(cookie).or_default().entry(person).or_default() += seen.n_events;
    }
    let mut all = Vec::new();
    for (cookie, people) in on_cookie {
        let total: u64 = people.values().sum();
        let is_shared = people.len() > 1;
        all.extend(people.into_iter().map(|(person, n_events)| Evidence {
            id: cookie.to_owned(),
            kind: IdKind::Anonymous,
            person: person.to_owned(),
            n_events,
            confidence: n_events as f64 / total as f64,
            is_shared,
        }));
    }
    all.extend(of_customer.into_iter().map(|(customer, n_events)| Evidence {
        id: customer.to_owned(),
        kind: IdKind::Customer,
        person: links.person_of_customer(customer).to_owned(),
        n_events,
        confidence: 1.0,
        is_shared: false,
    }));
    all
}
