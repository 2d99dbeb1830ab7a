//! The gRPC face of the list of workers.

use crate::members::Members;
use shoal_wire::epoch::Stamp;
use shoal_wire::flight::channel;
use shoal_wire::limits::{CONNECT_TIMEOUT, HEARTBEAT_INTERVAL};
use shoal_wire::proto::fleet_server::Fleet;
use shoal_wire::proto::shards_client::ShardsClient;
use shoal_wire::proto::{
    HeartbeatRequest, HeartbeatResponse, LeaveRequest, LeaveResponse, ListWorkersRequest, ListWorkersResponse,
    RegisterRequest, RegisterResponse, ReleaseRequest,
};
use shoal_wire::status::one_line;
use shoal_wire::tls::Tls;
use std::sync::Arc;
use tonic::{Request, Response, Status};

pub(crate) struct FleetService {
    members: Arc<Members>,
    version: &'static str,
    epoch: u64,
    tls: Option<Tls>,
}

impl FleetService {
    pub(crate) fn new(members: Arc<Members>, version: &'static str, epoch: u64, tls: Option<Tls>) -> Self {
        Self { members, version, epoch, tls }
    }
}

#[tonic::async_trait]
impl Fleet for FleetService {
    async fn register(&self, request: Request<RegisterRequest>) -> Result<Response<RegisterResponse>, Status> {
        let worker = request.into_inner().worker.ok_or_else(|| Status::invalid_argument("worker: is missing"))?;
        if worker.version != self.version {
            let (theirs, ours) = (&worker.version, self.version);
            let message = format!("worker.version: {theirs} cannot join a fleet of version {ours}");
            return Err(Status::failed_precondition(message));
        }
        // A worker that cannot be reached would fail its first job instead; releasing nothing is a question like any.
        let channel = Stamp::new(self.epoch).on(channel(&worker.address, self.tls.as_ref())?);
        let mut shards = ShardsClient::new(channel.clone());
        let reached = tokio::time::timeout(CONNECT_TIMEOUT, shards.release(ReleaseRequest::default())).await;
        let unreachable = |why: String| {
            // It may be in a moment.
            Status::unavailable(format!("worker.address: {} cannot be reached: {why}", worker.address))
        };
        reached
            .map_err(|_| unreachable(format!("no answer in {} s", CONNECT_TIMEOUT.as_secs())))?
            .map_err(|status| unreachable(one_line(&status)))?;
        let worker_id = self.members.join(worker, channel);
        let heartbeat_interval_ms = HEARTBEAT_INTERVAL.as_millis() as u32;
        Ok(Response::new(RegisterResponse { worker_id, heartbeat_interval_ms }))
    }

    async fn heartbeat(&self, request: Request<HeartbeatRequest>) -> Result<Response<HeartbeatResponse>, Status> {
        let HeartbeatRequest { worker_id, boot_id } = request.into_inner();
        if self.members.heartbeat(&worker_id, boot_id) {
            return Ok(Response::new(HeartbeatResponse {}));
        }
        Err(Status::not_found(format!("worker {worker_id} is not in the fleet")))
    }

    async fn leave(&self, request: Request<LeaveRequest>) -> Result<Response<LeaveResponse>, Status> {
        let LeaveRequest { worker_id, boot_id } = request.into_inner();
        self.members.leave(&worker_id, boot_id);
        Ok(Response::new(LeaveResponse {}))
    }

    async fn list_workers(&self, _: Request<ListWorkersRequest>) -> Result<Response<ListWorkersResponse>, Status> {
        let workers = self.members.alive().into_iter().map(|member| member.worker);
        Ok(Response::new(ListWorkersResponse { workers: workers.collect() }))
    }
}
