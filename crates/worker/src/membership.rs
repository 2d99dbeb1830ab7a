//! Belonging to a fleet: registering, heartbeats, leaving.

use crate::store::Store;
use shoal_wire::flight::channel;
use shoal_wire::limits::{HEARTBEAT_INTERVAL, HEARTBEAT_TIMEOUT};
use shoal_wire::proto::fleet_client::FleetClient;
use shoal_wire::proto::{HeartbeatRequest, LeaveRequest, RegisterRequest, Worker};
use shoal_wire::status::one_line;
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
    /// A number drawn when the process started.
    pub boot_id: u64,
}

/// Why a worker could not join.
#[derive(Debug, Error)]
pub enum MembershipError {
    /// The coordinator's URL is none, or it refuses this worker.
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

/// Registers and reports until `shutdown`, then leaves. A coordinator that comes back after a restart does not know this
/// worker any more: it registers again, and lets go of rows that nobody will ask for.
pub(crate) async fn belong(
    url: &str,
    identity: WorkerIdentity,
    store: &Store,
    shutdown: impl Future<Output = ()>,
) -> Result<(), MembershipError> {
    let mut shutdown = pin!(shutdown);
    let refused = |status| MembershipError::Refused { url: url.to_owned(), status };
    let mut fleet = FleetClient::new(channel(url).map_err(refused)?);
    let joined = tokio::select! {
        joined = join(&mut fleet, &identity, url) => joined?,
        () = &mut shutdown => return Ok(()),
    };
    let mut worker_id = joined;
    loop {
        tokio::select! {
            () = sleep(HEARTBEAT_INTERVAL) => {}
            () = &mut shutdown => break,
        }
        let heartbeat = HeartbeatRequest { worker_id: worker_id.clone(), boot_id: identity.boot_id };
        match unwrap_timeout(timeout(HEARTBEAT_TIMEOUT, fleet.heartbeat(heartbeat)).await) {
            Ok(_) => {}
            Err(status) if status.code() == Code::NotFound => {
                warn!(url, "the coordinator has forgotten this worker, registering again");
                store.clear();
                worker_id = tokio::select! {
                    joined = join(&mut fleet, &identity, url) => joined?,
                    () = &mut shutdown => return Ok(()),
                };
            }
            Err(status) => warn!(url, status = one_line(&status), "heartbeat failed"),
        }
    }
    let leave = LeaveRequest { worker_id, boot_id: identity.boot_id };
    if let Err(status) = unwrap_timeout(timeout(HEARTBEAT_TIMEOUT, fleet.leave(leave)).await) {
        warn!(url, status = one_line(&status), "the coordinator was not told that this worker leaves");
    }
    Ok(())
}

fn unwrap_timeout<T>(waited: Result<Result<T, Status>, tokio::time::error::Elapsed>) -> Result<T, Status> {
    waited.unwrap_or_else(|_| Err(Status::deadline_exceeded("no answer from the coordinator")))
}

/// Registers; a coordinator that is not there yet is waited for.
async fn join(
    fleet: &mut FleetClient<Channel>,
    identity: &WorkerIdentity,
    url: &str,
) -> Result<String, MembershipError> {
    let worker = Worker {
        address: identity.address.clone(),
        device: identity.device.clone(),
        version: identity.version.clone(),
        boot_id: identity.boot_id,
    };
    let deadline = Instant::now() + FIRST_CONTACT;
    loop {
        let request = RegisterRequest { worker: Some(worker.clone()) };
        let status = match unwrap_timeout(timeout(HEARTBEAT_TIMEOUT, fleet.register(request)).await) {
            Ok(response) => {
                let worker_id = response.into_inner().worker_id;
                info!(url, worker_id, "joined the fleet");
                return Ok(worker_id);
            }
            Err(status) => status,
        };
        let url = url.to_owned();
        if !matches!(status.code(), Code::Unavailable | Code::DeadlineExceeded | Code::Unknown) {
            return Err(MembershipError::Refused { url, status });
        }
        warn!(url, status = one_line(&status), "cannot join yet, trying again");
        if Instant::now() >= deadline {
            return Err(MembershipError::Unreachable { url, status });
        }
        sleep(HEARTBEAT_INTERVAL).await;
    }
}
