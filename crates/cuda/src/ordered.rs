//! The rows of a shard in the order of their clusters, for whoever compares them.

use crate::gpu::{Buffer, GpuError};
use crate::rows::DeviceRows;
use shoal_clustering::cpu::ClusterOrder;
use shoal_domain::{Block, Centroids};

/// The order that some centroids give, on the GPU and beside it.
pub(crate) struct OrderedRows {
    pub(crate) centroids: Centroids,
    pub(crate) order: ClusterOrder,
    /// The rows by cluster, each by its number.
    pub(crate) rows: Buffer<u32>,
}

impl OrderedRows {
    /// `labels` are those of all rows of `blocks`.
    pub(crate) fn new(
        rows: &DeviceRows,
        blocks: &[Block],
        centroids: &Centroids,
        labels: &[u16],
    ) -> Result<Self, GpuError> {
        let mut rest = labels;
        let mut by_block = Vec::with_capacity(blocks.len());
        for block in blocks {
            let (own, others) = rest.split_at(block.n_rows());
            by_block.push(own.iter().map(|label| u32::from(*label)).collect::<Vec<u32>>());
            rest = others;
        }
        let order = ClusterOrder::new(&by_block, centroids.n_clusters());
        let numbers: Vec<u32> = order.rows().map(|row| row as u32).collect();
        Ok(Self { centroids: centroids.clone(), order, rows: Buffer::of(&rows.gpu, &numbers)? })
    }
}
