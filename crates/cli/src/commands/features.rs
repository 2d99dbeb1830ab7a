//! `shoal features`: from events to one row a customer, and no further.

use crate::args::{FeaturesArguments, Format};
use crate::environment::read_options;
use crate::features_table::{self, FeaturesReport};
use crate::labels_file::label_writer;
use crate::log_quality::IDENTITIES;
use crate::output::OutFolder;
use crate::progress::ProgressLine;
use crate::say::say;
use crate::{job_file, log_quality};
use anyhow::{Context, Result, ensure};
use futures::TryStreamExt;
use shoal_behavior::FeatureSource;
use std::time::Instant;

const FEATURES: &str = "features.parquet";

/// Makes the features, writes them and says what is in them.
pub(crate) async fn features(arguments: &FeaturesArguments) -> Result<()> {
    let started = Instant::now();
    let spec = job_file::read_source(&arguments.job)?;
    let options = read_options(arguments.memory);
    if arguments.explain {
        return say(&shoal_behavior::explain(&spec, &options).await?);
    }
    let has_cookies = spec.events.as_ref().is_some_and(|events| events.anonymous.is_some());
    ensure!(has_cookies || !arguments.identities, "--identities: the job's source.events names no column `anonymous`");
    let line = ProgressLine::new();
    line.begin("features", None);
    let source = FeatureSource::open(&spec, &options).await?;
    let mut out = OutFolder::create(&arguments.out)?;
    let mut report = FeaturesReport::new(&source.schema(), source.quality().cloned());
    write_features(&source, &mut out, &mut report).await?;
    let mut written = vec![FEATURES];
    line.begin("quality", None);
    written.extend(log_quality::write(source.quality(), &spec, &options, &mut out).await?);
    if arguments.identities {
        line.begin("identities", None);
        let events = spec.events.as_ref().context("--identities: only sources of events have identities")?;
        let identities = shoal_behavior::identities(&spec, events, &options).await?;
        let mut writer = label_writer(out.file(IDENTITIES)?, identities.schema())?;
        writer.write(&identities).map_err(|error| out.write_error(IDENTITIES, error))?;
        out.finish(writer.into_inner().map_err(|error| out.write_error(IDENTITIES, error))?)?;
        written.push(IDENTITIES);
    }
    log_quality::remove_stale(&arguments.out, &written)?;
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
