//! What features hold, as text.

use crate::log_quality::notes;
use crate::table::{aligned, grouped, number};
use arrow::array::AsArray;
use arrow::datatypes::{DataType, Float64Type, Schema};
use arrow::record_batch::RecordBatch;
use serde::Serialize;
use shoal_behavior::Quality;
use std::fmt::Write;
use std::time::Duration;

/// The features of a source, as `-o json` prints them.
#[derive(Debug, Serialize)]
pub(crate) struct FeaturesReport {
    n_customers: u64,
    features: Vec<Column>,
    #[serde(skip_serializing_if = "Option::is_none")]
    quality: Option<Quality>,
}

/// One feature of all customers.
#[derive(Debug, Serialize)]
struct Column {
    name: String,
    n_missing: u64,
    mean: Option<f64>,
    lowest: Option<f64>,
    highest: Option<f64>,
    #[serde(skip)]
    sum: f64,
}

impl FeaturesReport {
    /// Of no rows yet.
    pub(crate) fn new(schema: &Schema, quality: Option<Quality>) -> Self {
        let numbers = schema.fields().iter().skip(1).filter(|field| *field.data_type() == DataType::Float64);
        let column = |name: &String| Column {
            name: name.clone(),
            n_missing: 0,
            mean: None,
            lowest: None,
            highest: None,
            sum: 0.0,
        };
        Self { n_customers: 0, features: numbers.map(|field| column(field.name())).collect(), quality }
    }

    /// Adds rows.
    pub(crate) fn add(&mut self, batch: &RecordBatch) {
        self.n_customers += batch.num_rows() as u64;
        for feature in &mut self.features {
            let Some(values) = batch.column_by_name(&feature.name) else { continue };
            let values = values.as_primitive::<Float64Type>();
            let present = || values.iter().flatten().filter(|value| !value.is_nan());
            feature.n_missing += (values.len() - present().count()) as u64;
            feature.sum += present().sum::<f64>();
            let n_present = self.n_customers - feature.n_missing;
            feature.mean = (n_present > 0).then(|| feature.sum / n_present as f64);
            feature.lowest = present().chain(feature.lowest).reduce(f64::min);
            feature.highest = present().chain(feature.highest).reduce(f64::max);
        }
    }
}

/// Renders the report.
pub(crate) fn render(report: &FeaturesReport, elapsed: Duration) -> String {
    let mut text = String::new();
    let _ = write!(text, "{} customers, {} features", grouped(report.n_customers), report.features.len());
    if let Some(quality) = &report.quality {
        let _ = write!(text, " of {} events in {} rows", grouped(quality.n_events), grouped(quality.n_rows));
    }
    let _ = writeln!(text, " ({:.2} s)\n", elapsed.as_secs_f64());
    let header = ["feature", "missing", "mean", "lowest", "highest"].map(str::to_owned).to_vec();
    let shown = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |value| number(value, value.abs()));
    let row = |feature: &Column| {
        let figures = [feature.mean, feature.lowest, feature.highest].map(shown);
        [vec![feature.name.clone(), grouped(feature.n_missing)], figures.to_vec()].concat()
    };
    let rows: Vec<Vec<String>> = std::iter::once(header).chain(report.features.iter().map(row)).collect();
    aligned(&mut text, &rows);
    text.push('\n');
    if let Some(quality) = &report.quality {
        text.push_str(&notes(quality));
    }
    text
}
