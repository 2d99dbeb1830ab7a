//! The gRPC face of the jobs.

use crate::data_sets::{DataSet, DataSets};
use crate::error::FleetError;
use crate::job::Submission;
use crate::queue::{Queue, Submitted, number_of};
use crate::records::Records;
use crate::results::Results;
use futures::StreamExt;
use futures::stream::BoxStream;
use shoal_domain::job::SourceSpec;
use shoal_domain::{JobSpec, Model};
use shoal_wire::documents::parse_model;
use shoal_wire::proto::jobs_server::Jobs;
use shoal_wire::proto::{
    CancelJobRequest, DeleteJobRequest, DeleteJobResponse, GetJobRequest, GetJobResultRequest, Job, JobEvent,
    JobResult, JobState, ListJobsRequest, ListJobsResponse, SubmitJobRequest, WatchJobRequest,
};
use shoal_wire::status::ToStatus;
use std::ops::RangeInclusive;
use std::sync::Arc;
use tonic::{Request, Response, Status};
use tracing::warn;

/// Events that one look at a job hands to its stream.
const EVENTS_AT_A_TIME: usize = 256;
const MAX_PAGE_SIZE: i32 = 1_000;
/// Of what clients name their requests and themselves.
const MAX_NAME_BYTES: usize = 256;
const PRIORITIES: RangeInclusive<i32> = -100..=100;
const DEFAULT_PAGE_SIZE: i32 = 100;

pub(crate) struct JobsService {
    queue: Arc<Queue>,
    data_sets: Arc<DataSets>,
    records: Arc<Records>,
    results: Arc<Results>,
}

impl JobsService {
    pub(crate) fn new(
        queue: Arc<Queue>,
        data_sets: Arc<DataSets>,
        records: Arc<Records>,
        results: Arc<Results>,
    ) -> Self {
        Self { queue, data_sets, records, results }
    }

    /// Lets a job outlive this process.
    async fn keep(&self, number: u64, warm_start: Option<&Model>) -> Result<(), FleetError> {
        if let Some(model) = warm_start {
            self.results.write_warm_start(number, model).await?;
        }
        self.records.keep(number).await
    }

    fn submission(&self, request: SubmitJobRequest) -> Result<Submission, Status> {
        let spec = request.spec.ok_or_else(|| Status::invalid_argument("spec: is missing"))?;
        let spec = JobSpec::try_from(spec).map_err(|error| error.to_status())?;
        spec.check().map_err(|error| error.to_status())?;
        let data_set = match request.data_set.as_str() {
            "" => None,
            name => Some(self.data_sets.get(name).map_err(|error| error.to_status())?),
        };
        check_source(&spec.source, data_set.as_deref())?;
        let warm_start = match request.warm_start_json.as_slice() {
            [] => None,
            json => Some(
                parse_model(json).map_err(|reason| Status::invalid_argument(format!("warm_start_json: {reason}")))?,
            ),
        };
        let SubmitJobRequest { request_id, priority, client, .. } = request;
        for (field, text) in [("request_id", &request_id), ("client", &client)] {
            if text.len() > MAX_NAME_BYTES {
                return Err(Status::invalid_argument(format!("{field}: at most {MAX_NAME_BYTES} bytes")));
            }
        }
        if !PRIORITIES.contains(&priority) {
            return Err(Status::invalid_argument("priority: must be from -100 to 100"));
        }
        Ok(Submission { spec, data_set, warm_start, request_id, priority, client })
    }
}

#[tonic::async_trait]
impl Jobs for JobsService {
    type WatchJobStream = BoxStream<'static, Result<JobEvent, Status>>;

    async fn submit_job(&self, request: Request<SubmitJobRequest>) -> Result<Response<Job>, Status> {
        let submission = self.submission(request.into_inner())?;
        let warm_start = submission.warm_start.clone();
        let Submitted { number, is_new, forgotten } = self.queue.submit(submission)?;
        if let Some(number) = forgotten
            && let Err(error) = self.records.remove(number).await
        {
            warn!(number, %error, "the record of a forgotten job is still there");
        }
        // What the next leader would not know must neither run nor be promised.
        if let Err(error) = self.keep(number, warm_start.as_ref()).await {
            if is_new {
                self.queue.forget(number);
            }
            return Err(error.to_status());
        }
        Ok(Response::new(self.queue.look(&format!("jobs/{number}"), crate::job::Job::to_message)?))
    }

    async fn get_job(&self, request: Request<GetJobRequest>) -> Result<Response<Job>, Status> {
        let job = self.queue.look(&request.into_inner().name, crate::job::Job::to_message)?;
        Ok(Response::new(job))
    }

    async fn list_jobs(&self, request: Request<ListJobsRequest>) -> Result<Response<ListJobsResponse>, Status> {
        let request = request.into_inner();
        let page_size = match request.page_size {
            0 => DEFAULT_PAGE_SIZE,
            size if size > 0 => size.min(MAX_PAGE_SIZE),
            _ => return Err(Status::invalid_argument("page_size: must not be negative")),
        };
        let before = match request.page_token.as_str() {
            "" => u64::MAX,
            token => number_of(token).ok_or_else(|| Status::invalid_argument("page_token: is not one of ours"))?,
        };
        let (jobs, next) = self.queue.list(before, page_size as usize);
        let next_page_token = next.map(|number| number.to_string()).unwrap_or_default();
        Ok(Response::new(ListJobsResponse { jobs, next_page_token }))
    }

    async fn cancel_job(&self, request: Request<CancelJobRequest>) -> Result<Response<Job>, Status> {
        let name = request.into_inner().name;
        let number = self.queue.cancel(&name)?;
        self.records.keep(number).await.map_err(|error| error.to_status())?;
        self.queue.end_unwanted(number);
        Ok(Response::new(self.queue.look(&name, crate::job::Job::to_message)?))
    }

    async fn delete_job(&self, request: Request<DeleteJobRequest>) -> Result<Response<DeleteJobResponse>, Status> {
        let (number, data_set) = self.queue.delete(&request.into_inner().name)?;
        let (records, data_sets) = (self.records.clone(), self.data_sets.clone());
        // In a task of its own: a client that goes meanwhile must not leave a job that is half deleted.
        let deleted = tokio::spawn(async move {
            // One that cannot be removed from the store comes back with the next leader, and its client is told.
            records.remove(number).await?;
            if let Some(name) = data_set {
                data_sets.remove_unused(&name).await;
            }
            Ok::<_, FleetError>(())
        });
        let deleted = deleted.await.map_err(|_| Status::internal("deleting the job panicked"))?;
        deleted.map_err(|error| error.to_status())?;
        Ok(Response::new(DeleteJobResponse {}))
    }

    async fn watch_job(&self, request: Request<WatchJobRequest>) -> Result<Response<Self::WatchJobStream>, Status> {
        let WatchJobRequest { name, after } = request.into_inner();
        self.queue.look(&name, |_| ())?;
        let (queue, mut changes) = (self.queue.clone(), self.queue.changes());
        let (sender, receiver) = tokio::sync::mpsc::channel(EVENTS_AT_A_TIME);
        tokio::spawn(async move {
            let mut last = after;
            loop {
                changes.mark_unchanged();
                if queue.is_stopping() {
                    let status = Status::unavailable("the coordinator stops; the job goes on under the next one");
                    // A client that has gone need not be told.
                    return drop(sender.send(Err(status)).await);
                }
                let look = |job: &crate::job::Job| (job.events_after(last, EVENTS_AT_A_TIME), job.has_ended());
                let (events, has_ended) = match queue.look(&name, look) {
                    Ok(seen) => seen,
                    // The job has been forgotten while it was watched; a client that has gone need not be told.
                    Err(status) => return drop(sender.send(Err(status)).await),
                };
                let is_idle = events.is_empty();
                for event in events {
                    last = event.number;
                    if sender.send(Ok(event)).await.is_err() {
                        return;
                    }
                }
                // A job that has ended tells nothing more; one that goes on tells after the next change.
                if is_idle && (has_ended || changes.changed().await.is_err()) {
                    return;
                }
            }
        });
        Ok(Response::new(tokio_stream::wrappers::ReceiverStream::new(receiver).boxed()))
    }

    async fn get_job_result(&self, request: Request<GetJobResultRequest>) -> Result<Response<JobResult>, Status> {
        let name = request.into_inner().name;
        let look = |job: &crate::job::Job| (job.number, job.outcome, job.state, job.error.clone());
        let (number, outcome, state, error) = self.queue.look(&name, look)?;
        let epoch = outcome.filter(|_| state == JobState::Succeeded).ok_or_else(|| no_result(&name, state, &error))?;
        let outcome = self.results.outcome(number, epoch).await.map_err(|error| error.to_status())?;
        Ok(Response::new(JobResult { model_json: outcome.model_json, report_json: outcome.report_json }))
    }
}

/// A job has its rows from one place, and a data set has the features that the job names.
fn check_source(source: &SourceSpec, data_set: Option<&DataSet>) -> Result<(), Status> {
    let held = data_set.map(|data_set| data_set.schema.features.as_slice());
    match (held, &source.features) {
        (None, _) if source.path.is_empty() => {
            Err(Status::invalid_argument("data_set, spec.source.path: one is needed"))
        }
        (Some(held), Some(wanted)) if held != wanted.as_slice() => {
            let (held, wanted) = (held.join(", "), wanted.join(", "));
            let message = format!("spec.source.features: the data set has {held}, the job names {wanted}");
            Err(Status::invalid_argument(message))
        }
        _ => Ok(()),
    }
}

/// A job without a result, told apart by what it is doing.
pub(crate) fn no_result(name: &str, state: JobState, error: &str) -> Status {
    let message = match state {
        JobState::Failed => format!("{name} has failed: {error}"),
        JobState::Cancelled => format!("{name} was cancelled"),
        _ => format!("{name} has not ended"),
    };
    Status::failed_precondition(message)
}
