//! A coordinator, as the commands talk to it.

use crate::args::{CoordinatorUrl, Format};
use crate::labels_file::label_writer;
use crate::output::OutFolder;
use crate::say::say;
use crate::{table, tls};
use anyhow::{Result, anyhow};
use arrow_flight::Ticket;
use prost::Message;
use shoal_domain::Report;
use shoal_wire::flight::{DecodedPayload, Incoming, channel, client};
use shoal_wire::limits::{
    CONNECT_TIMEOUT, COORDINATOR_AWAITED, COORDINATOR_LOOKED_FOR, LEADER_AWAITED, MAX_MESSAGE_BYTES,
};
use shoal_wire::proto::jobs_client::JobsClient;
use shoal_wire::proto::{
    GetJobResultRequest, Job, JobEvent, JobResult, JobState, LabelsTicket, ListJobsRequest, SubmitJobRequest,
    WatchJobRequest, job_event,
};
use shoal_wire::status::{is_connection_error, is_standby, one_line};
use shoal_wire::tls::Tls;
use std::io::Write;
use std::path::Path;
use std::time::Instant;
use tonic::Status;
use tonic::transport::Channel;

/// What is known of a job that is followed.
struct Followed {
    state: JobState,
    last_event: u64,
    error: String,
}

/// Why something was not fetched.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Fetch {
    /// The connection broke, or the coordinator does not lead: another one may have it.
    #[error("{0}")]
    Broken(anyhow::Error),
    /// It will not be there later either.
    #[error("{0}")]
    Failed(#[from] anyhow::Error),
}

/// A connection to the coordinator that leads.
pub(crate) struct Coordinator {
    /// All that may lead.
    urls: Vec<String>,
    url: String,
    tls: Option<Tls>,
    pub(crate) channel: Channel,
}

impl Coordinator {
    /// Finds the one that leads; where one is about to, it is waited for.
    pub(crate) async fn find(arguments: &CoordinatorUrl) -> Result<Self> {
        Self::find_at(&arguments.coordinator, tls::load(&arguments.tls)?).await
    }

    async fn find_at(urls: &[String], tls: Option<Tls>) -> Result<Self> {
        let (began, mut is_told) = (Instant::now(), false);
        loop {
            let (mut waits, mut failed) = (false, None);
            for url in urls {
                let channel = channel(url, tls.as_ref());
                let channel = channel.map_err(|status| anyhow!("--coordinator: {}", status.message()))?;
                let coordinator = Self { urls: urls.to_vec(), url: url.clone(), tls: tls.clone(), channel };
                match coordinator.leads().await {
                    Ok(()) => return Ok(coordinator),
                    Err(status) => {
                        waits |= is_standby(&status);
                        failed = Some(coordinator.failed(&status));
                    }
                }
            }
            if !waits || began.elapsed() > LEADER_AWAITED {
                return Err(failed.unwrap_or_else(|| anyhow!("--coordinator: names none")));
            }
            if !is_told {
                eprintln!("no coordinator leads yet, waiting for one");
                is_told = true;
            }
            tokio::time::sleep(COORDINATOR_LOOKED_FOR).await;
        }
    }

    /// Asks for next to nothing, which only the leader answers.
    async fn leads(&self) -> Result<(), Status> {
        let request = ListJobsRequest { page_size: 1, page_token: String::new() };
        let too_slow = |_| Err(Status::deadline_exceeded(format!("no answer in {} s", CONNECT_TIMEOUT.as_secs())));
        let answered = tokio::time::timeout(CONNECT_TIMEOUT, self.jobs().list_jobs(request)).await;
        answered.unwrap_or_else(too_slow).map(|_| ())
    }

    /// Finds the one that leads now, if there is one yet.
    async fn find_again(&mut self) {
        tokio::time::sleep(COORDINATOR_LOOKED_FOR).await;
        // Where there is none, the next call says why.
        if let Ok(found) = Self::find_at(&self.urls, self.tls.clone()).await {
            *self = found;
        }
    }

    /// Sends a job. When a coordinator goes meanwhile, it is sent to the next one.
    pub(crate) async fn submit(&mut self, request: &SubmitJobRequest) -> Result<Job> {
        let began = Instant::now();
        loop {
            match self.jobs().submit_job(request.clone()).await {
                Ok(job) => return Ok(job.into_inner()),
                Err(status) if is_connection_error(&status) && began.elapsed() < COORDINATOR_AWAITED => {
                    self.find_again().await;
                }
                Err(status) => return Err(self.failed(&status)),
            }
        }
    }

    pub(crate) fn jobs(&self) -> JobsClient<Channel> {
        JobsClient::new(self.channel.clone())
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES)
    }

    /// A status with the coordinator's name before it. Who is refused for its certificate sees a connection that breaks.
    pub(crate) fn failed(&self, status: &Status) -> anyhow::Error {
        let may_be_refused = self.tls.is_some() && is_connection_error(status) && !is_standby(status);
        let hint = if may_be_refused { "; where it can be reached, a certificate may have been refused" } else { "" };
        anyhow!("{}: {}{hint}", self.url, one_line(status))
    }

    /// Follows a job to its end, each event to `show`. A connection that breaks is made again, to a coordinator that may
    /// have been started anew, and the job is followed from where it was. `is_known` when the job has been acknowledged.
    pub(crate) async fn watch(
        &mut self,
        name: &str,
        is_known: bool,
        mut show: impl FnMut(&JobEvent),
    ) -> Result<JobState> {
        let mut followed = Followed { state: JobState::Unspecified, last_event: 0, error: String::new() };
        let mut broken_since = None;
        loop {
            let n_seen = followed.last_event;
            let ended = self.follow(name, &mut followed, &mut show).await;
            match (followed.state, ended) {
                (JobState::Succeeded, _) => return Ok(JobState::Succeeded),
                (JobState::Failed, _) => return Err(anyhow!("{name} has failed: {}", followed.error)),
                (JobState::Cancelled, _) => return Err(anyhow!("{name} was cancelled")),
                (_, Err(status)) if (followed.last_event == 0 && !is_known) || !is_connection_error(&status) => {
                    return Err(self.failed(&status));
                }
                (_, ended) => {
                    let since = *broken_since.get_or_insert_with(|| {
                        eprintln!("the coordinator is gone, waiting for it or another one");
                        Instant::now()
                    });
                    if followed.last_event > n_seen {
                        broken_since = None;
                    } else if since.elapsed() > COORDINATOR_AWAITED {
                        let why = ended.err().map_or_else(|| "the stream ended".to_owned(), |status| one_line(&status));
                        return Err(anyhow!("{}: {name} can be followed no more: {why}", self.url));
                    }
                    self.find_again().await;
                }
            }
        }
    }

    /// Follows a job until its stream ends, for whatever reason.
    async fn follow(
        &self,
        name: &str,
        followed: &mut Followed,
        show: &mut impl FnMut(&JobEvent),
    ) -> Result<(), Status> {
        let request = WatchJobRequest { name: name.to_owned(), after: followed.last_event };
        let mut events = self.jobs().watch_job(request).await?.into_inner();
        while let Some(event) = events.message().await? {
            show(&event);
            followed.last_event = event.number;
            if let Some(job_event::Event::State(number)) = event.event {
                followed.state = JobState::try_from(number).unwrap_or_default();
                followed.error = event.error;
            }
        }
        Ok(())
    }

    /// Fetches what came out of a job, and writes its files when a folder is given.
    async fn fetch(&self, name: &str, out: Option<&Path>) -> Result<Report, Fetch> {
        let result = self.result(name).await?;
        if let Some(folder) = out {
            let mut files = OutFolder::create(folder)?;
            let labels = self.labels(name, files.file("labels.parquet")?).await?;
            files.finish(labels)?;
            files.write_bytes("report.json", &result.report_json)?;
            files.write_bytes("model.json", &result.model_json)?;
            files.commit()?;
        }
        Ok(serde_json::from_slice(&result.report_json).map_err(anyhow::Error::from)?)
    }

    fn fetch_failed(&self, status: &Status) -> Fetch {
        let error = self.failed(status);
        if is_connection_error(status) { Fetch::Broken(error) } else { Fetch::Failed(error) }
    }

    pub(crate) async fn result(&self, name: &str) -> Result<JobResult, Fetch> {
        let request = GetJobResultRequest { name: name.to_owned() };
        let result = self.jobs().get_job_result(request).await.map_err(|status| self.fetch_failed(&status))?;
        Ok(result.into_inner())
    }

    /// Writes a job's labels as Parquet and gives the target back.
    pub(crate) async fn labels<W: Write + Send>(&self, name: &str, target: W) -> Result<W, Fetch> {
        let ticket = Ticket::new(LabelsTicket { job: name.to_owned() }.encode_to_vec());
        let stream = client(self.channel.clone()).do_get(ticket).await.map_err(|status| self.fetch_failed(&status))?;
        let mut stream = Incoming::new(stream.into_inner());
        // Nothing is written before the first rows are here: an error leaves an empty target, not half a file.
        let mut target = Some(target);
        let mut schema = None;
        let mut writer = None;
        while let Some(message) = stream.next().await.map_err(|status| self.fetch_failed(&status))? {
            match message.payload {
                DecodedPayload::Schema(of_labels) => schema = Some(of_labels),
                DecodedPayload::RecordBatch(batch) => {
                    if let Some(target) = target.take() {
                        writer = Some(label_writer(target, batch.schema())?);
                    }
                    if let Some(writer) = &mut writer {
                        writer.write(&batch).map_err(anyhow::Error::from)?;
                    }
                }
                DecodedPayload::None => {}
            }
        }
        let writer = match (writer, schema, target) {
            (Some(writer), ..) => writer,
            (None, Some(schema), Some(target)) => label_writer(target, schema)?,
            _ => return Err(anyhow!("{}: the labels of {name} have no schema", self.url).into()),
        };
        Ok(writer.into_inner().map_err(anyhow::Error::from)?)
    }

    /// Prints a finished job, and writes its files when a folder is given. When a coordinator goes meanwhile, the next one is
    /// asked.
    pub(crate) async fn deliver(&mut self, name: &str, out: Option<&Path>, output: Format) -> Result<()> {
        let began = Instant::now();
        let report = loop {
            match self.fetch(name, out).await {
                Ok(report) => break report,
                Err(Fetch::Broken(_)) if began.elapsed() < COORDINATOR_AWAITED => self.find_again().await,
                Err(Fetch::Broken(error) | Fetch::Failed(error)) => return Err(error),
            }
        };
        match output {
            Format::Json => say(&format!("{}\n", serde_json::to_string_pretty(&report)?))?,
            Format::Table => say(&table::render(&report))?,
        }
        Ok(())
    }
}
