//! A worker that holds blocks of a data set: asking it, and telling it to let go.

use crate::error::FleetError;
use crate::members::Member;
use futures::future::BoxFuture;
use shoal_domain::BlockId;
use shoal_wire::limits::{CONNECT_TIMEOUT, QUESTION_TIMEOUT};
use shoal_wire::proto::ReleaseRequest;
use shoal_wire::status::{is_connection_error, one_line};
use std::time::Duration;
use tokio::time::{sleep, timeout};
use tonic::{Code, Response, Status};
use tracing::debug;

/// How often a question is asked when the connection breaks, and how long to wait before the next time. Questions change nothing
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

/// Asks until there is an answer, the worker is gone, or the connection has broken often enough.
pub(crate) async fn ask<'a, A>(holder: &Holder, call: impl Fn() -> Call<'a, A>) -> Result<A, FleetError> {
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

/// Tells workers to let go of a run, a data set, or both. One that does not hear it is told again later ([`release_owed`]),
/// unless it is gone and has let go of everything.
pub(crate) async fn release(members: Vec<Member>, run: &str, data_set: &str) {
    let release = |member: Member| {
        let request = ReleaseRequest { run: run.to_owned(), data_set: data_set.to_owned() };
        async move { release_one(&member, request).await }
    };
    let members = members.into_iter().filter(|member| !member.is_gone());
    futures::future::join_all(members.map(release)).await;
}

/// Tells a worker again what it has not heard.
pub(crate) async fn release_owed(member: &Member) {
    for request in member.take_owed() {
        release_one(member, request).await;
    }
}

async fn release_one(member: &Member, request: ReleaseRequest) {
    let released = timeout(CONNECT_TIMEOUT, member.shards().release(request.clone())).await;
    if !matches!(released, Ok(Ok(_))) && !member.is_gone() {
        debug!(worker = member.id, "release was not heard");
        member.owe(request);
    }
}
