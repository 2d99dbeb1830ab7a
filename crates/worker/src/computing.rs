//! Where async ends: questions are computed on threads that may block. A device that fails ends its worker.

use shoal_clustering::ClusteringError;
use shoal_wire::status::ToStatus;
use tokio::sync::watch;
use tonic::Status;
use tracing::error;

/// Computes, until the device has failed.
#[derive(Default)]
pub(crate) struct Computing {
    failure: watch::Sender<Option<String>>,
}

impl Computing {
    /// `work` runs on a thread that may block, and spreads over the device's threads from there. A panic is the question's
    /// failure, not the worker's.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, ClusteringError> + Send + 'static,
    ) -> Result<T, Status> {
        let done = tokio::task::spawn_blocking(work).await;
        let result = done.map_err(|error| match error.is_cancelled() {
            // It was never begun. Whoever asks must take it for a loss, not for an answer.
            true => Status::unavailable("the worker stops"),
            false => Status::internal(format!("the computation panicked: {error}")),
        })?;
        result.map_err(|error| {
            if let ClusteringError::DeviceFailed(reason) = &error {
                error!(%reason, "the device has failed, this worker ends");
                self.failure.send_replace(Some(reason.to_string()));
            }
            error.to_status()
        })
    }

    /// Returns when the device has failed, with what it says. Other workers have its blocks then; one that is started anew
    /// has a device whose state is not in doubt.
    pub(crate) async fn until_failed(&self) -> String {
        let mut failure = self.failure.subscribe();
        let failed = failure.wait_for(Option::is_some).await.map(|failure| failure.clone().unwrap_or_default());
        // An error would mean that the sender is dropped, which `self` prevents.
        failed.unwrap_or_default()
    }
}
