//! The records of jobs, which a leader leaves to the next one: what was asked for, and where each job is.
//!
//! They are small and in the store, where only the leader can write. What is large is in storage ([`crate::results`]).

use crate::data_sets::DataSets;
use crate::error::FleetError;
use crate::job::{Job, Submission};
use crate::queue::Queue;
use crate::results::Results;
use serde::{Deserialize, Serialize};
use shoal_coordination::{Entry, Leader, Write};
use shoal_domain::JobSpec;
use shoal_wire::documents::to_bytes;
use shoal_wire::proto::JobState;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::time::sleep;
use tonic::Status;
use tracing::{info, warn};

const FORMAT: &str = "shoal-job-1";
const PREFIX: &str = "jobs/";
/// Etcd takes values of 1.5 MB.
const MAX_RECORD_BYTES: usize = 1 << 20;
/// What of that is left free until the job ends: for its error, each byte of which may take six in JSON, and the time.
const ROOM_FOR_END: usize = 6 * MAX_ERROR_BYTES + 1024;
/// Of a longer error the beginning is kept.
const MAX_ERROR_BYTES: usize = 16 << 10;
/// The key of the largest number that a job has had; numbers of jobs that are forgotten are not given again.
const LAST_NUMBER: &str = "numbers/job";
/// How long to wait before an end that could not be written is written again.
const END_RETRIED_AFTER: Duration = Duration::from_secs(2);

/// A job at rest, under `jobs/7`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Record {
    format: String,
    number: u64,
    spec: JobSpec,
    /// The data set it reads; none where it has still to be read from the source.
    data_set: Option<String>,
    has_warm_start: bool,
    request_id: String,
    #[serde(default)]
    priority: i32,
    #[serde(default)]
    client: String,
    /// The protocol's name of the state.
    state: String,
    error: String,
    submitted_ms: u64,
    ended_ms: Option<u64>,
    /// Under which leader its outcome was found.
    outcome: Option<u64>,
}

/// How a job ends.
pub(crate) struct End {
    pub(crate) state: JobState,
    pub(crate) error: String,
    pub(crate) at: SystemTime,
}

impl Record {
    fn of(job: &Job) -> Self {
        let submission = &job.submission;
        // What runs and is unwanted must not run again.
        let state = if job.is_unwanted && !job.has_ended() { JobState::Cancelled } else { job.state };
        Self {
            format: FORMAT.to_owned(),
            number: job.number,
            spec: submission.spec.clone(),
            data_set: job.data_set.clone(),
            has_warm_start: submission.warm_start.is_some(),
            request_id: submission.request_id.clone(),
            priority: submission.priority,
            client: submission.client.clone(),
            state: state.as_str_name().to_owned(),
            error: job.error.clone(),
            submitted_ms: milliseconds(job.submitted),
            ended_ms: job.ended.map(milliseconds),
            outcome: job.outcome,
        }
    }

    fn end(&mut self, end: &End) {
        end.state.as_str_name().clone_into(&mut self.state);
        end.error[..end.error.floor_char_boundary(MAX_ERROR_BYTES)].clone_into(&mut self.error);
        self.ended_ms = Some(milliseconds(end.at));
    }
}

fn milliseconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64
}

fn time(milliseconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(milliseconds)
}

/// The records of all jobs.
pub(crate) struct Records {
    leader: Leader,
    queue: Arc<Queue>,
    results: Arc<Results>,
    /// Held while a record is made and written, so that an older one never comes after a newer one.
    writing: tokio::sync::Mutex<()>,
}

impl Records {
    pub(crate) fn new(leader: Leader, queue: Arc<Queue>, results: Arc<Results>) -> Self {
        Self { leader, queue, results, writing: tokio::sync::Mutex::default() }
    }

    /// Writes a job as it is now; from here on it outlives this process, and may run. One that is forgotten meanwhile is not
    /// written.
    pub(crate) async fn keep(&self, number: u64) -> Result<(), FleetError> {
        let _writing = self.writing.lock().await;
        match self.look(number) {
            Ok(record) => {
                self.write(&record).await?;
                self.queue.keep(number);
                Ok(())
            }
            Err(_) => Ok(()),
        }
    }

    /// Ends a job: first in its record, and then for those who watch it, who must not see an end that a deposed leader has
    /// made up, or that is forgotten with this process. A store that takes nothing, since its disk is full for instance, is
    /// tried until it does.
    pub(crate) async fn end(&self, number: u64, end: End) -> Result<(), FleetError> {
        loop {
            match self.try_to_end(number, &end).await {
                Err(error) if !error.is_deposed() => {
                    warn!(number, %error, "the end of a job cannot be written, trying again");
                    sleep(END_RETRIED_AFTER).await;
                }
                ended => return ended,
            }
        }
    }

    async fn try_to_end(&self, number: u64, end: &End) -> Result<(), FleetError> {
        let _writing = self.writing.lock().await;
        let Ok(mut record) = self.look(number) else {
            return Ok(());
        };
        if record.ended_ms.is_some() {
            return Ok(());
        }
        record.end(end);
        self.write(&record).await?;
        self.queue.end(number, end.state, end.error.clone());
        Ok(())
    }

    fn look(&self, number: u64) -> Result<Record, Status> {
        self.queue.look(&format!("{PREFIX}{number}"), Record::of)
    }

    async fn write(&self, record: &Record) -> Result<(), FleetError> {
        let (key, value) = (format!("{PREFIX}{}", record.number), to_bytes(record)?);
        // What could not be ended must not begin.
        let max = if record.ended_ms.is_some() { MAX_RECORD_BYTES } else { MAX_RECORD_BYTES - ROOM_FOR_END };
        if value.len() > max {
            return Err(FleetError::TooLarge { n_bytes: value.len(), max });
        }
        Ok(self.leader.write(&[Write::Put { key, value, lease: None }]).await?)
    }

    /// Forgets a job and all that came of it.
    pub(crate) async fn remove(&self, number: u64) -> Result<(), FleetError> {
        let _writing = self.writing.lock().await;
        let last_number = put_last_number(self.queue.last_number());
        self.leader.write(&[Write::Delete(format!("{PREFIX}{number}")), last_number]).await?;
        self.results.remove(number).await
    }
}

fn put_last_number(number: u64) -> Write {
    Write::Put { key: LAST_NUMBER.to_owned(), value: number.to_string().into_bytes(), lease: None }
}

/// What earlier leaders have left.
pub(crate) struct Left {
    /// Those that had not ended wait again.
    pub(crate) jobs: Vec<Job>,
    /// The largest number that a job has had.
    pub(crate) last_number: u64,
}

/// All jobs that were left; what storage has of jobs that are forgotten is removed.
pub(crate) async fn load(leader: &Leader, results: &Results, data_sets: &DataSets) -> Result<Left, FleetError> {
    let with_results = results.numbers().await?;
    let mut jobs = Vec::new();
    for entry in leader.store().list(PREFIX).await? {
        jobs.push(job(&parse(&entry)?, leader.epoch(), results, data_sets).await?);
    }
    let last_number = leader.store().get(LAST_NUMBER).await?;
    let last_number = last_number.map(|entry| String::from_utf8_lossy(&entry.value).parse()).transpose();
    let known: Option<u64> = last_number.map_err(|error| FleetError::Record {
        name: LAST_NUMBER.to_owned(),
        reason: format!("it is no number: {error}"),
    })?;
    let numbers = jobs.iter().map(|job| job.number).chain(with_results.iter().copied()).chain(known);
    let last_number = numbers.max().unwrap_or(0);
    // Storage takes orders from anybody. That this coordinator leads is certain once this is written, so what was seen before
    // cannot be a later leader's.
    leader.write(&[put_last_number(last_number)]).await?;
    // Records that know nothing yet are new ones beside older results, which are not theirs to remove.
    for number in with_results.into_iter().filter(|number| known.is_some_and(|known| *number <= known)) {
        if !jobs.iter().any(|job| job.number == number) {
            warn!(number, "removing what is left of a job that is forgotten");
            results.remove(number).await?;
        }
    }
    Ok(Left { jobs, last_number })
}

fn parse(entry: &Entry) -> Result<Record, FleetError> {
    let damaged = |reason: String| FleetError::Record { name: entry.key.clone(), reason };
    let record: Record = serde_json::from_slice(&entry.value).map_err(|error| damaged(error.to_string()))?;
    match record.format.as_str() {
        FORMAT => Ok(record),
        format => Err(damaged(format!("its format is {format}, this version reads {FORMAT}"))),
    }
}

async fn job(record: &Record, epoch: u64, results: &Results, data_sets: &DataSets) -> Result<Job, FleetError> {
    let number = record.number;
    let state = JobState::from_str_name(&record.state).unwrap_or_default();
    let has_ended = matches!(state, JobState::Succeeded | JobState::Failed | JobState::Cancelled);
    let data_set = record.data_set.as_deref().filter(|_| !has_ended).map(|name| data_sets.get(name));
    let (data_set, lost) = match data_set.transpose() {
        Ok(data_set) => (data_set, None),
        Err(error) => (None, Some(error.to_string())),
    };
    let (warm_start, lost) = match (record.has_warm_start && !has_ended, lost) {
        (true, None) => match results.warm_start(number).await {
            Ok(model) => (Some(model), None),
            // One job's damage is not the others'.
            Err(damage @ FleetError::Record { .. }) => (None, Some(damage.to_string())),
            Err(error) => return Err(error),
        },
        (_, lost) => (None, lost),
    };
    let (spec, request_id, client) = (record.spec.clone(), record.request_id.clone(), record.client.clone());
    let submission = Submission { spec, data_set, warm_start, request_id, priority: record.priority, client };
    let mut job = Job::new(number, submission, time(record.submitted_ms), epoch);
    job.is_kept = true;
    job.data_set.clone_from(&record.data_set);
    match (has_ended, lost) {
        (true, _) => {
            job.outcome = record.outcome;
            job.end(state, record.error.clone(), time(record.ended_ms.unwrap_or(record.submitted_ms)));
        }
        (false, Some(error)) => job.end(JobState::Failed, error, time(record.submitted_ms)),
        (false, None) => info!(job = job.name(), "was left by an earlier leader, waits again"),
    }
    Ok(job)
}
