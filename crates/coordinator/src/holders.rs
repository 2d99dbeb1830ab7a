//! The workers that hold a data set: asking all of them, or one, whatever happens to them.

use crate::data_sets::DataSet;
use crate::error::FleetError;
use crate::groups::{Answer, AskGroup, GROUP, ask_groups};
use crate::holder::{Call, Holder, HolderKey, ask, release};
use crate::members::{Member, Shards};
use crate::placed::User;
use shoal_clustering::ClusteringError;
use shoal_domain::{BlockId, Merge};
use shoal_wire::convert::WireError;
use shoal_wire::limits::LOSSES_MAX;
use shoal_wire::pace::Pace;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::time::sleep;
use tracing::warn;

/// How often one who waits for answers looks whether the job is to end.
const CANCELLATION_LOOKED_FOR: Duration = Duration::from_millis(100);

/// Asks the workers that hold the rows of one data set, whichever they are.
///
/// A question is answered once every block has been answered for. When a worker is lost on the way, its blocks are placed
/// on others and these are asked; what the rest have answered stands. Answers merge exactly, so nobody can tell.
#[derive(Clone)]
pub(crate) struct Holders {
    data_set: Arc<DataSet>,
    /// Questions come from the algorithm's own thread, which waits; the calls run here.
    runtime: Handle,
    /// Set to have no more answers.
    cancelled: Arc<AtomicBool>,
    _user: User,
}

impl Holders {
    /// Calls run on `runtime`.
    pub(crate) fn new(data_set: Arc<DataSet>, runtime: Handle, cancelled: Arc<AtomicBool>) -> Self {
        let _user = data_set.placed.used();
        Self { data_set, runtime, cancelled, _user }
    }

    pub(crate) fn data_set(&self) -> &DataSet {
        &self.data_set
    }

    /// Asks every worker the same and returns the answers in some order, which merging does not mind. Waits for all of them even when one
    /// fails, so that nobody is still at work on a question when the next one comes.
    pub(crate) fn ask_all<A>(
        &self,
        call: impl Fn(Shards, &Arc<Holder>) -> Call<'static, A>,
    ) -> Result<Vec<Answer<A>>, ClusteringError> {
        self.runtime.block_on(self.answers(call, None)).map_err(FleetError::into_clustering)
    }

    /// The same; many are asked in groups, by `ask_group`.
    pub(crate) fn ask_all_in_groups<A>(
        &self,
        call: impl Fn(Shards, &Arc<Holder>) -> Call<'static, A>,
        ask_group: AskGroup<'_, A>,
    ) -> Result<Vec<Answer<A>>, ClusteringError> {
        self.runtime.block_on(self.answers(call, Some(ask_group))).map_err(FleetError::into_clustering)
    }

    async fn answers<A>(
        &self,
        call: impl Fn(Shards, &Arc<Holder>) -> Call<'static, A>,
        mut ask_group: Option<AskGroup<'_, A>>,
    ) -> Result<Vec<Answer<A>>, FleetError> {
        let mut answers: Vec<Answer<A>> = Vec::new();
        let mut pace_of_groups = None;
        let mut n_losses = 0;
        self.data_set.placed.balance().await;
        loop {
            let holders = self.data_set.placed.complete(&self.cancelled).await?;
            // What was lost after it had answered is held by others now, who answer for themselves.
            let held: BTreeSet<HolderKey> = holders.iter().map(|holder| holder.key()).collect();
            answers.retain(|answer| answer.stands(&held));
            let answered: BTreeSet<HolderKey> =
                answers.iter().flat_map(Answer::holders).map(|holder| holder.key()).collect();
            let is_open = |holder: &Arc<Holder>| !answered.contains(&holder.key());
            let open: Vec<Arc<Holder>> = holders.into_iter().filter(is_open).collect();
            if let Some(ask_group) = ask_group.take_if(|_| open.len() > GROUP) {
                let (of_groups, pace) = self.unless_cancelled(ask_groups(&open, ask_group)).await?;
                answers.extend(of_groups);
                pace_of_groups = Some(pace);
                continue;
            }
            let pace = pace_of_groups.take().map_or_else(|| Pace::of(open.len()), |pace| pace.of_rest(open.len()));
            let mut lost = None;
            for result in self.unless_cancelled(self.ask_each(open, &pace, &call)).await? {
                match result {
                    Ok(more) => answers.extend(more),
                    Err(error) if error.is_loss() => lost = Some(error),
                    Err(error) => return Err(error),
                }
            }
            match lost {
                // Whoever may hold the blocks by now would say nothing else.
                None => return self.covering(answers),
                // Workers that go together, with their rack for instance, are one loss.
                Some(error) => n_losses = lost_once_more(n_losses, error)?,
            }
        }
    }

    /// The answers, which must be about every block once: what was left out or counted twice would change the result in silence.
    fn covering<A>(&self, answers: Vec<Answer<A>>) -> Result<Vec<Answer<A>>, FleetError> {
        let holders = answers.iter().flat_map(Answer::holders);
        let mut blocks: Vec<BlockId> = holders.flat_map(|holder| holder.blocks.iter().copied()).collect();
        blocks.sort_unstable();
        match blocks == self.data_set.placed.manifest().blocks() {
            true => Ok(answers),
            false => Err(FleetError::OtherBlocks { data_set: self.data_set.name.clone() }),
        }
    }

    /// Asks holders, and others in the place of one that takes much longer than most: whoever answers first counts, since
    /// both say the same.
    async fn ask_each<A>(
        &self,
        holders: Vec<Arc<Holder>>,
        pace: &Pace,
        call: &impl Fn(Shards, &Arc<Holder>) -> Call<'static, A>,
    ) -> Vec<Result<Vec<Answer<A>>, FleetError>> {
        // A worker may be several holders, and answers for one after the other.
        let mut blocks_of_worker: HashMap<String, usize> = HashMap::new();
        for holder in &holders {
            *blocks_of_worker.entry(holder.member.id.clone()).or_default() += holder.blocks.len();
        }
        let asked = holders.into_iter().map(|holder| {
            let n_blocks = blocks_of_worker[&holder.member.id];
            async move {
                tokio::select! {
                    answer = ask(&holder, || call(holder.member.shards(), &holder)) => {
                        let answer = answer?;
                        pace.has_answered(n_blocks);
                        Ok(vec![Answer::own(holder, answer)])
                    }
                    answers = self.overtake(&holder, pace.until_slow(n_blocks), call) => Ok(answers),
                }
            }
        });
        futures::future::join_all(asked).await
    }

    /// Waits until a holder is slow, and then has its blocks answered for by others, which hold them from then on. Never
    /// returns when the holder is not slow, or nobody can take its place.
    async fn overtake<A>(
        &self,
        slow: &Arc<Holder>,
        until_slow: impl Future<Output = ()>,
        call: &impl Fn(Shards, &Arc<Holder>) -> Call<'static, A>,
    ) -> Vec<Answer<A>> {
        until_slow.await;
        if let Some(copies) = self.data_set.placed.copy(slow).await {
            let asked = copies.holders().iter().map(|copy| ask(copy, || call(copy.member.shards(), copy)));
            match futures::future::try_join_all(asked).await {
                Ok(answers) if copies.holders().iter().all(|copy| !copy.member.is_gone()) => {
                    let holders = self.data_set.placed.take_place(copies, slow);
                    let answers = holders.into_iter().zip(answers);
                    return answers.map(|(holder, answer)| Answer::own(holder, answer)).collect();
                }
                Ok(_) => {}
                Err(error) => {
                    warn!(worker = slow.member.id, %error, "the worker is slow, and nobody answers in its place")
                }
            }
        }
        std::future::pending().await
    }

    /// Asks the worker that holds a block.
    pub(crate) fn ask_holder_of<A>(
        &self,
        block: BlockId,
        call: impl Fn(Shards, &Arc<Holder>) -> Call<'static, A>,
    ) -> Result<Answer<A>, ClusteringError> {
        let answer = async {
            let mut n_losses = 0;
            loop {
                let holder = self.data_set.placed.holder_of(block, &self.cancelled).await?;
                match self.unless_cancelled(ask(&holder, || call(holder.member.shards(), &holder))).await? {
                    Ok(answer) => return Ok(Answer::own(holder, answer)),
                    Err(error) if error.is_loss() => n_losses = lost_once_more(n_losses, error)?,
                    Err(error) => return Err(error),
                }
            }
        };
        self.runtime.block_on(answer).map_err(FleetError::into_clustering)
    }

    /// Waits for answers, unless the job is to end: then nobody does.
    async fn unless_cancelled<T>(&self, answered: impl Future<Output = T>) -> Result<T, FleetError> {
        tokio::select! {
            answered = answered => Ok(answered),
            () = self.until_cancelled() => Err(FleetError::Cancelled),
        }
    }

    async fn until_cancelled(&self) {
        while !self.cancelled.load(Ordering::Relaxed) {
            sleep(CANCELLATION_LOOKED_FOR).await;
        }
    }

    /// Lets go of prepared rows, without waiting for it; `name_on` is the run's name on a worker.
    pub(crate) fn release_run(&self, name_on: impl Fn(&Holder) -> String) {
        for holder in self.data_set.placed.holders() {
            let run = name_on(&holder);
            self.runtime.spawn(async move { release(vec![holder.member.clone()], &run, "").await });
        }
    }
}

/// Counts how often one question has cost workers. If it is the question that kills them, it must not kill them all.
fn lost_once_more(n_losses: usize, error: FleetError) -> Result<usize, FleetError> {
    if n_losses < LOSSES_MAX {
        return Ok(n_losses + 1);
    }
    Err(FleetError::Poison { n_losses: n_losses + 1, last: error.to_string() })
}

/// Puts answers together; each must have the shape of the question.
pub(crate) fn merge<A, T>(answers: Vec<Answer<A>>, fits: impl Fn(&T) -> bool) -> Result<T, ClusteringError>
where
    T: Merge + TryFrom<A, Error = WireError>,
{
    let mut merged: Option<T> = None;
    for Answer { by, answer, .. } in answers {
        let answer = T::try_from(answer).map_err(|error| impossible(&by.member, error))?;
        if !fits(&answer) {
            return Err(impossible(&by.member, "it has another shape than the question"));
        }
        match &mut merged {
            None => merged = Some(answer),
            Some(merged) => merged.merge(answer),
        }
    }
    merged.ok_or(ClusteringError::NoRows)
}

/// What a worker says is not possible.
pub(crate) fn impossible(member: &Member, reason: impl ToString) -> ClusteringError {
    ClusteringError::rows(FleetError::Answer { worker: member.id.clone(), reason: reason.to_string() })
}
