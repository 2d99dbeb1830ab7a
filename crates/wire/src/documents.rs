//! The JSON documents: model and report, always written the same way.

use serde::Serialize;
use shoal_domain::Model;

/// A document as it stands in a file and travels in a message: indented, with a line end. Equal values have equal bytes.
pub fn to_bytes(document: &impl Serialize) -> Result<Vec<u8>, serde_json::Error> {
    let mut bytes = serde_json::to_vec_pretty(document)?;
    bytes.push(b'\n');
    Ok(bytes)
}

/// Reads a model.json; the error is a reason in one line.
pub fn parse_model(json: &[u8]) -> Result<Model, String> {
    let model: Model = serde_json::from_slice(json).map_err(|error| error.to_string())?;
    if model.format != Model::FORMAT {
        return Err(format!("its format is {}, this version reads {}", model.format, Model::FORMAT));
    }
    if model.segments.len() != model.n_clusters || model.preparation.columns.len() != model.n_features {
        return Err("its segments or columns are not complete".to_owned());
    }
    let is_whole = |centroid: &Vec<f64>| centroid.len() == model.n_features && centroid.iter().all(|x| x.is_finite());
    if !model.segments.iter().all(|segment| is_whole(&segment.centroid)) {
        return Err("a centroid is not complete".to_owned());
    }
    Ok(model)
}
