//! `shoal run`: the whole job in this process.

use crate::args::{Format, RunArguments};
use crate::environment::read_options;
use crate::in_process::InProcess;
use crate::labels_file::LabelsFile;
use crate::local::FileRows;
use crate::output::OutFolder;
use crate::say::say;
use crate::{job_file, log_quality, table};
use anyhow::{Result, anyhow};
use shoal_clustering::{ClusteringError, Segmentation, segment};
use shoal_domain::Report;
use shoal_domain::report::RanOn;
use shoal_wire::documents::to_bytes;
use shoal_wire::labels::{SilhouetteColumn, label_batch, label_schema};
use std::io::Write;

const LABELS: &str = "labels.parquet";

/// Runs the job, writes its files and prints its report.
pub(crate) fn run(arguments: &RunArguments) -> Result<()> {
    let mut run = InProcess::open(&arguments.job, &arguments.compute)?;
    let spec = run.spec.clone();
    let warm_start = job_file::warm_start(&spec)?;
    let mut segmentation = segment(&run.rows, &spec, warm_start.as_ref(), &mut run.observer)
        .map_err(|error| anyhow!(error.about(&spec.source.path)))?;

    let mut out = OutFolder::create(&arguments.out)?;
    run.observer.phase("labels", Some(segmentation.model.n_samples + segmentation.model.n_dropped));
    let row_silhouettes = segmentation.row_silhouettes.take();
    let silhouettes = SilhouetteColumn::new(spec.validate.row_silhouettes, row_silhouettes);
    let file = out.file(LABELS)?;
    let cannot_write = |error: &dyn std::fmt::Display| out.write_error(LABELS, error);
    let labels = write_labels(file, &cannot_write, &run.rows, &segmentation, silhouettes)?;
    out.finish(labels)?;
    let version = env!("CARGO_PKG_VERSION").to_owned();
    let ran_on = RanOn { mode: "local".to_owned(), devices: vec![run.device], version };
    let report = Report::new(&segmentation.model, ran_on, run.observer.timings());
    let options = read_options(None);
    let written = log_quality::write(run.rows.quality(), &spec.source, &options, &mut out);
    let mut written = run.runtime.block_on(written)?;
    log_quality::remove_stale(&arguments.out, &written)?;
    out.write_bytes("report.json", &to_bytes(&report)?)?;
    out.write_bytes("model.json", &to_bytes(&segmentation.model)?)?;
    out.commit()?;
    run.line.finish();
    match arguments.output {
        Format::Json => say(&format!("{}\n", serde_json::to_string_pretty(&report)?))?,
        Format::Table => {
            say(&table::render(&report))?;
            say(&run.rows.quality().map(log_quality::notes).unwrap_or_default())?;
            written.splice(0..0, ["model.json", LABELS, "report.json"]);
            say(&format!("written: {}/{{{}}}\n", arguments.out.display(), written.join(", ")))?;
        }
    }
    Ok(())
}

fn write_labels<W: Write + Send>(
    file: W,
    cannot_write: &dyn Fn(&dyn std::fmt::Display) -> anyhow::Error,
    rows: &FileRows,
    segmentation: &Segmentation,
    mut silhouettes: SilhouetteColumn,
) -> Result<W> {
    let id = rows.schema().arrow.field(0).clone();
    let mut labels_file = LabelsFile::new(file, silhouettes.schema(&label_schema(&id)), rows.cpu().clone())?;
    let preparation = &segmentation.model.preparation;
    rows.label(preparation, &segmentation.centroids, |ids, labels| {
        let batch = label_batch(&id, &ids, labels).and_then(|batch| silhouettes.put_beside(&batch));
        let batch = batch.map_err(ClusteringError::rows)?;
        labels_file.write(batch).map_err(|error| ClusteringError::rows(cannot_write(&error).to_string()))
    })?;
    labels_file.finish().map_err(|error| cannot_write(&error))
}
