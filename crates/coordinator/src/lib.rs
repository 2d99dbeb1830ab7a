//! The coordinator: owns jobs and the fleet.
//!
//! Clients put data sets by Arrow Flight and submit jobs by gRPC; workers register. A data set is cut into blocks as it
//! arrives; the blocks go to the workers and to storage at once, so no rows stay here. A job is [`shoal_clustering::segment`] over
//! [`remote::FleetRows`], which turns each question into one call to every worker and merges what comes back: the same
//! loop that `shoal run` executes over a file.
//!
//! Of several coordinators one leads ([`shoal_coordination`]); the others wait to. All that a leader does is a [`term`]: it
//! begins with what the terms before have left, data sets in storage and records of jobs in the store, and jobs that had
//! not ended go on, to the same result. Blocks of a worker that is lost are placed on the others.

mod at_rest;
mod balance;
mod config;
mod data_sets;
mod error;
mod flight;
mod groups;
mod holder;
mod holders;
mod job;
mod jobs_service;
mod members;
mod members_service;
mod moves;
mod placed;
mod placement;
mod queue;
mod records;
mod remote;
mod remote_shard;
mod results;
mod room;
mod run;
mod runner;
mod same_storage;
mod seat;
mod term;

pub use config::Config;
pub use error::CoordinatorError;

use error::FleetError;
use shoal_coordination::Leader;
use shoal_wire::limits::LEASE;
use shoal_wire::proto::DESCRIPTOR;
use std::future::Future;
use std::pin::pin;
use term::{Seats, Term};
use tokio::net::TcpListener;
use tonic_health::server::HealthReporter;
use tracing::{info, warn};

/// How often a coordinator fails to take up what earlier leaders have left before it ends.
const BEGINNINGS_MAX: usize = 3;

/// Serves on `listener` until `shutdown`: as the leader while it is one, and otherwise only to say that it is not. Jobs that
/// run then go on under the next leader; their rows stay on the workers until those notice that it is another one.
pub async fn run(
    listener: TcpListener,
    config: Config,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<(), CoordinatorError> {
    let (health_reporter, health) = tonic_health::server::health_reporter();
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(DESCRIPTOR)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1()?;
    let seats = Seats::default();
    let router = shoal_wire::flight::server(config.tls.as_ref())?
        .add_service(health)
        .add_service(reflection)
        .add_service(seats.jobs.clone())
        .add_service(seats.fleet.clone())
        .add_service(seats.flight.clone());
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let serving = shoal_wire::flight::serve_until(router, listener, async {
        // A sender that is gone means the same.
        let _ = stopped.await;
    });
    let leading = async {
        let last = lead(&config, &seats, &health_reporter, shutdown).await;
        // The server may have failed already; then nobody listens.
        let _ = stop.send(());
        last
    };
    let mut serving = pin!(serving);
    let last = tokio::select! {
        served = &mut serving => return Ok(served?),
        last = leading => last?,
    };
    // Calls that were under way end while this coordinator leads still.
    let served = serving.await;
    if let Some(leader) = last {
        leader.resign().await;
    }
    Ok(served?)
}

/// Campaigns and leads, as often as it comes to it, until `shutdown`. Returns the leader of the term that was broken off.
async fn lead(
    config: &Config,
    seats: &Seats,
    health: &HealthReporter,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<Option<Leader>, CoordinatorError> {
    let mut shutdown = pin!(shutdown);
    let mut n_failed = 0;
    loop {
        seats.report(health, false).await;
        let leader = tokio::select! {
            leader = Leader::campaign(config.store.clone(), &config.name, LEASE) => leader?,
            () = &mut shutdown => return Ok(None),
        };
        info!(epoch = leader.epoch(), "this coordinator leads");
        let term = match Term::begin(config, leader.clone()).await {
            Ok(term) => term,
            Err(error) if error.is_deposed() => continue,
            Err(error) => {
                leader.resign().await;
                n_failed += 1;
                if n_failed == BEGINNINGS_MAX || matches!(error, FleetError::OtherStorage { .. }) {
                    return Err(CoordinatorError::Storage(error.to_string()));
                }
                // A bucket may be unreachable for a moment, and another coordinator may reach it.
                warn!(%error, "what earlier leaders have left cannot be taken up, trying again");
                tokio::select! {
                    () = tokio::time::sleep(LEASE) => continue,
                    () = &mut shutdown => return Ok(None),
                }
            }
        };
        n_failed = 0;
        term.take(seats);
        seats.report(health, true).await;
        let ends = tokio::select! {
            () = leader.until_deposed() => false,
            () = &mut shutdown => true,
        };
        seats.leave();
        term.end();
        if ends {
            return Ok(Some(leader));
        }
    }
}
