//! The rows of a data set on the fleet, asked as one.

use crate::data_sets::DataSet;
use crate::error::FleetError;
use crate::members::Member;
use crate::placement::Holder;
use crate::remote_shard::FleetShard;
use futures::future::BoxFuture;
use shoal_clustering::prepare::Reading;
use shoal_clustering::{ClusteringError, Description, Profile, Rows, Shard};
use shoal_domain::{BlockId, Centroids, FeatureNames, Merge, Preparation};
use shoal_stats::{DigitCounts, DigitQuery};
use shoal_wire::convert::WireError;
use shoal_wire::limits::{MAX_CENTROID_VALUES, QUESTION_TIMEOUT};
use shoal_wire::proto::shards_client::ShardsClient;
use shoal_wire::proto::{CountDigitsRequest, DescribeRequest, PrepareRequest, ProfileRequest, ProfileResponse};
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::time::{sleep, timeout};
use tonic::transport::Channel;
use tonic::{Code, Response, Status};

/// How often a question is asked again when the connection breaks, and how long to wait before. Questions change nothing
/// that matters, so asking twice is harmless.
const MAX_ATTEMPTS: u32 = 4;
const RETRY_PAUSE: Duration = Duration::from_millis(250);

/// A call to one worker.
pub(crate) type Call<'a, A> = BoxFuture<'a, Result<Response<A>, Status>>;

/// Workers that hold the rows of one data set.
#[derive(Clone)]
pub(crate) struct Holders {
    pub(crate) holders: Vec<Holder>,
    /// Questions come from the algorithm's own thread, which waits; the calls run here.
    runtime: Handle,
}

impl Holders {
    /// Asks every worker the same and returns the answers in worker order. Waits for all of them even when one fails, so
    /// that nobody is still at work on a question when the next one comes.
    pub(crate) fn ask_all<A>(
        &self,
        call: impl Fn(ShardsClient<Channel>, &Holder) -> Call<'static, A>,
    ) -> Result<Vec<A>, ClusteringError> {
        let calls = self.holders.iter().map(|holder| ask(holder, || call(holder.member.shards(), holder)));
        let answers = self.runtime.block_on(futures::future::join_all(calls));
        answers.into_iter().collect::<Result<_, _>>().map_err(ClusteringError::rows)
    }

    /// Asks one worker.
    pub(crate) fn ask_one<A>(
        &self,
        holder: &Holder,
        call: impl Fn(ShardsClient<Channel>) -> Call<'static, A>,
    ) -> Result<A, ClusteringError> {
        self.runtime.block_on(ask(holder, || call(holder.member.shards()))).map_err(ClusteringError::rows)
    }

    /// Puts the answers of [`Holders::ask_all`] together; each must have the shape of the question.
    pub(crate) fn merge<A, T>(&self, answers: Vec<A>, fits: impl Fn(&T) -> bool) -> Result<T, ClusteringError>
    where
        T: Merge + TryFrom<A, Error = WireError>,
    {
        let mut merged: Option<T> = None;
        for (answer, holder) in answers.into_iter().zip(&self.holders) {
            let answer = T::try_from(answer).map_err(|error| impossible(&holder.member, error))?;
            if !fits(&answer) {
                return Err(impossible(&holder.member, "it has another shape than the question"));
            }
            match &mut merged {
                None => merged = Some(answer),
                Some(merged) => merged.merge(answer),
            }
        }
        merged.ok_or_else(|| ClusteringError::rows(FleetError::NoWorkers))
    }
}

/// What a worker says is not possible.
pub(crate) fn impossible(member: &Member, reason: impl ToString) -> ClusteringError {
    ClusteringError::rows(FleetError::Answer { worker: member.id.clone(), reason: reason.to_string() })
}

/// Whether the connection broke, before or within a call: gRPC reports that under any of these.
pub(crate) fn is_connection_error(status: &Status) -> bool {
    matches!(status.code(), Code::Unavailable | Code::Unknown | Code::Cancelled)
}

/// Asks until there is an answer, the worker is gone, or it has been asked often enough.
async fn ask<'a, A>(holder: &Holder, call: impl Fn() -> Call<'a, A>) -> Result<A, FleetError> {
    let member = &holder.member;
    let gone = || FleetError::WorkerGone {
        worker: member.id.clone(),
        address: member.worker.address.clone(),
        n_blocks: holder.blocks.len(),
    };
    let mut attempt = 1;
    loop {
        let answered = tokio::select! {
            answered = timeout(QUESTION_TIMEOUT, call()) => answered,
            () = member.until_gone() => return Err(gone()),
        };
        let too_slow = |_| Err(Status::deadline_exceeded(format!("no answer in {} s", QUESTION_TIMEOUT.as_secs())));
        let status = match answered.unwrap_or_else(too_slow) {
            Ok(response) => return Ok(response.into_inner()),
            Err(status) => status,
        };
        let is_broken = is_connection_error(&status);
        if !is_broken || attempt == MAX_ATTEMPTS {
            // A worker that has forgotten the rows was started anew or has joined another coordinator.
            let lost = status.code() == Code::NotFound || (is_broken && attempt == MAX_ATTEMPTS);
            if is_broken {
                member.give_up("it does not answer");
            }
            let (worker, address) = (member.id.clone(), member.worker.address.clone());
            return Err(if lost { gone() } else { FleetError::Worker { worker, address, status } });
        }
        attempt += 1;
        sleep(RETRY_PAUSE).await;
    }
}

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
        Self { data_set, workers: Holders { holders, runtime }, run }
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

impl Holders {
    /// The worker that holds a block.
    pub(crate) fn holder_of(&self, block: BlockId) -> Result<&Holder, ClusteringError> {
        let holder = self.holders.iter().find(|holder| holder.blocks.binary_search(&block).is_ok());
        holder.ok_or(ClusteringError::NoSuchBlock { block: block.0 })
    }

    /// Lets go of prepared rows, without waiting for it.
    pub(crate) fn release_run(&self, run: &str) {
        let members = self.holders.iter().map(|holder| holder.member.clone()).collect();
        let run = run.to_owned();
        self.runtime.spawn(async move { crate::placement::release(members, &run, "").await });
    }
}
