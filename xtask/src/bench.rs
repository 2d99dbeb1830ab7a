//! The engine beside its peers, with all that they need.

use crate::python::{done, environment};
use anyhow::Result;
use std::path::Path;
use std::process::Command;

/// Prepares the peers and runs `engine compare` with the given arguments on top.
pub(crate) fn run(repository: &Path, arguments: impl Iterator<Item = String>) -> Result<()> {
    let peers = environment(repository.join("target/peers"), &repository.join("benches/peers/requirements.txt"))?;
    let mut bench = Command::new(env!("CARGO"));
    bench.args(["run", "--release", "--package", "shoal-benches", "--bin", "engine", "--", "compare", "--python"]);
    done(bench.arg(peers.join("bin/python")).args(arguments).current_dir(repository))
}
