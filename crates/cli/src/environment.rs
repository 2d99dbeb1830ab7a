//! What is read from the surroundings: the environment for object stores, what tells this process from others, and memory.

use anyhow::Result;
use bytesize::ByteSize;
use shoal_behavior::ReadOptions;
use std::time::{SystemTime, UNIX_EPOCH};

/// Variables of the object stores' own command lines. Others are not passed on: stores also know keys like `token` and
/// `region`, which mean something else in many environments.
const PREFIXES: [&str; 3] = ["AWS_", "GOOGLE_", "AZURE_"];

/// Credentials and settings of object stores.
pub(crate) fn store_options() -> Vec<(String, String)> {
    let variables =
        std::env::vars_os().filter_map(|(key, value)| Some((key.into_string().ok()?, value.into_string().ok()?)));
    variables.filter(|(key, _)| PREFIXES.iter().any(|prefix| key.starts_with(prefix))).collect()
}

/// What reading needs. Queries may hold so many bytes, or else four fifths of what this process may take.
pub(crate) fn read_options(memory: Option<ByteSize>) -> ReadOptions {
    let memory_bytes = memory.map(|memory| memory.as_u64()).or_else(|| memory_bytes().map(|bytes| bytes / 5 * 4));
    ReadOptions { store: store_options(), memory_bytes }
}

/// A number that no other process has, not even a later one at the same address.
pub(crate) fn process_number() -> Result<u64> {
    let nanoseconds = SystemTime::now().duration_since(UNIX_EPOCH)?.as_nanos() as u64;
    Ok(nanoseconds ^ u64::from(std::process::id()).rotate_left(32))
}

/// The files in which Linux tells the limit of the control group, versions 2 and 1.
const MEMORY_LIMITS: [&str; 2] = ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"];

/// The memory that this process may take, in bytes: the machine's, or less where its control group has less.
pub(crate) fn memory_bytes() -> Option<u64> {
    let machine = std::fs::read_to_string("/proc/meminfo").ok()?;
    let kibibytes = machine.lines().find_map(|line| line.strip_prefix("MemTotal:")?.trim().strip_suffix("kB"))?;
    let machine = kibibytes.trim().parse::<u64>().ok()? << 10;
    // A group without a limit says `max`, or a number that no machine has.
    let limits = MEMORY_LIMITS.iter().filter_map(|path| std::fs::read_to_string(path).ok()?.trim().parse::<u64>().ok());
    Some(limits.fold(machine, u64::min))
}
