//! The rows of a data set on the fleet, asked as one.

use crate::data_sets::DataSet;
use crate::error::FleetError;
use crate::holders::{Holders, merge};
use crate::remote_shard::FleetShard;
use crate::run::Run;
use shoal_clustering::prepare::Reading;
use shoal_clustering::{ClusteringError, Description, Profile, Rows, Shard};
use shoal_domain::{Centroids, FeatureNames, Preparation};
use shoal_stats::{DigitCounts, DigitQuery};
use shoal_wire::limits::MAX_CENTROID_VALUES;
use shoal_wire::proto::{CountDigitsRequest, DescribeRequest, ProfileRequest, ProfileResponse};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use tokio::runtime::Handle;
use tonic::Response;

/// A data set as the algorithms ask it. Must not be used on a thread of the async runtime: it waits.
pub(crate) struct FleetRows {
    workers: Holders,
    /// Names the prepared rows of this job on the workers.
    run: String,
}

impl FleetRows {
    pub(crate) fn new(data_set: Arc<DataSet>, run: String, runtime: Handle, cancelled: Arc<AtomicBool>) -> Self {
        Self { workers: Holders::new(data_set, runtime, cancelled), run }
    }

    /// Devices that hold rows now.
    pub(crate) fn devices(&self) -> Vec<String> {
        let holders = self.workers.data_set().placed.holders();
        let devices: BTreeMap<String, String> =
            holders.iter().map(|holder| (holder.member.id.clone(), holder.member.worker.device.clone())).collect();
        devices.into_values().collect()
    }

    fn n_features(&self) -> usize {
        self.workers.data_set().schema.features.n_features()
    }
}

impl Rows for FleetRows {
    fn features(&self) -> &FeatureNames {
        &self.workers.data_set().schema.features
    }

    fn n_repeated_ids(&self) -> Option<u64> {
        self.workers.data_set().placed.manifest().n_repeated_ids
    }

    fn profile(&self, reading: &Reading) -> Result<Profile, ClusteringError> {
        let request = ProfileRequest { reading: Some(reading.into()), ..Default::default() };
        let answers = self.workers.ask_all(|mut worker, holder| {
            let request = ProfileRequest { data_set: holder.held_as.clone(), ..request.clone() };
            Box::pin(async move {
                let mut pages = worker.profile(request).await?.into_inner();
                let mut whole = ProfileResponse::default();
                while let Some(page) = pages.message().await? {
                    whole.blocks.extend(page.blocks);
                }
                Ok(Response::new(whole))
            })
        })?;
        let n_features = self.n_features();
        let profile: Profile =
            merge(answers, |profile: &Profile| profile.blocks.values().all(|block| block.columns.len() == n_features))?;
        // Every block once: what a worker left out or made up would change the model in silence.
        if !profile.blocks.keys().copied().eq(self.workers.data_set().placed.manifest().blocks()) {
            let data_set = self.workers.data_set().name.clone();
            return Err(ClusteringError::rows(FleetError::OtherBlocks { data_set }));
        }
        Ok(profile)
    }

    fn count_digits(&self, reading: &Reading, queries: &[DigitQuery]) -> Result<DigitCounts, ClusteringError> {
        let n_queries = queries.len();
        let queries = queries.iter().map(Into::into).collect();
        let request = CountDigitsRequest { reading: Some(reading.into()), queries, ..Default::default() };
        let answers = self.workers.ask_all(|mut worker, holder| {
            let request = CountDigitsRequest { data_set: holder.held_as.clone(), ..request.clone() };
            Box::pin(async move { worker.count_digits(request).await })
        })?;
        merge(answers, |counts: &DigitCounts| counts.0.len() == n_queries)
    }

    fn prepare(&self, preparation: &Preparation) -> Result<Box<dyn Shard + '_>, ClusteringError> {
        let shard = FleetShard::new(self.workers.clone(), Run::prepared(self.run.clone(), preparation));
        shard.make_ready()?;
        Ok(Box::new(shard))
    }

    fn describe(&self, preparation: &Preparation, centroids: &Centroids) -> Result<Description, ClusteringError> {
        let n_sums = centroids.values().len();
        let (preparation, centroids) = (Some(preparation.into()), Some(centroids.into()));
        let request = DescribeRequest { preparation, centroids, ..Default::default() };
        let answers = self.workers.ask_all(|mut worker, holder| {
            let request = DescribeRequest { data_set: holder.held_as.clone(), ..request.clone() };
            Box::pin(async move { worker.describe(request).await })
        })?;
        merge(answers, |description: &Description| description.counts.len() == n_sums)
    }
}

/// Refuses a job whose centroids would not fit into a message.
pub(crate) fn check_size(n_clusters: usize, n_features: usize) -> Result<(), FleetError> {
    let n_values = n_clusters.saturating_mul(n_features);
    let fits = n_values <= MAX_CENTROID_VALUES;
    fits.then_some(()).ok_or(FleetError::TooManyValues { n_values, max: MAX_CENTROID_VALUES })
}
