//! `shoal sweep`: several numbers of clusters of one job, side by side.

use crate::args::{Format, SweepArguments};
use crate::in_process::InProcess;
use crate::output::OutFolder;
use crate::say::say;
use crate::sweep_table;
use anyhow::{Result, anyhow, bail};
use shoal_wire::documents::to_bytes;

/// Numbers of clusters of one sweep: all of them are in memory at once.
const MAX_FITS: usize = 1_000;

/// Fits and validates every number of clusters, writes sweep.json and prints a table.
pub(crate) fn sweep(arguments: &SweepArguments) -> Result<()> {
    let (from, to) = (arguments.from, arguments.to);
    if from > to {
        bail!("--from {from} is more than --to {to}");
    }
    if to - from >= MAX_FITS {
        bail!("--to {to}: at most {MAX_FITS} numbers of clusters at a time");
    }
    let mut run = InProcess::open(&arguments.job, &arguments.compute)?;
    if run.spec.kmeans.warm_start.is_some() {
        bail!("{}: kmeans.warm_start: a model has one number of clusters, a sweep several", arguments.job.display());
    }
    let sweep = shoal_clustering::sweep(&run.rows, &run.spec, from..=to, &mut run.observer)
        .map_err(|error| anyhow!(error.about(&run.spec.source.path)))?;
    let mut out = OutFolder::create(&arguments.out)?;
    out.write_bytes("sweep.json", &to_bytes(&sweep)?)?;
    out.commit()?;
    run.line.finish();
    match arguments.output {
        Format::Json => say(&format!("{}\n", serde_json::to_string_pretty(&sweep)?)),
        Format::Table => {
            say(&sweep_table::render(&sweep, &run.device, &run.observer.timings()))?;
            say(&format!("written: {}/sweep.json\n", arguments.out.display()))
        }
    }
}
