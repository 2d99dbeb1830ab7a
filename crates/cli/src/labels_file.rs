//! `labels.parquet`, whose row groups are encoded side by side: one thread takes longer to encode labels than all of them
//! take to find them.

use anyhow::{Result, anyhow};
use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::{ArrowColumnChunk, ArrowColumnWriter, ArrowRowGroupWriterFactory, compute_leaves};
use parquet::basic::{Compression, ZstdLevel};
use parquet::errors::Result as ParquetResult;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use rayon::prelude::*;
use shoal_clustering::cpu::CpuDevice;
use std::io::Write;

/// Rows of a row group, at least, but for the last one.
const ROW_GROUP_ROWS: usize = 128 << 10;

/// A writer of labels that come one after the other.
pub(crate) fn label_writer<W: Write + Send>(target: W, schema: SchemaRef) -> Result<ArrowWriter<W>> {
    let compression = Compression::ZSTD(ZstdLevel::try_new(1)?);
    let properties = WriterProperties::builder()
        .set_compression(compression)
        .set_max_row_group_row_count(Some(ROW_GROUP_ROWS))
        .build();
    Ok(ArrowWriter::try_new(target, schema, Some(properties))?)
}

/// A file of labels that come faster than one thread encodes them. As many row groups as there are threads are held.
pub(crate) struct LabelsFile<W: Write + Send> {
    file: SerializedFileWriter<W>,
    encoder: Encoder,
    cpu: CpuDevice,
    /// Row groups that are not encoded yet, of which the last may be short of rows.
    pending: Vec<RowGroup>,
    n_written: usize,
}

#[derive(Default)]
struct RowGroup {
    batches: Vec<RecordBatch>,
    n_rows: usize,
}

struct Encoder {
    columns: ArrowRowGroupWriterFactory,
    schema: SchemaRef,
}

impl Encoder {
    /// The columns of one row group, encoded side by side too: a short file has one row group alone.
    fn encode(&self, idx: usize, group: &RowGroup) -> ParquetResult<Vec<ArrowColumnChunk>> {
        let encode_column = |(column, mut writer): (usize, ArrowColumnWriter)| {
            for batch in &group.batches {
                for leaf in compute_leaves(self.schema.field(column), batch.column(column))? {
                    writer.write(&leaf)?;
                }
            }
            writer.close()
        };
        let writers = self.columns.create_column_writers(idx)?;
        writers.into_par_iter().enumerate().map(encode_column).collect()
    }
}

impl<W: Write + Send> LabelsFile<W> {
    pub(crate) fn new(target: W, schema: SchemaRef, cpu: CpuDevice) -> Result<Self> {
        let (file, columns) = label_writer(target, schema.clone())?.into_serialized_writer()?;
        Ok(Self { file, encoder: Encoder { columns, schema }, cpu, pending: Vec::new(), n_written: 0 })
    }

    /// Adds rows, which have the columns of the schema.
    pub(crate) fn write(&mut self, batch: RecordBatch) -> Result<()> {
        if self.pending.last().is_none_or(|last| last.n_rows >= ROW_GROUP_ROWS) {
            if self.pending.len() == self.cpu.n_threads() {
                self.write_pending()?;
            }
            self.pending.push(RowGroup::default());
        }
        if let Some(last) = self.pending.last_mut() {
            last.n_rows += batch.num_rows();
            last.batches.push(batch);
        }
        Ok(())
    }

    fn write_pending(&mut self) -> Result<()> {
        let (groups, first, encoder) = (std::mem::take(&mut self.pending), self.n_written, &self.encoder);
        let encode = |(idx, group): (usize, RowGroup)| encoder.encode(first + idx, &group);
        let encoded: Vec<_> = self.cpu.install(|| groups.into_par_iter().enumerate().map(encode).collect());
        for chunks in encoded {
            let mut row_group = self.file.next_row_group()?;
            for chunk in chunks? {
                chunk.append_to_row_group(&mut row_group)?;
            }
            row_group.close()?;
            self.n_written += 1;
        }
        Ok(())
    }

    /// Ends the file and gives the target back.
    pub(crate) fn finish(mut self) -> Result<W> {
        self.write_pending()?;
        self.file.into_inner().map_err(|error| anyhow!(error))
    }
}
