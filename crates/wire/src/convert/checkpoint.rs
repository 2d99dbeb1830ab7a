//! Checkpoints as messages.

use super::{WireError, required};
use crate::proto;
use shoal_clustering::kmeans::{Checkpoint, LloydState, Progress};

impl From<&Checkpoint> for proto::Checkpoint {
    fn from(checkpoint: &Checkpoint) -> Self {
        let start = |state: &LloydState| {
            let progress = match state.progress {
                Progress::Continue => proto::StartProgress::Continue,
                Progress::Converged => proto::StartProgress::Converged,
                Progress::Exhausted => proto::StartProgress::Exhausted,
            };
            proto::StartState {
                centroids: Some((&state.centroids).into()),
                n_iter: state.n_iter as u64,
                shift: state.shift,
                shift_squared_max: state.shift_squared_max,
                progress: progress.into(),
            }
        };
        Self { first_number: checkpoint.first_number as u64, starts: checkpoint.starts.iter().map(start).collect() }
    }
}

impl TryFrom<proto::Checkpoint> for Checkpoint {
    type Error = WireError;

    fn try_from(checkpoint: proto::Checkpoint) -> Result<Self, WireError> {
        let start = |state: proto::StartState| {
            let progress = match state.progress() {
                proto::StartProgress::Continue => Progress::Continue,
                proto::StartProgress::Converged => Progress::Converged,
                proto::StartProgress::Exhausted => Progress::Exhausted,
                proto::StartProgress::Unspecified => {
                    return Err(WireError::Invalid { field: "starts.progress", reason: "is not known" });
                }
            };
            Ok(LloydState {
                centroids: required("starts.centroids", state.centroids)?.try_into()?,
                n_iter: state.n_iter as usize,
                shift: state.shift,
                shift_squared_max: state.shift_squared_max,
                progress,
            })
        };
        let first_number = checkpoint.first_number as usize;
        let starts = checkpoint.starts.into_iter().map(start).collect::<Result<Vec<_>, WireError>>()?;
        match starts.is_empty() {
            true => Err(WireError::Invalid { field: "starts", reason: "there are none" }),
            false => Ok(Self { first_number, starts }),
        }
    }
}
