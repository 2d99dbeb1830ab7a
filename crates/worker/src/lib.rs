//! A worker: holds blocks of rows and answers questions about them.
//!
//! It owns no job and no decision. The coordinator that leads puts blocks here by Arrow Flight, asks (see `Shards` in the
//! protocol), and tells it to let go; one that has been replaced is refused. Everything is in memory: a worker that goes
//! takes its blocks with it.
//!
//! Async ends at the service: each question is computed on the machine's own threads, so that a long pass never keeps
//! heartbeats or health checks waiting.

mod budget;
mod computing;
mod flight;
mod membership;
mod peers;
mod service;
mod store;

pub use membership::{MembershipError, WorkerIdentity};

use arrow_flight::flight_service_server::FlightServiceServer;
use shoal_clustering::Machine;
use shoal_wire::epoch::Newest;
use shoal_wire::limits::MAX_MESSAGE_BYTES;
use shoal_wire::proto::DESCRIPTOR;
use shoal_wire::proto::shards_server::ShardsServer;
use std::future::Future;
use std::sync::Arc;
use thiserror::Error;
use tokio::net::TcpListener;
use tonic::service::interceptor::InterceptedService;

/// Why a worker stopped.
#[derive(Debug, Error)]
pub enum WorkerError {
    /// It could not join the fleet.
    #[error(transparent)]
    Membership(#[from] MembershipError),
    /// Its server failed.
    #[error("the server stopped: {0}")]
    Server(#[from] tonic::transport::Error),
    /// The reflection service could not be built.
    #[error("the protocol cannot be described: {0}")]
    Reflection(#[from] tonic_reflection::server::Error),
    /// Its device failed. Its blocks are with other workers; started anew, it can join again.
    #[error("the device has failed: {reason}")]
    Device {
        /// What it says.
        reason: String,
    },
}

/// Serves on `listener` and belongs to the fleet of whichever of the coordinators leads, until `shutdown`.
pub async fn run(
    listener: TcpListener,
    coordinators: &[String],
    identity: WorkerIdentity,
    machine: Machine,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<(), WorkerError> {
    let store = Arc::new(store::Store::new(machine, identity.memory_bytes));
    let shards = ShardsServer::new(service::ShardService::new(store.clone(), peers::Peers::new(identity.tls.clone())))
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES);
    let flight = FlightServiceServer::new(flight::BlockFlight::new(store.clone()))
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES);
    let newest = Newest::default();
    let shards = InterceptedService::new(shards, newest.clone());
    let flight = InterceptedService::new(flight, newest);
    let (health_reporter, health) = tonic_health::server::health_reporter();
    health_reporter.set_serving::<ShardsServer<service::ShardService>>().await;
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(DESCRIPTOR)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1()?;
    let router = shoal_wire::flight::server(identity.tls.as_ref())?
        .add_service(health)
        .add_service(reflection)
        .add_service(shards)
        .add_service(flight);
    // Serving begins with belonging, since the coordinator calls back at once, and ends after it.
    let (left, has_left) = tokio::sync::oneshot::channel::<()>();
    let serving = shoal_wire::flight::serve_until(router, listener, async {
        // A sender that is gone means the same.
        let _ = has_left.await;
    });
    let membership = async {
        let mut failure = None;
        let until_end = async {
            tokio::select! {
                () = shutdown => {}
                reason = store.computing.until_failed() => failure = Some(WorkerError::Device { reason }),
            }
        };
        let result = membership::belong(coordinators, identity, &store, until_end).await;
        // The server may have failed already; then nobody listens.
        let _ = left.send(());
        failure.map_or(result.map_err(WorkerError::from), Err)
    };
    let (served, belonged) = tokio::join!(serving, membership);
    belonged?;
    Ok(served?)
}
