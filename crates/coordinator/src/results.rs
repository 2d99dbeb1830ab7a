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

    /// Writes what came out of a job, with the silhouettes of all rows where they are defined.
    pub(crate) async fn write_outcome(
        &self,
        number: u64,
        outcome: &Outcome,
        row_silhouettes: Option<&[f64]>,
    ) -> Result<(), FleetError> {
        let name = |file| name(number, self.epoch, file);
        if outcome.wants_row_silhouettes {
            // Those that are undefined are none, which is not the same as a file that was lost.
            let values = row_silhouettes.unwrap_or_default().iter().flat_map(|value| value.to_le_bytes()).collect();
            self.storage.write(&name(ROW_SILHOUETTES), sealed(&name(ROW_SILHOUETTES), values)).await?;
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
        Ok(Outcome {
            model_json,
            report_json,
            wants_row_silhouettes: model.validate.row_silhouettes,
            preparation: model.preparation,
            centroids,
            data_set_name: String::from_utf8_lossy(&data_set).into_owned(),
        })
    }

    /// The silhouettes of all rows; none where they are undefined.
    pub(crate) async fn row_silhouettes(&self, number: u64, epoch: u64) -> Result<Option<Vec<f64>>, FleetError> {
        let name = name(number, epoch, ROW_SILHOUETTES);
        let bytes = self.read(&name).await?;
        let values = opened(&name, &bytes).ok_or_else(|| damaged(&name, "it is not what was written"))?;
        let values: Vec<f64> = values.as_chunks::<8>().0.iter().map(|bytes| f64::from_le_bytes(*bytes)).collect();
        Ok(Some(values).filter(|values| !values.is_empty()))
    }

    /// Writes the model that a job is to start from.
    pub(crate) async fn write_warm_start(&self, number: u64, model: &Model) -> Result<(), FleetError> {
        Ok(self.storage.write(&format!("jobs/{number}/{WARM_START}"), to_bytes(model)?).await?)
    }

    pub(crate) async fn warm_start(&self, number: u64) -> Result<Model, FleetError> {
        let name = format!("jobs/{number}/{WARM_START}");
        parse_model(&self.read(&name).await?).map_err(|reason| FleetError::Record { name, reason })
    }

    /// Writes where a job is, so that the next leader need not begin at its beginning. `identity` tells the job from any other
    /// one that may have had its number.
    pub(crate) async fn write_checkpoint(
        &self,
        number: u64,
        identity: &str,
        checkpoint: &Checkpoint,
    ) -> Result<(), FleetError> {
        let bytes = proto::Checkpoint::from(checkpoint).encode_to_vec();
        Ok(self.storage.write(&name(number, self.epoch, CHECKPOINT), sealed(identity, bytes)).await?)
    }

    /// Where a job was under the last leader that has written it. A job can do without: what is damaged, or another job's, is
    /// passed over.
    pub(crate) async fn checkpoint(&self, number: u64, identity: &str) -> Result<Option<Checkpoint>, FleetError> {
        for epoch in self.epochs(number).await?.into_iter().rev() {
            let name = name(number, epoch, CHECKPOINT);
            let Some(bytes) = self.storage.read(&name).await? else {
                continue;
            };
            let message = opened(identity, &bytes).and_then(|bytes| proto::Checkpoint::decode(bytes).ok());
            match message.and_then(|message| Checkpoint::try_from(message).ok()) {
                Some(checkpoint) => return Ok(Some(checkpoint)),
                None => warn!(name, "the checkpoint is damaged or of another job, and passed over"),
            }
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

    /// The jobs of which there is something.
    pub(crate) async fn numbers(&self) -> Result<Vec<u64>, FleetError> {
        let folders = self.storage.folders("jobs").await?;
        Ok(folders.iter().filter_map(|folder| folder.parse().ok()).collect())
    }

    /// Removes all that came of a job.
    pub(crate) async fn remove(&self, number: u64) -> Result<(), FleetError> {
        self.storage.remove_folder(&format!("jobs/{number}")).await?;
        Ok(())
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

/// Bytes with a BLAKE3 before them that is of them and of what they belong to.
fn sealed(identity: &str, mut bytes: Vec<u8>) -> Vec<u8> {
    bytes.splice(0..0, seal(identity, &bytes));
    bytes
}

/// The bytes after their seal, if they are what was sealed.
fn opened<'a>(identity: &str, sealed: &'a [u8]) -> Option<&'a [u8]> {
    let (found, bytes) = sealed.split_at_checked(blake3::OUT_LEN)?;
    (found == seal(identity, bytes)).then_some(bytes)
}

fn seal(identity: &str, bytes: &[u8]) -> [u8; blake3::OUT_LEN] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&(identity.len() as u64).to_le_bytes()).update(identity.as_bytes()).update(bytes);
    hasher.finalize().into()
}

fn damaged(name: &str, reason: &str) -> FleetError {
    FleetError::Record { name: name.to_owned(), reason: reason.to_owned() }
}

fn name(number: u64, epoch: u64, file: &str) -> String {
    format!("jobs/{number}/{epoch}/{file}")
}
