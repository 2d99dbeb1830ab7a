//! People found by cookies against those who there were.

use super::generated::{features, generate, spec};
use super::{Features, events, source};
use anyhow::Result;
use arrow::util::pretty::pretty_format_batches;
use shoal_behavior::ReadOptions;
use shoal_behavior::identity::{Links, Rules, Seen};
use shoal_domain::events::{Apart, EventsSpec, IdentitySpec};
use shoal_generator::{DirtSpec, Event, Piece};
use std::collections::{BTreeMap, HashMap};

const GAP: i64 = 30 * 60_000_000;

fn customer(event: &Event) -> Option<String> {
    event.origin.logged_in.then(|| id(event.person))
}

fn id(person: u64) -> String {
    format!("c{person:07}")
}

fn cookie(event: &Event) -> String {
    format!("k{:x}-{}", event.origin.device, event.origin.cookie)
}

/// Who is who, by the same rules as the queries, from events in memory.
fn links(events: &[&Event]) -> Links {
    let mut seen: HashMap<(Option<String>, String), u64> = HashMap::new();
    for event in events {
        *seen.entry((customer(event), cookie(event))).or_default() += 1;
    }
    let seen = seen.into_iter().map(|((customer, cookie), n_events)| Seen {
        customer,
        cookie: Some(cookie),
        n_events,
        is_timed: true,
    });
    let mut links = Links::new(seen.collect(), &Rules::default());
    let shared: Vec<String> = links.shared().map(str::to_owned).collect();
    for shared in shared {
        let on_it = events.iter().filter(|event| cookie(event) == shared);
        let mut visits: Vec<_> = on_it.filter_map(|event| Some((event.time?, customer(event)))).collect();
        visits.sort();
        links.tell_apart(&shared, &visits, GAP);
    }
    links
}

fn all(pieces: &[Piece]) -> Vec<&Event> {
    pieces.iter().flat_map(|piece| &piece.events).collect()
}

fn pairs(counts: impl IntoIterator<Item = u64>) -> f64 {
    counts.into_iter().map(|n| n as f64 * (n as f64 - 1.0) / 2.0).sum()
}

/// Precision and recall of pairs of events that are said to be of one person.
fn pairwise(labels: &[(String, u64)]) -> (f64, f64) {
    let mut both: HashMap<(&str, u64), u64> = HashMap::new();
    let (mut found, mut truth): (HashMap<&str, u64>, HashMap<u64, u64>) = Default::default();
    for (person, true_person) in labels {
        *both.entry((person, *true_person)).or_default() += 1;
        *found.entry(person).or_default() += 1;
        *truth.entry(*true_person).or_default() += 1;
    }
    let right = pairs(both.into_values());
    (right / pairs(found.into_values()), right / pairs(truth.into_values()))
}

#[test]
fn people_are_found_by_their_cookies() -> Result<()> {
    let pieces = generate(DirtSpec { bots: 0.0, shared_tablets: 0.2, ..DirtSpec::default() })?;
    let events = all(&pieces);
    let links = links(&events);
    // What no id tells, nobody can stitch by ids: cookies with which their owner was never logged in.
    let owners: HashMap<(String, u64), bool> = events.iter().fold(HashMap::new(), |mut owners, event| {
        *owners.entry((cookie(event), event.person)).or_default() |= event.origin.logged_in;
        owners
    });
    let told = events.iter().filter(|event| owners[&(cookie(event), event.person)]);
    let label = |event: &&&Event| {
        let person = links.person(customer(event).as_deref(), Some(&cookie(event)), event.time).map(str::to_owned);
        (person.unwrap_or_else(|| cookie(event)), event.person)
    };
    let (precision, recall) = pairwise(&told.map(|event| label(&event)).collect::<Vec<_>>());
    let f1 = 2.0 * precision * recall / (precision + recall);
    assert!(f1 >= 0.99 && precision >= 0.999, "precision {precision}, recall {recall}, F1 {f1}");
    assert!(links.counts().n_cookies_shared > 20, "tablets are shared: {:?}", links.counts());
    Ok(())
}

#[test]
fn queries_stitch_as_the_rules_say_and_sessions_are_exact() -> Result<()> {
    let pieces = generate(DirtSpec { bots: 0.0, missing_times: 0.0, missing_amounts: 0.0, ..DirtSpec::default() })?;
    let found = features(&pieces, EventsSpec { anonymous: Some("cookie_id".to_owned()), ..spec() })?;
    // Wrong clocks take some events past the end.
    let events: Vec<&Event> =
        all(&pieces).into_iter().filter(|event| event.time.is_some_and(|time| time < AS_OF)).collect();
    let links = links(&events);
    assert_eq!(found.quality.identity, Some(links.counts()));
    let mut times: BTreeMap<String, Vec<i64>> = BTreeMap::new();
    for event in events.iter().filter(|event| !event.flaws.retry) {
        if let Some(person) = links.person(customer(event).as_deref(), Some(&cookie(event)), event.time) {
            times.entry(person.to_owned()).or_default().extend(event.time);
        }
    }
    assert!(found.ids.iter().eq(times.keys()), "the same people");
    for (row, times) in times.values_mut().enumerate() {
        times.sort_unstable();
        let n_sessions = 1 + times.windows(2).filter(|pair| pair[1] - pair[0] > GAP).count();
        assert_eq!(found.column("sessions")[row], Some(n_sessions as f64), "{}", found.ids[row]);
        assert_eq!(found.column("n_events")[row], Some(times.len() as f64), "{}", found.ids[row]);
    }
    Ok(())
}

#[test]
fn customers_are_merged_where_a_job_says_so_and_an_observation_can_be_left_out() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("log.csv");
    let log = "customer,time,kind,order,amount,item,cookie\n\
        a,2025-01-01 10:00:00,click,,,,k\n,2025-01-02 10:00:00,click,,,,k\nb,2025-01-03 10:00:00,click,,,,k\n\
        ,2025-01-03 10:01:00,click,,,,k\n";
    std::fs::write(&path, log)?;
    let check = |identity: IdentitySpec, ids: &[&str], n_events: &[f64], n_visitor_events: u64| -> Result<()> {
        let spec = EventsSpec { anonymous: Some("cookie".to_owned()), identity, ..events("2025-02-01") };
        let found = Features::of(&source(&path, spec))?;
        assert_eq!(found.ids, ids);
        assert!(found.column("n_events").iter().flatten().eq(n_events), "{:?}", found.column("n_events"));
        assert_eq!(found.quality.identity.map(|identity| identity.n_visitor_events), Some(n_visitor_events));
        Ok(())
    };
    let merged = |merge_customers_up_to, apart: &[(&str, &str)]| {
        let apart = apart.iter().map(|(customer, anonymous)| Apart {
            customer: (*customer).to_owned(),
            anonymous: (*anonymous).to_owned(),
        });
        IdentitySpec { merge_customers_up_to, apart: apart.collect() }
    };
    // Shared: the second event is nobody's, the fourth is of the one who was logged in a minute before.
    check(merged(None, &[]), &["a", "b"], &[1.0, 2.0], 1)?;
    check(merged(Some(2), &[]), &["a"], &[4.0], 0)?;
    check(merged(Some(2), &[("b", "k")]), &["a", "b"], &[3.0, 1.0], 0)?;
    // Why: of the events on the cookie during which someone was logged in, half were of either.
    let why = |identity: IdentitySpec| -> Result<String> {
        let spec = EventsSpec { anonymous: Some("cookie".to_owned()), identity, ..events("2025-02-01") };
        let source = source(&path, spec.clone());
        let options = ReadOptions::default();
        let rows = tokio::runtime::Runtime::new()?.block_on(shoal_behavior::identities(&source, &spec, &options))?;
        Ok(pretty_format_batches(&[rows])?.to_string().replace(' ', ""))
    };
    let shared = why(merged(None, &[]))?;
    assert!(shared.contains("|anonymous|k|a|1|0.5|true|") && shared.contains("|anonymous|k|b|1|0.5|true|"), "{shared}");
    let one = why(merged(Some(2), &[]))?;
    assert!(one.contains("|anonymous|k|a|2|1.0|false|") && one.contains("|customer|b|a|1|1.0|false|"), "{one}");
    let apart = why(merged(Some(2), &[("b", "k")]))?;
    assert!(apart.contains("|anonymous|k|a|1|1.0|false|") && !apart.contains("|b|"), "{apart}");
    Ok(())
}

/// 2026-01-01, in microseconds.
const AS_OF: i64 = 20_454 * 86_400_000_000;
