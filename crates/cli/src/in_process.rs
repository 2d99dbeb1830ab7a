//! What every command begins with that computes in this process: the job, its rows, what computes, and what shows progress.

use crate::args::ComputeArguments;
use crate::environment::read_options;
use crate::local::FileRows;
use crate::progress::{ProgressLine, RunObserver};
use crate::{device, job_file};
use anyhow::Result;
use shoal_clustering::cpu::share_one_heap;
use shoal_domain::JobSpec;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;
use tokio::runtime::Runtime;

/// A job whose source is open.
pub(crate) struct InProcess {
    pub(crate) spec: JobSpec,
    pub(crate) rows: FileRows,
    pub(crate) observer: RunObserver,
    pub(crate) line: ProgressLine,
    /// The name of what computes.
    pub(crate) device: String,
    /// Reads the files as long as it lives.
    pub(crate) runtime: Runtime,
}

impl InProcess {
    /// Reads the job file and opens its source.
    pub(crate) fn open(job: &Path, compute: &ComputeArguments) -> Result<Self> {
        let opened = Instant::now();
        share_one_heap();
        let spec = job_file::read(job)?;
        let runtime = runtime()?;
        let machine = device::machine(compute.device, compute.threads)?;
        let device = machine.engine.name();
        let line = ProgressLine::new();
        line.begin("open", None);
        let rows_line = line.clone();
        let on_rows = Arc::new(move |n_rows| rows_line.rows(n_rows));
        let rows = FileRows::open(&spec.source, &read_options(None), machine, runtime.handle().clone(), on_rows)?;
        let observer = RunObserver::new(line.clone(), opened);
        Ok(Self { spec, rows, observer, line, device, runtime })
    }
}

/// Files are read by one blocking thread: each further one keeps freed read buffers of its own, up to a row group's size.
fn runtime() -> Result<Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread().max_blocking_threads(1).enable_all().build()?)
}
