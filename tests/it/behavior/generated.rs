//! What is found in generated logs against the truth about them.

use super::{Features, events, source};
use anyhow::Result;
use parquet::arrow::ArrowWriter;
use shoal_behavior::ReadOptions;
use shoal_domain::events::EventsSpec;
use shoal_generator::{DirtSpec, Event, GeneratorSpec, Kind, Log, Piece};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::Path;

pub(super) fn generate(dirt: DirtSpec) -> Result<Vec<Piece>> {
    let log = Log::new(GeneratorSpec { n_customers: 2_000, seed: 11, dirt, ..GeneratorSpec::default() })?;
    Ok((0..log.n_pieces()).map(|number| log.piece(number)).collect())
}

fn write(folder: &Path, pieces: &[Piece]) -> Result<()> {
    for (number, piece) in pieces.iter().enumerate() {
        let batch = piece.event_batch()?;
        let mut writer =
            ArrowWriter::try_new(File::create(folder.join(format!("{number}.parquet")))?, batch.schema(), None)?;
        writer.write(&batch)?;
        writer.close()?;
    }
    Ok(())
}

pub(super) fn spec() -> EventsSpec {
    let own = |column: &str| Some(column.to_owned());
    EventsSpec {
        customer: "customer_id".to_owned(),
        time: "event_time".to_owned(),
        kind: own("event_name"),
        order: own("order_id"),
        amount: own("amount"),
        item: own("item_id"),
        message: own("message_id"),
        ..events("2026-01-01")
    }
}

pub(super) fn features(pieces: &[Piece], spec: EventsSpec) -> Result<Features> {
    let folder = tempfile::tempdir()?;
    write(folder.path(), pieces)?;
    Features::of(&source(folder.path(), spec))
}

/// The events of the log whose customer it knows.
fn known(pieces: &[Piece]) -> impl Iterator<Item = &Event> {
    pieces.iter().flat_map(|piece| &piece.events).filter(|event| event.origin.logged_in)
}

#[test]
fn planted_repetitions_are_removed_and_nothing_else() -> Result<()> {
    let pieces = generate(DirtSpec { late: 0.0, ..DirtSpec::default() })?;
    let found = features(&pieces, spec())?;
    // A retry says what the message before it said, so it has the same flaw, and is in quarantine with it.
    let is_whole = |event: &&Event| event.time.is_some() && (event.kind != Kind::Purchase || event.cents.is_some());
    let retries = known(&pieces).filter(is_whole).filter(|event| event.flaws.retry).count();
    assert!(retries > 500, "{retries} are enough to tell");
    assert_eq!(found.quality.duplicates.message, retries as u64);
    let kept: BTreeSet<(u64, u64)> =
        known(&pieces).filter(is_whole).map(|event| (event.person, event.message)).collect();
    assert_eq!(found.quality.n_events, kept.len() as u64);
    let missing = |is_missing: fn(&&Event) -> bool| known(&pieces).filter(is_missing).count() as u64;
    assert_eq!(found.quality.quarantined.no_time, missing(|event| event.time.is_none()));
    let no_amount = |event: &&Event| event.time.is_some() && event.kind == Kind::Purchase && event.cents.is_none();
    assert_eq!(found.quality.quarantined.no_amount, missing(no_amount));
    Ok(())
}

#[test]
fn events_that_fire_twice_are_nearly_all_found() -> Result<()> {
    let only = DirtSpec { double_fires: 0.01, ..DirtSpec::NONE };
    let pieces = generate(only)?;
    let found = features(&pieces, EventsSpec { near_duplicate_seconds: Some(1.5), ..spec() })?;
    let planted = known(&pieces).filter(|event| event.flaws.double_fire).count() as f64;
    let clean = features(&generate(DirtSpec::NONE)?, EventsSpec { near_duplicate_seconds: Some(1.5), ..spec() })?;
    // People who do the same thing twice within a second and a half are taken for it too.
    let removed = found.quality.duplicates.near as f64;
    let wrongly = clean.quality.duplicates.near as f64;
    assert!(planted > 200.0, "{planted} are enough to tell");
    assert!(removed >= 0.99 * planted && wrongly <= 0.01 * planted, "{removed} of {planted}, {wrongly} wrongly");
    Ok(())
}

#[test]
fn orders_and_amounts_are_those_of_the_truth() -> Result<()> {
    let pieces = generate(DirtSpec::NONE)?;
    let found = features(&pieces, spec())?;
    let truth: BTreeMap<String, (f64, f64)> = pieces
        .iter()
        .flat_map(|piece| &piece.customers)
        .map(|customer| (format!("c{:07}", customer.person), (customer.n_orders as f64, customer.cents as f64 / 100.0)))
        .collect();
    let (orders, paid) = (found.column("frequency"), found.column("monetary"));
    for (row, id) in found.ids.iter().enumerate() {
        let (n_orders, amount) = truth[id];
        assert_eq!(orders[row], Some(n_orders), "{id}");
        assert!((paid[row].unwrap_or(0.0) - amount).abs() < 1e-6, "{id}: {:?}, where {amount} was paid", paid[row]);
    }
    let buyers = truth.values().filter(|(n_orders, _)| *n_orders > 0.0).count();
    assert!(found.ids.len() >= buyers, "whoever bought was logged in");
    Ok(())
}

#[test]
fn a_log_is_the_same_whatever_was_made_before() -> Result<()> {
    let spec = GeneratorSpec { n_customers: 20_000, activity: 0.2, ..GeneratorSpec::default() };
    let (one, other) = (Log::new(spec.clone())?, Log::new(spec)?);
    assert_eq!(one.n_pieces(), 2);
    let (last, first) = (one.piece(1), one.piece(0));
    assert_eq!((other.piece(0), other.piece(1)), (first, last));
    Ok(())
}

#[test]
fn features_are_the_same_when_memory_is_short() -> Result<()> {
    let log = Log::new(GeneratorSpec { n_customers: 8_000, seed: 12, ..GeneratorSpec::default() })?;
    let folder = tempfile::tempdir()?;
    write(folder.path(), &[log.piece(0)])?;
    let source = source(folder.path(), EventsSpec { anonymous: Some("cookie_id".to_owned()), ..spec() });
    let enough = Features::of(&source)?;
    // Five columns and two numbers of each event: what counts is more than queries may hold, so some of it was in files.
    let bytes_of_events = 48 * enough.quality.n_events;
    let short = ReadOptions { memory_bytes: Some(48 << 20), ..ReadOptions::default() };
    assert!(bytes_of_events as f64 > 0.6 * f64::from(48 << 20), "{bytes_of_events} are enough to tell");
    assert_eq!(Features::read(&source, &short)?, enough);
    let none = ReadOptions { memory_bytes: Some(1 << 10), ..ReadOptions::default() };
    let error =
        Features::read(&source, &none).map(|_| ()).expect_err("a kilobyte is too little for anything").to_string();
    assert!(error.contains("memory"), "{error}");
    Ok(())
}
