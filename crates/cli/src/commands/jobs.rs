//! `shoal jobs`: list, get, watch, cancel.

use crate::args::{Format, JobArguments, JobsCommand};
use crate::client::{Coordinator, show_event};
use crate::progress::ProgressLine;
use crate::say::say;
use anyhow::Result;
use serde_json::{Value, json};
use shoal_wire::proto::{CancelJobRequest, GetJobRequest, Job, JobState, ListJobsRequest};

/// Does what the subcommand asks.
pub(crate) async fn jobs(command: &JobsCommand) -> Result<()> {
    match command {
        JobsCommand::List { coordinator, output } => list(&coordinator.coordinator, *output).await,
        JobsCommand::Get(arguments) => get(arguments).await,
        JobsCommand::Watch(arguments) => watch(arguments).await,
        JobsCommand::Cancel(arguments) => cancel(arguments).await,
    }
}

async fn list(urls: &[String], output: Format) -> Result<()> {
    let coordinator = Coordinator::find(urls).await?;
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
        Format::Table => say(&jobs.iter().map(|job| line(job) + "\n").collect::<String>())?,
    }
    Ok(())
}

async fn get(arguments: &JobArguments) -> Result<()> {
    let mut coordinator = Coordinator::find(&arguments.coordinator.coordinator).await?;
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
            say(&format!("{}\n", line(&job)))?;
            if is_done { coordinator.deliver(&job.name, None, Format::Table).await } else { Ok(()) }
        }
    }
}

async fn watch(arguments: &JobArguments) -> Result<()> {
    let mut coordinator = Coordinator::find(&arguments.coordinator.coordinator).await?;
    let progress = ProgressLine::new();
    progress.begin(&arguments.job, None);
    let watched = coordinator.watch(&arguments.job, false, |event| show_event(&progress, event)).await;
    progress.finish();
    watched?;
    coordinator.deliver(&arguments.job, None, arguments.output).await
}

async fn cancel(arguments: &JobArguments) -> Result<()> {
    let coordinator = Coordinator::find(&arguments.coordinator.coordinator).await?;
    let request = CancelJobRequest { name: arguments.job.clone() };
    let job = coordinator.jobs().cancel_job(request).await.map_err(|status| coordinator.failed(&status))?.into_inner();
    match arguments.output {
        Format::Json => say(&format!("{}\n", serde_json::to_string_pretty(&document(&job))?))?,
        Format::Table => say(&format!("{}\n", line(&job)))?,
    }
    Ok(())
}

fn state_name(job: &Job) -> String {
    job.state().as_str_name().trim_start_matches("JOB_STATE_").to_lowercase()
}

fn source(job: &Job) -> &str {
    job.spec.as_ref().and_then(|spec| spec.source.as_ref()).map_or("", |source| source.path.as_str())
}

fn line(job: &Job) -> String {
    let detail = match (job.state(), &job.last_pass) {
        (JobState::Failed, _) => job.error.clone(),
        (JobState::Running, Some(pass)) => format!("{}, pass {}, inertia {:.3}", job.phase, pass.n_iter, pass.inertia),
        (JobState::Running, None) => job.phase.clone(),
        _ => source(job).to_owned(),
    };
    format!("{:<10} {:<10} {detail}", job.name, state_name(job))
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
