//! Blocks that change their worker: to those that have joined later, and away from those that are slow.

use crate::balance::{Load, Shift, shift};
use crate::error::FleetError;
use crate::holder::{Holder, release};
use crate::members::Member;
use crate::placed::Placed;
use shoal_domain::BlockId;
use shoal_wire::limits::CONNECT_TIMEOUT;
use shoal_wire::proto::PartRequest;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};
use tracing::{info, warn};

/// How long to wait before moves that failed are thought of again.
const MOVED_AGAIN_AFTER: Duration = Duration::from_secs(30);

/// Blocks on their way to workers that have joined. Their holders answer for them until they are there.
#[derive(Debug)]
pub(crate) struct Move {
    placing: JoinHandle<Result<Vec<Holder>, FleetError>>,
    /// What the blocks are known by where they go, and who that is.
    name: String,
    to: Vec<Member>,
    /// Who gives some of its blocks, and which it keeps.
    givers: Vec<(Arc<Holder>, Vec<BlockId>)>,
}

/// What is being done about workers that have joined.
#[derive(Debug, Default)]
pub(crate) struct Moving {
    under_way: Option<Move>,
    /// How many workers had joined when moves were last thought of.
    n_joined: u64,
    /// When to think of them again, since the last ones failed.
    again_at: Option<Instant>,
}

impl Placed {
    /// Gives workers that have joined their share of the blocks. It takes several calls: questions do not wait for rows that
    /// travel. What fails is left as it was, and tried again later.
    pub(crate) async fn balance(&self) {
        let mut moving = self.moving.lock().await;
        match moving.under_way.take() {
            Some(under_way) if under_way.placing.is_finished() => {
                if let Err(reason) = self.finish_move(under_way).await {
                    warn!(data_set = self.at_rest.name, reason, "blocks stay where they are");
                    moving.again_at = Some(Instant::now() + MOVED_AGAIN_AFTER);
                }
            }
            Some(under_way) => moving.under_way = Some(under_way),
            None => {
                let n_joined = self.at_rest.home.members.n_joined();
                let is_due = moving.again_at.is_some_and(|again_at| again_at <= Instant::now());
                if moving.n_joined != n_joined || is_due {
                    *moving = Moving { under_way: self.begin_move(), n_joined, again_at: None };
                }
            }
        }
    }

    fn begin_move(&self) -> Option<Move> {
        let (members, holders) = (self.at_rest.home.members.takers(), self.holders());
        let held_by = |member: &Member| -> Vec<&Arc<Holder>> {
            holders.iter().filter(|holder| holder.member.id == member.id).collect()
        };
        let load = |member: &Member| Load {
            n_blocks: held_by(member).iter().map(|holder| holder.blocks.len()).sum(),
            weight: member.worker.memory_bytes.max(1) as f64,
        };
        let Shift { given, takers } = shift(&members.iter().map(load).collect::<Vec<_>>())?;
        let (mut givers, mut blocks) = (Vec::new(), Vec::new());
        for (member, mut n_given) in members.iter().zip(given) {
            for holder in held_by(member) {
                let n_of_it = n_given.min(holder.blocks.len());
                if n_of_it > 0 {
                    let (kept, gone) = holder.blocks.split_at(holder.blocks.len() - n_of_it);
                    blocks.extend_from_slice(gone);
                    givers.push((holder.clone(), kept.to_vec()));
                }
                n_given -= n_of_it;
            }
        }
        blocks.sort_unstable();
        let to: Vec<Member> = takers.into_iter().map(|idx| members[idx].clone()).collect();
        let (at_rest, number) = (self.at_rest.clone(), self.next_placement());
        let (name, takers) = (at_rest.name_of(number), to.clone());
        let (n_blocks, n_workers) = (blocks.len(), to.len());
        info!(data_set = at_rest.name, n_blocks, n_workers, "moving blocks to workers that joined");
        let placing = tokio::spawn(async move { at_rest.place(&blocks, takers, number).await });
        Some(Move { placing, name, to, givers })
    }

    /// The blocks are there: from now on their new holders answer for them. An error says why they do not.
    async fn finish_move(&self, Move { placing, name, to, givers }: Move) -> Result<(), String> {
        let placed = placing.await.map_err(|_| "moving them panicked".to_owned())?;
        let takers = placed.map_err(|error| error.to_string())?;
        let parts = match self.part(&givers).await {
            Ok(parts) => parts,
            Err(reason) => {
                release(to, "", &name).await;
                return Err(reason);
            }
        };
        let n_moved: usize = takers.iter().map(|taker| taker.blocks.len()).sum();
        let former: Vec<Arc<Holder>> = givers.into_iter().map(|(giver, _)| giver).collect();
        let holders: Vec<Arc<Holder>> = takers.into_iter().map(Arc::new).chain(parts).collect();
        match self.replace(&former, &holders) {
            true => info!(data_set = self.at_rest.name, n_moved, "blocks have moved"),
            // Somebody was lost meanwhile.
            false => self.retire(holders),
        }
        // Before the next question makes them prepare what they have kept: there may be no room for both.
        drop(former);
        self.let_go_of_former().await;
        Ok(())
    }

    /// Makes what givers keep placements of their own.
    async fn part(&self, givers: &[(Arc<Holder>, Vec<BlockId>)]) -> Result<Vec<Arc<Holder>>, String> {
        let mut parts = Vec::new();
        for (giver, kept) in givers.iter().filter(|(_, kept)| !kept.is_empty()) {
            let placement = self.next_placement();
            let held_as = self.at_rest.name_of(placement);
            let request = PartRequest {
                data_set: giver.held_as.clone(),
                part: held_as.clone(),
                blocks: kept.iter().map(|block| block.0).collect(),
            };
            let part = Holder { member: giver.member.clone(), blocks: kept.clone(), placement, held_as };
            parts.push(Arc::new(part));
            if !matches!(timeout(CONNECT_TIMEOUT, giver.member.shards().part(request)).await, Ok(Ok(_))) {
                // A loss, most likely, which the next question finds out about.
                self.retire(parts);
                return Err(format!("worker {} does not answer", giver.member.id));
            }
        }
        Ok(parts)
    }

    /// Ends what is under way.
    pub(crate) async fn stop_moving(&self) {
        if let Some(Move { placing, name, to, .. }) = self.moving.lock().await.under_way.take() {
            placing.abort();
            // Aborted or done, it places nothing more.
            let _ = placing.await;
            release(to, "", &name).await;
        }
    }

    /// Brings the blocks of a slow worker to others, beside it. None where nobody takes them.
    pub(crate) async fn copy(&self, slow: &Arc<Holder>) -> Option<Copies> {
        let takers = self.at_rest.home.members.takers().into_iter();
        let takers: Vec<Member> = takers.filter(|member| member.id != slow.member.id).collect();
        if takers.is_empty() {
            return None;
        }
        let (data_set, worker, n_blocks) = (&self.at_rest.name, &slow.member.id, slow.blocks.len());
        info!(data_set, worker, n_blocks, "the worker is slow, others are asked too");
        let (at_rest, blocks, number) = (self.at_rest.clone(), slow.blocks.clone(), self.next_placement());
        // In a task of its own: it must not break off in the middle when the slow worker answers.
        let copies = tokio::spawn(async move {
            let holders = at_rest.place(&blocks, takers, number).await?;
            Ok::<_, FleetError>(Copies {
                holders: holders.into_iter().map(Arc::new).collect(),
                runtime: Handle::current(),
            })
        });
        match copies.await {
            Ok(Ok(copies)) => Some(copies),
            Ok(Err(error)) => {
                warn!(data_set, worker, %error, "the worker is slow, and nobody takes its blocks");
                None
            }
            Err(_) => {
                warn!(data_set, worker, "the worker is slow, and bringing its blocks to others panicked");
                None
            }
        }
    }

    /// Makes copies the holders of what a slow worker has held, and returns them. When it has stopped to be a holder meanwhile
    /// they let go, and what they have answered is not wrong for that.
    pub(crate) fn take_place(&self, mut copies: Copies, slow: &Arc<Holder>) -> Vec<Arc<Holder>> {
        slow.member.note_slow();
        let holders = std::mem::take(&mut copies.holders);
        match self.replace(std::slice::from_ref(slow), &holders) {
            true => info!(worker = slow.member.id, "others have answered before the slow worker"),
            false => self.retire(holders.clone()),
        }
        holders
    }
}

/// Holders beside others. Unless they take their place, they let go again.
pub(crate) struct Copies {
    holders: Vec<Arc<Holder>>,
    runtime: Handle,
}

impl Copies {
    pub(crate) fn holders(&self) -> &[Arc<Holder>] {
        &self.holders
    }
}

impl Drop for Copies {
    fn drop(&mut self) {
        for holder in std::mem::take(&mut self.holders) {
            self.runtime.spawn(async move { release(vec![holder.member.clone()], "", &holder.held_as).await });
        }
    }
}
