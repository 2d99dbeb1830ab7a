//! What is read from the surroundings: the environment for object stores, and what tells this process from others.

use anyhow::Result;
use shoal_behavior::StoreOptions;
use std::time::{SystemTime, UNIX_EPOCH};

/// Variables of the object stores' own command lines. Others are not passed on: stores also know keys like `token` and
/// `region`, which mean something else in many environments.
const PREFIXES: [&str; 3] = ["AWS_", "GOOGLE_", "AZURE_"];

/// Credentials and settings of object stores.
pub(crate) fn store_options() -> StoreOptions {
    let variables =
        std::env::vars_os().filter_map(|(key, value)| Some((key.into_string().ok()?, value.into_string().ok()?)));
    variables.filter(|(key, _)| PREFIXES.iter().any(|prefix| key.starts_with(prefix))).collect()
}

/// A number that no other process has, not even a later one at the same address.
pub(crate) fn process_number() -> Result<u64> {
    let nanoseconds = SystemTime::now().duration_since(UNIX_EPOCH)?.as_nanos() as u64;
    Ok(nanoseconds ^ u64::from(std::process::id()).rotate_left(32))
}
