//! The workers that hold a data set: asking all of them, or one, whatever happens to them, and telling them to let go.

use crate::data_sets::DataSet;
use crate::error::FleetError;
use crate::members::{Member, Shards};
use futures::future::BoxFuture;
use shoal_clustering::ClusteringError;
use shoal_domain::{BlockId, Merge};
use shoal_wire::convert::WireError;
use shoal_wire::limits::{CONNECT_TIMEOUT, LOSSES_MAX, QUESTION_TIMEOUT};
use shoal_wire::proto::ReleaseRequest;
use shoal_wire::status::{is_connection_error, one_line};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::time::{sleep, timeout};
use tonic::{Code, Response, Status};

/// How often a question is asked when the connection breaks, and how long to wait before the next time. Questions change nothing
/// that matters, so asking twice is harmless.
const MAX_ATTEMPTS: u32 = 4;
const RETRY_PAUSE: Duration = Duration::from_millis(250);
/// How often one who waits for answers looks whether the job is to end.
const CANCELLATION_LOOKED_FOR: Duration = Duration::from_millis(100);

/// A call to one worker.
pub(crate) type Call<'a, A> = BoxFuture<'a, Result<Response<A>, Status>>;

/// A worker with blocks of a data set.
#[derive(Debug, Clone)]
pub(crate) struct Holder {
    pub(crate) member: Member,
    /// In ascending order.
    pub(crate) blocks: Vec<BlockId>,
    /// The number of the placement that brought them here. Later ones replace workers that were lost.
    pub(crate) placement: u64,
    /// What the worker knows these blocks by.
    pub(crate) held_as: String,
}

/// Tells the holders of a data set apart.
pub(crate) type HolderKey = (u64, String);

impl Holder {
    pub(crate) fn key(&self) -> HolderKey {
        (self.placement, self.member.id.clone())
    }
}

/// An answer with the worker that gave it.
pub(crate) type Answer<A> = (Arc<Holder>, A);

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
}

impl Holders {
    /// Calls run on `runtime`.
    pub(crate) fn new(data_set: Arc<DataSet>, runtime: Handle, cancelled: Arc<AtomicBool>) -> Self {
        Self { data_set, runtime, cancelled }
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
        self.runtime.block_on(self.answers(call)).map_err(FleetError::into_clustering)
    }

    async fn answers<A>(
        &self,
        call: impl Fn(Shards, &Arc<Holder>) -> Call<'static, A>,
    ) -> Result<Vec<Answer<A>>, FleetError> {
        let mut answered: BTreeMap<HolderKey, Answer<A>> = BTreeMap::new();
        let mut n_losses = 0;
        loop {
            let holders = self.data_set.placed.complete(&self.cancelled).await?;
            // What was lost after it had answered is held by others now, who answer for themselves.
            answered.retain(|key, _| holders.iter().any(|holder| holder.key() == *key));
            let open: Vec<&Arc<Holder>> =
                holders.iter().filter(|holder| !answered.contains_key(&holder.key())).collect();
            if open.is_empty() {
                return Ok(answered.into_values().collect());
            }
            let calls = open.iter().map(|holder| ask(holder, || call(holder.member.shards(), holder)));
            let results = self.unless_cancelled(futures::future::join_all(calls)).await?;
            let mut lost = None;
            for (holder, result) in open.into_iter().zip(results) {
                match result {
                    Ok(answer) => _ = answered.insert(holder.key(), (holder.clone(), answer)),
                    Err(error) if error.is_loss() => lost = Some(error),
                    Err(error) => return Err(error),
                }
            }
            // Workers that go together, with their rack for instance, are one loss.
            if let Some(error) = lost {
                n_losses = lost_once_more(n_losses, error)?;
            }
        }
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
                    Ok(answer) => return Ok((holder, answer)),
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
    for (holder, answer) in answers {
        let answer = T::try_from(answer).map_err(|error| impossible(&holder.member, error))?;
        if !fits(&answer) {
            return Err(impossible(&holder.member, "it has another shape than the question"));
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

/// Asks until there is an answer, the worker is gone, or the connection has broken often enough.
async fn ask<'a, A>(holder: &Holder, call: impl Fn() -> Call<'a, A>) -> Result<A, FleetError> {
    let member = &holder.member;
    let gone = || FleetError::WorkerGone {
        worker: member.id.clone(),
        address: member.worker.address.clone(),
        n_blocks: holder.blocks.len(),
    };
    let mut n_broken = 0;
    loop {
        let answered = tokio::select! {
            answered = timeout(QUESTION_TIMEOUT, call()) => answered,
            () = member.until_gone() => return Err(gone()),
        };
        let too_slow = |_| Err(Status::deadline_exceeded(format!("no answer in {} s", QUESTION_TIMEOUT.as_secs())));
        let status = match answered.unwrap_or_else(too_slow) {
            Ok(response) => return Ok(response.into_inner()),
            Err(status) => status,
        };
        if status.code() == Code::NotFound {
            // It was started anew or has joined another coordinator.
            member.give_up(&format!("it has forgotten its rows: {}", one_line(&status)));
            return Err(gone());
        }
        if !is_connection_error(&status) {
            let (worker, address) = (member.id.clone(), member.worker.address.clone());
            return Err(FleetError::Worker { worker, address, status });
        }
        n_broken += 1;
        if n_broken == MAX_ATTEMPTS || !is_reached_again(member).await {
            member.give_up(&format!("it does not answer: {}", one_line(&status)));
            return Err(gone());
        }
    }
}

/// Whether a worker whose connection broke can be asked again. A question may take minutes, so first comes one that takes
/// no time: an address that takes connections and says nothing is found out by it.
async fn is_reached_again(member: &Member) -> bool {
    for _ in 0..MAX_ATTEMPTS {
        sleep(RETRY_PAUSE).await;
        match timeout(CONNECT_TIMEOUT, member.shards().release(ReleaseRequest::default())).await {
            Ok(Err(status)) if is_connection_error(&status) => {}
            Ok(_) => return true,
            Err(_) => return false,
        }
    }
    false
}

/// Tells workers to let go of a run, a data set, or both. One that does not hear it is gone and has let go of everything.
pub(crate) async fn release(members: Vec<Member>, run: &str, data_set: &str) {
    let release = |member: Member| {
        let request = ReleaseRequest { run: run.to_owned(), data_set: data_set.to_owned() };
        async move {
            let released = timeout(CONNECT_TIMEOUT, member.shards().release(request)).await;
            if !matches!(released, Ok(Ok(_))) {
                tracing::debug!(worker = member.id, "release was not heard");
            }
        }
    };
    let members = members.into_iter().filter(|member| !member.is_gone());
    futures::future::join_all(members.map(release)).await;
}
