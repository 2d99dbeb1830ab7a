//! The epoch of the coordinator that leads, on every call to a worker: a coordinator that was replaced and does not know it
//! is refused.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tonic::metadata::{AsciiMetadataValue, MetadataMap};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;
use tonic::{Request, Status};

/// The metadata key, whose value is a decimal number.
const KEY: &str = "shoal-epoch";

/// A connection to a worker on which every call says under whom.
pub type WorkerChannel = InterceptedService<Channel, Stamp>;

/// Writes an epoch on calls.
#[derive(Debug, Clone)]
pub struct Stamp(AsciiMetadataValue);

impl Stamp {
    /// For calls of the coordinator that was elected at this epoch.
    pub fn new(epoch: u64) -> Self {
        Self(epoch.into())
    }

    /// For calls that are made in the place of whoever sent this one.
    pub fn of(metadata: &MetadataMap) -> Result<Self, Status> {
        Ok(Self::new(epoch_of(metadata)?))
    }

    /// A connection with it.
    pub fn on(self, channel: Channel) -> WorkerChannel {
        InterceptedService::new(channel, self)
    }
}

impl Interceptor for Stamp {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        request.metadata_mut().insert(KEY, self.0.clone());
        Ok(request)
    }
}

/// What a worker knows of epochs: the newest. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Newest(Arc<AtomicU64>);

impl Interceptor for Newest {
    fn call(&mut self, request: Request<()>) -> Result<Request<()>, Status> {
        let epoch = epoch_of(request.metadata())?;
        let newest = self.0.fetch_max(epoch, Ordering::Relaxed);
        if epoch < newest {
            let message = format!("{KEY}: {epoch} is over, the coordinator of epoch {newest} leads");
            return Err(Status::failed_precondition(message));
        }
        Ok(request)
    }
}

fn epoch_of(metadata: &MetadataMap) -> Result<u64, Status> {
    let value = metadata.get(KEY).ok_or_else(|| Status::invalid_argument(format!("{KEY}: is missing")))?;
    let number = value.to_str().ok().and_then(|text| text.parse().ok());
    number.ok_or_else(|| Status::invalid_argument(format!("{KEY}: is not a number")))
}
