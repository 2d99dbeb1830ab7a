//! Belonging to a fleet: registering, heartbeats, leaving.

use crate::store::Store;
use shoal_wire::flight::channel;
use shoal_wire::limits::{HEARTBEAT_INTERVAL, HEARTBEAT_TIMEOUT};
use shoal_wire::proto::fleet_client::FleetClient;
use shoal_wire::proto::{HeartbeatRequest, LeaveRequest, RegisterRequest, Worker};
use shoal_wire::status::{is_connection_error, one_line};
use shoal_wire::tls::Tls;
use std::future::Future;
use std::pin::pin;
use std::time::Duration;
use thiserror::Error;
use tokio::time::{Instant, sleep, timeout};
use tonic::transport::Channel;
use tonic::{Code, Status};
use tracing::{info, warn};

/// How long a new worker waits for its coordinator to come up before it gives up.
const FIRST_CONTACT: Duration = Duration::from_secs(30);

/// What a worker tells about itself.
#[derive(Debug, Clone)]
pub struct WorkerIdentity {
    /// URL at which the coordinator reaches it.
    pub address: String,
    /// What it computes on.
    pub device: String,
    /// Version of Shoal.
    pub version: String,
    /// What rows may take here, in bytes.
    pub memory_bytes: u64,
    /// A number drawn when the process started.
    pub boot_id: u64,
    /// What it shows to its peers, where connections are encrypted.
    pub tls: Option<Tls>,
}

/// Why a worker could not join.
#[derive(Debug, Error)]
pub enum MembershipError {
    /// The coordinator's URL is none.
    #[error("--coordinator: {}", status.message())]
    Url {
        /// What is wrong with it.
        status: Status,
    },
    /// The coordinator refuses this worker.
    #[error("the coordinator {url} refuses this worker: {}", one_line(status))]
    Refused {
        /// The coordinator.
        url: String,
        /// What it says.
        status: Status,
    },
    /// The coordinator was not there.
    #[error("no coordinator at {url} in {} s: {}", FIRST_CONTACT.as_secs(), one_line(status))]
    Unreachable {
        /// The coordinator.
        url: String,
        /// The last attempt's error.
        status: Status,
    },
}

/// The coordinators that may lead, one of which is spoken to.
struct Coordinators {
    urls: Vec<String>,
    clients: Vec<FleetClient<Channel>>,
    current: usize,
}

impl Coordinators {
    fn new(urls: &[String], tls: Option<&Tls>) -> Result<Self, MembershipError> {
        let clients = urls.iter().map(|url| match channel(url, tls) {
            Ok(channel) => Ok(FleetClient::new(channel)),
            Err(status) => Err(MembershipError::Url { status }),
        });
        Ok(Self { urls: urls.to_vec(), clients: clients.collect::<Result<_, _>>()?, current: 0 })
    }

    fn url(&self) -> &str {
        &self.urls[self.current]
    }

    fn client(&mut self) -> &mut FleetClient<Channel> {
        &mut self.clients[self.current]
    }

    /// Speaks to the next one, which may be the same.
    fn turn(&mut self) {
        self.current = (self.current + 1) % self.urls.len();
    }
}

/// Registers with the coordinator that leads, of those at `urls`, and reports until `shutdown`, then leaves. A leader that does
/// not know this worker, since it was started anew or elected, is joined anew, and rows that nobody will ask for are let go.
pub(crate) async fn belong(
    urls: &[String],
    identity: WorkerIdentity,
    store: &Store,
    shutdown: impl Future<Output = ()>,
) -> Result<(), MembershipError> {
    let mut shutdown = pin!(shutdown);
    let mut coordinators = Coordinators::new(urls, identity.tls.as_ref())?;
    let mut worker_id = tokio::select! {
        joined = join(&mut coordinators, &identity, Some(FIRST_CONTACT)) => joined?,
        () = &mut shutdown => return Ok(()),
    };
    loop {
        tokio::select! {
            () = sleep(HEARTBEAT_INTERVAL) => {}
            () = &mut shutdown => break,
        }
        let heartbeat = HeartbeatRequest { worker_id: worker_id.clone(), boot_id: identity.boot_id };
        match unwrap_timeout(timeout(HEARTBEAT_TIMEOUT, coordinators.client().heartbeat(heartbeat)).await) {
            Ok(_) => {}
            Err(status) if status.code() == Code::NotFound => {
                warn!(url = coordinators.url(), "the coordinator does not know this worker, registering again");
                store.clear();
                worker_id = tokio::select! {
                    joined = join(&mut coordinators, &identity, None) => joined?,
                    () = &mut shutdown => return Ok(()),
                };
            }
            Err(status) => {
                warn!(url = coordinators.url(), status = one_line(&status), "heartbeat failed");
                coordinators.turn();
            }
        }
    }
    let leave = LeaveRequest { worker_id, boot_id: identity.boot_id };
    if let Err(status) = unwrap_timeout(timeout(HEARTBEAT_TIMEOUT, coordinators.client().leave(leave)).await) {
        let (url, status) = (coordinators.url(), one_line(&status));
        warn!(url, status, "the coordinator was not told that this worker leaves");
    }
    Ok(())
}

fn unwrap_timeout<T>(waited: Result<Result<T, Status>, tokio::time::error::Elapsed>) -> Result<T, Status> {
    waited.unwrap_or_else(|_| Err(Status::deadline_exceeded("no answer from the coordinator")))
}

/// Registers; coordinators that are not there or do not lead yet are waited for, as long as there is `patience`.
async fn join(
    coordinators: &mut Coordinators,
    identity: &WorkerIdentity,
    patience: Option<Duration>,
) -> Result<String, MembershipError> {
    let worker = Worker {
        address: identity.address.clone(),
        device: identity.device.clone(),
        version: identity.version.clone(),
        boot_id: identity.boot_id,
        memory_bytes: identity.memory_bytes,
    };
    let began = Instant::now();
    loop {
        for _ in 0..coordinators.urls.len() {
            let request = RegisterRequest { worker: Some(worker.clone()) };
            let status = match unwrap_timeout(timeout(HEARTBEAT_TIMEOUT, coordinators.client().register(request)).await)
            {
                Ok(response) => {
                    let worker_id = response.into_inner().worker_id;
                    info!(url = coordinators.url(), worker_id, "joined the fleet");
                    return Ok(worker_id);
                }
                Err(status) => status,
            };
            let url = coordinators.url().to_owned();
            // A coordinator that goes while it is asked has refused nobody.
            if !(is_connection_error(&status) || status.code() == Code::DeadlineExceeded) {
                return Err(MembershipError::Refused { url, status });
            }
            warn!(url, status = one_line(&status), "cannot join yet, trying again");
            if patience.is_some_and(|patience| began.elapsed() >= patience) {
                return Err(MembershipError::Unreachable { url, status });
            }
            coordinators.turn();
        }
        sleep(HEARTBEAT_INTERVAL).await;
    }
}
