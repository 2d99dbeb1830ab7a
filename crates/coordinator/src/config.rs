//! What a coordinator is told by whoever starts it.

use shoal_storage::Storage;
use std::time::SystemTime;

/// Settings that come from outside.
#[derive(Debug, Clone)]
pub struct Config {
    /// Reads the clock, for the times in job records.
    pub clock: fn() -> SystemTime,
    /// Keys and values for object stores that jobs name by URL.
    pub store_options: Vec<(String, String)>,
    /// Where data sets are kept.
    pub storage: Storage,
}
