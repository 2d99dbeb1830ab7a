//! What comes of jobs, in storage: outcomes, checkpoints, and models to start from.
//!
//! ```text
//! jobs/7/warm_start.json      what the client sent
//! jobs/7/12/checkpoint        where the job was under the leader of epoch 12
//! jobs/7/12/model.json        what came out of it, with report.json, data_set and row_silhouettes.f64
//! ```
//!
//! Storage fences nobody off, so each leader writes into a folder of its own; which one counts is in the job's record.

use crate::error::FleetError;
use crate::job::Outcome;
use prost::Message;
use shoal_clustering::kmeans::Checkpoint;
use shoal_domain::{Centroids, Model};
use shoal_storage::Storage;
use shoal_wire::documents::{parse_model, to_bytes};
use shoal_wire::proto;
use tracing::warn;

const MODEL: &str = "model.json";
const REPORT: &str = "report.json";
const DATA_SET: &str = "data_set";
const ROW_SILHOUETTES: &str = "row_silhouettes.f64";
const CHECKPOINT: &str = "checkpoint";
const WARM_START: &str = "warm_start.json";

/// The results of all jobs, and the folder of one leader.
pub(crate) struct Results {
    storage: Storage,
    epoch: u64,
}

impl Results {
    /// `epoch` is that of the leader that writes.
    pub(crate) fn new(storage: Storage, epoch: u64) -> Self {
        Self { storage, epoch }
    }

    /// Writes what came out of a job.
    pub(crate) async fn write_outcome(&self, number: u64, outcome: &Outcome) -> Result<(), FleetError> {
        let name = |file| name(number, outcome.epoch, file);
        if let Some(silhouettes) = &outcome.row_silhouettes {
            let bytes = silhouettes.iter().flat_map(|value| value.to_le_bytes()).collect();
            self.storage.write(&name(ROW_SILHOUETTES), bytes).await?;
        }
        self.storage.write(&name(DATA_SET), outcome.data_set_name.clone().into_bytes()).await?;
        self.storage.write(&name(REPORT), outcome.report_json.clone()).await?;
        Ok(self.storage.write(&name(MODEL), outcome.model_json.clone()).await?)
    }

    /// What came out of a job under the leader of `epoch`.
    pub(crate) async fn outcome(&self, number: u64, epoch: u64) -> Result<Outcome, FleetError> {
        let model_json = self.read(&name(number, epoch, MODEL)).await?;
        let damaged = |reason: String| FleetError::Record { name: name(number, epoch, MODEL), reason };
        let model = parse_model(&model_json).map_err(damaged)?;
        let centroids = Centroids::from_rows(model.centroids.iter().map(Vec::as_slice));
        let centroids = centroids.map_err(|error| damaged(error.to_string()))?;
        let report_json = self.read(&name(number, epoch, REPORT)).await?;
        let data_set = self.read(&name(number, epoch, DATA_SET)).await?;
        let silhouettes = self.storage.read(&name(number, epoch, ROW_SILHOUETTES)).await?;
        let silhouettes =
            silhouettes.map(|bytes| bytes.as_chunks::<8>().0.iter().map(|bytes| f64::from_le_bytes(*bytes)).collect());
        Ok(Outcome {
            epoch,
            model_json,
            report_json,
            wants_row_silhouettes: model.validate.row_silhouettes,
            preparation: model.preparation,
            centroids,
            row_silhouettes: silhouettes,
            data_set_name: String::from_utf8_lossy(&data_set).into_owned(),
        })
    }

    /// Writes the model that a job is to start from.
    pub(crate) async fn write_warm_start(&self, number: u64, model: &Model) -> Result<(), FleetError> {
        Ok(self.storage.write(&format!("jobs/{number}/{WARM_START}"), to_bytes(model)?).await?)
    }

    pub(crate) async fn warm_start(&self, number: u64) -> Result<Model, FleetError> {
        let name = format!("jobs/{number}/{WARM_START}");
        parse_model(&self.read(&name).await?).map_err(|reason| FleetError::Record { name, reason })
    }

    /// Writes where a job is, so that the next leader need not begin at its beginning.
    pub(crate) async fn write_checkpoint(&self, number: u64, checkpoint: &Checkpoint) -> Result<(), FleetError> {
        let bytes = proto::Checkpoint::from(checkpoint).encode_to_vec();
        Ok(self.storage.write(&name(number, self.epoch, CHECKPOINT), bytes).await?)
    }

    /// Where a job was under the last leader that has written it.
    pub(crate) async fn checkpoint(&self, number: u64) -> Result<Option<Checkpoint>, FleetError> {
        for epoch in self.epochs(number).await?.into_iter().rev() {
            let name = name(number, epoch, CHECKPOINT);
            let Some(bytes) = self.storage.read(&name).await? else {
                continue;
            };
            let damaged = |reason: String| FleetError::Record { name: name.clone(), reason };
            let message = proto::Checkpoint::decode(bytes).map_err(|error| damaged(error.to_string()))?;
            return Checkpoint::try_from(message).map(Some).map_err(|error| damaged(error.to_string()));
        }
        Ok(None)
    }

    /// Removes the checkpoints of a job that has ended.
    pub(crate) async fn remove_checkpoints(&self, number: u64) {
        let remove = async {
            for epoch in self.epochs(number).await? {
                self.storage.remove_document(&name(number, epoch, CHECKPOINT)).await?;
            }
            Ok::<_, FleetError>(())
        };
        if let Err(error) = remove.await {
            warn!(number, %error, "a checkpoint that nobody needs is still in storage");
        }
    }

    /// Removes all that came of a job.
    pub(crate) async fn remove(&self, number: u64) -> Result<(), FleetError> {
        Ok(self.storage.remove_folder(&format!("jobs/{number}")).await?)
    }

    /// The leaders that have written something of a job, the first one first.
    async fn epochs(&self, number: u64) -> Result<Vec<u64>, FleetError> {
        let folders = self.storage.folders(&format!("jobs/{number}")).await?;
        let mut epochs: Vec<u64> = folders.iter().filter_map(|folder| folder.parse().ok()).collect();
        epochs.sort_unstable();
        Ok(epochs)
    }

    async fn read(&self, name: &str) -> Result<Vec<u8>, FleetError> {
        let missing = || FleetError::Record { name: name.to_owned(), reason: "it is missing".to_owned() };
        Ok(self.storage.read(name).await?.ok_or_else(missing)?.to_vec())
    }
}

fn name(number: u64, epoch: u64, file: &str) -> String {
    format!("jobs/{number}/{epoch}/{file}")
}
