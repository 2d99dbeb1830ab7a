//! Where the blocks of a data set are: every block on some worker that is alive, as long as there is one.

use crate::at_rest::AtRest;
use crate::error::FleetError;
use crate::holder::{Holder, release};
use crate::members::Member;
use crate::moves::Moving;
use shoal_domain::BlockId;
use shoal_storage::Manifest;
use shoal_wire::limits::{PLACEMENTS_MAX, WORKERS_AWAITED, WORKERS_LOOKED_FOR};
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::{Instant, sleep};
use tracing::{info, warn};

/// The blocks of a data set and the workers that hold them.
#[derive(Debug)]
pub(crate) struct Placed {
    pub(crate) at_rest: Arc<AtRest>,
    lists: Mutex<Lists>,
    /// Held while blocks that nobody holds are placed, so that of several questions one does it.
    placing: tokio::sync::Mutex<()>,
    n_placements: AtomicU64,
    /// Blocks on their way to workers that have joined. Held while it is looked after.
    pub(crate) moving: tokio::sync::Mutex<Moving>,
    /// Whoever asks about the blocks has a clone.
    users: User,
}

/// Held by whoever asks about the blocks of a data set, which workers keep meanwhile.
pub(crate) type User = Arc<()>;

/// Locked only to look at or to change.
#[derive(Debug)]
struct Lists {
    holders: Vec<Arc<Holder>>,
    /// Others hold their blocks now. They let go when nobody is asking them any more.
    former: Vec<Arc<Holder>>,
    /// When somebody has last asked for blocks, or they were placed.
    asked: Instant,
}

impl Placed {
    pub(crate) fn new(at_rest: AtRest, holders: Vec<Holder>) -> Self {
        let holders = holders.into_iter().map(Arc::new).collect();
        Self {
            at_rest: Arc::new(at_rest),
            lists: Mutex::new(Lists { holders, former: Vec::new(), asked: Instant::now() }),
            placing: tokio::sync::Mutex::default(),
            n_placements: AtomicU64::new(0),
            moving: tokio::sync::Mutex::default(),
            users: User::default(),
        }
    }

    /// From now on, and as long as this is held, workers are not told to let go of all blocks.
    pub(crate) fn used(&self) -> User {
        self.users.clone()
    }

    pub(crate) fn is_used(&self) -> bool {
        Arc::strong_count(&self.users) > 1
    }

    fn lock(&self) -> MutexGuard<'_, Lists> {
        self.lists.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn manifest(&self) -> &Manifest {
        &self.at_rest.manifest
    }

    /// The workers that hold blocks now; some may have gone.
    pub(crate) fn holders(&self) -> Vec<Arc<Holder>> {
        self.lock().holders.clone()
    }

    /// A number that no placement of this data set has had.
    pub(crate) fn next_placement(&self) -> u64 {
        self.n_placements.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Puts holders in the place of others, all of which must still be holders; says whether they were.
    pub(crate) fn replace(&self, former: &[Arc<Holder>], holders: &[Arc<Holder>]) -> bool {
        let mut lists = self.lock();
        let is_former = |holder: &Arc<Holder>| former.iter().any(|other| Arc::ptr_eq(holder, other));
        let n_found = lists.holders.iter().filter(|holder| is_former(holder)).count();
        if n_found != former.len() || former.iter().any(|holder| holder.member.is_gone()) {
            return false;
        }
        lists.holders.retain(|holder| !is_former(holder));
        lists.holders.extend_from_slice(holders);
        lists.former.extend_from_slice(former);
        true
    }

    /// Lets workers go of blocks that they were given, as soon as nobody asks about them.
    pub(crate) fn retire(&self, holders: impl IntoIterator<Item = Arc<Holder>>) {
        self.lock().former.extend(holders);
    }

    /// Workers that hold every block. Those that nobody holds any more are read from storage and placed on the workers that
    /// are there; when there are none, some are waited for, unless the job is to end. What has begun to be placed is placed.
    pub(crate) async fn complete(&self, cancelled: &AtomicBool) -> Result<Vec<Arc<Holder>>, FleetError> {
        let _placing = self.placing.lock().await;
        // One that stands still must not keep a question waiting.
        tokio::spawn(self.let_go_of_former());
        let began = Instant::now();
        let mut n_lost = 0;
        loop {
            let missing = match self.all_or_missing() {
                Ok(holders) => return Ok(holders),
                Err(missing) => missing,
            };
            let data_set = &self.at_rest.name;
            if n_lost == PLACEMENTS_MAX {
                return Err(FleetError::NotPlaced { data_set: data_set.clone(), times: PLACEMENTS_MAX });
            }
            let members = self.workers(began, cancelled).await?;
            let (n_blocks, n_workers) = (missing.len(), members.len());
            info!(data_set, n_blocks, n_workers, "placing blocks that no worker holds");
            match self.at_rest.place(&missing, members, self.next_placement()).await {
                Ok(holders) => self.lock().holders.extend(holders.into_iter().map(Arc::new)),
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
        holder.ok_or_else(|| FleetError::NoBlock { data_set: self.at_rest.name.clone(), block: block.0 })
    }

    /// The living workers that hold blocks, if these are all blocks, and otherwise those that none of them holds. Holders that
    /// have gone are forgotten.
    fn all_or_missing(&self) -> Result<Vec<Arc<Holder>>, Vec<BlockId>> {
        let mut lists = self.lock();
        lists.asked = Instant::now();
        lists.holders.retain(|holder| !holder.member.is_gone());
        let n_held: usize = lists.holders.iter().map(|holder| holder.blocks.len()).sum();
        if n_held as u64 == self.manifest().n_blocks() {
            return Ok(lists.holders.clone());
        }
        let held: BTreeSet<BlockId> = lists.holders.iter().flat_map(|holder| holder.blocks.iter().copied()).collect();
        Err(self.manifest().blocks().into_iter().filter(|block| !held.contains(block)).collect())
    }

    /// The workers that can take blocks, at least one of them.
    async fn workers(&self, began: Instant, cancelled: &AtomicBool) -> Result<Vec<Member>, FleetError> {
        loop {
            let members = self.at_rest.home.members.takers();
            if !members.is_empty() {
                return Ok(members);
            }
            if cancelled.load(Ordering::Relaxed) {
                return Err(FleetError::Cancelled);
            }
            if began.elapsed() > WORKERS_AWAITED {
                let data_set = self.at_rest.name.clone();
                return Err(FleetError::AllGone { data_set, seconds: WORKERS_AWAITED.as_secs() });
            }
            sleep(WORKERS_LOOKED_FOR).await;
        }
    }

    /// Lets former holders go that nobody is asking any more.
    pub(crate) fn let_go_of_former(&self) -> impl Future<Output = ()> + Send + 'static {
        // Who asks has a clone.
        let is_free = |holder: &mut Arc<Holder>| Arc::strong_count(holder) == 1;
        release_all(self.lock().former.extract_if(.., is_free).collect())
    }

    /// Lets workers go of all blocks that nobody is asking about. They come back from storage when somebody does.
    pub(crate) async fn let_go(&self) {
        self.stop_moving().await;
        {
            let mut lists = self.lock();
            let holders = std::mem::take(&mut lists.holders);
            lists.former.extend(holders);
        }
        self.let_go_of_former().await;
    }

    /// Whether some worker holds blocks, and nobody has asked for them for so long.
    pub(crate) fn is_idle(&self, since: Duration) -> bool {
        let lists = self.lock();
        !(lists.holders.is_empty() && lists.former.is_empty()) && lists.asked.elapsed() >= since
    }
}

async fn release_all(holders: Vec<Arc<Holder>>) {
    let release = |holder: &Arc<Holder>| {
        let (member, held_as) = (holder.member.clone(), holder.held_as.clone());
        async move { release(vec![member], "", &held_as).await }
    };
    futures::future::join_all(holders.iter().map(release)).await;
}
