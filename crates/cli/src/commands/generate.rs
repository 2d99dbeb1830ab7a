//! `shoal generate`: a log of events that never happened, and the truth about it.

use crate::args::GenerateArguments;
use crate::labels_file::label_writer;
use crate::progress::ProgressLine;
use crate::say::say;
use crate::table::grouped;
use anyhow::{Result, anyhow};
use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use rayon::prelude::*;
use shoal_generator::{DirtSpec, GeneratorError, GeneratorSpec, Log, customer_schema, event_schema, truth_schema};
use std::fs::File;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

/// Writes the log and the truth, a file a piece.
pub(crate) fn generate(arguments: &GenerateArguments) -> Result<()> {
    let dirt = if arguments.clean { DirtSpec::NONE } else { DirtSpec::default() };
    let spec = GeneratorSpec {
        n_customers: arguments.customers,
        start: arguments.start.clone(),
        n_days: arguments.days,
        seed: arguments.seed,
        activity: arguments.activity,
        always_logged_in: arguments.always_logged_in,
        dirt,
    };
    let log = Log::new(spec).map_err(|GeneratorError::Field { field, reason }| {
        let flag = FLAGS.iter().find(|(name, _)| *name == field).map_or(field, |(_, flag)| flag);
        anyhow!("--{flag}: {reason}")
    })?;
    for folder in FOLDERS {
        let path = arguments.out.join(folder);
        std::fs::create_dir_all(&path).map_err(|error| anyhow!("--out: {}: {error}", path.display()))?;
        // Pieces of a longer log that was here before would be taken for pieces of this one.
        let mut entries = std::fs::read_dir(&path).map_err(|error| anyhow!("--out: {}: {error}", path.display()))?;
        if entries.next().is_some() {
            return Err(anyhow!(
                "--out: {}: is not empty; give another folder, or remove what is there",
                path.display()
            ));
        }
    }
    let line = ProgressLine::new();
    line.begin("generate", None);
    let n_events = AtomicU64::new(0);
    (0..log.n_pieces()).into_par_iter().try_for_each(|number| -> Result<()> {
        let piece = log.piece(number);
        let write = |folder: &str, schema, batch: RecordBatch| {
            write_file(&arguments.out.join(folder).join(format!("part-{number:06}.parquet")), schema, &batch)
        };
        write(FOLDERS[0], event_schema(), piece.event_batch()?)?;
        write(FOLDERS[1], truth_schema(), piece.truth_batch()?)?;
        write(FOLDERS[2], customer_schema(), piece.customer_batch()?)?;
        line.rows(piece.events.len() as u64);
        n_events.fetch_add(piece.events.len() as u64, Ordering::Relaxed);
        Ok(())
    })?;
    line.finish();
    say(&format!(
        "{} events of {} customers\nwritten: {}/{{{}}}\n",
        grouped(n_events.into_inner()),
        grouped(arguments.customers),
        arguments.out.display(),
        FOLDERS.join(", "),
    ))
}

/// Fields whose arguments have other names.
const FLAGS: [(&str, &str); 2] = [("n_customers", "customers"), ("n_days", "days")];

/// The log, the truth about its rows, in their order, and the truth about people.
const FOLDERS: [&str; 3] = ["events", "truth/events", "truth/customers"];

fn write_file(path: &Path, schema: SchemaRef, batch: &RecordBatch) -> Result<()> {
    let failed = |error: &dyn std::fmt::Display| anyhow!("{}: {error}", path.display());
    let file = File::create(path).map_err(|error| failed(&error))?;
    let mut writer = label_writer(file, schema)?;
    writer.write(batch).map_err(|error| failed(&error))?;
    writer.close().map_err(|error| failed(&error))?;
    Ok(())
}
