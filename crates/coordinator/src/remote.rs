//! The rows of a data set on the fleet, asked as one.

use crate::data_sets::DataSet;
use crate::error::FleetError;
use crate::holders::{Holders, impossible};
use crate::remote_shard::FleetShard;
use shoal_clustering::prepare::Reading;
use shoal_clustering::{ClusteringError, Description, Profile, Rows, Shard};
use shoal_domain::{BlockId, Centroids, FeatureNames, Preparation};
use shoal_stats::{DigitCounts, DigitQuery};
use shoal_wire::limits::MAX_CENTROID_VALUES;
use shoal_wire::proto::{CountDigitsRequest, DescribeRequest, PrepareRequest, ProfileRequest, ProfileResponse};
use std::sync::Arc;
use tokio::runtime::Handle;
use tonic::Response;

/// A data set as the algorithms ask it. Must not be used on a thread of the async runtime: it waits.
pub(crate) struct FleetRows {
    data_set: Arc<DataSet>,
    workers: Holders,
    /// Names the prepared rows of this job on the workers.
    run: String,
}

impl FleetRows {
    pub(crate) fn new(data_set: Arc<DataSet>, run: String, runtime: Handle) -> Self {
        // A worker without blocks has nothing to answer.
        let holders = data_set.holders.iter().filter(|holder| !holder.blocks.is_empty()).cloned().collect();
        Self { data_set, workers: Holders::new(holders, runtime), run }
    }

    /// Devices that hold rows, in worker order.
    pub(crate) fn devices(&self) -> Vec<String> {
        self.workers.holders.iter().map(|holder| holder.member.worker.device.clone()).collect()
    }

    fn name(&self) -> String {
        self.data_set.name.clone()
    }
}

impl Rows for FleetRows {
    fn features(&self) -> &FeatureNames {
        &self.data_set.schema.features
    }

    fn profile(&self, reading: &Reading) -> Result<Profile, ClusteringError> {
        if self.workers.holders.is_empty() {
            return Err(ClusteringError::NoRows);
        }
        let request = ProfileRequest { data_set: self.name(), reading: Some(reading.into()) };
        let answers = self.workers.ask_all(|mut worker, _| {
            let request = request.clone();
            Box::pin(async move {
                let mut pages = worker.profile(request).await?.into_inner();
                let mut whole = ProfileResponse::default();
                while let Some(page) = pages.message().await? {
                    whole.blocks.extend(page.blocks);
                }
                Ok(Response::new(whole))
            })
        })?;
        let n_features = self.data_set.schema.features.n_features();
        let profile: Profile = self.workers.merge(answers, |profile: &Profile| {
            profile.blocks.values().all(|block| block.columns.len() == n_features)
        })?;
        // Every block once: what a worker left out or made up would change the model in silence.
        let mut held: Vec<BlockId> = self.workers.holders.iter().flat_map(|holder| holder.blocks.clone()).collect();
        held.sort();
        if !profile.blocks.keys().copied().eq(held) {
            return Err(impossible(&self.workers.holders[0].member, "the fleet profiled other blocks than it holds"));
        }
        Ok(profile)
    }

    fn count_digits(&self, reading: &Reading, queries: &[DigitQuery]) -> Result<DigitCounts, ClusteringError> {
        let queries = queries.iter().map(Into::into).collect();
        let request = CountDigitsRequest { data_set: self.name(), reading: Some(reading.into()), queries };
        let answers = self.workers.ask_all(|mut worker, _| {
            let request = request.clone();
            Box::pin(async move { worker.count_digits(request).await })
        })?;
        self.workers.merge(answers, |counts: &DigitCounts| counts.0.len() == request.queries.len())
    }

    fn prepare(&self, preparation: &Preparation) -> Result<Box<dyn Shard + '_>, ClusteringError> {
        // Made first: whatever happens from here on, its end tells the workers to let go.
        let shard = FleetShard::new(self.workers.clone(), self.run.clone(), preparation.n_features());
        let (run, data_set) = (self.run.clone(), self.name());
        let request = PrepareRequest { run, data_set, preparation: Some(preparation.into()) };
        let answers = self.workers.ask_all(|mut worker, _| {
            let request = request.clone();
            Box::pin(async move { worker.prepare(request).await })
        })?;
        for (answer, holder) in answers.into_iter().zip(&self.workers.holders) {
            if !answer.blocks.iter().copied().eq(holder.blocks.iter().map(|block| block.0)) {
                return Err(impossible(&holder.member, "it prepared other blocks than it was given"));
            }
        }
        Ok(Box::new(shard))
    }

    fn describe(&self, preparation: &Preparation, centroids: &Centroids) -> Result<Description, ClusteringError> {
        let n_sums = centroids.values().len();
        let (preparation, centroids) = (Some(preparation.into()), Some(centroids.into()));
        let request = DescribeRequest { data_set: self.name(), preparation, centroids };
        let answers = self.workers.ask_all(|mut worker, _| {
            let request = request.clone();
            Box::pin(async move { worker.describe(request).await })
        })?;
        self.workers.merge(answers, |description: &Description| description.counts.len() == n_sums)
    }
}

/// Refuses a job whose centroids would not fit into a message.
pub(crate) fn check_size(n_clusters: usize, n_features: usize) -> Result<(), FleetError> {
    let n_values = n_clusters.saturating_mul(n_features);
    let fits = n_values <= MAX_CENTROID_VALUES;
    fits.then_some(()).ok_or(FleetError::TooManyValues { n_values, max: MAX_CENTROID_VALUES })
}
