//! `shoal jobs`: list, get, watch, cancel, delete.

use crate::args::{CoordinatorUrl, Format, JobArguments, JobsCommand};
use crate::client::Coordinator;
use crate::followed::Followed;
use crate::progress::ProgressLine;
use crate::say::say;
use crate::table::aligned_left;
use anyhow::Result;
use serde_json::{Value, json};
use shoal_wire::proto::{CancelJobRequest, DeleteJobRequest, GetJobRequest, Job, JobState, ListJobsRequest};

/// Does what the subcommand asks.
pub(crate) async fn jobs(command: &JobsCommand) -> Result<()> {
    match command {
        JobsCommand::List { coordinator, output } => list(coordinator, *output).await,
        JobsCommand::Get(arguments) => get(arguments).await,
        JobsCommand::Watch(arguments) => watch(arguments).await,
        JobsCommand::Cancel(arguments) => cancel(arguments).await,
        JobsCommand::Delete { job, coordinator } => delete(job, coordinator).await,
    }
}

async fn list(coordinator: &CoordinatorUrl, output: Format) -> Result<()> {
    let coordinator = Coordinator::find(coordinator).await?;
    let mut jobs = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = ListJobsRequest { page_size: 0, page_token };
        let page = coordinator.jobs().list_jobs(request).await.map_err(|status| coordinator.failed(&status))?;
        let page = page.into_inner();
        jobs.extend(page.jobs);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    match output {
        Format::Json => {
            say(&format!("{}\n", serde_json::to_string_pretty(&jobs.iter().map(document).collect::<Vec<_>>())?))?
        }
        Format::Table => say(&list_table(&jobs))?,
    }
    Ok(())
}

async fn get(arguments: &JobArguments) -> Result<()> {
    let mut coordinator = Coordinator::find(&arguments.coordinator).await?;
    let request = GetJobRequest { name: arguments.job.clone() };
    let job = coordinator.jobs().get_job(request).await.map_err(|status| coordinator.failed(&status))?.into_inner();
    let is_done = job.state() == JobState::Succeeded;
    match arguments.output {
        Format::Json => {
            let mut document = document(&job);
            if is_done {
                document["report"] = serde_json::from_slice(&coordinator.result(&job.name).await?.report_json)?;
            }
            say(&format!("{}\n", serde_json::to_string_pretty(&document)?))?;
            Ok(())
        }
        Format::Table => {
            say(&list_table(std::slice::from_ref(&job)))?;
            if is_done { coordinator.deliver(&job.name, None, Format::Table).await } else { Ok(()) }
        }
    }
}

async fn watch(arguments: &JobArguments) -> Result<()> {
    let mut coordinator = Coordinator::find(&arguments.coordinator).await?;
    let progress = ProgressLine::new();
    progress.begin(&arguments.job, None);
    let mut followed = Followed::on(progress.clone());
    let watched = coordinator.watch(&arguments.job, false, |event| followed.show(event)).await;
    progress.finish();
    watched?;
    coordinator.deliver(&arguments.job, None, arguments.output).await
}

async fn cancel(arguments: &JobArguments) -> Result<()> {
    let coordinator = Coordinator::find(&arguments.coordinator).await?;
    let request = CancelJobRequest { name: arguments.job.clone() };
    let job = coordinator.jobs().cancel_job(request).await.map_err(|status| coordinator.failed(&status))?.into_inner();
    match arguments.output {
        Format::Json => say(&format!("{}\n", serde_json::to_string_pretty(&document(&job))?))?,
        Format::Table => say(&list_table(std::slice::from_ref(&job)))?,
    }
    Ok(())
}

async fn delete(name: &str, coordinator: &CoordinatorUrl) -> Result<()> {
    let coordinator = Coordinator::find(coordinator).await?;
    let request = DeleteJobRequest { name: name.to_owned() };
    coordinator.jobs().delete_job(request).await.map_err(|status| coordinator.failed(&status))?;
    Ok(())
}

fn state_name(job: &Job) -> String {
    job.state().as_str_name().trim_start_matches("JOB_STATE_").to_lowercase()
}

fn source(job: &Job) -> &str {
    job.spec.as_ref().and_then(|spec| spec.source.as_ref()).map_or("", |source| source.path.as_str())
}

fn list_table(jobs: &[Job]) -> String {
    let mut rows =
        vec![["job", "state", "submitted", "took", "client", "source", "where it is"].map(str::to_owned).to_vec()];
    rows.extend(jobs.iter().map(row));
    let mut text = String::new();
    aligned_left(&mut text, &rows);
    text
}

fn row(job: &Job) -> Vec<String> {
    let place = match (job.state(), &job.last_pass) {
        (JobState::Failed, _) => job.error.clone(),
        (JobState::Running, Some(pass)) => format!("{}, pass {}, inertia {:.3}", job.phase, pass.n_iter, pass.inertia),
        (JobState::Running, None) => job.phase.clone(),
        _ => String::new(),
    };
    let took = match (&job.submitted, &job.ended) {
        (Some(submitted), Some(ended)) => {
            let seconds = |time: &prost_types::Timestamp| time.seconds as f64 + f64::from(time.nanos) * 1e-9;
            format!("{:.1} s", seconds(ended) - seconds(submitted))
        }
        _ => String::new(),
    };
    // To the second.
    let submitted =
        job.submitted.map(|time| prost_types::Timestamp { nanos: 0, ..time }.to_string()).unwrap_or_default();
    let client = job.client.clone();
    vec![job.name.clone(), state_name(job), submitted, took, client, source(job).to_owned(), place]
}

fn document(job: &Job) -> Value {
    let pass = job.last_pass.map(
        |pass| json!({ "start": pass.start, "n_iter": pass.n_iter, "inertia": pass.inertia, "shift": pass.shift }),
    );
    json!({
        "name": job.name,
        "state": state_name(job),
        "source": source(job),
        "client": job.client,
        "priority": job.priority,
        "phase": job.phase,
        "error": job.error,
        "submitted": job.submitted.map(|time| time.to_string()),
        "ended": job.ended.map(|time| time.to_string()),
        "last_pass": pass,
    })
}
