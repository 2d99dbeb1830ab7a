//! Writing a data set.

use crate::manifest::{Chunk, NAME, chunk_name};
use crate::{Manifest, RowCounts, Storage, StorageError};
use arrow::ipc::writer::StreamWriter;
use arrow::record_batch::RecordBatch;
use shoal_wire::blocks::{BlockError, DataSetSchema, SourceBlock};
use std::collections::BTreeMap;
use tokio::task::{JoinSet, spawn_blocking};

/// Blocks of a chunk: a few megabytes, which is what object stores are good at, and not much more than what is asked for
/// when some blocks have to be read again.
const CHUNK_BLOCKS: usize = 16;
/// Chunks that are encoded and written at the same time; more wait with the sender.
const CHUNKS_UNDER_WAY: usize = 4;

/// A data set on its way to storage.
pub struct DataSetWriter {
    storage: Storage,
    number: u64,
    /// Blocks that wait for their chunk to be full.
    waiting: Vec<RecordBatch>,
    n_chunks: usize,
    under_way: JoinSet<Result<(usize, Chunk), StorageError>>,
    written: BTreeMap<usize, Chunk>,
}

impl DataSetWriter {
    pub(crate) fn new(storage: Storage, number: u64) -> Self {
        let (under_way, written) = (JoinSet::new(), BTreeMap::new());
        Self { storage, number, waiting: Vec::new(), n_chunks: 0, under_way, written }
    }

    /// Takes the next block; blocks come in order, from number 0. What it says of an error may be about an earlier one.
    pub async fn push(&mut self, block: &SourceBlock, schema: &DataSetSchema) -> Result<(), StorageError> {
        self.waiting.push(block.to_batch(schema)?);
        if self.waiting.len() == CHUNK_BLOCKS { self.start_chunk().await } else { Ok(()) }
    }

    /// Makes the data set whole. From here on it can be read, whatever happens to this process.
    pub async fn commit(&mut self, counts: RowCounts, schema: &DataSetSchema) -> Result<Manifest, StorageError> {
        if !self.waiting.is_empty() {
            self.start_chunk().await?;
        }
        while !self.under_way.is_empty() {
            self.end_chunk().await?;
        }
        let chunks = std::mem::take(&mut self.written).into_values().collect();
        let manifest = Manifest::new(self.number, counts, schema, chunks)?;
        let json = serde_json::to_vec_pretty(&manifest).expect("a manifest is a JSON document");
        self.storage.put(&self.storage.path(self.number, NAME), json).await?;
        Ok(manifest)
    }

    /// Removes what was written, the manifest too.
    pub async fn abandon(mut self) -> Result<(), StorageError> {
        // What is under way would come after its removal.
        while self.under_way.join_next().await.is_some() {}
        self.storage.sweep(self.number).await.map(|_| ())
    }

    async fn start_chunk(&mut self) -> Result<(), StorageError> {
        if self.under_way.len() == CHUNKS_UNDER_WAY {
            self.end_chunk().await?;
        }
        let (batches, idx) = (std::mem::take(&mut self.waiting), self.n_chunks);
        self.n_chunks += 1;
        let (storage, path) = (self.storage.clone(), self.storage.path(self.number, &chunk_name(idx)));
        self.under_way.spawn(async move {
            let n_blocks = batches.len() as u64;
            let encoded = spawn_blocking(move || {
                let bytes = encode(&batches)?;
                let blake3 = blake3::hash(&bytes).to_hex().to_string();
                Ok::<_, BlockError>((bytes, blake3))
            });
            let (bytes, blake3) = encoded.await.expect("batches are encoded without a panic")?;
            storage.put(&path, bytes).await?;
            Ok((idx, Chunk { n_blocks, blake3 }))
        });
        Ok(())
    }

    async fn end_chunk(&mut self) -> Result<(), StorageError> {
        if let Some(ended) = self.under_way.join_next().await {
            let (idx, chunk) = ended.expect("chunks are written without a panic")?;
            self.written.insert(idx, chunk);
        }
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
