//! JSON lines say what CSV says.

use super::{Features, events, source};
use anyhow::Result;
use shoal_domain::events::EventsSpec;
use shoal_domain::job::SourceSpec;
use std::path::Path;

const CSV: &str = "\
customer,time,kind,order,amount,item,message
7,2025-01-30T10:00:00Z,Order Completed,o1,10.50,i1,m1
7,2025-01-30T10:00:00Z,Order Completed,o1,10.50,i1,m1
7,2025-01-29T10:00:00Z,Product Viewed,,,i1,m2
eight,2025-01-28T10:00:00Z,Product Viewed,,,i2,m3
,2025-01-28T10:00:00Z,Product Viewed,,,i2,m4
";

/// A number where others have a text, an object where a text should be, fields that nobody asks for, and a text that has to be escaped.
const JSON: &str = r#"{"userId":7,"timestamp":"2025-01-30T10:00:00Z","event":"Order Completed","properties":{"order_id":"o1","total":10.50,"product":{"id":"i1"}},"messageId":"m1"}
{"userId":7,"timestamp":"2025-01-30T10:00:00Z","event":"Order Completed","properties":{"order_id":"o1","total":"10.50","product":{"id":"i1"}},"messageId":"m1"}
{"userId":"7","timestamp":"2025-01-29T10:00:00Z","event":"Product Viewed","properties":{"product":{"id":"i1"},"colours":["red"]},"messageId":"m2"}

{"userId":"eight","timestamp":"2025-01-28T10:00:00Z","event":"Product \u0056iewed","properties":{"product":{"id":"i2"}},"messageId":"m3","context":{"ip":"::1"}}
{"userId":{"broken":true},"timestamp":"2025-01-28T10:00:00Z","event":"Product Viewed","properties":{"product":{"id":"i2"}},"messageId":"m4"}
"#;

fn json_spec() -> EventsSpec {
    let own = |path: &str| Some(path.to_owned());
    EventsSpec {
        customer: "userId".to_owned(),
        time: "timestamp".to_owned(),
        kind: own("event"),
        order: own("properties.order_id"),
        amount: own("properties.total"),
        item: own("properties.product.id"),
        message: own("messageId"),
        ..events("2025-02-01")
    }
}

fn refused(path: &Path, text: &str, spec: EventsSpec, words: &[&str]) -> Result<()> {
    std::fs::write(path, text)?;
    let error = Features::of(&source(path, spec)).map(|_| ()).expect_err("it is refused").to_string();
    for word in words {
        assert!(error.contains(word), "`{error}` should say `{word}`");
    }
    Ok(())
}

#[test]
fn json_lines_say_what_csv_says() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (csv, json) = (folder.path().join("log.csv"), folder.path().join("log.jsonl"));
    std::fs::write(&csv, CSV)?;
    std::fs::write(&json, JSON)?;
    let expected =
        Features::of(&source(&csv, EventsSpec { message: Some("message".to_owned()), ..events("2025-02-01") }))?;
    assert_eq!((expected.quality.duplicates.message, expected.quality.quarantined.no_customer), (1, 1));
    assert_eq!(Features::of(&source(&json, json_spec()))?, expected);
    // Cut into two files of a folder.
    let parts = folder.path().join("parts");
    std::fs::create_dir(&parts)?;
    let lines: Vec<&str> = JSON.lines().collect();
    std::fs::write(parts.join("1.jsonl"), lines[..2].join("\n"))?;
    std::fs::write(parts.join("2.jsonl"), lines[2..].join("\n"))?;
    assert_eq!(Features::of(&source(&parts, json_spec()))?, expected);
    Ok(())
}

#[test]
fn an_empty_text_is_none() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (empty, absent) = (folder.path().join("empty.jsonl"), folder.path().join("absent.jsonl"));
    let line = |customer: &str, cookie: &str, second: u32| {
        let time = format!("2025-01-30T10:00:{second:02}Z");
        format!(
            "{{\"userId\":{customer},\"timestamp\":\"{time}\",\"event\":\"purchase\",\"cookie\":{cookie},\"order\":{cookie},\"message\":{cookie}}}\n"
        )
    };
    let log = |none: &str| {
        [
            line("\"a\"", none, 1),
            line("\"a\"", none, 2),
            line(none, none, 3),
            line(none, "\"k\"", 4),
            line("\"b\"", "\"k\"", 5),
        ]
        .concat()
    };
    std::fs::write(&empty, log("\"\""))?;
    std::fs::write(&absent, log("null"))?;
    let own = |path: &str| Some(path.to_owned());
    let (order, message, anonymous) = (own("order"), own("message"), own("cookie"));
    let spec = || EventsSpec {
        order: order.clone(),
        message: message.clone(),
        anonymous: anonymous.clone(),
        amount: None,
        item: None,
        ..json_spec()
    };
    let found = Features::of(&source(&empty, spec()))?;
    assert_eq!(found, Features::of(&source(&absent, spec()))?);
    assert_eq!(found.column("frequency"), [Some(2.0), Some(1.0)], "none is no order, and no message");
    assert_eq!(found.quality.quarantined.no_customer, 1);
    Ok(())
}

#[test]
fn what_is_wrong_with_json_is_named() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("log.jsonl");
    let misspelt = EventsSpec { item: Some("properties.sku".to_owned()), ..json_spec() };
    refused(&path, JSON, misspelt, &["no object", "`properties.sku`"])?;
    let within = EventsSpec { item: Some("properties".to_owned()), ..json_spec() };
    refused(&path, JSON, within, &["within another"])?;
    refused(&path, &JSON.replace("\"eight\",", "eight,"), json_spec(), &["log.jsonl", "log.jsonl, object 4"])?;
    refused(&path, &JSON[..JSON.len() - 5], json_spec(), &["log.jsonl", "ends within an object"])
}

#[test]
fn ready_features_may_be_json_too() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("customers.jsonl");
    std::fs::write(&path, "{\"id\":\"a\",\"f\":{\"x\":1,\"y\":2.5}}\n{\"id\":\"b\",\"f\":{\"x\":\"3\",\"y\":null}}\n")?;
    let spec = SourceSpec {
        path: path.to_string_lossy().into_owned(),
        id: Some("id".to_owned()),
        features: Some(vec!["f.x".to_owned(), "f.y".to_owned()]),
        ..SourceSpec::default()
    };
    let data = crate::reading::read(&spec)?;
    let raw = &data.blocks[0].raw;
    assert_eq!(raw.columns()[0], [1.0, 3.0]);
    assert!(raw.columns()[1][0] == 2.5 && raw.columns()[1][1].is_nan());
    Ok(())
}
