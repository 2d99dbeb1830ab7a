//! What was wrong with a log, as files and as words.

use crate::labels_file::label_writer;
use crate::output::OutFolder;
use crate::table::{counted, grouped};
use anyhow::{Result, anyhow};
use futures::TryStreamExt;
use shoal_behavior::{Quality, ReadOptions, quarantine};
use shoal_domain::job::SourceSpec;
use shoal_wire::documents::to_bytes;
use std::fmt::Write;
use std::path::Path;

const QUALITY: &str = "quality.json";
const QUARANTINE: &str = "quarantine.parquet";
/// Written where it is asked for.
pub(crate) const IDENTITIES: &str = "identities.parquet";

/// Writes the counts, and the rows that were put in quarantine where there are some. Gives the names of the files.
pub(crate) async fn write(
    quality: Option<&Quality>,
    spec: &SourceSpec,
    options: &ReadOptions,
    out: &mut OutFolder,
) -> Result<Vec<&'static str>> {
    let mut written = Vec::new();
    if let (Some(quality), Some(events)) = (quality, &spec.events) {
        if quality.n_in_quarantine() > 0 {
            let mut rows = quarantine(spec, events, options).await?;
            let mut writer = label_writer(out.file(QUARANTINE)?, rows.schema())?;
            while let Some(batch) = rows.try_next().await.map_err(|error| anyhow!("{}: {error}", spec.path))? {
                writer.write(&batch).map_err(|error| out.write_error(QUARANTINE, error))?;
            }
            out.finish(writer.into_inner().map_err(|error| out.write_error(QUARANTINE, error))?)?;
            written.push(QUARANTINE);
        }
        out.write_bytes(QUALITY, &to_bytes(quality)?)?;
        written.push(QUALITY);
    }
    Ok(written)
}

/// Removes what an earlier run wrote and this one does not: it would be taken for its own.
pub(crate) fn remove_stale(folder: &Path, written: &[&str]) -> Result<()> {
    for name in [QUARANTINE, QUALITY, IDENTITIES].into_iter().filter(|name| !written.contains(name)) {
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

/// A line for each reason for which rows of the log are in no feature, or may not be what they were meant to be.
pub(crate) fn notes(quality: &Quality) -> String {
    let mut text = String::new();
    let visitors = quality.identity.map_or(0, |identity| identity.n_visitor_events);
    let left_out = [
        ("removed", quality.duplicates.message, "of a message that was there before"),
        ("removed", quality.duplicates.near, "equal to one shortly before"),
        ("left out", visitors, "of visitors with whose cookie nobody was logged in"),
        ("in quarantine", quality.quarantined.no_customer, "without a customer"),
        ("in quarantine", quality.quarantined.no_time, "without a time"),
        ("in quarantine", quality.quarantined.no_amount, "that are purchases without an amount"),
        ("in quarantine", quality.quarantined.against_plan, "that are not as the plan has them"),
    ];
    for (what, count, why) in left_out.into_iter().filter(|(_, count, _)| *count > 0) {
        let _ = writeln!(text, "{what}: {} {why}", counted(count, "row"));
    }
    for (rule, n_rows) in &quality.left_out {
        let _ = writeln!(text, "in quarantine: {} by the rule `{rule}`", counted(*n_rows, "row"));
    }
    if quality.n_unknown_kinds > 0 {
        let names: Vec<String> =
            quality.unknown_kinds.iter().map(|kind| format!("`{}` {}", kind.name, grouped(kind.n_rows))).collect();
        let _ =
            writeln!(text, "of no known kind: {} ({})", counted(quality.n_unknown_kinds, "event"), names.join(", "));
    }
    text
}
