//! One file a command.

mod features;
mod generate;
mod jobs;
mod journeys;
mod labels;
mod run;
mod serve;
mod submit;
mod sweep;
mod workers;

use crate::args::Command;
use crate::say::say;
use anyhow::Result;

/// Does what the command line asks.
pub(crate) fn run(command: Command) -> Result<()> {
    match command {
        Command::Run(arguments) => run::run(&arguments),
        Command::Features(arguments) => wait(features::features(&arguments)),
        Command::Journeys(arguments) => wait(journeys::journeys(&arguments)),
        Command::Generate(arguments) => generate::generate(&arguments),
        Command::Sweep(arguments) => sweep::sweep(&arguments),
        Command::Schema => {
            let schema = schemars::schema_for!(shoal_domain::JobSpec);
            say(&format!("{}\n", serde_json::to_string_pretty(&schema)?))
        }
        Command::Coordinator(arguments) => wait(serve::coordinator(&arguments)),
        Command::Worker(arguments) => wait(serve::worker(&arguments)),
        Command::Submit(arguments) => wait(submit::submit(&arguments)),
        Command::Jobs(command) => wait(jobs::jobs(&command)),
        Command::Workers { coordinator, output } => wait(workers::workers(&coordinator, output)),
        Command::Labels(arguments) => wait(labels::labels(&arguments)),
    }
}

/// Runs async work to its end.
fn wait(work: impl Future<Output = Result<()>>) -> Result<()> {
    let runtime = tokio::runtime::Runtime::new()?;
    let done = runtime.block_on(work);
    // A computation that nobody waits for any more is not waited for either.
    runtime.shutdown_background();
    done
}
