//! The coordinator: owns jobs and the fleet.
//!
//! Clients put data sets by Arrow Flight and submit jobs by gRPC; workers register. A data set is cut into blocks as it
//! arrives; the blocks go to the workers and to storage at once, so no rows stay here. A job is [`shoal_clustering::segment`] over
//! [`remote::FleetRows`], which turns each question into one call to every worker and merges what comes back: the same
//! loop that `shoal run` executes over a file.
//!
//! Data sets are in storage: blocks of a worker that is lost are placed on the others, and jobs go on. So are the
//! records of jobs: a coordinator that is started on the same storage goes on where its predecessor was, and jobs that had not
//! ended run again, to the same result.

mod config;
mod data_sets;
mod error;
mod flight;
mod holders;
mod job;
mod jobs_service;
mod members;
mod members_service;
mod placed;
mod placement;
mod queue;
mod records;
mod remote;
mod remote_shard;
mod run;
mod runner;

pub use config::Config;
pub use error::CoordinatorError;

use arrow_flight::flight_service_server::FlightServiceServer;
use shoal_wire::limits::{HEARTBEAT_INTERVAL, MAX_MESSAGE_BYTES};
use shoal_wire::proto::DESCRIPTOR;
use shoal_wire::proto::fleet_server::FleetServer;
use shoal_wire::proto::jobs_server::JobsServer;
use std::future::Future;
use std::sync::Arc;
use tokio::net::TcpListener;

/// Serves on `listener` until `shutdown`. Jobs that run then go on under the next coordinator on the same storage; their rows
/// stay on the workers until those notice that the coordinator is another one.
pub async fn run(
    listener: TcpListener,
    config: Config,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<(), CoordinatorError> {
    let _claim = config.storage.claim().map_err(|error| CoordinatorError::Storage(error.to_string()))?;
    let members = Arc::new(members::Members::default());
    let home = Arc::new(data_sets::Home { members: members.clone(), storage: config.storage.clone() });
    let data_sets = data_sets::DataSets::open(home).await;
    let data_sets = Arc::new(data_sets.map_err(|error| CoordinatorError::Storage(error.to_string()))?);
    let records = Arc::new(records::Records::new(config.storage.clone()));
    let jobs = records.load(&data_sets).await.map_err(|error| CoordinatorError::Storage(error.to_string()))?;
    let queue = Arc::new(queue::Queue::new(config.clock, jobs));
    let watch = tokio::spawn(watch(members.clone()));
    let runner = runner::Runner::new(config, data_sets.clone(), queue.clone(), records.clone());
    let running = tokio::spawn(runner.run());
    let jobs = JobsServer::new(jobs_service::JobsService::new(queue.clone(), data_sets.clone(), records))
        .max_decoding_message_size(MAX_MESSAGE_BYTES);
    let fleet = FleetServer::new(members_service::FleetService::new(members, env!("CARGO_PKG_VERSION")));
    let flight = FlightServiceServer::new(flight::RowsFlight::new(data_sets, queue.clone()))
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES);
    let (health_reporter, health) = tonic_health::server::health_reporter();
    health_reporter.set_serving::<JobsServer<jobs_service::JobsService>>().await;
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(DESCRIPTOR)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1()?;
    let router = shoal_wire::flight::server()
        .add_service(health)
        .add_service(reflection)
        .add_service(jobs)
        .add_service(fleet)
        .add_service(flight);
    let stop = async {
        shutdown.await;
        // Ends the streams of clients that watch.
        queue.stop();
    };
    let served = shoal_wire::flight::serve_until(router, listener, stop).await;
    watch.abort();
    running.abort();
    Ok(served?)
}

/// Drops workers that have not reported in time.
async fn watch(members: Arc<members::Members>) {
    loop {
        tokio::time::sleep(HEARTBEAT_INTERVAL).await;
        members.remove_silent();
    }
}
