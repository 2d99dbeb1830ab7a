//! Writing a data set.

use crate::manifest::{Chunk, NAME, chunk_name};
use crate::{Manifest, Storage, StorageError};
use arrow::ipc::writer::StreamWriter;
use arrow::record_batch::RecordBatch;
use shoal_wire::blocks::{BlockError, DataSetSchema, SourceBlock};

/// Blocks of a chunk: a few megabytes, which is what object stores are good at, and not much more than what is asked for
/// when some blocks have to be read again.
const CHUNK_BLOCKS: usize = 16;

/// A data set on its way to storage.
pub struct DataSetWriter {
    storage: Storage,
    number: u64,
    /// Blocks that wait for their chunk to be full.
    waiting: Vec<RecordBatch>,
    chunks: Vec<Chunk>,
}

impl DataSetWriter {
    pub(crate) fn new(storage: Storage, number: u64) -> Self {
        Self { storage, number, waiting: Vec::new(), chunks: Vec::new() }
    }

    /// Takes the next block; blocks come in order, from number 0.
    pub async fn push(&mut self, block: &SourceBlock, schema: &DataSetSchema) -> Result<(), StorageError> {
        self.waiting.push(block.to_batch(schema)?);
        if self.waiting.len() == CHUNK_BLOCKS { self.write_chunk().await } else { Ok(()) }
    }

    /// Makes the data set whole. From here on it can be read, whatever happens to this process.
    pub async fn commit(mut self, n_rows: u64, has_weight: bool) -> Result<Manifest, StorageError> {
        if !self.waiting.is_empty() {
            self.write_chunk().await?;
        }
        let manifest = Manifest::new(self.number, n_rows, has_weight, std::mem::take(&mut self.chunks));
        let json = serde_json::to_vec_pretty(&manifest).expect("a manifest is a JSON document");
        self.storage.put(&self.storage.path(self.number, NAME), json).await?;
        Ok(manifest)
    }

    /// Removes what was written.
    pub async fn abandon(self) -> Result<(), StorageError> {
        self.storage.remove(&Manifest::new(self.number, 0, false, self.chunks.clone())).await
    }

    async fn write_chunk(&mut self) -> Result<(), StorageError> {
        let batches = std::mem::take(&mut self.waiting);
        let bytes = encode(&batches)?;
        let blake3 = blake3::hash(&bytes).to_hex().to_string();
        self.storage.put(&self.storage.path(self.number, &chunk_name(self.chunks.len())), bytes).await?;
        self.chunks.push(Chunk { n_blocks: batches.len() as u64, blake3 });
        Ok(())
    }
}

/// Blocks as an Arrow IPC stream, a batch each.
fn encode(batches: &[RecordBatch]) -> Result<Vec<u8>, BlockError> {
    let mut writer = StreamWriter::try_new(Vec::new(), batches[0].schema_ref())?;
    for batch in batches {
        writer.write(batch)?;
    }
    Ok(writer.into_inner()?)
}
