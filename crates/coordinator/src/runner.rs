//! Runs jobs, a few at a time, each on a thread of its own.

use crate::config::Config;
use crate::data_sets::{DataSet, DataSets};
use crate::error::FleetError;
use crate::job::Outcome;
use crate::members::Members;
use crate::placement::Placement;
use crate::queue::Queue;
use crate::remote::FleetRows;
use futures::StreamExt;
use shoal_behavior::FeatureSource;
use shoal_clustering::{ClusteringError, Event, Observer, segment};
use shoal_domain::Report;
use shoal_domain::job::SourceSpec;
use shoal_domain::report::{RanOn, Timing};
use shoal_wire::blocks::{BlockCutter, DataSetSchema};
use shoal_wire::documents::to_bytes;
use shoal_wire::proto::JobState;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tracing::{info, warn};

/// Jobs that run at the same time. Each holds a prepared copy of its rows on the workers.
const MAX_RUNNING_JOBS: usize = 2;

#[derive(Clone)]
pub(crate) struct Runner {
    config: Config,
    members: Arc<Members>,
    data_sets: Arc<DataSets>,
    queue: Arc<Queue>,
}

impl Runner {
    pub(crate) fn new(config: Config, members: Arc<Members>, data_sets: Arc<DataSets>, queue: Arc<Queue>) -> Self {
        Self { config, members, data_sets, queue }
    }

    /// Starts jobs as they come, for ever.
    pub(crate) async fn run(self) {
        let permits = Arc::new(Semaphore::new(MAX_RUNNING_JOBS));
        let mut changes = self.queue.changes();
        loop {
            let permit = permits.clone().acquire_owned().await.expect("the semaphore is never closed");
            let number = loop {
                changes.mark_unchanged();
                if let Some(number) = self.queue.start_next() {
                    break number;
                }
                if changes.changed().await.is_err() {
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
        let (state, error) = match self.work(&name).await {
            Ok(outcome) => {
                self.queue.update(number, |job| job.outcome = Some(Arc::new(outcome)));
                (JobState::Succeeded, String::new())
            }
            Err(JobError::Clustering(ClusteringError::Cancelled)) => (JobState::Cancelled, String::new()),
            Err(error) => (JobState::Failed, error.to_string()),
        };
        match error.as_str() {
            "" => info!(job = name, state = state.as_str_name(), "ended"),
            error => warn!(job = name, error, "failed"),
        }
        self.queue.end(number, state, error);
    }

    async fn work(&self, name: &str) -> Result<Outcome, JobError> {
        let looked = self.queue.look(name, |job| (job.submission.clone(), job.cancelled.clone(), job.number));
        let (submission, cancelled, number) = looked.map_err(|_| ClusteringError::Cancelled)?;
        let mut observer = JobObserver::new(self.queue.clone(), number, cancelled);
        let data_set = match submission.data_set {
            Some(data_set) => data_set,
            None => {
                observer.phase("read");
                self.read(&submission.spec.source).await?
            }
        };
        let rows = FleetRows::new(data_set.clone(), name.to_owned(), Handle::current());
        let (spec, warm_start) = (submission.spec, submission.warm_start);
        let work = move || {
            let segmentation = segment(&rows, &spec, warm_start.as_ref(), &mut observer)?;
            Ok::<_, ClusteringError>((segmentation, rows.devices(), observer.timings()))
        };
        let (segmentation, devices, timings) =
            tokio::task::spawn_blocking(work).await.map_err(JobError::Panicked)??;
        let version = env!("CARGO_PKG_VERSION").to_owned();
        let report = Report::new(&segmentation.model, RanOn { mode: "fleet".to_owned(), devices, version }, timings);
        Ok(Outcome {
            model_json: to_bytes(&segmentation.model)?,
            report_json: to_bytes(&report)?,
            preparation: segmentation.model.preparation,
            centroids: segmentation.centroids,
            data_set_name: data_set.name.clone(),
        })
    }

    /// Reads a source that the job names and spreads it over the workers.
    async fn read(&self, spec: &SourceSpec) -> Result<Arc<DataSet>, FleetError> {
        let source = FeatureSource::open(spec, &self.config.store_options).await?;
        let schema = DataSetSchema::new(source.schema().into(), source.has_weight())?;
        let mut placement = Placement::start(&self.data_sets.new_name(), schema.clone(), self.members.alive())?;
        match place(&source, &schema, &mut placement).await {
            Ok(n_rows) => self.data_sets.commit(placement, schema, n_rows).await,
            Err(error) => {
                self.data_sets.abandon(placement).await;
                Err(error)
            }
        }
    }
}

async fn place(source: &FeatureSource, schema: &DataSetSchema, placement: &mut Placement) -> Result<u64, FleetError> {
    let mut cutter = BlockCutter::new(schema.clone())?;
    let mut batches = source.batches().await?;
    let mut n_rows = 0;
    while let Some(batch) = batches.next().await {
        let batch = batch.map_err(|error| source.read_error(error))?;
        n_rows += batch.num_rows() as u64;
        for block in cutter.push(batch)? {
            placement.send(&block).await?;
        }
    }
    if let Some(block) = cutter.finish()? {
        placement.send(&block).await?;
    }
    Ok(n_rows)
}

/// Why a job has failed.
#[derive(Debug, thiserror::Error)]
enum JobError {
    #[error(transparent)]
    Fleet(#[from] FleetError),
    #[error(transparent)]
    Clustering(#[from] ClusteringError),
    #[error("the job's thread panicked: {0}")]
    Panicked(tokio::task::JoinError),
    #[error("the result is not JSON: {0}")]
    Document(#[from] serde_json::Error),
}

/// Writes a job's steps into its record, takes the time of each phase, and passes a cancellation on.
struct JobObserver {
    queue: Arc<Queue>,
    number: u64,
    cancelled: Arc<AtomicBool>,
    phases: Vec<(String, Instant)>,
}

impl JobObserver {
    fn new(queue: Arc<Queue>, number: u64, cancelled: Arc<AtomicBool>) -> Self {
        Self { queue, number, cancelled, phases: Vec::new() }
    }

    fn phase(&mut self, name: &str) {
        self.phases.push((name.to_owned(), Instant::now()));
        self.queue.update(self.number, |job| job.enter_phase(name));
    }

    /// Seconds of each phase, `total` last.
    fn timings(&self) -> Vec<Timing> {
        let now = Instant::now();
        let ends = self.phases.iter().skip(1).map(|(_, began)| *began).chain([now]);
        let phases = self.phases.iter().zip(ends).map(|((phase, began), end)| Timing::new(phase, end - *began));
        let total = self.phases.first().map(|(_, began)| Timing::new("total", now - *began));
        phases.chain(total).collect()
    }
}

impl Observer for JobObserver {
    fn event(&mut self, event: Event) -> ControlFlow<()> {
        match event {
            Event::Phase(phase) => self.phase(phase.name()),
            Event::Pass(record) => self.queue.update(self.number, |job| job.pass(record)),
            Event::Silhouette { n_done, n_rows } => {
                self.queue.update(self.number, |job| job.silhouette(n_done, n_rows));
            }
        }
        if self.cancelled.load(Ordering::Relaxed) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }
}
