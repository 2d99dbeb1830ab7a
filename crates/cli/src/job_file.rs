//! Reads a job file.

use anyhow::{Result, anyhow};
use serde::de::DeserializeOwned;
use shoal_domain::job::{FeaturesJob, SourceSpec};
use shoal_domain::{JobSpec, Model};
use shoal_wire::documents::parse_model;
use std::path::Path;

/// Reads and checks a job file.
pub(crate) fn read(path: &Path) -> Result<JobSpec> {
    let spec: JobSpec = parse(path)?;
    spec.check().map_err(|error| anyhow!("{}: {error}", path.display()))?;
    Ok(spec)
}

/// Reads and checks a job file of which only the source matters.
pub(crate) fn read_source(path: &Path) -> Result<SourceSpec> {
    let job: FeaturesJob = parse(path)?;
    job.check().map_err(|error| anyhow!("{}: {error}", path.display()))?;
    Ok(job.source)
}

/// An unknown key, a wrong type or value is an error with its line.
fn parse<T: DeserializeOwned>(path: &Path) -> Result<T> {
    let text = std::fs::read_to_string(path).map_err(|error| anyhow!("{}: {error}", path.display()))?;
    // One line for one mistake: the reader has the file, and line and column say where to look.
    let options = serde_saphyr::options! { with_snippet: false };
    let spec = serde_saphyr::from_str_with_options(&text, options);
    spec.map_err(|error: serde_saphyr::Error| {
        anyhow!("{}: {}", path.display(), in_our_words(&error.to_string(), &text))
    })
}

/// What the parser says in the words of its own source, and in ours.
const WORDS: [(&str, &str); 4] = [
    ("invalid u64", "a whole number, 0 or more, is needed"),
    ("invalid f64", "a number is needed"),
    ("invalid bool", "true or false is needed"),
    ("expected mapping start", "fields are needed, and there are none"),
];

/// The parser's message without its advice to programmers, and with the line that it is about.
fn in_our_words(message: &str, text: &str) -> String {
    let (what, place) = message.rsplit_once(" at line ").map_or((message, None), |(what, place)| (what, Some(place)));
    let what =
        [", set ", ", use ", "; use "].iter().fold(what, |what, advice| what.split(advice).next().unwrap_or(what));
    let what = WORDS.iter().find(|(theirs, _)| *theirs == what).map_or(what, |(_, ours)| *ours);
    let number = |place: &str| place.split(',').next()?.parse::<usize>().ok();
    let line = place.and_then(number).and_then(|number| text.lines().nth(number.checked_sub(1)?));
    match (place, line) {
        (Some(place), Some(line)) => format!("{what} at line {place}: `{}`", line.trim()),
        (Some(place), None) => format!("{what} at line {place}"),
        _ => what.to_owned(),
    }
}

/// The model that the job starts from, if it names one.
pub(crate) fn warm_start(spec: &JobSpec) -> Result<Option<Model>> {
    let Some(path) = &spec.kmeans.warm_start else {
        return Ok(None);
    };
    let json = std::fs::read(path).map_err(|error| anyhow!("kmeans.warm_start: {path}: {error}"))?;
    let model = parse_model(&json).map_err(|reason| anyhow!("kmeans.warm_start: {path} is no model.json: {reason}"))?;
    Ok(Some(model))
}
