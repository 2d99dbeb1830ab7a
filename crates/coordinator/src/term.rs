//! A term: all that a coordinator is while it leads.

use crate::config::Config;
use crate::data_sets::{DataSets, Home};
use crate::error::FleetError;
use crate::flight::RowsFlight;
use crate::holder::release_owed;
use crate::jobs_service::JobsService;
use crate::members::Members;
use crate::members_service::FleetService;
use crate::queue::Queue;
use crate::records::{self, Records};
use crate::results::Results;
use crate::runner::Runner;
use crate::same_storage::check_storage;
use crate::seat::Seat;
use arrow_flight::flight_service_server::FlightServiceServer;
use shoal_coordination::Leader;
use shoal_wire::limits::{HEARTBEAT_INTERVAL, MAX_MESSAGE_BYTES};
use shoal_wire::proto::fleet_server::FleetServer;
use shoal_wire::proto::jobs_server::JobsServer;
use shoal_wire::tls::Tls;
use std::sync::Arc;
use tokio::task::JoinHandle;
use tonic_health::server::HealthReporter;

/// What the leader offers.
#[derive(Clone, Default)]
pub(crate) struct Seats {
    pub(crate) jobs: Seat<JobsServer<JobsService>>,
    pub(crate) fleet: Seat<FleetServer<FleetService>>,
    pub(crate) flight: Seat<FlightServiceServer<RowsFlight>>,
}

impl Seats {
    pub(crate) fn leave(&self) {
        self.jobs.leave();
        self.fleet.leave();
        self.flight.leave();
    }

    /// Tells health checks whether jobs are served here.
    pub(crate) async fn report(&self, health: &HealthReporter, leads: bool) {
        match leads {
            true => health.set_serving::<JobsServer<JobsService>>().await,
            false => health.set_not_serving::<JobsServer<JobsService>>().await,
        }
    }
}

/// The state of a leader and the tasks that work on it.
pub(crate) struct Term {
    leader: Leader,
    members: Arc<Members>,
    data_sets: Arc<DataSets>,
    queue: Arc<Queue>,
    records: Arc<Records>,
    results: Arc<Results>,
    tls: Option<Tls>,
    tasks: [JoinHandle<()>; 2],
}

impl Term {
    /// Takes up what the terms before have left, and starts to work.
    pub(crate) async fn begin(config: &Config, leader: Leader) -> Result<Self, FleetError> {
        let epoch = leader.epoch();
        check_storage(config, &leader).await?;
        let members = Arc::new(Members::default());
        let home = Arc::new(Home { members: members.clone(), storage: config.storage.clone(), epoch });
        let data_sets = Arc::new(DataSets::open(home, leader.clone()).await?);
        let results = Arc::new(Results::new(config.storage.clone(), epoch));
        let left = records::load(&leader, &results, &data_sets).await?;
        let queue = Arc::new(Queue::new(config, left, epoch));
        let records = Arc::new(Records::new(leader.clone(), queue.clone(), results.clone()));
        let (data_sets_of_jobs, records_of_jobs) = (data_sets.clone(), records.clone());
        let runner =
            Runner::new(config.clone(), data_sets_of_jobs, queue.clone(), records_of_jobs, results.clone(), epoch);
        let tasks = [tokio::spawn(watch(members.clone(), data_sets.clone())), tokio::spawn(runner.run())];
        Ok(Self { leader, members, data_sets, queue, records, results, tls: config.tls.clone(), tasks })
    }

    /// Begins to serve.
    pub(crate) fn take(&self, seats: &Seats) {
        let Self { leader, members, data_sets, queue, records, results, tls, .. } = self;
        let jobs = JobsService::new(queue.clone(), data_sets.clone(), records.clone(), results.clone());
        let jobs = JobsServer::new(jobs).max_decoding_message_size(MAX_MESSAGE_BYTES);
        let fleet = FleetService::new(members.clone(), env!("CARGO_PKG_VERSION"), leader.epoch(), tls.clone());
        let flight = FlightServiceServer::new(RowsFlight::new(data_sets.clone(), queue.clone(), results.clone()))
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES);
        seats.jobs.take(leader, jobs);
        seats.fleet.take(leader, FleetServer::new(fleet));
        seats.flight.take(leader, flight);
    }

    /// Stops to work. No job ends by that, and streams of clients that watch do.
    pub(crate) fn end(self) {
        self.queue.stop();
        for task in self.tasks {
            task.abort();
        }
    }
}

/// Drops workers that have not reported in time, and rows that nobody needs; tells workers what they have not heard.
async fn watch(members: Arc<Members>, data_sets: Arc<DataSets>) {
    loop {
        tokio::time::sleep(HEARTBEAT_INTERVAL).await;
        members.remove_silent();
        for member in members.alive() {
            // Nobody waits for it: what is not heard now is said again the next time.
            tokio::spawn(async move { release_owed(&member).await });
        }
        // A worker that stands still must not keep this from looking after the others.
        let data_sets = data_sets.clone();
        tokio::spawn(async move { data_sets.let_go_of_idle().await });
    }
}
