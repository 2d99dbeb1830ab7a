//! Python environments that chores set up by themselves, below `target`.

use anyhow::{Context, Result, ensure};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The folder of an environment, which is made when it is not there or its packages are other ones now.
pub(crate) fn environment(folder: PathBuf, requirements: &Path) -> Result<PathBuf> {
    let (python, installed) = (folder.join("bin/python"), folder.join("requirements.txt"));
    let wanted = std::fs::read(requirements).with_context(|| requirements.display().to_string())?;
    if std::fs::read(&installed).is_ok_and(|installed| installed == wanted) {
        return Ok(folder);
    }
    done(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&folder))?;
    done(Command::new(&python).args(["-m", "pip", "install", "--quiet", "--requirement"]).arg(requirements))?;
    // Last, so that a broken installation is not taken for a whole one.
    std::fs::write(&installed, wanted)?;
    Ok(folder)
}

/// Runs a command to its end.
pub(crate) fn done(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("{command:?}"))?;
    ensure!(status.success(), "{command:?}: {status}");
    Ok(())
}
