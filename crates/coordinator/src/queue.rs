//! All jobs, and whose turn it is.

use crate::config::Config;
use crate::job::{Job, Submission};
use crate::records::Left;
use shoal_wire::proto::{self, JobState};
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;
use tokio::sync::watch;
use tonic::Status;

/// Jobs that are remembered. The oldest that have ended are forgotten first; when all wait or run, no more are taken.
pub(crate) const MAX_JOBS: usize = 10_000;

/// What came of a submission.
pub(crate) struct Submitted {
    pub(crate) number: u64,
    /// It is not one that the same request has brought before.
    pub(crate) is_new: bool,
    pub(crate) forgotten: Option<u64>,
}

/// The jobs. The mutex is held to look up or change a record, never while a job works.
pub(crate) struct Queue {
    jobs: Mutex<BTreeMap<u64, Job>>,
    /// Counts changes, so that waiting for one is cheap.
    changes: watch::Sender<u64>,
    /// Counts the changes by which a job may come to run.
    turns: watch::Sender<u64>,
    is_stopping: AtomicBool,
    clock: fn() -> SystemTime,
    epoch: u64,
    /// Jobs of one client that may wait or run at a time.
    jobs_per_client: usize,
    /// The number that was given last. One that was deleted is not given again: what is left of it may still be removed.
    last_number: AtomicU64,
}

impl Queue {
    /// `left` is what earlier leaders have left, `epoch` that of this one.
    pub(crate) fn new(config: &Config, Left { jobs, last_number }: Left, epoch: u64) -> Self {
        let last_number = AtomicU64::new(last_number);
        let jobs = Mutex::new(jobs.into_iter().map(|job| (job.number, job)).collect());
        let Config { clock, jobs_per_client, .. } = *config;
        Self {
            jobs,
            changes: watch::Sender::new(0),
            turns: watch::Sender::new(0),
            is_stopping: AtomicBool::new(false),
            clock,
            epoch,
            jobs_per_client,
            last_number,
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, Job>> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn changed(&self) {
        self.changes.send_modify(|n_changes| *n_changes += 1);
    }

    /// Tells of every change from now on.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Tells of every change from now on by which a job may come to run.
    pub(crate) fn turns(&self) -> watch::Receiver<u64> {
        self.turns.subscribe()
    }

    /// The largest number that a job has had.
    pub(crate) fn last_number(&self) -> u64 {
        self.last_number.load(Ordering::Relaxed)
    }

    /// Takes a job, or returns the one that the same request has brought before.
    /// A job that is forgotten to make room is told too.
    pub(crate) fn submit(&self, submission: Submission) -> Result<Submitted, Status> {
        let mut jobs = self.lock();
        let request_id = &submission.request_id;
        let same = jobs.values().find(|job| !request_id.is_empty() && job.submission.request_id == *request_id);
        if let Some(job) = same {
            return Ok(Submitted { number: job.number, is_new: false, forgotten: None });
        }
        let client = &submission.client;
        let of_client = jobs.values().filter(|job| !job.has_ended() && job.submission.client == *client);
        if of_client.count() >= self.jobs_per_client {
            let max = self.jobs_per_client;
            return Err(Status::resource_exhausted(format!(
                "{max} jobs of client `{client}` wait or run; wait for one to end"
            )));
        }
        let number = self.last_number.fetch_add(1, Ordering::Relaxed) + 1;
        let mut forgotten = None;
        if jobs.len() >= MAX_JOBS {
            let oldest = jobs.iter().find(|(_, job)| job.has_ended()).map(|(number, _)| *number);
            let full = || Status::resource_exhausted(format!("{MAX_JOBS} jobs wait or run; try again later"));
            let oldest = oldest.ok_or_else(full)?;
            jobs.remove(&oldest);
            forgotten = Some(oldest);
        }
        let job = Job::new(number, submission, (self.clock)(), self.epoch);
        jobs.insert(number, job);
        drop(jobs);
        self.changed();
        Ok(Submitted { number, is_new: true, forgotten })
    }

    /// Looks at a job.
    pub(crate) fn look<T>(&self, name: &str, look: impl FnOnce(&Job) -> T) -> Result<T, Status> {
        let jobs = self.lock();
        let job = number_of(name).and_then(|number| jobs.get(&number));
        job.map(look).ok_or_else(|| no_such_job(name))
    }

    /// Changes a job that is still remembered.
    pub(crate) fn update(&self, number: u64, update: impl FnOnce(&mut Job)) {
        if let Some(job) = self.lock().get_mut(&number) {
            update(job);
        }
        self.changed();
    }

    /// Ends a job, unless it has ended before.
    pub(crate) fn end(&self, number: u64, state: JobState, error: String) {
        let ended = self.now();
        self.update(number, |job| {
            if !job.has_ended() {
                job.end(state, error, ended)
            }
        });
    }

    pub(crate) fn now(&self) -> SystemTime {
        (self.clock)()
    }

    /// Lets a job run, now that its record is written.
    pub(crate) fn keep(&self, number: u64) {
        self.update(number, |job| job.is_kept = true);
        self.turns.send_modify(|n_turns| *n_turns += 1);
    }

    /// Forgets a job that was never kept.
    pub(crate) fn forget(&self, number: u64) {
        self.lock().remove(&number);
        self.changed();
    }

    /// Marks a job as unwanted: one that waits does not start, and one that runs ends at its next step.
    pub(crate) fn cancel(&self, name: &str) -> Result<u64, Status> {
        let mut jobs = self.lock();
        let job = number_of(name).and_then(|number| jobs.get_mut(&number)).ok_or_else(|| no_such_job(name))?;
        if job.has_ended() {
            return Err(Status::failed_precondition(format!("{name} has ended already")));
        }
        job.is_unwanted = true;
        job.cancelled.store(true, Ordering::Relaxed);
        Ok(job.number)
    }

    /// Forgets a job that has ended; returns its number, and the data set that no other job has read.
    pub(crate) fn delete(&self, name: &str) -> Result<(u64, Option<String>), Status> {
        let mut jobs = self.lock();
        let job = number_of(name).and_then(|number| jobs.get(&number)).ok_or_else(|| no_such_job(name))?;
        if !job.has_ended() {
            return Err(Status::failed_precondition(format!("{name} has not ended; cancel it first")));
        }
        let (number, data_set) = (job.number, job.data_set.clone());
        jobs.remove(&number);
        let is_others = jobs.values().any(|job| job.data_set == data_set);
        drop(jobs);
        self.changed();
        Ok((number, data_set.filter(|_| !is_others)))
    }

    /// Ends an unwanted job that has not started; of one that runs its runner takes care.
    pub(crate) fn end_unwanted(&self, number: u64) {
        let ended = self.now();
        self.update(number, |job| {
            if job.state == JobState::Queued {
                job.end(JobState::Cancelled, String::new(), ended);
            }
        });
    }

    /// Stops what runs, since this coordinator ends or leads no more. No job ends by that: they go on under the next leader.
    pub(crate) fn stop(&self) {
        self.is_stopping.store(true, Ordering::Relaxed);
        for job in self.lock().values().filter(|job| !job.has_ended()) {
            job.cancelled.store(true, Ordering::Relaxed);
        }
        self.changed();
    }

    /// Whether it was stopped.
    pub(crate) fn is_stopping(&self) -> bool {
        self.is_stopping.load(Ordering::Relaxed)
    }

    /// The next job that waits, which then runs.
    pub(crate) fn start_next(&self) -> Option<u64> {
        if self.is_stopping() {
            return None;
        }
        let mut jobs = self.lock();
        let number = next_turn(&jobs)?;
        let turn = jobs.values().map(|job| job.turn).max().unwrap_or(0) + 1;
        let job = jobs.get_mut(&number)?;
        job.turn = turn;
        job.enter(JobState::Running);
        drop(jobs);
        self.changed();
        Some(number)
    }

    /// Up to `n` jobs with numbers below `before`, the newest first, and whether there are more.
    pub(crate) fn list(&self, before: u64, n: usize) -> (Vec<proto::Job>, Option<u64>) {
        let jobs = self.lock();
        let mut page: Vec<&Job> = jobs.range(..before).rev().map(|(_, job)| job).take(n + 1).collect();
        let has_more = page.len() > n;
        page.truncate(n);
        let next = page.last().map(|job| job.number).filter(|_| has_more);
        (page.into_iter().map(Job::to_message).collect(), next)
    }
}

/// The job whose turn it is, of those that wait: of the highest priority, of the client that has the fewest running, then of the
/// one whose last turn is longest ago, the oldest.
fn next_turn(jobs: &BTreeMap<u64, Job>) -> Option<u64> {
    let mut clients: BTreeMap<&str, (usize, u64)> = BTreeMap::new();
    for job in jobs.values() {
        let (n_running, last_turn) = clients.entry(&job.submission.client).or_default();
        *n_running += usize::from(job.state == JobState::Running);
        *last_turn = job.turn.max(*last_turn);
    }
    let waits = |job: &&Job| job.state == JobState::Queued && job.is_kept && !job.is_unwanted;
    let order = |job: &&Job| {
        let Submission { priority, client, .. } = &job.submission;
        (Reverse(*priority), clients[client.as_str()], job.number)
    };
    jobs.values().filter(waits).min_by_key(order).map(|job| job.number)
}

pub(crate) fn number_of(name: &str) -> Option<u64> {
    name.strip_prefix("jobs/").unwrap_or(name).parse().ok()
}

fn no_such_job(name: &str) -> Status {
    Status::not_found(format!("`{name}` is not a job of this coordinator"))
}
