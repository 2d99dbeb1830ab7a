//! Journeys through a clickstream against pandas and numpy.

use super::{data, events, source};
use anyhow::Result;
use serde::Deserialize;
use shoal_behavior::journeys::{Funnel, JourneyCounts, JourneyReport};
use shoal_behavior::{ReadOptions, open_journeys};
use shoal_domain::Merge;
use shoal_domain::events::{EventKind, EventsSpec};
use std::collections::BTreeMap;

#[derive(Deserialize)]
struct Golden {
    counts: BTreeMap<String, BTreeMap<String, u64>>,
    reaches_purchase: BTreeMap<String, f64>,
    expected_steps: BTreeMap<String, f64>,
    removal_effect: BTreeMap<String, f64>,
    funnel: Vec<u64>,
}

fn spec() -> EventsSpec {
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    EventsSpec {
        customer: "user_id".to_owned(),
        time: "timestamp".to_owned(),
        kind: Some("event".to_owned()),
        kinds: BTreeMap::from([
            (EventKind::PageView, names(&["home", "catalog", "product_view", "promo_page", "cart"])),
            (EventKind::Support, names(&["support_chat"])),
        ]),
        sequence: Some("row".to_owned()),
        order: None,
        amount: None,
        item: None,
        ..events("2024-07-01")
    }
}

/// The report of all customers, counted in two groups that are put together at the end.
fn report(funnel: &[&str]) -> Result<JourneyReport> {
    let (source, events) = (source(&data("ecom/ecom.parquet"), spec()), spec());
    tokio::runtime::Runtime::new()?.block_on(async {
        let journeys = open_journeys(&source, &events, &ReadOptions::default()).await?;
        let number = |state: &str| journeys.states.iter().position(|name| name == state).expect("a state of the log");
        let steps: Vec<u16> = funnel.iter().map(|state| number(state) as u16).collect();
        let new = || (JourneyCounts::new(journeys.states.len(), 5), Funnel::new(steps.clone()));
        let mut groups = [new(), new()];
        let mut n_customers = 0;
        journeys
            .for_each(|path| {
                let (counts, funnel) = &mut groups[n_customers % 2];
                n_customers += 1;
                for visit in &path.visits {
                    counts.add(visit);
                    funnel.add(visit);
                }
            })
            .await?;
        let [(mut counts, mut funnel), (more_counts, more_funnel)] = groups;
        counts.merge(more_counts);
        funnel.merge(more_funnel);
        Ok(JourneyReport::new(n_customers as u64, &counts, &funnel, &journeys.states, Some(number("purchase"))))
    })
}

#[test]
fn transitions_and_chains_are_those_of_pandas_and_numpy() -> Result<()> {
    let golden: Golden = serde_json::from_str(&std::fs::read_to_string(data("ecom/journeys.json"))?)?;
    let report = report(&["product_view", "add_to_cart", "purchase"])?;
    assert_eq!((report.n_customers, report.n_visits), (600, 3_605));
    let mut counts: BTreeMap<String, BTreeMap<String, u64>> = BTreeMap::new();
    for step in report.transitions.iter().filter(|step| step.from.is_some()) {
        let to = step.to.clone().unwrap_or_else(|| "END".to_owned());
        counts.entry(step.from.clone().unwrap_or_default()).or_default().insert(to, step.count);
    }
    assert_eq!(counts, golden.counts);
    for state in &report.states {
        let near = |what: &str, value: Option<f64>, expected: f64| {
            let value = value.unwrap_or(f64::NAN);
            assert!(
                (value - expected).abs() <= 1e-10 * expected.abs().max(1.0),
                "{what} of {}: {value}, {expected}",
                state.state
            );
        };
        near("reaches", state.reaches_target, golden.reaches_purchase[&state.state]);
        near("steps", Some(state.expected_steps), golden.expected_steps[&state.state]);
        near("removal", state.removal_effect, golden.removal_effect[&state.state]);
    }
    let probability = |from: &str, to: Option<&str>| {
        let is_it = |step: &&shoal_behavior::journeys::Transition| {
            step.from.as_deref() == Some(from) && step.to.as_deref() == to
        };
        report.transitions.iter().find(is_it).map_or(0.0, |step| (step.probability * 1e4).round() / 1e4)
    };
    // As retentioneering shows them.
    assert_eq!(probability("cart", Some("shipping_details")), 0.1370);
    assert_eq!(probability("product_view", Some("catalog")), 0.2048);
    assert_eq!(probability("product_view", None), 0.1099);
    assert!(report.funnel.iter().map(|step| step.n_visits).eq(golden.funnel), "{:?}", report.funnel);
    Ok(())
}
