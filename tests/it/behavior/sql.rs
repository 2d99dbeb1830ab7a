//! Columns, rules and features that a job states in SQL.

use super::{Features, events, source};
use anyhow::Result;
use shoal_behavior::{ReadOptions, quarantine};
use shoal_domain::events::{AffinitySpec, EventsSpec};
use shoal_domain::job::SourceSpec;
use shoal_stats::RandomStream;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

/// As Segment writes them: a page call has no event, and this site stamps milliseconds.
const CALLS: &str = r#"{"type":"page","userId":"a","sentAt":1738144800000,"context":{"userAgent":"Firefox"},"messageId":"m1"}
{"type":"track","event":"Product Added","userId":"a","sentAt":1738144860000,"context":{"userAgent":"Firefox"},"messageId":"m2"}
{"type":"track","event":"Order Completed","userId":"a","sentAt":1738144920000,"properties":{"order_id":"o1","total":20.5,"coupon":"NEW"},"context":{"userAgent":"Safari iPhone"},"messageId":"m3"}
{"type":"track","event":"Order Completed","userId":"a","sentAt":1738144920000,"properties":{"order_id":"o1","total":20.5,"coupon":"NEW"},"context":{"userAgent":"Safari iPhone"},"messageId":"m3"}
{"type":"page","userId":"b","sentAt":1738144800000,"context":{"userAgent":"Googlebot/2.1"},"messageId":"m4"}
{"type":"page","userId":"b@example.com","sentAt":1738144800000,"context":{"userAgent":"Googlebot/2.1"},"messageId":"m5"}
{"type":"page","userId":"b@example.com","sentAt":1738144800000,"context":{"userAgent":"Firefox"},"messageId":"m6"}
{"type":"page","userId":"c","sentAt":1738144800000,"messageId":"m7"}
"#;

fn named(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(name, sql)| ((*name).to_owned(), (*sql).to_owned())).collect()
}

fn calls(path: &Path) -> SourceSpec {
    let own = |path: &str| Some(path.to_owned());
    let spec = EventsSpec {
        customer: "userId".to_owned(),
        time: "sent".to_owned(),
        kind: own("call"),
        order: own("properties.order_id"),
        amount: own("properties.total"),
        item: None,
        message: own("messageId"),
        leave_out: named(&[
            ("a bot", r#""context.userAgent" ilike '%bot%'"#),
            ("staff", r#""userId" like '%@example.com'"#),
        ]),
        measures: named(&[
            ("calls", "count(*)"),
            ("phone_share", r#"avg(case when "context.userAgent" like '%iPhone%' then 1.0 else 0.0 end)"#),
            (
                "coupon_total",
                r#"sum(case when "properties.coupon" is not null then cast("properties.total" as double) end)"#,
            ),
        ]),
        ..events("2025-02-01")
    };
    let columns =
        named(&[("call", r#"coalesce(event, "type")"#), ("sent", r#"to_timestamp_millis(cast("sentAt" as bigint))"#)]);
    SourceSpec { columns, ..source(path, spec) }
}

#[test]
fn a_job_states_its_columns_rules_and_features() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("calls.jsonl");
    std::fs::write(&path, CALLS)?;
    let spec = calls(&path);
    let found = Features::of(&spec)?;
    assert_eq!(found.ids, ["a", "c"]);
    assert_eq!(found.column("n_events"), [Some(3.0), Some(1.0)]);
    assert_eq!(found.column("monetary"), [Some(20.5), Some(0.0)]);
    // The message that came twice is there once, and what nobody measured is missing.
    assert_eq!(found.column("calls"), [Some(3.0), Some(1.0)]);
    assert_eq!(found.column("phone_share"), [Some(1.0 / 3.0), Some(0.0)]);
    assert_eq!(found.column("coupon_total"), [Some(20.5), None]);
    // A row of a bot with a test account is of the first rule.
    assert_eq!(found.quality.left_out, BTreeMap::from([("a bot".to_owned(), 2), ("staff".to_owned(), 1)]));
    assert_eq!((found.quality.n_rows, found.quality.n_unknown_kinds), (8, 0));
    let events = spec.events.as_ref().expect("there are events");
    let n_rows: usize = tokio::runtime::Runtime::new()?.block_on(async {
        let rows = quarantine(&spec, events, &ReadOptions::default()).await?;
        let batches: Vec<_> = futures::TryStreamExt::try_collect(rows).await?;
        anyhow::Ok(batches.iter().map(arrow::array::RecordBatch::num_rows).sum())
    })?;
    assert_eq!(n_rows, 3);
    // Only what is wanted is measured.
    let some = SourceSpec { features: Some(vec!["coupon_total".to_owned(), "recency".to_owned()]), ..spec };
    assert_eq!(Features::of(&some)?.columns.keys().collect::<Vec<_>>(), ["coupon_total", "recency"]);
    Ok(())
}

#[test]
fn measures_are_the_same_in_any_order_of_rows() -> Result<()> {
    let chance = RandomStream { seed: 3, stream: 0 };
    let rows: Vec<String> = (0..3_000u64)
        .map(|row| {
            let customer = row % 7;
            let message = row / 14 * 7 + customer;
            let amount = chance.uniform(message) * 10f64.powi((message % 9) as i32);
            // The two rows of a message differ in the device alone.
            format!("c{customer},2025-01-01T10:00:00Z,purchase,{amount:.4},,m{message},{}", row % 11)
        })
        .collect();
    let found = |rows: &mut dyn Iterator<Item = &String>, n_files: usize| -> Result<Features> {
        let folder = tempfile::tempdir()?;
        let mut texts = vec!["customer,time,kind,amount,item,message,device\n".to_owned(); n_files];
        for (idx, row) in rows.enumerate() {
            writeln!(texts[idx % n_files], "{row}")?;
        }
        for (idx, text) in texts.iter().enumerate() {
            std::fs::write(folder.path().join(format!("{idx}.csv")), text)?;
        }
        let measures = named(&[
            ("total", "sum(cast(amount as double))"),
            ("root", "avg(sqrt(cast(amount as double)))"),
            ("middle", "median(cast(amount as double))"),
            ("mixed", "sum(case when device = '3' then 0 else cast(amount as double) / 3 end)"),
            ("least", "min(case when device = '5' then cast('NaN' as double) else cast(amount as double) end)"),
            ("last_device", "max(cast(device as bigint))"),
        ]);
        let spec = EventsSpec { order: None, message: Some("message".to_owned()), measures, ..events("2025-02-01") };
        Features::of(&source(folder.path(), spec))
    };
    let forwards = found(&mut rows.iter(), 1)?;
    assert_eq!(forwards, found(&mut rows.iter().rev(), 5)?);
    // Sums of the engine's own and of SQL are of the same millionths, and of the same rows.
    assert_eq!(forwards.column("total"), forwards.column("monetary"));
    Ok(())
}

#[test]
fn sql_that_cannot_be_used_is_named() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("calls.jsonl");
    std::fs::write(&path, CALLS)?;
    let check = |spec: SourceSpec, words: &[&str]| {
        let error = Features::of(&spec).map(|_| ()).expect_err("it is refused").to_string();
        words.iter().for_each(|word| assert!(error.contains(word), "`{error}` should say `{word}`"));
    };
    let with = |change: &dyn Fn(&mut EventsSpec)| {
        let mut spec = calls(&path);
        change(spec.events.as_mut().expect("there are events"));
        spec
    };
    let measure = |name: &str, sql: &str| with(&|events| events.measures = named(&[(name, sql)]));
    check(measure("x", "sum("), &["source.events.measures.x"]);
    check(measure("x", "random()"), &["source.events.measures.x", "chance"]);
    check(measure("x", "count(now())"), &["source.events.measures.x", "clock"]);
    check(measure("x", r#"first_value("userId")"#), &["`first_value` is none of count, sum"]);
    check(measure("x", r#""messageId""#), &["must be an aggregate"]);
    check(measure("x", r#"max("messageId")"#), &["must be a number", "text"]);
    check(measure("x", r#"count(*) + "sentAt""#), &["x", "`sentAt` must be within an aggregate"]);
    check(with(&|events| events.leave_out = named(&[("all", "true")])), &["none of 8 rows", "all"]);
    check(measure("x", r#"sum("context.userAgent")"#), &["source.events.measures.x", "sum is of numbers", "text"]);
    let no_number = r#"sum(cast("context.userAgent" as double))"#;
    check(measure("x", no_number), &["source.events.measures.x", "Cannot cast string"]);
    check(measure("recency", "count(*)"), &["source.events.measures.recency", "another column"]);
    check(with(&|events| events.leave_out = named(&[("r", "1 + 1")])), &["source.events.leave_out.r", "true or false"]);
    check(with(&|events| events.leave_out = named(&[("r", "count(*) > 1")])), &["leave_out.r", "one row"]);
    check(SourceSpec { columns: named(&[("call", "event || ")]), ..calls(&path) }, &["source.columns.call"]);
    let csv = folder.path().join("log.csv");
    std::fs::write(&csv, "customer,time,kind,order,amount,item\na,2025-01-01,cart,,,\n")?;
    let columns = named(&[("kind", "'cart'")]);
    check(SourceSpec { columns, ..source(&csv, events("2025-02-01")) }, &["source.columns.kind", "have a column"]);
    let columns = named(&[("what", "lower(colour)")]);
    check(SourceSpec { columns, ..source(&csv, events("2025-02-01")) }, &["source.columns.what", "colour"]);
    Ok(())
}

#[test]
fn ready_features_may_be_computed() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("customers.csv");
    std::fs::write(&path, "id,visits,age\na,10,\nb,20,40\n")?;
    let columns = named(&[
        ("visits_capped", "least(cast(visits as double), 15.0)"),
        ("age_missing", "case when age is null or age = '' then 1.0 else 0.0 end"),
    ]);
    let spec = SourceSpec {
        path: path.to_string_lossy().into_owned(),
        id: Some("id".to_owned()),
        features: Some(columns.keys().cloned().collect()),
        columns,
        ..SourceSpec::default()
    };
    let rows = tokio::runtime::Runtime::new()?.block_on(async {
        let source = shoal_behavior::FeatureSource::open(&spec, &ReadOptions::default()).await?;
        let batches: Vec<_> = futures::TryStreamExt::try_collect(source.batches().await?).await?;
        anyhow::Ok(arrow::util::pretty::pretty_format_batches(&batches)?.to_string())
    })?;
    assert!(rows.contains("| a  | 1.0         | 10.0 ") && rows.contains("| b  | 0.0         | 15.0 "), "{rows}");
    Ok(())
}

#[test]
fn affinities_are_shares_of_the_events_with_a_category() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("log.csv");
    let rows = [("a", "shoes"), ("a", "shoes"), ("a", "hats"), ("a", ""), ("b", "hats"), ("b", "belts"), ("c", "")];
    let mut text = "customer,time,kind,category\n".to_owned();
    for (idx, (customer, category)) in rows.iter().enumerate() {
        writeln!(text, "{customer},2025-01-01T10:00:{idx:02}Z,page_view,{category}")?;
    }
    std::fs::write(&path, text)?;
    let affinity = Some(AffinitySpec { column: "category".to_owned(), top: 2 });
    let spec = EventsSpec { affinity, order: None, amount: None, item: None, ..events("2025-02-01") };
    let found = Features::of(&source(&path, spec.clone()))?;
    assert_eq!(found.column("affinity_hats"), [Some(1.0 / 3.0), Some(0.5), None]);
    assert_eq!(found.column("affinity_shoes"), [Some(2.0 / 3.0), Some(0.0), None]);
    // Belts are not among the two most frequent, and are measured where they are asked for.
    assert!(!found.columns.contains_key("affinity_belts"));
    let listed = SourceSpec { features: Some(vec!["affinity_belts".to_owned()]), ..source(&path, spec) };
    assert_eq!(Features::of(&listed)?.column("affinity_belts"), [Some(0.0), Some(0.5), None]);
    let misspelt = SourceSpec { features: Some(vec!["affinity_bels".to_owned()]), ..listed };
    let error = Features::of(&misspelt).map(|_| ()).expect_err("there is no such category").to_string();
    assert!(error.contains("source.features.affinity_bels") && error.contains("no event"), "{error}");
    Ok(())
}

#[test]
fn features_may_be_computed_from_features() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("log.csv");
    let log = "customer,time,kind,amount\na,2025-01-30,purchase,30\na,2025-01-28,page_view,\nb,2025-01-30,page_view,\n";
    std::fs::write(&path, log)?;
    let spec = EventsSpec { order: None, item: None, ..events("2025-02-01") };
    let derive = named(&[
        ("days", "coalesce(recency, 999)"),
        ("never_bought", "recency is null"),
        ("per_visit", "monetary / sessions"),
    ]);
    let all = Features::of(&SourceSpec { derive: derive.clone(), ..source(&path, spec.clone()) })?;
    assert_eq!(all.column("days"), [Some(2.0), Some(999.0)]);
    assert_eq!(all.column("never_bought"), [Some(0.0), Some(1.0)]);
    assert_eq!(all.column("per_visit"), [Some(15.0), Some(0.0)]);
    assert_eq!((all.column("recency"), all.cells.len()), ([Some(2.0), None].as_slice(), 2));
    // What they are computed from is not wanted where it is not listed.
    let features = Some(vec!["per_visit".to_owned(), "tenure_days".to_owned()]);
    let some = Features::of(&SourceSpec { derive, features, ..source(&path, spec.clone()) })?;
    assert_eq!(some.columns.keys().collect::<Vec<_>>(), ["per_visit", "tenure_days"]);
    let check = |name: &str, sql: &str, words: &[&str]| {
        let derive = named(&[(name, sql)]);
        let found = Features::of(&SourceSpec { derive, ..source(&path, spec.clone()) });
        let error = found.map(|_| ()).expect_err("it is refused").to_string();
        words.iter().for_each(|word| assert!(error.contains(word), "`{error}` should say `{word}`"));
    };
    let champions = named(&[("champion", "rfm_cell = 'champions'")]);
    let features = Some(vec!["champion".to_owned()]);
    let found = Features::of(&SourceSpec { derive: champions, features, ..source(&path, spec.clone()) })?;
    assert_eq!((found.columns.len(), found.cells.len()), (1, 0));
    check("recency", "1", &["source.derive.recency", "another column"]);
    check("x", "recncy + 1", &["source.derive.x", "recncy"]);
    check("x", "rfm_cell", &["source.derive.x", "must be a number"]);
    check("x", "sum(recency)", &["source.derive.x", "one row"]);
    Ok(())
}
