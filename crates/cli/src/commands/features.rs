//! `shoal features`: from events to one row a customer, and no further.

use crate::args::{FeaturesArguments, Format};
use crate::environment::read_options;
use crate::features_table::{self, FeaturesReport};
use crate::job_file;
use crate::labels_file::label_writer;
use crate::output::OutFolder;
use crate::progress::ProgressLine;
use crate::say::say;
use anyhow::{Result, anyhow};
use futures::TryStreamExt;
use shoal_behavior::{FeatureSource, ReadOptions, quarantine};
use shoal_domain::job::SourceSpec;
use shoal_wire::documents::to_bytes;
use std::path::Path;
use std::time::Instant;

const FEATURES: &str = "features.parquet";
const QUALITY: &str = "quality.json";
const QUARANTINE: &str = "quarantine.parquet";

/// Makes the features, writes them and says what is in them.
pub(crate) async fn features(arguments: &FeaturesArguments) -> Result<()> {
    let started = Instant::now();
    let spec = job_file::read_source(&arguments.job)?;
    let options = read_options(arguments.memory);
    let line = ProgressLine::new();
    line.begin("features", None);
    let source = FeatureSource::open(&spec, &options).await?;
    let mut out = OutFolder::create(&arguments.out)?;
    let mut report = FeaturesReport::new(&source.schema(), source.quality().copied());
    write_features(&source, &mut out, &mut report).await?;
    let mut written = vec![FEATURES];
    if source.quality().is_some_and(|quality| quality.quarantined.sum() > 0) {
        line.begin("quarantine", None);
        write_quarantine(&spec, &options, &mut out).await?;
        written.push(QUARANTINE);
    }
    if let Some(quality) = source.quality() {
        out.write_bytes(QUALITY, &to_bytes(quality)?)?;
        written.push(QUALITY);
    }
    remove_stale(&arguments.out, &written)?;
    out.commit()?;
    line.finish();
    match arguments.output {
        Format::Json => say(&format!("{}\n", serde_json::to_string_pretty(&report)?)),
        Format::Table => {
            say(&features_table::render(&report, started.elapsed()))?;
            say(&format!("written: {}/{{{}}}\n", arguments.out.display(), written.join(", ")))
        }
    }
}

async fn write_features(source: &FeatureSource, out: &mut OutFolder, report: &mut FeaturesReport) -> Result<()> {
    let file = out.file(FEATURES)?;
    let mut writer = label_writer(file, source.schema().into())?;
    let mut batches = source.batches().await?;
    while let Some(batch) = batches.try_next().await.map_err(|error| source.read_error(error))? {
        report.add(&batch);
        writer.write(&batch).map_err(|error| out.write_error(FEATURES, error))?;
    }
    out.finish(writer.into_inner().map_err(|error| out.write_error(FEATURES, error))?)
}

async fn write_quarantine(spec: &SourceSpec, options: &ReadOptions, out: &mut OutFolder) -> Result<()> {
    let Some(events) = &spec.events else { return Ok(()) };
    let mut rows = quarantine(spec, events, options).await?;
    let mut writer = label_writer(out.file(QUARANTINE)?, rows.schema())?;
    while let Some(batch) = rows.try_next().await.map_err(|error| anyhow!("{}: {error}", spec.path))? {
        writer.write(&batch).map_err(|error| out.write_error(QUARANTINE, error))?;
    }
    out.finish(writer.into_inner().map_err(|error| out.write_error(QUARANTINE, error))?)
}

/// What an earlier run wrote and this one does not would be taken for its own.
fn remove_stale(folder: &Path, written: &[&str]) -> Result<()> {
    for name in [QUARANTINE, QUALITY].into_iter().filter(|name| !written.contains(name)) {
        let path = folder.join(name);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(anyhow!("{}: {error}", path.display()));
            }
            _ => {}
        }
    }
    Ok(())
}
