//! The same features by pandas.

use super::{Features, data, events, source, weights};
use anyhow::Result;
use serde::Deserialize;
use shoal_domain::events::{EngagementSpec, EventKind, EventsSpec};
use std::collections::BTreeMap;

#[derive(Deserialize)]
struct Golden {
    n_customers: usize,
    columns: BTreeMap<String, Column>,
    /// The first customers by id.
    head: BTreeMap<String, BTreeMap<String, Option<f64>>>,
}

#[derive(Deserialize)]
struct Column {
    n_missing: usize,
    /// None where no customer has the feature.
    mean: Option<f64>,
    deviation: Option<f64>,
}

fn check(log: &str, golden: &str, spec: EventsSpec) -> Result<Features> {
    let golden: Golden = serde_json::from_str(&std::fs::read_to_string(data(golden))?)?;
    let features = Features::of(&source(&data(log), spec))?;
    assert_eq!(features.ids.len(), golden.n_customers);
    assert!(features.columns.keys().eq(golden.columns.keys()), "{:?}", features.columns.keys());
    for (name, expected) in &golden.columns {
        let present: Vec<f64> = features.column(name).iter().flatten().copied().collect();
        assert_eq!(features.ids.len() - present.len(), expected.n_missing, "missing values of {name}");
        let (Some(expected_mean), Some(expected_deviation)) = (expected.mean, expected.deviation) else { continue };
        let n = present.len() as f64;
        let mean = present.iter().sum::<f64>() / n;
        let deviation = (present.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / n).sqrt();
        assert_near(&format!("mean of {name}"), mean, expected_mean);
        assert_near(&format!("deviation of {name}"), deviation, expected_deviation);
    }
    for (id, expected) in &golden.head {
        let row = features.ids.iter().position(|other| other == id).expect("a customer of the log");
        for (name, expected) in expected {
            let what = format!("{name} of customer {id}");
            match (features.column(name)[row], expected) {
                (Some(value), Some(expected)) => assert_near(&what, value, *expected),
                (value, expected) => assert_eq!(value, *expected, "{what}"),
            }
        }
    }
    Ok(features)
}

/// pandas adds float64 amounts where we add whole numbers, and in another order.
fn assert_near(what: &str, value: f64, expected: f64) {
    let tolerance = 1e-9 * expected.abs().max(1e-3);
    assert!((value - expected).abs() <= tolerance, "{what}: {value}, where {expected} is expected");
}

#[test]
fn features_of_purchases_are_those_of_pandas() -> Result<()> {
    let own = |column: &str| Some(column.to_owned());
    let spec = EventsSpec {
        customer: "household_id".to_owned(),
        time: "transaction_timestamp".to_owned(),
        kind: None,
        every: Some(EventKind::Purchase),
        order: own("basket_id"),
        amount: own("sales_value"),
        item: own("product_id"),
        engagement: EngagementSpec { weights: weights(), ..EngagementSpec::default() },
        ..events("2018-01-02")
    };
    let features = check("complete_journey/transactions.parquet", "complete_journey/features.json", spec)?;
    assert!(features.cells.iter().all(Option::is_some), "everybody has bought, so everybody is in a cell");
    assert_eq!(features.quality.n_rows, 1_469_307);
    assert_eq!(features.quality.n_events, 1_469_307);
    Ok(())
}

#[test]
fn features_of_a_clickstream_are_those_of_pandas() -> Result<()> {
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    let spec = EventsSpec {
        customer: "user_id".to_owned(),
        time: "timestamp".to_owned(),
        kind: Some("event".to_owned()),
        kinds: BTreeMap::from([
            (EventKind::PageView, names(&["home", "catalog", "product_view", "promo_page", "cart"])),
            (EventKind::Support, names(&["support_chat"])),
        ]),
        order: None,
        amount: None,
        item: Some("event".to_owned()),
        engagement: EngagementSpec { weights: weights(), ..EngagementSpec::default() },
        ..events("2024-07-01")
    };
    let features = check("ecom/ecom.parquet", "ecom/golden.json", spec)?;
    // The sessions that the data set gives are those that a gap of 30 minutes finds.
    let n_sessions: f64 = features.column("sessions").iter().flatten().sum();
    assert_eq!(n_sessions, 3_605.0);
    Ok(())
}

#[test]
fn two_equal_purchases_on_one_day_are_two() -> Result<()> {
    let spec = EventsSpec {
        customer: "customer_id".to_owned(),
        time: "date".to_owned(),
        kind: None,
        every: Some(EventKind::Purchase),
        order: None,
        amount: Some("dollar_value".to_owned()),
        item: None,
        engagement: EngagementSpec { weights: weights(), ..EngagementSpec::default() },
        ..events("1998-07-01")
    };
    let features = check("cdnow/cdnow.parquet", "cdnow/golden.json", spec)?;
    assert_eq!(features.quality.n_events, 69_659);
    assert_eq!(features.quality.duplicates.near, 0);
    Ok(())
}

#[test]
fn equal_rows_are_removed_when_that_is_asked() -> Result<()> {
    let spec = |within| EventsSpec {
        customer: "user_id".to_owned(),
        time: "timestamp".to_owned(),
        kind: Some("event".to_owned()),
        order: None,
        amount: None,
        item: Some("event".to_owned()),
        near_duplicate_seconds: within,
        ..events("2024-07-01")
    };
    let golden: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(data("ecom/golden.json"))?)?;
    let features = Features::of(&source(&data("ecom/ecom.parquet"), spec(Some(0.0))))?;
    assert_eq!(Some(features.quality.duplicates.near), golden["n_identical"].as_u64());
    Ok(())
}
