//! `shoal`, the one binary: arguments, environment, terminal and clock on one side, the library crates on the other.
//!
//! This crate alone reads what the surroundings give. It turns arguments into values once, starts what they ask for, and
//! shows what comes back; nothing deeper down looks at a flag, a variable or the time of day.

mod args;
mod client;
mod commands;
mod device;
mod environment;
mod features_table;
mod followed;
mod in_process;
mod job_file;
mod labels_file;
mod local;
mod log_quality;
mod output;
mod progress;
mod say;
mod segments_of;
mod sweep_table;
mod table;
mod tls;

use clap::Parser;
use std::io::IsTerminal;
use std::process::ExitCode;
use tracing_subscriber::EnvFilter;

/// Threads that give memory back and take it again do not wait for each other, as they do for the system's allocator: on
/// sixteen cores a job takes half as long.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Object stores tell of every attempt that they make again.
const DEFAULT_LOG: &str = "info,object_store=warn";

fn main() -> ExitCode {
    let arguments = args::Arguments::parse();
    let filter = EnvFilter::try_from_env("SHOAL_LOG").unwrap_or_else(|_| EnvFilter::new(DEFAULT_LOG));
    let colours = std::io::stderr().is_terminal();
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    log.with_ansi(colours).with_target(false).init();
    match commands::run(arguments.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // One line, whatever a library's message looks like.
            let message = error.to_string();
            let line = message.split_whitespace().collect::<Vec<_>>().join(" ");
            eprintln!("error: {line}");
            ExitCode::FAILURE
        }
    }
}
