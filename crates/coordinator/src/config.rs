//! What a coordinator is told by whoever starts it.

use std::time::SystemTime;

/// Settings that come from outside.
#[derive(Debug, Clone)]
pub struct Config {
    /// Reads the clock, for the times in job records.
    pub clock: fn() -> SystemTime,
    /// Keys and values for object stores that jobs name by URL.
    pub store_options: Vec<(String, String)>,
}
