//! Connections to the servers of an etcd cluster, of which any may be down.

use crate::StoreError;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::time::timeout;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};

/// How long one server may take for one answer. A cluster that elects a leader needs about a second.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// The servers, one of which is asked until it does not answer.
#[derive(Debug)]
pub(crate) struct Connection {
    servers: Vec<(String, Channel)>,
    current: AtomicUsize,
}

impl Connection {
    pub(crate) fn new(endpoints: &[String]) -> Result<Self, StoreError> {
        let servers = endpoints.iter().map(|endpoint| {
            let no_url = || StoreError::Endpoint { endpoint: endpoint.clone() };
            if !(endpoint.starts_with("http://") || endpoint.starts_with("https://")) {
                return Err(no_url());
            }
            let parsed = Endpoint::from_shared(endpoint.clone()).map_err(|_| no_url())?;
            Ok((endpoint.clone(), parsed.connect_timeout(CONNECT_TIMEOUT).connect_lazy()))
        });
        let servers = servers.collect::<Result<Vec<_>, StoreError>>()?;
        if servers.is_empty() {
            return Err(StoreError::Endpoint { endpoint: String::new() });
        }
        Ok(Self { servers, current: AtomicUsize::new(0) })
    }

    /// Asks one server after the other, each once, until one answers.
    pub(crate) async fn ask<T, F>(&self, call: impl Fn(Channel) -> F) -> Result<T, StoreError>
    where
        F: Future<Output = Result<T, Status>>,
    {
        let first = self.current.load(Ordering::Relaxed);
        let mut n_tried = 0;
        loop {
            let idx = (first + n_tried) % self.servers.len();
            let (endpoint, channel) = &self.servers[idx];
            let too_slow = |_| Err(Status::deadline_exceeded(format!("no answer in {} s", ANSWER_TIMEOUT.as_secs())));
            let status = match timeout(ANSWER_TIMEOUT, call(channel.clone())).await.unwrap_or_else(too_slow) {
                Ok(answer) => {
                    self.current.store(idx, Ordering::Relaxed);
                    return Ok(answer);
                }
                Err(status) => status,
            };
            let (endpoint, reason) = (endpoint.clone(), status.message().to_owned());
            if !is_passing(&status) {
                return Err(StoreError::Refused { endpoint, reason });
            }
            n_tried += 1;
            if n_tried == self.servers.len() {
                return Err(StoreError::Unreachable { endpoint, reason });
            }
        }
    }
}

/// Whether another server, or the same one later, may answer. A broken connection comes as any of these.
fn is_passing(status: &Status) -> bool {
    use Code::{Aborted, Cancelled, DeadlineExceeded, Internal, Unavailable, Unknown};
    matches!(status.code(), Unavailable | Unknown | Cancelled | Internal | DeadlineExceeded | Aborted)
}
