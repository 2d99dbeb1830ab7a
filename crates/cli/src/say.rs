//! Standard output.

use anyhow::Result;
use std::io::{ErrorKind, Write};

/// Prints text as it is. A reader that has gone, such as `head`, has seen what it wanted: that is no error.
pub(crate) fn say(text: &str) -> Result<()> {
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}
