//! From events to features: against pandas on three public logs, by laws on random ones, and against the truth about generated ones.
//!
//! `tests/data/features.py` made the goldens.

mod generated;
mod goldens;
mod journeys;
mod json;
mod laws;
mod plans;
mod refusals;
mod sql;
mod stitching;

use anyhow::Result;
use arrow::array::AsArray;
use arrow::datatypes::{DataType, Float64Type};
use arrow::util::display::array_value_to_string;
use futures::TryStreamExt;
use shoal_behavior::{FeatureSource, Quality, ReadOptions};
use shoal_domain::events::{EventKind, EventsSpec};
use shoal_domain::job::SourceSpec;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The features of a log, by column.
#[derive(Debug, PartialEq)]
struct Features {
    ids: Vec<String>,
    columns: BTreeMap<String, Vec<Option<f64>>>,
    cells: Vec<Option<String>>,
    quality: Quality,
}

impl Features {
    fn of(spec: &SourceSpec) -> Result<Self> {
        Self::read(spec, &ReadOptions::default())
    }

    fn read(spec: &SourceSpec, options: &ReadOptions) -> Result<Self> {
        tokio::runtime::Runtime::new()?.block_on(async {
            let source = FeatureSource::open(spec, options).await?;
            let quality = source.quality().cloned().expect("features of events come with a word about them");
            let mut it = Self { ids: Vec::new(), columns: BTreeMap::new(), cells: Vec::new(), quality };
            let batches: Vec<_> = source.batches().await?.try_collect().await?;
            for batch in &batches {
                let id = |row| array_value_to_string(batch.column(0), row);
                it.ids.extend((0..batch.num_rows()).map(id).collect::<Result<Vec<_>, _>>()?);
                for (field, column) in batch.schema().fields().iter().zip(batch.columns()).skip(1) {
                    match field.data_type() {
                        DataType::Float64 => {
                            let values = it.columns.entry(field.name().clone()).or_default();
                            values.extend(column.as_primitive::<Float64Type>().iter());
                        }
                        _ => it.cells.extend(column.as_string::<i32>().iter().map(|cell| cell.map(str::to_owned))),
                    }
                }
            }
            Ok(it)
        })
    }

    fn column(&self, name: &str) -> &[Option<f64>] {
        self.columns.get(name).unwrap_or_else(|| panic!("there is no feature {name}"))
    }
}

/// Events whose columns have the names of what they hold.
fn events(as_of: &str) -> EventsSpec {
    EventsSpec {
        customer: "customer".to_owned(),
        anonymous: None,
        identity: Default::default(),
        time: "time".to_owned(),
        sequence: None,
        kind: Some("kind".to_owned()),
        every: None,
        kinds: BTreeMap::new(),
        plan: BTreeMap::new(),
        order: Some("order".to_owned()),
        amount: Some("amount".to_owned()),
        item: Some("item".to_owned()),
        state: None,
        message: None,
        as_of: as_of.to_owned(),
        near_duplicate_seconds: None,
        session_gap_minutes: EventsSpec::DEFAULT_SESSION_GAP_MINUTES,
        engagement: Default::default(),
        leave_out: BTreeMap::new(),
        measures: BTreeMap::new(),
        affinity: None,
    }
}

fn source(path: &Path, events: EventsSpec) -> SourceSpec {
    SourceSpec { path: path.to_string_lossy().into_owned(), events: Some(events), ..SourceSpec::default() }
}

fn data(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/data").join(path)
}

/// As `features.py` has them.
fn weights() -> BTreeMap<EventKind, f64> {
    BTreeMap::from([(EventKind::Cart, 3.0), (EventKind::Purchase, 5.0), (EventKind::Support, -2.0)])
}
