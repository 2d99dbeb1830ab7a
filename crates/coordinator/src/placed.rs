//! Where the blocks of a data set are: every block on some worker that is alive, as long as there is one.

use crate::data_sets::Home;
use crate::error::FleetError;
use crate::holders::{Holder, release};
use crate::members::Member;
use crate::placement::Placement;
use shoal_domain::BlockId;
use shoal_storage::Manifest;
use shoal_wire::blocks::DataSetSchema;
use shoal_wire::limits::{PLACEMENTS_MAX, WORKERS_AWAITED, WORKERS_LOOKED_FOR};
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::time::{Instant, sleep};
use tracing::{info, warn};

/// The blocks of a data set and the workers that hold them.
#[derive(Debug)]
pub(crate) struct Placed {
    home: Arc<Home>,
    name: String,
    schema: DataSetSchema,
    manifest: Manifest,
    /// Locked only to look at or change the list.
    holders: Mutex<Vec<Arc<Holder>>>,
    /// How often blocks were placed; held while they are, so that of several questions one does it.
    n_placements: tokio::sync::Mutex<u64>,
}

impl Placed {
    pub(crate) fn new(
        home: Arc<Home>,
        name: &str,
        schema: DataSetSchema,
        manifest: Manifest,
        holders: Vec<Holder>,
    ) -> Self {
        let holders = Mutex::new(holders.into_iter().map(Arc::new).collect());
        Self { home, name: name.to_owned(), schema, manifest, holders, n_placements: tokio::sync::Mutex::new(0) }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Arc<Holder>>> {
        self.holders.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The workers that hold blocks now; some may have gone.
    pub(crate) fn holders(&self) -> Vec<Arc<Holder>> {
        self.lock().clone()
    }

    /// Workers that hold every block. Those that nobody holds any more are read from storage and placed on the workers that
    /// are there; when there are none, some are waited for, unless the job is to end. What has begun to be placed is placed.
    pub(crate) async fn complete(&self, cancelled: &AtomicBool) -> Result<Vec<Arc<Holder>>, FleetError> {
        let mut n_placements = self.n_placements.lock().await;
        let began = Instant::now();
        let mut n_lost = 0;
        loop {
            let missing = self.missing();
            if missing.is_empty() {
                return Ok(self.holders());
            }
            if n_lost == PLACEMENTS_MAX {
                return Err(FleetError::NotPlaced { data_set: self.name.clone(), times: PLACEMENTS_MAX });
            }
            let members = self.workers(began, cancelled).await?;
            *n_placements += 1;
            let (data_set, n_blocks, n_workers) = (&self.name, missing.len(), members.len());
            info!(data_set, n_blocks, n_workers, "placing blocks that no worker holds");
            match self.place(&missing, members, *n_placements).await {
                Ok(holders) => self.lock().extend(holders.into_iter().map(Arc::new)),
                // It is known as gone now, so the next turn does without it.
                Err(error) if error.is_loss() => {
                    warn!(data_set, %error, "a worker was lost while it took blocks");
                    n_lost += 1;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// The worker that holds a block.
    pub(crate) async fn holder_of(&self, block: BlockId, cancelled: &AtomicBool) -> Result<Arc<Holder>, FleetError> {
        let holders = self.complete(cancelled).await?;
        let holder = holders.into_iter().find(|holder| holder.blocks.binary_search(&block).is_ok());
        holder.ok_or_else(|| FleetError::NoBlock { data_set: self.name.clone(), block: block.0 })
    }

    /// The blocks that no living worker holds; holders that have gone are forgotten.
    fn missing(&self) -> Vec<BlockId> {
        let mut holders = self.lock();
        holders.retain(|holder| !holder.member.is_gone());
        let n_held: usize = holders.iter().map(|holder| holder.blocks.len()).sum();
        if n_held as u64 == self.manifest.n_blocks() {
            return Vec::new();
        }
        let held: BTreeSet<BlockId> = holders.iter().flat_map(|holder| holder.blocks.iter().copied()).collect();
        self.manifest.blocks().into_iter().filter(|block| !held.contains(block)).collect()
    }

    /// The workers that are alive, at least one of them.
    async fn workers(&self, began: Instant, cancelled: &AtomicBool) -> Result<Vec<Member>, FleetError> {
        loop {
            let members = self.home.members.alive();
            if !members.is_empty() {
                return Ok(members);
            }
            if cancelled.load(Ordering::Relaxed) {
                return Err(FleetError::Cancelled);
            }
            if began.elapsed() > WORKERS_AWAITED {
                return Err(FleetError::AllGone { data_set: self.name.clone(), seconds: WORKERS_AWAITED.as_secs() });
            }
            sleep(WORKERS_LOOKED_FOR).await;
        }
    }

    async fn place(&self, blocks: &[BlockId], members: Vec<Member>, number: u64) -> Result<Vec<Holder>, FleetError> {
        let name = format!("{}/{number}", self.name);
        let mut placement = Placement::start(&name, number, self.schema.clone(), members.clone(), None)?;
        let placed = match self.send(blocks, &mut placement).await {
            Ok(()) => placement.finish(0).await,
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
}
