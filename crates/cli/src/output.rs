//! Writes a run's files. Each is written under another name and moved into place when it is whole, the model last, so a
//! model.json in the folder means that the other files are there too.

use anyhow::{Result, anyhow};
use arrow::array::{ArrayRef, Float64Array, Int32Array, UInt32Array};
use arrow::compute::take;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;
use serde::Serialize;
use shoal_clustering::BlockLabels;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A folder that gets the files of a run.
pub(crate) struct OutFolder {
    folder: PathBuf,
    /// Finished files under their temporary names, in the order in which they will appear.
    finished: Vec<(PathBuf, PathBuf)>,
}

impl OutFolder {
    /// Makes the folder when it does not exist.
    pub(crate) fn create(folder: &Path) -> Result<Self> {
        std::fs::create_dir_all(folder).map_err(|error| anyhow!("--out: {}: {error}", folder.display()))?;
        Ok(Self { folder: folder.to_owned(), finished: Vec::new() })
    }

    /// Writes one file under its temporary name.
    pub(crate) fn write(&mut self, name: &str, write: impl FnOnce(File) -> Result<File>) -> Result<()> {
        let temporary = self.folder.join(format!(".{name}.partial"));
        self.finished.push((temporary.clone(), self.folder.join(name)));
        let failed = |error: std::io::Error| anyhow!("{}: {error}", temporary.display());
        let file = write(File::create(&temporary).map_err(failed)?)?;
        file.sync_all().map_err(failed)
    }

    /// Writes a JSON document.
    pub(crate) fn write_json(&mut self, name: &str, document: &impl Serialize) -> Result<()> {
        self.write(name, |mut file| {
            let mut text = serde_json::to_vec_pretty(document)?;
            text.push(b'\n');
            file.write_all(&text)?;
            Ok(file)
        })
    }

    /// Moves all files into place.
    pub(crate) fn commit(mut self) -> Result<()> {
        for (temporary, name) in std::mem::take(&mut self.finished) {
            std::fs::rename(&temporary, &name).map_err(|error| anyhow!("{}: {error}", name.display()))?;
        }
        Ok(())
    }
}

impl Drop for OutFolder {
    /// What was not committed leaves nothing behind.
    fn drop(&mut self) {
        for (temporary, _) in &self.finished {
            // The file may not have come into being; there is nobody left to tell.
            let _ = std::fs::remove_file(temporary);
        }
    }
}

/// The columns of labels.parquet: the id as the source has it, label, distance in prepared units.
pub(crate) fn label_schema(id: &Field) -> SchemaRef {
    let label = Field::new("label", DataType::Int32, false);
    let distance = Field::new("distance", DataType::Float64, false);
    Arc::new(Schema::new(vec![id.clone().with_nullable(false), label, distance]))
}

/// The rows of one block for labels.parquet.
pub(crate) fn label_batch(schema: &SchemaRef, ids: &ArrayRef, labels: BlockLabels) -> Result<RecordBatch> {
    let ids = match labels.kept {
        Some(kept) => take(ids, &UInt32Array::from(kept), None)?,
        None => ids.clone(),
    };
    let label: Int32Array = labels.labels.iter().map(|label| *label as i32).collect();
    let columns: Vec<ArrayRef> = vec![ids, Arc::new(label), Arc::new(Float64Array::from(labels.distances))];
    Ok(RecordBatch::try_new(schema.clone(), columns)?)
}

/// A writer of labels.parquet.
pub(crate) fn label_writer<W: Write + Send>(target: W, schema: SchemaRef) -> Result<ArrowWriter<W>> {
    let compression = Compression::ZSTD(ZstdLevel::try_new(1)?);
    let properties = WriterProperties::builder().set_compression(compression).build();
    Ok(ArrowWriter::try_new(target, schema, Some(properties))?)
}
