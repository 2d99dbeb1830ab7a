//! One file a command.

mod run;

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
        _ => todo!(),
    }
}
