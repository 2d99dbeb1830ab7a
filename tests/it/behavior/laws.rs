//! What must hold whatever the log.

use super::{Features, events, source};
use anyhow::Result;
use proptest::prelude::*;
use shoal_domain::events::EventsSpec;
use std::fmt::Write;
use std::path::Path;

/// One row of a log as text. Everything in it may be missing.
#[derive(Debug, Clone)]
struct Row {
    customer: Option<u8>,
    /// Seconds after the first of January.
    second: Option<u32>,
    kind: &'static str,
    order: Option<u8>,
    cents: Option<i32>,
    item: Option<u8>,
    message: Option<u8>,
}

const AS_OF: &str = "2025-02-01";
const SECONDS_BEFORE: u32 = 31 * 86_400;

fn row(seconds: std::ops::Range<u32>) -> impl Strategy<Value = Row> {
    let kind =
        prop::sample::select(vec!["page_view", "purchase", "purchase", "add_to_cart", "support", "nobody knows"]);
    let some = |n: u8| prop::option::weighted(0.9, 0..n);
    let second = prop::option::weighted(0.9, seconds);
    let cents = prop::option::weighted(0.9, -100_000..1_000_000);
    (some(6), second, kind, some(5), cents, some(4), some(20)).prop_map(
        |(customer, second, kind, order, cents, item, message)| Row {
            customer,
            second,
            kind,
            order,
            cents,
            item,
            message,
        },
    )
}

fn line(row: &Row) -> String {
    let text = |value: Option<u8>, prefix: &str| value.map(|value| format!("{prefix}{value}")).unwrap_or_default();
    let time = row.second.map(|second| {
        let (day, second) = (second / 86_400, second % 86_400);
        let month = if day < 31 { 1 } else { 2 };
        format!("2025-{month:02}-{:02} {:02}:{:02}:{:02}", day % 31 + 1, second / 3_600, second / 60 % 60, second % 60)
    });
    let amount = row.cents.map(|cents| format!("{:.2}", f64::from(cents) / 100.0)).unwrap_or_default();
    let (customer, order) = (text(row.customer, "c"), text(row.order, "o"));
    let (item, message) = (text(row.item, "i"), text(row.message, "m"));
    format!("{customer},{},{},{order},{amount},{item},{message}", time.unwrap_or_default(), row.kind)
}

/// Writes the rows as CSV, in as many files as there are slices.
fn write(folder: &Path, files: &[&[Row]]) -> Result<()> {
    for (number, rows) in files.iter().enumerate() {
        let mut text = "customer,time,kind,order,amount,item,message\n".to_owned();
        for row in *rows {
            writeln!(text, "{}", line(row))?;
        }
        std::fs::write(folder.join(format!("{number}.csv")), text)?;
    }
    Ok(())
}

fn spec() -> EventsSpec {
    EventsSpec { message: Some("message".to_owned()), near_duplicate_seconds: Some(30.0), ..events(AS_OF) }
}

fn features(files: &[&[Row]]) -> Result<Features> {
    let folder = tempfile::tempdir()?;
    write(folder.path(), files)?;
    Features::of(&source(folder.path(), spec()))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn later_events_change_nothing(
        before in prop::collection::vec(row(0..SECONDS_BEFORE), 1..60),
        after in prop::collection::vec(row(SECONDS_BEFORE..SECONDS_BEFORE + 86_400 * 20), 1..20),
    ) {
        // Without a time nobody knows whether an event was later.
        let after: Vec<Row> = after.into_iter().filter(|row| row.second.is_some()).collect();
        let all = [before.clone(), after].concat();
        prop_assert_eq!(features(&[&before]).map_err(|error| error.to_string()), features(&[&all]).map_err(|error| error.to_string()));
    }

    #[test]
    fn neither_order_nor_files_matter(
        rows in prop::collection::vec(row(0..SECONDS_BEFORE), 2..60),
        shuffled in any::<prop::sample::Index>(),
    ) {
        let mut turned = rows.clone();
        turned.rotate_left(shuffled.index(rows.len()));
        turned.reverse();
        let (one, other) = turned.split_at(shuffled.index(rows.len()));
        let files = [one, other];
        let result = |features: Result<Features>| features.map_err(|error| error.to_string());
        prop_assert_eq!(result(features(&[&rows])), result(features(&files)));
    }

    #[test]
    fn every_row_is_somewhere(rows in prop::collection::vec(row(0..SECONDS_BEFORE), 1..60)) {
        let Ok(features) = features(&[&rows]) else { return Ok(()) };
        let quality = features.quality.clone();
        let somewhere = quality.n_events + quality.duplicates.message + quality.duplicates.near + quality.quarantined.sum();
        prop_assert_eq!(quality.n_rows, rows.len() as u64);
        prop_assert_eq!(somewhere, rows.len() as u64);
        prop_assert_eq!(quality.quarantined.no_customer, rows.iter().filter(|row| row.customer.is_none()).count() as u64);
        let counted: f64 = features.column("n_events").iter().flatten().sum();
        prop_assert_eq!(counted, quality.n_events as f64);
    }
}
