//! The workers that hold a data set: asking all of them, or one, and telling them to let go.

use crate::error::FleetError;
use crate::members::Member;
use futures::future::BoxFuture;
use shoal_clustering::ClusteringError;
use shoal_domain::{BlockId, Merge};
use shoal_wire::convert::WireError;
use shoal_wire::limits::QUESTION_TIMEOUT;
use shoal_wire::proto::ReleaseRequest;
use shoal_wire::proto::shards_client::ShardsClient;
use shoal_wire::status::is_connection_error;
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

/// A worker with the blocks of a data set that it holds.
#[derive(Debug, Clone)]
pub(crate) struct Holder {
    pub(crate) member: Member,
    pub(crate) blocks: Vec<BlockId>,
}

/// Workers that hold the rows of one data set.
#[derive(Clone)]
pub(crate) struct Holders {
    pub(crate) holders: Vec<Holder>,
    /// Questions come from the algorithm's own thread, which waits; the calls run here.
    runtime: Handle,
}

impl Holders {
    /// Calls run on `runtime`.
    pub(crate) fn new(holders: Vec<Holder>, runtime: Handle) -> Self {
        Self { holders, runtime }
    }

    /// Asks every worker the same and returns the answers in worker order. Waits for all of them even when one fails, so
    /// that nobody is still at work on a question when the next one comes.
    pub(crate) fn ask_all<A>(
        &self,
        call: impl Fn(ShardsClient<Channel>, &Holder) -> Call<'static, A>,
    ) -> Result<Vec<A>, ClusteringError> {
        let calls = self.holders.iter().map(|holder| ask(holder, || call(holder.member.shards(), holder)));
        let answers = self.runtime.block_on(futures::future::join_all(calls));
        answers.into_iter().collect::<Result<_, _>>().map_err(ClusteringError::rows)
    }

    /// Asks one worker.
    pub(crate) fn ask_one<A>(
        &self,
        holder: &Holder,
        call: impl Fn(ShardsClient<Channel>) -> Call<'static, A>,
    ) -> Result<A, ClusteringError> {
        self.runtime.block_on(ask(holder, || call(holder.member.shards()))).map_err(ClusteringError::rows)
    }

    /// Puts the answers of [`Holders::ask_all`] together; each must have the shape of the question.
    pub(crate) fn merge<A, T>(&self, answers: Vec<A>, fits: impl Fn(&T) -> bool) -> Result<T, ClusteringError>
    where
        T: Merge + TryFrom<A, Error = WireError>,
    {
        let mut merged: Option<T> = None;
        for (answer, holder) in answers.into_iter().zip(&self.holders) {
            let answer = T::try_from(answer).map_err(|error| impossible(&holder.member, error))?;
            if !fits(&answer) {
                return Err(impossible(&holder.member, "it has another shape than the question"));
            }
            match &mut merged {
                None => merged = Some(answer),
                Some(merged) => merged.merge(answer),
            }
        }
        merged.ok_or_else(|| ClusteringError::rows(FleetError::NoWorkers))
    }
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
            let lost = status.code() == Code::NotFound || (is_broken && attempt == MAX_ATTEMPTS);
            if is_broken {
                member.give_up("it does not answer");
            }
            let (worker, address) = (member.id.clone(), member.worker.address.clone());
            return Err(if lost { gone() } else { FleetError::Worker { worker, address, status } });
        }
        attempt += 1;
        sleep(RETRY_PAUSE).await;
    }
}

impl Holders {
    /// The worker that holds a block.
    pub(crate) fn holder_of(&self, block: BlockId) -> Result<&Holder, ClusteringError> {
        let holder = self.holders.iter().find(|holder| holder.blocks.binary_search(&block).is_ok());
        holder.ok_or(ClusteringError::NoSuchBlock { block: block.0 })
    }

    /// Lets go of prepared rows, without waiting for it.
    pub(crate) fn release_run(&self, run: &str) {
        let members = self.holders.iter().map(|holder| holder.member.clone()).collect();
        let run = run.to_owned();
        self.runtime.spawn(async move { release(members, &run, "").await });
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
