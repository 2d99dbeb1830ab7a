//! Runs jobs, a few at a time, each on a thread of its own.

use crate::config::Config;
use crate::data_sets::{DataSet, DataSets};
use crate::error::FleetError;
use crate::job::Outcome;
use crate::placement::{Placement, Spreader};
use crate::queue::Queue;
use crate::records::{End, Records};
use crate::remote::{FleetRows, check_size};
use crate::results::Results;
use crate::room::Room;
use futures::{FutureExt, StreamExt};
use shoal_behavior::FeatureSource;
use shoal_clustering::kmeans::Checkpoint;
use shoal_clustering::{ClusteringError, Event, Observer, segment_from};
use shoal_domain::Report;
use shoal_domain::job::SourceSpec;
use shoal_domain::report::{PhaseTimes, RanOn, Timing};
use shoal_storage::RowCounts;
use shoal_wire::blocks::DataSetSchema;
use shoal_wire::documents::to_bytes;
use shoal_wire::proto::JobState;
use std::ops::ControlFlow;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep, timeout};
use tracing::{info, warn};

/// A job is at rest so often while it passes over its rows; passes that take longer are each followed by a checkpoint.
const CHECKPOINT_INTERVAL: Duration = Duration::from_millis(500);
/// And no more often than that writing takes a twentieth of the time.
const CHECKPOINT_SHARE: u32 = 20;
/// How long a result that storage does not take is tried again, and how often.
const STORAGE_AWAITED: Duration = Duration::from_secs(600);
const RESULT_RETRIED_AFTER: Duration = Duration::from_secs(2);
/// After so long a checkpoint is given up.
const CHECKPOINT_TIMEOUT: Duration = Duration::from_secs(10);

#[derive(Clone)]
pub(crate) struct Runner {
    config: Config,
    data_sets: Arc<DataSets>,
    queue: Arc<Queue>,
    records: Arc<Records>,
    results: Arc<Results>,
    room: Arc<Room>,
    /// Under which leader all this is: the same job of the next one is another run.
    epoch: u64,
}

impl Runner {
    pub(crate) fn new(
        config: Config,
        data_sets: Arc<DataSets>,
        queue: Arc<Queue>,
        records: Arc<Records>,
        results: Arc<Results>,
        epoch: u64,
    ) -> Self {
        Self { config, data_sets, queue, records, results, room: Arc::default(), epoch }
    }

    /// Starts jobs as they come, for ever.
    pub(crate) async fn run(self) {
        let permits = Arc::new(Semaphore::new(self.config.running_jobs));
        let mut turns = self.queue.turns();
        loop {
            let permit = permits.clone().acquire_owned().await.expect("the semaphore is never closed");
            let number = loop {
                turns.mark_unchanged();
                if let Some(number) = self.queue.start_next() {
                    break number;
                }
                if turns.changed().await.is_err() {
                    return;
                }
            };
            let runner = self.clone();
            tokio::spawn(async move {
                runner.run_job(number).await;
                drop(permit);
            });
        }
    }

    async fn run_job(&self, number: u64) {
        let name = format!("jobs/{number}");
        info!(job = name, "started");
        // A panic, in a decoder for instance, is the job's failure and nobody else's.
        let worked = AssertUnwindSafe(self.work_in_room(&name)).catch_unwind().await;
        let source = self.queue.look(&name, |job| job.submission.spec.source.path.clone()).unwrap_or_default();
        let (state, error) = match worked.unwrap_or(Err(JobError::Panicked)) {
            Ok((outcome, silhouettes)) => match self.write_outcome(number, &outcome, silhouettes.as_deref()).await {
                Ok(()) => {
                    self.queue.update(number, |job| job.outcome = Some(self.epoch));
                    (JobState::Succeeded, String::new())
                }
                // The next leader finds it again.
                Err(_) if self.queue.is_stopping() => return,
                Err(error) => (JobState::Failed, format!("its result was not written: {error}")),
            },
            // It goes on under the next leader.
            Err(_) if self.queue.is_stopping() => return,
            Err(JobError::Stopped) => return,
            Err(JobError::Clustering(ClusteringError::Cancelled)) => (JobState::Cancelled, String::new()),
            Err(JobError::Clustering(error)) => (JobState::Failed, error.about(&source)),
            Err(error) => (JobState::Failed, error.to_string()),
        };
        let end = End { state, error: error.clone(), at: self.queue.now() };
        if let Err(error) = self.records.end(number, end).await {
            info!(job = name, %error, "goes on under another leader");
            return;
        }
        match error.as_str() {
            "" => info!(job = name, state = state.as_str_name(), "ended"),
            error => warn!(job = name, error, "failed"),
        }
        self.results.remove_checkpoints(number).await;
    }

    /// Writes what came out of a job; storage that takes nothing for some minutes must not cost the work of hours.
    async fn write_outcome(
        &self,
        number: u64,
        outcome: &Outcome,
        silhouettes: Option<&[f64]>,
    ) -> Result<(), FleetError> {
        let began = Instant::now();
        loop {
            match self.results.write_outcome(number, outcome, silhouettes).await {
                Err(error) if began.elapsed() < STORAGE_AWAITED && !self.queue.is_stopping() => {
                    warn!(job = number, %error, "the result of a job cannot be written, trying again");
                    sleep(RESULT_RETRIED_AFTER).await;
                }
                written => return written,
            }
        }
    }

    /// Works, and does so again as long as other jobs are what leaves no room for it.
    async fn work_in_room(&self, name: &str) -> Result<(Outcome, Option<Vec<f64>>), JobError> {
        let mut tenant = self.room.enter();
        let is_wanted = || self.queue.look(name, |job| !job.cancelled.load(Ordering::Relaxed)).unwrap_or(false);
        for attempt in 0u64.. {
            match self.work(name, attempt).await {
                Err(error) if error.is_for_want_of_room() && !tenant.was_alone() => {
                    info!(job = name, %error, "there is no room beside other jobs, waiting for some");
                    tenant = tenant.wait(is_wanted).await;
                }
                worked => return worked,
            }
        }
        unreachable!("there are numbers enough")
    }

    /// What comes out of a job, and the silhouettes of all rows where it wants them and they are defined. The rows of each
    /// attempt have names of their own: those of the last one may still be about to go.
    async fn work(&self, name: &str, attempt: u64) -> Result<(Outcome, Option<Vec<f64>>), JobError> {
        let looked = self.queue.look(name, |job| (job.submission.clone(), job.cancelled.clone(), job.number));
        let (submission, cancelled, number) = looked.map_err(|_| ClusteringError::Cancelled)?;
        let put_in = submission.data_set.as_ref().map(|data_set| data_set.placed_in);
        let mut observer = JobObserver::new(self, number, cancelled.clone(), put_in);
        let identity = |data_set: &DataSet| {
            let (spec, request) = (serde_json::to_string(&submission.spec)?, &submission.request_id);
            Ok::<_, serde_json::Error>(format!("{number} {request} {} {spec}", data_set.name))
        };
        let data_set = match &submission.data_set {
            Some(data_set) => data_set.clone(),
            None => {
                observer.phase("read");
                let data_set = self.read(&submission.spec.source, &cancelled).await?;
                // From here on the source may change: a successor takes the rows that were read.
                self.queue.update(number, |job| job.set_data_set(data_set.clone()));
                self.records.keep(number).await?;
                data_set
            }
        };
        // Its own rows are not to go.
        let _user = data_set.placed.used();
        match attempt {
            0 => self.data_sets.make_room().await,
            _ => self.data_sets.make_all_room().await,
        }
        check_size(submission.spec.kmeans.n_clusters, data_set.schema.features.n_features())?;
        observer.identity = identity(&data_set)?;
        let run = format!("{name}@{}.{attempt}", self.epoch);
        let rows = FleetRows::new(data_set.clone(), run, Handle::current(), cancelled);
        let (spec, warm_start) = (submission.spec, submission.warm_start);
        let checkpoint = self.results.checkpoint(number, &observer.identity).await?;
        if let Some(checkpoint) = &checkpoint {
            let n_passes = checkpoint.starts.iter().map(|start| start.n_iter).max();
            info!(job = name, n_passes, "goes on from a checkpoint");
        }
        let work = move || {
            let segmentation = segment_from(&rows, &spec, warm_start.as_ref(), checkpoint.as_ref(), &mut observer)?;
            Ok::<_, ClusteringError>((segmentation, rows.devices(), observer.timings()))
        };
        let (segmentation, devices, timings) =
            tokio::task::spawn_blocking(work).await.map_err(|error| match error.is_cancelled() {
                true => JobError::Stopped,
                false => JobError::Panicked,
            })??;
        let version = env!("CARGO_PKG_VERSION").to_owned();
        let report = Report::new(&segmentation.model, RanOn { mode: "fleet".to_owned(), devices, version }, timings);
        let outcome = Outcome {
            model_json: to_bytes(&segmentation.model)?,
            report_json: to_bytes(&report)?,
            wants_row_silhouettes: segmentation.model.validate.row_silhouettes,
            preparation: segmentation.model.preparation,
            centroids: segmentation.centroids,
            data_set_name: data_set.name.clone(),
        };
        Ok((outcome, segmentation.row_silhouettes))
    }

    /// Reads a source that the job names and spreads it over the workers.
    async fn read(&self, spec: &SourceSpec, cancelled: &AtomicBool) -> Result<Arc<DataSet>, JobError> {
        let source = FeatureSource::open(spec, &self.config.read_options).await.map_err(FleetError::from)?;
        let schema = DataSetSchema::new(source.schema().into(), source.has_weight()).map_err(FleetError::from)?;
        let mut placement = self.data_sets.start(schema.clone()).await?;
        match place(&source, &mut placement, cancelled).await {
            Ok(counts) => Ok(self.data_sets.commit(placement, schema, counts).await?),
            Err(error) => {
                placement.break_off().await;
                Err(error)
            }
        }
    }
}

async fn place(
    source: &FeatureSource,
    placement: &mut Placement,
    cancelled: &AtomicBool,
) -> Result<RowCounts, JobError> {
    let mut spreader = Spreader::new(placement)?;
    let mut batches = source.batches().await.map_err(FleetError::from)?;
    while let Some(batch) = batches.next().await {
        if cancelled.load(Ordering::Relaxed) {
            return Err(ClusteringError::Cancelled.into());
        }
        spreader.push(batch.map_err(|error| FleetError::from(source.read_error(error)))?).await?;
    }
    Ok(spreader.finish().await?)
}

/// Why a job has failed.
#[derive(Debug, thiserror::Error)]
enum JobError {
    #[error(transparent)]
    Fleet(#[from] FleetError),
    #[error(transparent)]
    Clustering(#[from] ClusteringError),
    #[error("this process ends before the job has begun to compute")]
    Stopped,
    #[error("the job panicked; the coordinator's log says where")]
    Panicked,
    #[error("the result is not JSON: {0}")]
    Document(#[from] serde_json::Error),
}

impl JobError {
    /// Whether some worker has no room for the job's rows.
    fn is_for_want_of_room(&self) -> bool {
        match self {
            Self::Fleet(error) => error.is_full(),
            Self::Clustering(ClusteringError::Rows(error)) => {
                error.downcast_ref::<FleetError>().is_some_and(FleetError::is_full)
            }
            _ => false,
        }
    }
}

/// Writes a job's steps into its record, takes the time of each phase, and passes a cancellation on.
struct JobObserver {
    queue: Arc<Queue>,
    results: Arc<Results>,
    /// Checkpoints are written from the algorithm's own thread, which waits.
    runtime: Handle,
    number: u64,
    cancelled: Arc<AtomicBool>,
    started: Instant,
    /// Tells the job from any other one, in its checkpoints.
    identity: String,
    /// When the last checkpoint was written, and how long that took.
    written: Instant,
    writing: Duration,
    /// What was spent before the job started: its rows were put.
    before: Duration,
    times: PhaseTimes,
}

impl JobObserver {
    fn new(runner: &Runner, number: u64, cancelled: Arc<AtomicBool>, put_in: Option<Duration>) -> Self {
        let mut times = PhaseTimes::default();
        if put_in.is_some() {
            times.begin("put", Duration::ZERO);
        }
        let started = Instant::now();
        Self {
            queue: runner.queue.clone(),
            results: runner.results.clone(),
            runtime: Handle::current(),
            number,
            cancelled,
            started,
            identity: String::new(),
            written: started,
            writing: Duration::ZERO,
            before: put_in.unwrap_or_default(),
            times,
        }
    }

    fn phase(&mut self, name: &str) {
        self.times.begin(name, self.before + self.started.elapsed());
        self.queue.update(self.number, |job| job.enter_phase(name));
    }

    /// Seconds of each phase, `total` last.
    fn timings(&self) -> Vec<Timing> {
        self.times.timings(self.before + self.started.elapsed())
    }
}

impl Observer for JobObserver {
    fn event(&mut self, event: Event) -> ControlFlow<()> {
        match event {
            Event::Phase(phase) => self.phase(phase.name()),
            Event::Seeding => {}
            Event::Pass(record) => self.queue.update(self.number, |job| job.pass(record)),
            Event::Silhouette { n_done, n_rows } => {
                self.queue.update(self.number, |job| job.silhouette(n_done, n_rows));
            }
        }
        if self.cancelled.load(Ordering::Relaxed) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    fn reached(&mut self, checkpoint: &dyn Fn() -> Checkpoint) {
        if self.written.elapsed() < CHECKPOINT_INTERVAL.max(self.writing * CHECKPOINT_SHARE) {
            return;
        }
        let (began, checkpoint) = (Instant::now(), checkpoint());
        let write = self.results.write_checkpoint(self.number, &self.identity, &checkpoint);
        // The job can do without; a successor would begin further back.
        match self.runtime.block_on(async { timeout(CHECKPOINT_TIMEOUT, write).await }) {
            Ok(Ok(())) => {}
            Ok(Err(error)) => warn!(job = self.number, %error, "no checkpoint was written"),
            Err(_) => warn!(job = self.number, "no checkpoint was written: storage does not answer"),
        }
        self.written = Instant::now();
        self.writing = began.elapsed();
    }
}
