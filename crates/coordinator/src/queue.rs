//! All jobs, in the order in which they came.

use crate::job::{Job, Submission};
use shoal_wire::proto::{self, JobState};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;
use tokio::sync::watch;
use tonic::Status;

/// Jobs that are remembered. The oldest that have ended are forgotten first; when all wait or run, no more are taken.
pub(crate) const MAX_JOBS: usize = 10_000;

/// The jobs. The mutex is held to look up or change a record, never while a job works.
pub(crate) struct Queue {
    jobs: Mutex<BTreeMap<u64, Job>>,
    /// Counts changes, so that waiting for one is cheap.
    changes: watch::Sender<u64>,
    is_stopping: AtomicBool,
    clock: fn() -> SystemTime,
    epoch: u64,
}

impl Queue {
    /// `jobs` are those that earlier leaders have left, `epoch` that of this one.
    pub(crate) fn new(clock: fn() -> SystemTime, jobs: Vec<Job>, epoch: u64) -> Self {
        let jobs = Mutex::new(jobs.into_iter().map(|job| (job.number, job)).collect());
        Self { jobs, changes: watch::Sender::new(0), is_stopping: AtomicBool::new(false), clock, epoch }
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

    /// Takes a job, or returns the one that the same request has brought before.
    /// A job that is forgotten to make room is returned too.
    pub(crate) fn submit(&self, submission: Submission) -> Result<(proto::Job, Option<u64>), Status> {
        let mut jobs = self.lock();
        let request_id = &submission.request_id;
        let same = jobs.values().find(|job| !request_id.is_empty() && job.submission.request_id == *request_id);
        if let Some(job) = same {
            return Ok((job.to_message(), None));
        }
        let number = jobs.last_key_value().map_or(1, |(number, _)| number + 1);
        let mut forgotten = None;
        if jobs.len() >= MAX_JOBS {
            let oldest = jobs.iter().find(|(_, job)| job.has_ended()).map(|(number, _)| *number);
            let full = || Status::resource_exhausted(format!("{MAX_JOBS} jobs wait or run; try again later"));
            let oldest = oldest.ok_or_else(full)?;
            jobs.remove(&oldest);
            forgotten = Some(oldest);
        }
        let job = Job::new(number, submission, (self.clock)(), self.epoch);
        let message = job.to_message();
        jobs.insert(number, job);
        drop(jobs);
        self.changed();
        Ok((message, forgotten))
    }

    /// Looks at a job.
    pub(crate) fn look<T>(&self, name: &str, look: impl FnOnce(&Job) -> T) -> Result<T, Status> {
        let jobs = self.lock();
        let job = number_of(name).and_then(|number| jobs.get(&number));
        job.map(look).ok_or_else(|| Status::not_found(format!("`{name}` is not a job of this coordinator")))
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

    /// Stops a job that waits at once, and one that runs at its next step.
    pub(crate) fn cancel(&self, name: &str) -> Result<proto::Job, Status> {
        let (number, state) = self.look(name, |job| (job.number, job.state))?;
        match state {
            JobState::Queued => self.end(number, JobState::Cancelled, String::new()),
            JobState::Running => self.update(number, |job| {
                job.is_unwanted = true;
                job.cancelled.store(true, Ordering::Relaxed);
            }),
            _ => return Err(Status::failed_precondition(format!("{name} has ended already"))),
        }
        self.look(name, Job::to_message)
    }

    pub(crate) fn now(&self) -> SystemTime {
        (self.clock)()
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
        let job = jobs.values_mut().find(|job| job.state == JobState::Queued)?;
        job.enter(JobState::Running);
        let number = job.number;
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

pub(crate) fn number_of(name: &str) -> Option<u64> {
    name.strip_prefix("jobs/").unwrap_or(name).parse().ok()
}
