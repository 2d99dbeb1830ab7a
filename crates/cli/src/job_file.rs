//! Reads a job file.

use anyhow::{Result, anyhow};
use shoal_domain::{JobSpec, Model};
use shoal_wire::documents::parse_model;
use std::path::Path;

/// Reads and checks a job file. An unknown key, a wrong type or value is an error with its line.
pub(crate) fn read(path: &Path) -> Result<JobSpec> {
    let text = std::fs::read_to_string(path).map_err(|error| anyhow!("{}: {error}", path.display()))?;
    // One line for one mistake: the reader has the file, and line and column say where to look.
    let options = serde_saphyr::options! { with_snippet: false };
    let spec = serde_saphyr::from_str_with_options(&text, options);
    let spec: JobSpec = spec.map_err(|error| anyhow!("{}: {error}", path.display()))?;
    spec.check().map_err(|error| anyhow!("{}: {error}", path.display()))?;
    Ok(spec)
}

/// The model that the job starts from, if it names one.
pub(crate) fn warm_start(spec: &JobSpec) -> Result<Option<Model>> {
    let Some(path) = &spec.kmeans.warm_start else {
        return Ok(None);
    };
    let json = std::fs::read(path).map_err(|error| anyhow!("kmeans.warm_start: {path}: {error}"))?;
    let model = parse_model(&json).map_err(|reason| anyhow!("kmeans.warm_start: {path}: {reason}"))?;
    Ok(Some(model))
}
