//! The rows of a shard in the order of their clusters, for whoever compares them.

use crate::gpu::{Buffer, GpuError};
use crate::rows::DeviceRows;
use rayon::prelude::*;
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
    /// `labels` are those of all rows of `blocks`. On all threads of the pool that this is called in.
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
            by_block.push(own);
            rest = others;
        }
        let widened = by_block.into_par_iter().map(|labels| labels.iter().map(|label| u32::from(*label)).collect());
        let order = ClusterOrder::new(&widened.collect::<Vec<Vec<u32>>>(), centroids.n_clusters());
        let numbers: Vec<u32> = order.rows().map(|row| row as u32).collect();
        Ok(Self { centroids: centroids.clone(), order, rows: Buffer::of(&rows.gpu, &numbers)? })
    }
}
