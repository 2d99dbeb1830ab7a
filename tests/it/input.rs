//! What sources give, and what is said to bad ones: from files to blocks.

mod features;
mod purchases;

use crate::reading::{DataSet, read};
use arrow::array::{ArrayRef, Float64Array, Int64Array, StringArray};
use arrow::record_batch::RecordBatch;
use parquet::arrow::ArrowWriter;
use shoal_domain::job::SourceSpec;
use std::path::Path;
use std::sync::Arc;

/// A folder for the files of one test; it goes when the test ends.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a temporary folder can be made"))
    }

    /// A path in the folder, as a job has it.
    fn path(&self, name: &str) -> String {
        self.0.path().join(name).to_string_lossy().into_owned()
    }

    fn write_text(&self, name: &str, text: &str) -> String {
        std::fs::write(self.path(name), text).expect("the file can be written");
        self.path(name)
    }

    fn write_parquet(&self, name: &str, columns: Vec<(&str, ArrayRef)>) -> String {
        // Columns may hold nulls by type, as most files' do.
        let nullable = columns.into_iter().map(|(name, column)| (name, column, true));
        let batch = RecordBatch::try_from_iter_with_nullable(nullable).expect("columns have equal lengths");
        let file = std::fs::File::create(Path::new(&self.path(name))).expect("the file can be made");
        let mut writer = ArrowWriter::try_new(file, batch.schema(), None).expect("the schema can be written");
        writer.write(&batch).expect("the rows can be written");
        writer.close().expect("the file can be closed");
        self.path(name)
    }
}

fn floats(values: impl IntoIterator<Item = f64>) -> ArrayRef {
    Arc::new(Float64Array::from_iter_values(values))
}

fn maybe_floats(values: impl IntoIterator<Item = Option<f64>>) -> ArrayRef {
    Arc::new(values.into_iter().collect::<Float64Array>())
}

fn integers(values: impl IntoIterator<Item = i64>) -> ArrayRef {
    Arc::new(Int64Array::from_iter_values(values))
}

fn texts(values: impl IntoIterator<Item = impl AsRef<str>>) -> ArrayRef {
    Arc::new(StringArray::from_iter_values(values))
}

/// A source of ready features with the id column `id`.
fn ready(path: &str, features: &[&str]) -> SourceSpec {
    SourceSpec {
        path: path.to_owned(),
        features: Some(features.iter().map(|feature| (*feature).to_owned()).collect()),
        id: Some("id".to_owned()),
        ..SourceSpec::default()
    }
}

fn read_well(spec: &SourceSpec) -> DataSet {
    read(spec).expect("the source can be read")
}

/// One column over all blocks.
fn column(data: &DataSet, column: usize) -> Vec<f64> {
    data.blocks.iter().flat_map(|block| block.raw.columns()[column].clone()).collect()
}

/// The hashes that the data digest is made of.
fn digests(data: &DataSet) -> Vec<[u8; 32]> {
    data.blocks.iter().map(|block| block.raw.digest()).collect()
}

/// Fails unless reading ends in an error that says all of `expected`.
fn check_refused(spec: &SourceSpec, expected: &[&str]) {
    let Err(error) = read(spec) else {
        panic!("reading should have failed and said {expected:?}");
    };
    for expected in expected {
        assert!(error.to_string().contains(expected), "`{error}` should say `{expected}`");
    }
}
