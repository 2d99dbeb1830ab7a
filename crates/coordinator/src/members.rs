//! The workers that are alive.

use shoal_wire::epoch::WorkerChannel;
use shoal_wire::limits::{HEARTBEAT_TIMEOUT, MAX_MESSAGE_BYTES};
use shoal_wire::proto::shards_client::ShardsClient;
use shoal_wire::proto::{ReleaseRequest, Worker};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;
use tracing::{info, warn};

/// A client for questions to a worker.
pub(crate) type Shards = ShardsClient<WorkerChannel>;

/// A worker as the coordinator knows it. Whoever has placed rows on it keeps the handle and learns through it when the
/// worker goes.
#[derive(Debug, Clone)]
pub(crate) struct Member {
    pub(crate) id: String,
    pub(crate) worker: Worker,
    pub(crate) channel: WorkerChannel,
    /// True from the moment it is known to have died or left.
    gone: Arc<watch::Sender<bool>>,
    /// When others had last to answer in its place.
    was_slow: Arc<Mutex<Option<Instant>>>,
    /// What it should let go of and has not heard.
    owed: Arc<Mutex<Vec<ReleaseRequest>>>,
}

/// How long a worker that was slow is given no blocks, as long as there are others.
const SPARED: Duration = Duration::from_secs(600);

impl Member {
    /// A client for its questions.
    pub(crate) fn shards(&self) -> Shards {
        ShardsClient::new(self.channel.clone())
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES)
    }

    /// Whether it has died or left.
    pub(crate) fn is_gone(&self) -> bool {
        *self.gone.borrow()
    }

    /// Returns when it has died or left.
    pub(crate) async fn until_gone(&self) {
        // An error would mean that the sender is dropped, which this very handle prevents.
        let _ = self.gone.subscribe().wait_for(|gone| *gone).await;
    }

    /// Notes that others had to answer in its place.
    pub(crate) fn note_slow(&self) {
        *self.was_slow.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    /// Remembers what it should let go of, to be told again.
    pub(crate) fn owe(&self, release: ReleaseRequest) {
        self.owed.lock().unwrap_or_else(PoisonError::into_inner).push(release);
    }

    /// What it should let go of and has not heard, from now on no longer remembered.
    pub(crate) fn take_owed(&self) -> Vec<ReleaseRequest> {
        std::mem::take(&mut *self.owed.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn is_spared(&self) -> bool {
        let was_slow = *self.was_slow.lock().unwrap_or_else(PoisonError::into_inner);
        was_slow.is_some_and(|was_slow| was_slow.elapsed() < SPARED)
    }

    /// Notes that it does not answer. If it lives after all, its next heartbeat tells it to join anew.
    pub(crate) fn give_up(&self, why: &str) {
        if !self.gone.send_replace(true) {
            warn!(worker = self.id, address = self.worker.address, why, "worker gone");
        }
    }
}

#[derive(Debug)]
struct Entry {
    member: Member,
    last_seen: Instant,
}

/// The list of workers. The mutex is held for look-ups only.
#[derive(Debug, Default)]
pub(crate) struct Members {
    entries: Mutex<Entries>,
}

#[derive(Debug, Default)]
struct Entries {
    /// By number, so that the order is that of joining.
    by_number: BTreeMap<u64, Entry>,
    n_joined: u64,
}

impl Members {
    fn lock(&self) -> MutexGuard<'_, Entries> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a worker. One that had the same address before is gone: it has been started anew.
    pub(crate) fn join(&self, worker: Worker, channel: WorkerChannel) -> String {
        let mut entries = self.lock();
        let same_address = |entry: &Entry| entry.member.worker.address == worker.address;
        let former: Vec<u64> =
            entries.by_number.iter().filter(|(_, entry)| same_address(entry)).map(|(number, _)| *number).collect();
        for number in former {
            entries.remove(number, "was started anew");
        }
        entries.n_joined += 1;
        let number = entries.n_joined;
        let id = format!("w{number}");
        info!(worker = id, address = worker.address, device = worker.device, "worker joined");
        let gone = Arc::new(watch::Sender::new(false));
        let member = Member { id: id.clone(), worker, channel, gone, was_slow: Arc::default(), owed: Arc::default() };
        entries.by_number.insert(number, Entry { member, last_seen: Instant::now() });
        id
    }

    /// Notes that a worker is alive; false when it is not known.
    pub(crate) fn heartbeat(&self, id: &str, boot_id: u64) -> bool {
        let mut entries = self.lock();
        let is_it = |entry: &&mut Entry| entry.member.id == id && entry.member.worker.boot_id == boot_id;
        match entries.by_number.values_mut().find(is_it) {
            Some(entry) => {
                entry.last_seen = Instant::now();
                !entry.member.is_gone()
            }
            None => false,
        }
    }

    /// A worker goes by itself.
    pub(crate) fn leave(&self, id: &str, boot_id: u64) {
        let mut entries = self.lock();
        let is_it = |entry: &Entry| entry.member.id == id && entry.member.worker.boot_id == boot_id;
        let number = entries.by_number.iter().find(|(_, entry)| is_it(entry)).map(|(number, _)| *number);
        if let Some(number) = number {
            entries.remove(number, "left");
        }
    }

    /// All workers that are alive, in the order in which they joined.
    pub(crate) fn alive(&self) -> Vec<Member> {
        let entries = self.lock();
        let members = entries.by_number.values().map(|entry| &entry.member);
        members.filter(|member| !member.is_gone()).cloned().collect()
    }

    /// Those that blocks can be given to: all that are alive, but for slow ones as long as there are others.
    pub(crate) fn takers(&self) -> Vec<Member> {
        let (spared, takers): (Vec<Member>, _) = self.alive().into_iter().partition(Member::is_spared);
        if takers.is_empty() { spared } else { takers }
    }

    /// How many workers have joined since this coordinator leads.
    pub(crate) fn n_joined(&self) -> u64 {
        self.lock().n_joined
    }

    /// Drops workers that have not reported in time.
    pub(crate) fn remove_silent(&self) {
        let mut entries = self.lock();
        let is_silent = |entry: &Entry| entry.last_seen.elapsed() > HEARTBEAT_TIMEOUT;
        let silent: Vec<u64> =
            entries.by_number.iter().filter(|(_, entry)| is_silent(entry)).map(|(number, _)| *number).collect();
        for number in silent {
            entries.remove(number, "has not reported");
        }
    }
}

impl Entries {
    fn remove(&mut self, number: u64, why: &str) {
        if let Some(entry) = self.by_number.remove(&number) {
            entry.member.give_up(why);
        }
    }
}
