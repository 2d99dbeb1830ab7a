//! Reads a source to its end, as `shoal run` does: opened, streamed, cut into blocks.

use anyhow::Result;
use futures::StreamExt;
use shoal_behavior::{FeatureSource, ReadOptions};
use shoal_domain::RawBlock;
use shoal_domain::job::SourceSpec;
use shoal_wire::blocks::{BlockCutter, DataSetSchema, SourceBlock};

/// All rows of a source.
pub(crate) struct DataSet {
    pub(crate) schema: DataSetSchema,
    pub(crate) blocks: Vec<SourceBlock>,
}

impl DataSet {
    pub(crate) fn raw_blocks(&self) -> Vec<RawBlock> {
        self.blocks.iter().map(|block| block.raw.clone()).collect()
    }
}

pub(crate) fn read(spec: &SourceSpec) -> Result<DataSet> {
    tokio::runtime::Runtime::new()?.block_on(async {
        let source = FeatureSource::open(spec, &ReadOptions::default()).await?;
        let schema = DataSetSchema::new(source.schema().into(), source.has_weight())?;
        let mut cutter = BlockCutter::new(schema.clone())?;
        let mut batches = source.batches().await?;
        let mut blocks = Vec::new();
        while let Some(batch) = batches.next().await {
            blocks.extend(cutter.push(batch.map_err(|error| source.read_error(error))?)?);
        }
        blocks.extend(cutter.finish()?);
        Ok(DataSet { schema, blocks })
    })
}
