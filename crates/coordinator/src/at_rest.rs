//! A data set in storage, from where its blocks come to workers.

use crate::data_sets::Home;
use crate::error::FleetError;
use crate::holder::{Holder, release};
use crate::members::Member;
use crate::placement::Placement;
use shoal_domain::BlockId;
use shoal_storage::Manifest;
use shoal_wire::blocks::DataSetSchema;
use std::sync::Arc;

#[derive(Debug)]
pub(crate) struct AtRest {
    pub(crate) home: Arc<Home>,
    pub(crate) name: String,
    pub(crate) schema: DataSetSchema,
    pub(crate) manifest: Manifest,
}

impl AtRest {
    /// Reads blocks and spreads them over the workers; all of them or none.
    pub(crate) async fn place(
        &self,
        blocks: &[BlockId],
        members: Vec<Member>,
        number: u64,
    ) -> Result<Vec<Holder>, FleetError> {
        let name = self.name_of(number);
        let mut placement = Placement::start(&name, number, self.schema.clone(), members.clone(), None)?;
        let placed = match self.send(blocks, &mut placement).await {
            Ok(()) => placement.finish(None).await,
            Err(error) => Err(error),
        };
        if placed.is_err() {
            placement.break_off().await;
            release(members, "", &name).await;
        }
        placed.map(|(holders, _)| holders)
    }

    async fn send(&self, blocks: &[BlockId], placement: &mut Placement) -> Result<(), FleetError> {
        let storage = &self.home.storage;
        for chunk in storage.chunks_with(&self.manifest, blocks) {
            for block in storage.blocks(&self.manifest, &self.schema, chunk).await? {
                if blocks.binary_search(&block.raw.id()).is_ok() {
                    placement.send(&block).await?;
                }
            }
        }
        Ok(())
    }

    /// What workers know the blocks of a placement by. Another leader's placements have other names: what is still on its way
    /// to a worker must not come among those of this one.
    pub(crate) fn name_of(&self, placement: u64) -> String {
        format!("{}/{}.{placement}", self.name, self.home.epoch)
    }
}
