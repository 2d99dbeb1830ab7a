//! `shoal labels`: a job's labels to stdout.

use crate::args::LabelsArguments;
use crate::client::Coordinator;
use anyhow::{Result, anyhow};
use std::io::{BufWriter, IsTerminal, Write, stdout};

/// Writes Parquet to stdout, unless that is a terminal.
pub(crate) async fn labels(arguments: &LabelsArguments) -> Result<()> {
    if stdout().is_terminal() {
        return Err(anyhow!(
            "labels are a Parquet file; send them somewhere: shoal labels {} > labels.parquet",
            arguments.job
        ));
    }
    let coordinator = Coordinator::find(&arguments.coordinator).await?;
    let mut target = coordinator.labels(&arguments.job, BufWriter::new(stdout())).await?;
    target.flush()?;
    Ok(())
}
