//! What must hold whatever the log.

use super::{Features, events, source};
use anyhow::Result;
use futures::StreamExt;
use proptest::prelude::*;
use shoal_behavior::ReadOptions;
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
    cookie: Option<u8>,
}

const AS_OF: &str = "2025-02-01";
const SECONDS_BEFORE: u32 = 31 * 86_400;

fn row(seconds: std::ops::Range<u32>) -> impl Strategy<Value = Row> {
    let kind =
        prop::sample::select(vec!["page_view", "purchase", "purchase", "add_to_cart", "support", "nobody knows"]);
    let some = |n: u8| prop::option::weighted(0.9, 0..n);
    let second = prop::option::weighted(0.9, seconds);
    let cents = prop::option::weighted(0.9, -100_000..1_000_000);
    let customer = prop::option::weighted(0.6, 0..6u8);
    (customer, second, kind, some(5), cents, some(4), some(20), some(4)).prop_map(
        |(customer, second, kind, order, cents, item, message, cookie)| Row {
            customer,
            second,
            kind,
            order,
            cents,
            item,
            message,
            cookie,
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
    let (item, message, cookie) = (text(row.item, "i"), text(row.message, "m"), text(row.cookie, "k"));
    format!("{customer},{},{},{order},{amount},{item},{message},{cookie}", time.unwrap_or_default(), row.kind)
}

/// Writes the rows as CSV, in as many files as there are slices.
fn write(folder: &Path, files: &[&[Row]]) -> Result<()> {
    for (number, rows) in files.iter().enumerate() {
        let mut text = "customer,time,kind,order,amount,item,message,cookie\n".to_owned();
        for row in *rows {
            writeln!(text, "{}", line(row))?;
        }
        std::fs::write(folder.join(format!("{number}.csv")), text)?;
    }
    Ok(())
}

/// With cookies or without.
fn spec(is_stitched: bool) -> EventsSpec {
    let anonymous = is_stitched.then(|| "cookie".to_owned());
    EventsSpec { anonymous, message: Some("message".to_owned()), near_duplicate_seconds: Some(30.0), ..events(AS_OF) }
}

/// None where no row can be used.
fn features(files: &[&[Row]], is_stitched: bool) -> Option<Features> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    write(folder.path(), files).expect("the folder is writable");
    Features::of(&source(folder.path(), spec(is_stitched))).ok()
}

/// Rows that are written to quarantine.
fn n_in_quarantine(rows: &[Row], is_stitched: bool) -> u64 {
    let folder = tempfile::tempdir().expect("a temporary folder");
    write(folder.path(), &[rows]).expect("the folder is writable");
    let (spec, events) = (source(folder.path(), spec(is_stitched)), spec(is_stitched));
    let rows = async {
        let rows = shoal_behavior::quarantine(&spec, &events, &ReadOptions::default()).await.expect("it can be read");
        rows.map(|batch| batch.expect("it can be read").num_rows() as u64).collect::<Vec<_>>().await
    };
    tokio::runtime::Runtime::new().expect("a runtime").block_on(rows).into_iter().sum()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn later_events_change_nothing(
        before in prop::collection::vec(row(0..SECONDS_BEFORE), 1..60),
        after in prop::collection::vec(row(SECONDS_BEFORE..SECONDS_BEFORE + 86_400 * 20), 1..20),
        is_stitched in any::<bool>(),
    ) {
        // Of some of them nobody knows when they were: they are counted, and change no feature either.
        let all = [before.clone(), after].concat();
        let found = |rows: &[Row]| features(&[rows], is_stitched).map(|it| (it.ids, it.columns, it.cells));
        prop_assert_eq!(found(&before), found(&all));
    }

    #[test]
    fn neither_order_nor_files_matter(
        rows in prop::collection::vec(row(0..SECONDS_BEFORE), 2..60),
        cut in any::<prop::sample::Index>(),
        is_stitched in any::<bool>(),
    ) {
        let mut turned = rows.clone();
        turned.rotate_left(cut.index(rows.len()));
        turned.reverse();
        let (one, other) = turned.split_at(cut.index(rows.len()));
        prop_assert_eq!(features(&[&rows], is_stitched), features(&[one, other], is_stitched));
    }

    #[test]
    fn every_row_is_somewhere(rows in prop::collection::vec(row(0..SECONDS_BEFORE), 1..60), is_stitched in any::<bool>()) {
        let Some(features) = features(&[&rows], is_stitched) else { return Ok(()) };
        let quality = features.quality.clone();
        let visitors = quality.identity.map_or(0, |identity| identity.n_visitor_events);
        let removed = quality.duplicates.message + quality.duplicates.near;
        prop_assert_eq!(quality.n_rows, rows.len() as u64);
        prop_assert_eq!(quality.n_events + removed + quality.quarantined.sum() + visitors, rows.len() as u64);
        prop_assert_eq!(quality.quarantined.sum(), n_in_quarantine(&rows, is_stitched));
        let of_nobody = |row: &&Row| row.customer.is_none() && !(is_stitched && row.cookie.is_some());
        prop_assert_eq!(quality.quarantined.no_customer, rows.iter().filter(of_nobody).count() as u64);
        let counted: f64 = features.column("n_events").iter().flatten().sum();
        prop_assert_eq!(counted, quality.n_events as f64);
    }
}
