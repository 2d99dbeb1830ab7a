//! Reading a data set, all of it or some blocks.

use crate::manifest::chunk_name;
use crate::{Manifest, Storage, StorageError};
use arrow::datatypes::SchemaRef;
use arrow::ipc::reader::StreamReader;
use arrow::record_batch::RecordBatch;
use shoal_domain::BlockId;
use shoal_wire::blocks::{BlockCutter, DataSetSchema, SourceBlock};
use std::io::Cursor;

impl Storage {
    /// The columns of a data set.
    pub async fn schema(&self, manifest: &Manifest) -> Result<DataSetSchema, StorageError> {
        let (schema, _) = self.chunk(manifest, 0).await?;
        Ok(DataSetSchema::new(schema, manifest.has_weight)?)
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
        let (_, batches) = self.chunk(manifest, chunk_idx).await?;
        let block = |(number, batch): (u64, RecordBatch)| BlockCutter::one(schema.clone(), BlockId(number), &batch);
        Ok(numbers.zip(batches).map(block).collect::<Result<_, _>>()?)
    }

    /// The schema and the batches of a chunk, once it is certain that they are what was written.
    async fn chunk(&self, manifest: &Manifest, idx: usize) -> Result<(SchemaRef, Vec<RecordBatch>), StorageError> {
        let path = self.path(manifest.number, &chunk_name(idx));
        let chunk = manifest.chunks.get(idx).ok_or_else(|| self.corrupt(&path, "the manifest does not name it"))?;
        let bytes = self.get(&path).await?;
        let actual = blake3::hash(&bytes).to_hex();
        if actual.as_str() != chunk.blake3 {
            let reason = format!("its BLAKE3 is {actual}, the manifest has {}", chunk.blake3);
            return Err(self.corrupt(&path, reason));
        }
        let decode = || -> Result<_, arrow::error::ArrowError> {
            let reader = StreamReader::try_new(Cursor::new(bytes), None)?;
            let schema = reader.schema();
            Ok((schema, reader.collect::<Result<Vec<_>, _>>()?))
        };
        decode().map_err(|error| self.corrupt(&path, error))
    }
}
