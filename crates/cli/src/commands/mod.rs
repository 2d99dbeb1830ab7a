//! One file a command.

mod jobs;
mod labels;
mod run;
mod serve;
mod submit;

use crate::args::Command;
use anyhow::Result;

/// Does what the command line asks.
pub(crate) fn run(command: Command) -> Result<()> {
    match command {
        Command::Run(arguments) => run::run(&arguments),
        Command::Schema => {
            let schema = schemars::schema_for!(shoal_domain::JobSpec);
            println!("{}", serde_json::to_string_pretty(&schema)?);
            Ok(())
        }
        Command::Coordinator(arguments) => wait(serve::coordinator(&arguments)),
        Command::Worker(arguments) => wait(serve::worker(&arguments)),
        Command::Submit(arguments) => wait(submit::submit(&arguments)),
        Command::Jobs(command) => wait(jobs::jobs(&command)),
        Command::Labels(arguments) => wait(labels::labels(&arguments)),
    }
}

/// Runs async work to its end.
fn wait(work: impl Future<Output = Result<()>>) -> Result<()> {
    tokio::runtime::Runtime::new()?.block_on(work)
}
