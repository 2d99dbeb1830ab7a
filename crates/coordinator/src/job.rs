//! One job: what was asked, what has happened, what came out.

use crate::data_sets::DataSet;
use shoal_clustering::PassRecord;
use shoal_domain::{Centroids, JobSpec, Model, Preparation};
use shoal_wire::proto::{self, JobState, job_event};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::SystemTime;

/// Events that a job remembers for clients that come late; of a longer job the oldest are forgotten.
const MAX_EVENTS: usize = 100_000;

/// Numbers that the events of a job may take under one leader.
const EVENTS_OF_A_LIFE: u64 = 1 << 24;

/// What a client asked for.
#[derive(Debug, Clone)]
pub(crate) struct Submission {
    pub(crate) spec: JobSpec,
    /// A data set that was put before. Otherwise the coordinator reads the source.
    pub(crate) data_set: Option<Arc<DataSet>>,
    pub(crate) warm_start: Option<Model>,
    /// Chosen by the client; empty when it chose none.
    pub(crate) request_id: String,
    pub(crate) priority: i32,
    /// Who submits it, as it says.
    pub(crate) client: String,
}

/// What came out.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) model_json: Vec<u8>,
    pub(crate) report_json: Vec<u8>,
    pub(crate) preparation: Preparation,
    pub(crate) centroids: Centroids,
    pub(crate) wants_row_silhouettes: bool,
    pub(crate) data_set_name: String,
}

/// A job as the queue keeps it.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) number: u64,
    pub(crate) submission: Submission,
    pub(crate) state: JobState,
    pub(crate) error: String,
    pub(crate) submitted: SystemTime,
    pub(crate) ended: Option<SystemTime>,
    phase: String,
    last_pass: Option<PassRecord>,
    events: VecDeque<proto::JobEvent>,
    n_events: u64,
    /// The name of the data set whose rows it reads, also after its end.
    pub(crate) data_set: Option<String>,
    /// Under which leader its outcome was found, which is in storage.
    pub(crate) outcome: Option<u64>,
    /// Its record is written; before, it does not run.
    pub(crate) is_kept: bool,
    /// Which of all starts under this leader was its own, from 1; 0 while it waits.
    pub(crate) turn: u64,
    /// Set once to stop the job; its algorithm looks at it between two steps.
    pub(crate) cancelled: Arc<AtomicBool>,
    /// A client wants it stopped, and not only this coordinator, which may be about to end.
    pub(crate) is_unwanted: bool,
}

impl Job {
    /// `epoch` is that of the leader: events of a later one have larger numbers than those of any before.
    pub(crate) fn new(number: u64, submission: Submission, submitted: SystemTime, epoch: u64) -> Self {
        let data_set = submission.data_set.as_ref().map(|data_set| data_set.name.clone());
        let mut job = Self {
            number,
            submission,
            state: JobState::Unspecified,
            error: String::new(),
            submitted,
            ended: None,
            phase: String::new(),
            last_pass: None,
            events: VecDeque::new(),
            n_events: epoch * EVENTS_OF_A_LIFE,
            data_set,
            outcome: None,
            is_kept: false,
            turn: 0,
            cancelled: Arc::default(),
            is_unwanted: false,
        };
        job.enter(JobState::Queued);
        job
    }

    pub(crate) fn name(&self) -> String {
        format!("jobs/{}", self.number)
    }

    pub(crate) fn has_ended(&self) -> bool {
        matches!(self.state, JobState::Succeeded | JobState::Failed | JobState::Cancelled)
    }

    /// Has its rows now.
    pub(crate) fn set_data_set(&mut self, data_set: Arc<DataSet>) {
        self.data_set = Some(data_set.name.clone());
        self.submission.data_set = Some(data_set);
    }

    /// Comes into a state that is not an end.
    pub(crate) fn enter(&mut self, state: JobState) {
        self.state = state;
        self.record(job_event::Event::State(state.into()));
    }

    /// Ends; the data set is no longer in use by this job.
    pub(crate) fn end(&mut self, state: JobState, error: String, ended: SystemTime) {
        self.error = error;
        self.ended = Some(ended);
        self.submission.data_set = None;
        self.enter(state);
    }

    pub(crate) fn enter_phase(&mut self, phase: &str) {
        phase.clone_into(&mut self.phase);
        self.record(job_event::Event::Phase(phase.to_owned()));
    }

    pub(crate) fn pass(&mut self, record: PassRecord) {
        self.last_pass = Some(record);
        self.record(job_event::Event::Pass(record.into()));
    }

    pub(crate) fn silhouette(&mut self, n_done: u64, n_rows: u64) {
        self.record(job_event::Event::Silhouette(proto::Silhouette { n_done, n_rows }));
    }

    fn record(&mut self, event: job_event::Event) {
        if self.events.len() == MAX_EVENTS {
            self.events.pop_front();
        }
        self.n_events += 1;
        let error = self.error.clone();
        self.events.push_back(proto::JobEvent { number: self.n_events, event: Some(event), error });
    }

    /// At most `n` events with numbers above `after`.
    pub(crate) fn events_after(&self, after: u64, n: usize) -> Vec<proto::JobEvent> {
        let skipped = self.events.partition_point(|event| event.number <= after);
        self.events.iter().skip(skipped).take(n).cloned().collect()
    }

    pub(crate) fn to_message(&self) -> proto::Job {
        proto::Job {
            name: self.name(),
            state: self.state.into(),
            spec: Some((&self.submission.spec).into()),
            error: self.error.clone(),
            submitted: Some(self.submitted.into()),
            ended: self.ended.map(Into::into),
            phase: self.phase.clone(),
            last_pass: self.last_pass.map(Into::into),
            priority: self.submission.priority,
            client: self.submission.client.clone(),
        }
    }
}
