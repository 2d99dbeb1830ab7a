//! What a coordinator is told by whoever starts it.

use shoal_behavior::ReadOptions;
use shoal_coordination::Store;
use shoal_storage::Storage;
use shoal_wire::tls::Tls;
use std::sync::Arc;
use std::time::SystemTime;

/// Settings that come from outside.
#[derive(Debug, Clone)]
pub struct Config {
    /// Reads the clock, for the times in job records.
    pub clock: fn() -> SystemTime,
    /// What reading the sources of jobs needs.
    pub read_options: ReadOptions,
    /// Where data sets and results are kept, by all coordinators in the same place.
    pub storage: Storage,
    /// What coordinators agree by, and where the records of jobs are.
    pub store: Arc<dyn Store>,
    /// Jobs that run at the same time. Each holds a prepared copy of its rows on the workers.
    pub running_jobs: usize,
    /// Jobs of one client that may wait or run at a time.
    pub jobs_per_client: usize,
    /// Encrypts all connections, where there are certificates.
    pub tls: Option<Tls>,
    /// What others read of this coordinator while it leads.
    pub name: String,
}
