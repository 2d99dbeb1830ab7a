//! Gaussian blobs with known membership.

use anyhow::{Context, Result};
use arrow::array::{ArrayRef, AsArray, Float32Array, Int64Array};
use arrow::datatypes::{Int32Type, Int64Type};
use arrow::record_batch::RecordBatch;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::file::properties::WriterProperties;
use shoal_stats::RandomStream;
use std::collections::HashMap;
use std::f64::consts::TAU;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;

const SEED: u64 = 20_180_102;
const SPREAD: f64 = 2.5;
const BATCH_ROWS: usize = 65_536;

/// The blob of a row; its id says nothing about it but for this function.
fn blob_of(id: i64, n_blobs: usize) -> usize {
    let number = RandomStream { seed: SEED, stream: 1 }.uniform(id as u64);
    (number * n_blobs as f64) as usize
}

fn centre(blob: usize, column: usize) -> f64 {
    let number = RandomStream { seed: SEED, stream: 2 }.uniform((blob * 4096 + column) as u64);
    20.0 * number - 10.0
}

/// A standard normal number (Box & Muller 1958).
fn normal(row: usize, column: usize) -> f64 {
    let uniform = |half: u64| RandomStream { seed: SEED, stream: 3 + 2 * column as u64 + half }.uniform(row as u64);
    libm::sqrt(-2.0 * libm::log(uniform(0))) * libm::cos(TAU * uniform(1))
}

/// What is generated.
pub struct Shape {
    /// Rows.
    pub n_rows: usize,
    /// Columns beside the id.
    pub n_features: usize,
    /// Blobs, of as many rows each as can be.
    pub n_blobs: usize,
}

/// Writes `id: int64` and `x0 ..: float32`.
pub fn write(path: &Path, shape: &Shape, row_group_rows: usize) -> Result<()> {
    let Shape { n_rows, n_features, n_blobs } = *shape;
    let properties = WriterProperties::builder().set_max_row_group_row_count(Some(row_group_rows)).build();
    let mut writer: Option<ArrowWriter<File>> = None;
    for first in (0..n_rows).step_by(BATCH_ROWS) {
        let rows = first..(first + BATCH_ROWS).min(n_rows);
        let ids: Int64Array = rows.clone().map(|row| row as i64).collect();
        let mut columns: Vec<(String, ArrayRef)> = vec![("id".to_owned(), Arc::new(ids))];
        for column in 0..n_features {
            let value = |row: usize| centre(blob_of(row as i64, n_blobs), column) + SPREAD * normal(row, column);
            let values: Float32Array = rows.clone().map(|row| value(row) as f32).collect();
            columns.push((format!("x{column}"), Arc::new(values)));
        }
        let batch = RecordBatch::try_from_iter(columns)?;
        if writer.is_none() {
            writer = Some(ArrowWriter::try_new(File::create(path)?, batch.schema(), Some(properties.clone()))?);
        }
        writer.as_mut().context("just made")?.write(&batch)?;
    }
    writer.context("no rows")?.close()?;
    Ok(())
}

/// The share of rows whose label is the one that most rows of their blob have.
pub fn agreement(labels: &Path, n_blobs: usize) -> Result<f64> {
    let mut counts: HashMap<(usize, i32), u64> = HashMap::new();
    for batch in ParquetRecordBatchReaderBuilder::try_new(File::open(labels)?)?.build()? {
        let batch = batch?;
        let ids = batch.column(0).as_primitive::<Int64Type>().values();
        let labels = batch.column(1).as_primitive::<Int32Type>().values();
        for (id, label) in ids.iter().zip(labels) {
            *counts.entry((blob_of(*id, n_blobs), *label)).or_default() += 1;
        }
    }
    let best_of = |blob: usize| counts.iter().filter(|((of, _), _)| *of == blob).map(|(_, n)| *n).max().unwrap_or(0);
    let n_rows: u64 = counts.values().sum();
    Ok((0..n_blobs).map(best_of).sum::<u64>() as f64 / n_rows as f64)
}
