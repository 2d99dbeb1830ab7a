//! The workers that hold a data set: asking all of them, or one, whatever happens to them, and telling them to let go.

use crate::data_sets::DataSet;
use crate::error::FleetError;
use crate::members::Member;
use futures::future::BoxFuture;
use shoal_clustering::ClusteringError;
use shoal_domain::{BlockId, Merge};
use shoal_wire::convert::WireError;
use shoal_wire::limits::{LOSSES_MAX, QUESTION_TIMEOUT};
use shoal_wire::proto::ReleaseRequest;
use shoal_wire::proto::shards_client::ShardsClient;
use shoal_wire::status::{is_connection_error, one_line};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::time::{sleep, timeout};
use tonic::transport::Channel;
use tonic::{Code, Response, Status};

/// How often a question is asked again when the connection breaks, and how long to wait before. Questions change nothing
/// that matters, so asking twice is harmless.
const MAX_ATTEMPTS: u32 = 4;
const RETRY_PAUSE: Duration = Duration::from_millis(250);

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
}

impl Holders {
    /// Calls run on `runtime`.
    pub(crate) fn new(data_set: Arc<DataSet>, runtime: Handle) -> Self {
        Self { data_set, runtime }
    }

    pub(crate) fn data_set(&self) -> &DataSet {
        &self.data_set
    }

    /// Asks every worker the same and returns the answers in the order of placement. Waits for all of them even when one
    /// fails, so that nobody is still at work on a question when the next one comes.
    pub(crate) fn ask_all<A>(
        &self,
        call: impl Fn(ShardsClient<Channel>, &Arc<Holder>) -> Call<'static, A>,
    ) -> Result<Vec<Answer<A>>, ClusteringError> {
        self.runtime.block_on(self.answers(call)).map_err(ClusteringError::rows)
    }

    async fn answers<A>(
        &self,
        call: impl Fn(ShardsClient<Channel>, &Arc<Holder>) -> Call<'static, A>,
    ) -> Result<Vec<Answer<A>>, FleetError> {
        let mut answered: BTreeMap<HolderKey, Answer<A>> = BTreeMap::new();
        let mut n_lost = 0;
        loop {
            let holders = self.data_set.placed.complete().await?;
            // What was lost after it had answered is held by others now, who answer for themselves.
            answered.retain(|key, _| holders.iter().any(|holder| holder.key() == *key));
            let open: Vec<&Arc<Holder>> =
                holders.iter().filter(|holder| !answered.contains_key(&holder.key())).collect();
            if open.is_empty() {
                return Ok(answered.into_values().collect());
            }
            let calls = open.iter().map(|holder| ask(holder, || call(holder.member.shards(), holder)));
            let results = futures::future::join_all(calls).await;
            for (holder, result) in open.into_iter().zip(results) {
                match result {
                    Ok(answer) => _ = answered.insert(holder.key(), (holder.clone(), answer)),
                    Err(error) => n_lost = lost_once_more(n_lost, error)?,
                }
            }
        }
    }

    /// Asks the worker that holds a block.
    pub(crate) fn ask_holder_of<A>(
        &self,
        block: BlockId,
        call: impl Fn(ShardsClient<Channel>, &Arc<Holder>) -> Call<'static, A>,
    ) -> Result<Answer<A>, ClusteringError> {
        let answer = async {
            let mut n_lost = 0;
            loop {
                let holder = self.data_set.placed.holder_of(block).await?;
                match ask(&holder, || call(holder.member.shards(), &holder)).await {
                    Ok(answer) => return Ok((holder, answer)),
                    Err(error) => n_lost = lost_once_more(n_lost, error)?,
                }
            }
        };
        self.runtime.block_on(answer).map_err(|error: FleetError| ClusteringError::rows(error))
    }

    /// Lets go of prepared rows, without waiting for it; `name_on` is the run's name on a worker.
    pub(crate) fn release_run(&self, name_on: impl Fn(&Holder) -> String) {
        for holder in self.data_set.placed.holders() {
            let run = name_on(&holder);
            self.runtime.spawn(async move { release(vec![holder.member.clone()], &run, "").await });
        }
    }
}

/// Counts workers that were lost during one question. If it is the question that kills them, it must not kill them all; any
/// other error is the question's end.
fn lost_once_more(n_lost: usize, error: FleetError) -> Result<usize, FleetError> {
    match error.is_loss() {
        true if n_lost < LOSSES_MAX => Ok(n_lost + 1),
        true => Err(FleetError::Poison { n_lost: n_lost + 1, last: error.to_string() }),
        false => Err(error),
    }
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

/// Asks until there is an answer, the worker is gone, or it has been asked often enough.
async fn ask<'a, A>(holder: &Holder, call: impl Fn() -> Call<'a, A>) -> Result<A, FleetError> {
    let member = &holder.member;
    let gone = || FleetError::WorkerGone {
        worker: member.id.clone(),
        address: member.worker.address.clone(),
        n_blocks: holder.blocks.len(),
    };
    let mut attempt = 1;
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
        let is_broken = is_connection_error(&status);
        if !is_broken || attempt == MAX_ATTEMPTS {
            // A worker that has forgotten the rows was started anew or has joined another coordinator.
            let has_forgotten = status.code() == Code::NotFound;
            let lost = has_forgotten || (is_broken && attempt == MAX_ATTEMPTS);
            if lost {
                let why = if has_forgotten { "it has forgotten its rows" } else { "it does not answer" };
                member.give_up(&format!("{why}: {}", one_line(&status)));
            }
            let (worker, address) = (member.id.clone(), member.worker.address.clone());
            return Err(if lost { gone() } else { FleetError::Worker { worker, address, status } });
        }
        attempt += 1;
        sleep(RETRY_PAUSE).await;
    }
}

/// Tells workers to let go of a run, a data set, or both. One that does not hear it is gone and has let go of everything.
pub(crate) async fn release(members: Vec<Member>, run: &str, data_set: &str) {
    let release = |member: Member| {
        let request = ReleaseRequest { run: run.to_owned(), data_set: data_set.to_owned() };
        async move {
            if let Err(status) = member.shards().release(request).await {
                tracing::debug!(worker = member.id, %status, "release was not heard");
            }
        }
    };
    futures::future::join_all(members.into_iter().map(release)).await;
}
