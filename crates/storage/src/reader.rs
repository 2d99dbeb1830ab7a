//! Reading a data set, all of it or some blocks.

use crate::manifest::{Chunk, NAME, chunk_name};
use crate::{Manifest, Storage, StorageError};
use arrow::ipc::reader::StreamReader;
use bytes::Bytes;
use shoal_domain::BlockId;
use shoal_wire::blocks::{BlockCutter, BlockError, DataSetSchema, SourceBlock};
use std::io::Cursor;
use std::ops::Range;
use tokio::task::spawn_blocking;

impl Storage {
    /// The columns of a data set.
    pub fn schema(&self, manifest: &Manifest) -> Result<DataSetSchema, StorageError> {
        manifest.schema().map_err(|reason| self.corrupt(&self.path(manifest.number, NAME), reason))
    }

    /// The numbers of the chunks that hold some blocks, which are given in ascending order.
    pub fn chunks_with(&self, manifest: &Manifest, blocks: &[BlockId]) -> Vec<usize> {
        let holds = |(_, chunk): &(usize, std::ops::Range<u64>)| {
            let first = blocks.partition_point(|block| block.0 < chunk.start);
            blocks.get(first).is_some_and(|block| block.0 < chunk.end)
        };
        manifest.blocks_of_chunks().enumerate().filter(holds).map(|(idx, _)| idx).collect()
    }

    /// The blocks of a chunk. Whatever is damaged is noticed.
    pub async fn blocks(
        &self,
        manifest: &Manifest,
        schema: &DataSetSchema,
        chunk_idx: usize,
    ) -> Result<Vec<SourceBlock>, StorageError> {
        let numbers = manifest.blocks_of_chunks().nth(chunk_idx).unwrap_or(0..0);
        let path = self.path(manifest.number, &chunk_name(chunk_idx));
        let chunk = manifest.chunks.get(chunk_idx).cloned();
        let chunk = chunk.ok_or_else(|| self.corrupt(&path, "the manifest does not name it"))?;
        let (bytes, schema) = (self.get(&path).await?, schema.clone());
        // Megabytes are hashed and decoded where nobody's heartbeat waits.
        let decoded = spawn_blocking(move || decode(&chunk, bytes, numbers, &schema)).await;
        decoded.unwrap_or_else(|_| Err("its decoder panicked".to_owned())).map_err(|reason| self.corrupt(&path, reason))
    }
}

/// The blocks of a chunk, once it is certain that they are what was written.
fn decode(
    chunk: &Chunk,
    bytes: Bytes,
    numbers: Range<u64>,
    schema: &DataSetSchema,
) -> Result<Vec<SourceBlock>, String> {
    let actual = blake3::hash(&bytes).to_hex();
    if actual.as_str() != chunk.blake3 {
        return Err(format!("its BLAKE3 is {actual}, the manifest has {}", chunk.blake3));
    }
    let text = |error: arrow::error::ArrowError| error.to_string();
    let reader = StreamReader::try_new(Cursor::new(bytes), None).map_err(text)?;
    let batches = reader.collect::<Result<Vec<_>, _>>().map_err(text)?;
    if batches.len() as u64 != chunk.n_blocks {
        return Err(format!("it has {} blocks, the manifest says {}", batches.len(), chunk.n_blocks));
    }
    let block = |(number, batch)| BlockCutter::one(schema.clone(), BlockId(number), batch);
    let blocks = numbers.zip(&batches).map(block).collect::<Result<_, _>>();
    blocks.map_err(|error: BlockError| error.to_string())
}
