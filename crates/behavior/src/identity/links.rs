//! What was seen together, and who that makes.

use super::union_find::UnionFind;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// How often a customer, or nobody, was seen with a cookie, or without one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// Who was logged in.
    pub customer: Option<String>,
    /// With which cookie.
    pub cookie: Option<String>,
    /// Events.
    pub n_events: u64,
    /// Whether it is known when they were. If not they are counted, and join nobody: they may be later than all that counts.
    pub is_timed: bool,
}

/// What makes two customers one person.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Rules {
    /// Cookies do, unless more customers than this would be one: then all of them stay apart. None at all when absent.
    pub merge_up_to: Option<usize>,
    /// Customers and cookies that are to be taken as never seen together.
    pub apart: BTreeSet<(String, String)>,
}

/// Whose a cookie is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cookie {
    /// One person's.
    Of(String),
    /// Several people's; who had it when, ascending.
    Shared(Vec<Span>),
}

/// A visit during which one person was logged in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Span {
    /// Microseconds of its first event.
    pub start: i64,
    /// Microseconds of its last event.
    pub end: i64,
    /// Who it was.
    pub person: String,
}

/// What stitching did, by count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct IdentityCounts {
    /// Cookies of one person.
    pub n_cookies_of_one: u64,
    /// Cookies with which several people were logged in.
    pub n_cookies_shared: u64,
    /// Cookies with which nobody was.
    pub n_cookies_of_nobody: u64,
    /// Customers who are one person with another one.
    pub n_customers_merged: u64,
    /// Customers who would have been, and are too many for it.
    pub n_customers_too_many: u64,
    /// Events of which nobody knows whose they are, though they have a cookie.
    pub n_visitor_events: u64,
}

/// People by cookie and by customer.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Links {
    cookies: HashMap<String, Cookie>,
    /// Customers who have another name as a person.
    merged: HashMap<String, String>,
    counts: IdentityCounts,
    /// Events without either.
    n_of_nobody: u64,
    /// Anonymous events of shared cookies.
    n_on_shared: u64,
    apart: BTreeSet<(String, String)>,
}

impl Links {
    /// From all that was seen.
    pub fn new(seen: Vec<Seen>, rules: &Rules) -> Self {
        let mut links = Self { apart: rules.apart.clone(), ..Self::default() };
        let mut customers_of: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        let mut anonymous: HashMap<String, u64> = HashMap::new();
        for Seen { customer, cookie, n_events, is_timed } in seen {
            match (customer, cookie) {
                (Some(customer), Some(cookie)) => {
                    let pair = (customer, cookie);
                    let customers = customers_of.entry(pair.1.clone()).or_default();
                    if is_timed && !rules.apart.contains(&pair) {
                        customers.insert(pair.0);
                    }
                }
                (None, Some(cookie)) => *anonymous.entry(cookie).or_default() += n_events,
                (None, None) => links.n_of_nobody += n_events,
                (Some(_), None) => {}
            }
        }
        if let Some(most) = rules.merge_up_to {
            links.merge(&customers_of, most);
        }
        for cookie in anonymous.keys() {
            customers_of.entry(cookie.clone()).or_default();
        }
        for (cookie, customers) in customers_of {
            let people: BTreeSet<&str> = customers.iter().map(|customer| links.person_of_customer(customer)).collect();
            let n_anonymous = anonymous.get(&cookie).copied().unwrap_or(0);
            match people.first().filter(|_| people.len() == 1).map(|person| (*person).to_owned()) {
                Some(person) => {
                    links.counts.n_cookies_of_one += 1;
                    links.cookies.insert(cookie, Cookie::Of(person));
                }
                None if people.is_empty() => {
                    links.counts.n_cookies_of_nobody += 1;
                    links.counts.n_visitor_events += n_anonymous;
                }
                None => {
                    links.counts.n_cookies_shared += 1;
                    links.n_on_shared += n_anonymous;
                    links.cookies.insert(cookie, Cookie::Shared(Vec::new()));
                }
            }
        }
        links
    }

    /// Gives customers who share cookies the name of the first of them, if they are not too many.
    fn merge(&mut self, customers_of: &BTreeMap<String, BTreeSet<String>>, most: usize) {
        let names: BTreeSet<&String> = customers_of.values().flatten().collect();
        let names: Vec<&String> = names.into_iter().collect();
        let numbers: HashMap<&String, usize> = names.iter().enumerate().map(|(number, name)| (*name, number)).collect();
        let mut sets = UnionFind::new(names.len());
        for customers in customers_of.values() {
            let mut customers = customers.iter().map(|customer| numbers[customer]);
            if let Some(first) = customers.next() {
                customers.for_each(|other| sets.unite(first, other));
            }
        }
        let mut members: BTreeMap<usize, Vec<&String>> = BTreeMap::new();
        for (number, name) in names.iter().enumerate() {
            members.entry(sets.root(number)).or_default().push(name);
        }
        for (root, members) in members.into_iter().filter(|(_, members)| members.len() > 1) {
            if members.len() > most {
                self.counts.n_customers_too_many += members.len() as u64;
                continue;
            }
            self.counts.n_customers_merged += members.len() as u64;
            let others = members.into_iter().filter(|name| **name != *names[root]);
            self.merged.extend(others.map(|name| (name.clone(), names[root].clone())));
        }
    }

    /// Who a customer is: of several that are one person, the first by name.
    pub fn person_of_customer<'a>(&'a self, customer: &'a str) -> &'a str {
        self.merged.get(customer).map_or(customer, String::as_str)
    }

    /// Whose an event is.
    pub fn person<'a>(&'a self, customer: Option<&'a str>, cookie: Option<&str>, time: Option<i64>) -> Option<&'a str> {
        if let Some(customer) = customer {
            return Some(self.person_of_customer(customer));
        }
        match self.cookies.get(cookie?)? {
            Cookie::Of(person) => Some(person),
            Cookie::Shared(spans) => {
                let time = time?;
                let after = spans.partition_point(|span| span.start <= time);
                let span = &spans[after.checked_sub(1)?];
                (time <= span.end).then_some(span.person.as_str())
            }
        }
    }

    /// The cookies that several people had.
    pub fn shared(&self) -> impl Iterator<Item = &str> {
        self.cookies.iter().filter(|(_, of)| matches!(of, Cookie::Shared(_))).map(|(cookie, _)| cookie.as_str())
    }

    /// Tells a shared cookie's visits apart: its events in order of time, each with the customer who was logged in, in visits that a gap
    /// of more than `gap` microseconds ends.
    pub fn tell_apart(&mut self, cookie: &str, events: &[(i64, Option<String>)], gap: i64) {
        let visits = events.chunk_by(|one, next| next.0 - one.0 <= gap);
        let spans: Vec<(Span, u64)> = visits.filter_map(|visit| self.span(cookie, visit)).collect();
        self.n_on_shared -= spans.iter().map(|(_, n_anonymous)| n_anonymous).sum::<u64>();
        let spans = spans.into_iter().map(|(span, _)| span).collect();
        self.cookies.insert(cookie.to_owned(), Cookie::Shared(spans));
    }

    /// A visit of one person, and how many of its events are anonymous.
    fn span(&self, cookie: &str, visit: &[(i64, Option<String>)]) -> Option<(Span, u64)> {
        let people: BTreeSet<&str> = visit
            .iter()
            .filter_map(|(_, customer)| customer.as_deref())
            .filter(|customer| {
                self.apart.is_empty() || !self.apart.contains(&((*customer).to_owned(), cookie.to_owned()))
            })
            .map(|it| self.person_of_customer(it))
            .collect();
        let person = (*people.first().filter(|_| people.len() == 1)?).to_owned();
        let n_anonymous = visit.iter().filter(|(_, customer)| customer.is_none()).count() as u64;
        let (start, end) = (visit.first()?.0, visit.last()?.0);
        Some((Span { start, end, person }, n_anonymous))
    }

    /// What was found.
    pub fn counts(&self) -> IdentityCounts {
        let n_visitor_events = self.counts.n_visitor_events + self.n_on_shared;
        IdentityCounts { n_visitor_events, ..self.counts }
    }

    /// Events with neither a customer nor a cookie.
    pub fn n_of_nobody(&self) -> u64 {
        self.n_of_nobody
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(pairs: &[(&str, &str)]) -> Vec<Seen> {
        let some = |text: &str| (text != "-").then(|| text.to_owned());
        pairs
            .iter()
            .map(|(customer, cookie)| Seen {
                customer: some(customer),
                cookie: some(cookie),
                n_events: 1,
                is_timed: true,
            })
            .collect()
    }

    #[test]
    fn a_cookie_of_one_customer_is_theirs_and_a_shared_one_is_by_visit() {
        let pairs = [("anna", "k1"), ("-", "k1"), ("anna", "k2"), ("bert", "k2"), ("-", "k3")];
        let on_shared = [("-", "k2"); 3];
        let mut links = Links::new(seen(&[&pairs[..], &on_shared].concat()), &Rules::default());
        assert_eq!(links.person(None, Some("k1"), None), Some("anna"));
        assert_eq!(links.person(None, Some("k3"), Some(1)), None);
        assert_eq!(links.counts().n_visitor_events, 4);
        let customer = |name: &str| Some(name.to_owned());
        let events =
            [(0, None), (5, customer("anna")), (6, None), (50, None), (90, customer("anna")), (95, customer("bert"))];
        links.tell_apart("k2", &events, 10);
        for (time, person) in [(-1, None), (0, Some("anna")), (6, Some("anna")), (7, None), (50, None), (92, None)] {
            assert_eq!(links.person(None, Some("k2"), Some(time)), person, "at {time}");
        }
        assert_eq!(links.person(Some("bert"), Some("k2"), Some(92)), Some("bert"));
        assert_eq!(links.counts().n_visitor_events, 2, "one at 50, and the one of the cookie of nobody");
    }

    #[test]
    fn customers_are_merged_up_to_a_number_and_an_observation_can_be_undone() {
        let all = seen(&[("b", "k1"), ("a", "k1"), ("b", "k2"), ("c", "k2"), ("d", "k3"), ("e", "k3"), ("f", "k4")]);
        let rules = |most| Rules { merge_up_to: Some(most), apart: BTreeSet::new() };
        let merged = Links::new(all.clone(), &rules(3));
        assert_eq!(
            ["a", "b", "c", "d", "e", "f"].map(|it| merged.person_of_customer(it)),
            ["a", "a", "a", "d", "d", "f"]
        );
        // Three are too many for two: they stay apart, and their cookies are shared.
        let capped = Links::new(all.clone(), &rules(2));
        assert_eq!(
            ["a", "b", "c", "d", "e", "f"].map(|it| capped.person_of_customer(it)),
            ["a", "b", "c", "d", "d", "f"]
        );
        assert_eq!((capped.counts().n_customers_too_many, capped.counts().n_cookies_shared), (3, 2));
        let apart = BTreeSet::from([("c".to_owned(), "k2".to_owned())]);
        let undone = Links::new(all, &Rules { apart, ..rules(3) });
        assert_eq!(
            ["a", "b", "c", "d", "e", "f"].map(|it| undone.person_of_customer(it)),
            ["a", "a", "c", "d", "d", "f"]
        );
    }
}
