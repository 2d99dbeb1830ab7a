//! The engine beside its peers, with all that they need.

use anyhow::{Context, Result, ensure};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Prepares the peers and runs `engine compare` with the given arguments on top.
pub(crate) fn run(repository: &Path, arguments: impl Iterator<Item = String>) -> Result<()> {
    let python = peers(repository)?;
    let mut bench = Command::new(env!("CARGO"));
    bench.args(["run", "--release", "--package", "shoal-benches", "--bin", "engine", "--", "compare", "--python"]);
    done(bench.arg(python).args(arguments).current_dir(repository))
}

/// The Python of the peers' environment, which is made when it is not there or its packages are other ones now.
fn peers(repository: &Path) -> Result<PathBuf> {
    let requirements = repository.join("benches/peers/requirements.txt");
    let folder = repository.join("target/peers");
    let (python, installed) = (folder.join("bin/python"), folder.join("requirements.txt"));
    let wanted = std::fs::read(&requirements).with_context(|| requirements.display().to_string())?;
    if std::fs::read(&installed).is_ok_and(|installed| installed == wanted) {
        return Ok(python);
    }
    done(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&folder))?;
    done(Command::new(&python).args(["-m", "pip", "install", "--quiet", "--requirement"]).arg(&requirements))?;
    // Last, so that a broken installation is not taken for a whole one.
    std::fs::write(&installed, wanted)?;
    Ok(python)
}

fn done(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("{command:?}"))?;
    ensure!(status.success(), "{command:?}: {status}");
    Ok(())
}
