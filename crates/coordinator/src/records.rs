//! What a coordinator leaves to its successor: jobs as they were asked for, and what came of them.

use crate::data_sets::DataSets;
use crate::error::FleetError;
use crate::job::{Job, Outcome, Submission};
use prost::Message;
use serde::{Deserialize, Serialize};
use shoal_clustering::kmeans::Checkpoint;
use shoal_domain::{Centroids, JobSpec, Model};
use shoal_storage::Storage;
use shoal_wire::documents::{parse_model, to_bytes};
use shoal_wire::proto::{self, JobState};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tracing::{info, warn};

const FORMAT: &str = "shoal-job-1";

/// A job at rest: `jobs/7/record.json`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Record {
    format: String,
    number: u64,
    spec: JobSpec,
    /// The data set it reads; none where it has still to be read from the source.
    data_set: Option<String>,
    warm_start: Option<Model>,
    request_id: String,
    /// The protocol's name of the state.
    state: String,
    error: String,
    submitted_ms: u64,
    ended_ms: Option<u64>,
    /// How many coordinators have worked on it.
    n_lives: u64,
}

impl Record {
    pub(crate) fn of(job: &Job) -> Self {
        let submission = &job.submission;
        // What runs and is unwanted must not run again.
        let state = if job.is_unwanted && !job.has_ended() { JobState::Cancelled } else { job.state };
        Self {
            format: FORMAT.to_owned(),
            number: job.number,
            spec: submission.spec.clone(),
            data_set: submission.data_set.as_ref().map(|data_set| data_set.name.clone()),
            warm_start: submission.warm_start.clone(),
            request_id: submission.request_id.clone(),
            state: state.as_str_name().to_owned(),
            error: job.error.clone(),
            submitted_ms: milliseconds(job.submitted),
            ended_ms: job.ended.map(milliseconds),
            n_lives: job.n_lives,
        }
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
    storage: Storage,
}

impl Records {
    pub(crate) fn new(storage: Storage) -> Self {
        Self { storage }
    }

    /// Writes a record; from here on the job outlives this process.
    pub(crate) async fn write(&self, record: &Record) -> Result<(), FleetError> {
        Ok(self.storage.write(&name(record.number, "record.json"), to_bytes(record)?).await?)
    }

    /// Writes what came out of a job. Its record, which says that there is something, comes after.
    pub(crate) async fn write_outcome(&self, number: u64, outcome: &Outcome) -> Result<(), FleetError> {
        if let Some(silhouettes) = &outcome.row_silhouettes {
            let bytes = silhouettes.iter().flat_map(|value| value.to_le_bytes()).collect();
            self.storage.write(&name(number, "row_silhouettes.f64"), bytes).await?;
        }
        self.storage.write(&name(number, "data_set"), outcome.data_set_name.clone().into_bytes()).await?;
        self.storage.write(&name(number, "report.json"), outcome.report_json.clone()).await?;
        Ok(self.storage.write(&name(number, "model.json"), outcome.model_json.clone()).await?)
    }

    /// Writes where a job is, so that a successor need not begin at its beginning.
    pub(crate) async fn write_checkpoint(&self, number: u64, checkpoint: &Checkpoint) -> Result<(), FleetError> {
        let bytes = proto::Checkpoint::from(checkpoint).encode_to_vec();
        Ok(self.storage.write(&name(number, "checkpoint"), bytes).await?)
    }

    /// Where a job was.
    pub(crate) async fn checkpoint(&self, number: u64) -> Result<Option<Checkpoint>, FleetError> {
        let Some(bytes) = self.storage.read(&name(number, "checkpoint")).await? else {
            return Ok(None);
        };
        let damaged = |reason: String| FleetError::Record { name: name(number, "checkpoint"), reason };
        let message = proto::Checkpoint::decode(bytes).map_err(|error| damaged(error.to_string()))?;
        Checkpoint::try_from(message).map(Some).map_err(|error| damaged(error.to_string()))
    }

    pub(crate) async fn remove_checkpoint(&self, number: u64) {
        if let Err(error) = self.storage.remove_document(&name(number, "checkpoint")).await {
            warn!(number, %error, "a checkpoint that nobody needs is still in storage");
        }
    }

    pub(crate) async fn remove(&self, number: u64) {
        if let Err(error) = self.storage.remove_folder(&format!("jobs/{number}")).await {
            warn!(number, %error, "the record of a forgotten job is still in storage");
        }
    }

    /// All jobs that were left. Those that had not ended wait again.
    pub(crate) async fn load(&self, data_sets: &DataSets) -> Result<Vec<Job>, FleetError> {
        let mut jobs = Vec::new();
        for folder in self.storage.folders("jobs").await? {
            let Some(json) = self.storage.read(&format!("jobs/{folder}/record.json")).await? else {
                continue;
            };
            let damaged = |reason: String| FleetError::Record { name: format!("jobs/{folder}/record.json"), reason };
            let record: Record = serde_json::from_slice(&json).map_err(|error| damaged(error.to_string()))?;
            if record.format != FORMAT {
                return Err(damaged(format!("its format is {}, this version reads {FORMAT}", record.format)));
            }
            jobs.push(self.job(record, data_sets).await?);
        }
        Ok(jobs)
    }

    async fn job(&self, record: Record, data_sets: &DataSets) -> Result<Job, FleetError> {
        let number = record.number;
        let state = JobState::from_str_name(&record.state).unwrap_or_default();
        let has_ended = matches!(state, JobState::Succeeded | JobState::Failed | JobState::Cancelled);
        let data_set = record.data_set.as_deref().filter(|_| !has_ended).map(|name| data_sets.get(name));
        let (data_set, lost) = match data_set.transpose() {
            Ok(data_set) => (data_set, None),
            Err(error) => (None, Some(error.to_string())),
        };
        let Record { spec, warm_start, request_id, .. } = record;
        let mut job =
            Job::new(number, Submission { spec, data_set, warm_start, request_id }, time(record.submitted_ms));
        job.live_again(record.n_lives + 1);
        match (has_ended, lost) {
            (true, _) => {
                job.outcome = self.outcome(number).await?.map(Arc::new);
                job.end(state, record.error, time(record.ended_ms.unwrap_or(record.submitted_ms)));
            }
            (false, Some(error)) => job.end(JobState::Failed, error, time(record.submitted_ms)),
            (false, None) => info!(job = job.name(), "found in storage, waits again"),
        }
        Ok(job)
    }

    async fn outcome(&self, number: u64) -> Result<Option<Outcome>, FleetError> {
        let Some(model_json) = self.storage.read(&name(number, "model.json")).await? else {
            return Ok(None);
        };
        let damaged = |what: &str, reason: String| FleetError::Record { name: name(number, what), reason };
        let model = parse_model(&model_json).map_err(|reason| damaged("model.json", reason))?;
        let centroids = Centroids::from_rows(model.centroids.iter().map(Vec::as_slice));
        let centroids = centroids.map_err(|error| damaged("model.json", error.to_string()))?;
        let report_json = self.storage.read(&name(number, "report.json")).await?.unwrap_or_default();
        let data_set = self.storage.read(&name(number, "data_set")).await?.unwrap_or_default();
        let silhouettes = self.storage.read(&name(number, "row_silhouettes.f64")).await?;
        let silhouettes =
            silhouettes.map(|bytes| bytes.as_chunks::<8>().0.iter().map(|bytes| f64::from_le_bytes(*bytes)).collect());
        Ok(Some(Outcome {
            model_json: model_json.to_vec(),
            report_json: report_json.to_vec(),
            wants_row_silhouettes: model.validate.row_silhouettes,
            preparation: model.preparation,
            centroids,
            row_silhouettes: silhouettes,
            data_set_name: String::from_utf8_lossy(&data_set).into_owned(),
        }))
    }
}

fn name(number: u64, file: &str) -> String {
    format!("jobs/{number}/{file}")
}
