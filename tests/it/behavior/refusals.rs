//! What is said of a log that no feature can be made of.

use super::{Features, events, source};
use anyhow::Result;
use shoal_domain::events::EventsSpec;

/// A log of three events, and what is said about it as the job has it.
fn check(text: &str, features: Option<&[&str]>, spec: EventsSpec, words: &[&str]) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("log.csv");
    std::fs::write(&path, text)?;
    let mut source = source(&path, spec);
    source.features = features.map(|features| features.iter().map(|feature| (*feature).to_owned()).collect());
    let error = Features::of(&source).map(|_| ()).expect_err("it is refused").to_string();
    for word in words {
        assert!(error.contains(word), "`{error}` should say `{word}`");
    }
    Ok(())
}

const LOG: &str = "\
customer,time,kind,order,amount,item
a,2025-01-31 10:00:00,purchase,o1,10.00,i1
a,2025-01-30,page_view,,,i1
b,2025-01-29T09:00:00Z,page_view,,,i2
";

#[test]
fn what_is_wrong_is_named() -> Result<()> {
    let spec = || events("2025-02-01");
    check(
        LOG,
        None,
        events("2025-01-01"),
        &["no events before 2025-01-01", "from 2025-01-29T09:00:00 to 2025-01-31T10:00:00"],
    )?;
    check(LOG, None, events("January"), &["source.events.as_of", "`January`"])?;
    check("customer,time,kind,order,amount,item\n", None, spec(), &["there are no events"])?;
    let american = LOG.replace("2025-01-3", "01/3").replace("2025-01-29T09:00:00Z", "1738141200");
    check(&american, None, spec(), &["none of 3 rows", "no time", "`time` 01/30"])?;
    check(LOG, Some(&["sesions"]), spec(), &["source.features", "`sesions`", "sessions_per_week"])?;
    let (no_item, no_amount) = (EventsSpec { item: None, ..spec() }, EventsSpec { amount: None, ..spec() });
    check(LOG, Some(&["items"]), no_item, &["`items`", "source.events.item"])?;
    check(LOG, Some(&["monetary_score"]), no_amount, &["`monetary_score`", "source.events.amount"])?;
    let other_column = EventsSpec { message: Some("id".to_owned()), ..spec() };
    check(LOG, None, other_column, &["source.events.message", "`id`", "`customer`, `time`"])
}

#[test]
fn what_counts_and_what_does_not_is_told() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("log.csv");
    let more = "b,yesterday,page_view,,,\n,2025-01-29,page_view,,,\nb,2025-01-29,purchase,o2,much,\nb,2025-01-29,frobnicate,,,\n";
    std::fs::write(&path, [LOG, more].concat())?;
    let quality = Features::of(&source(&path, events("2025-02-01")))?.quality;
    assert_eq!((quality.n_rows, quality.n_events, quality.n_customers), (7, 4, 2));
    let quarantined = quality.quarantined;
    assert_eq!((quarantined.no_customer, quarantined.no_time, quarantined.no_amount), (1, 1, 1));
    let unknown: Vec<(&str, u64)> =
        quality.unknown_kinds.iter().map(|kind| (kind.name.as_str(), kind.n_rows)).collect();
    assert_eq!((quality.n_unknown_kinds, unknown), (1, vec![("frobnicate", 1)]));
    Ok(())
}
