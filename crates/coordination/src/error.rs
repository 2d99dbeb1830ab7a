use thiserror::Error;

/// Why a store could not do what was asked.
#[derive(Debug, Error)]
pub enum StoreError {
    /// The file could not be opened, read or written.
    #[error("`{path}`: {source}")]
    File {
        /// The file.
        path: String,
        /// What the database says.
        source: Box<redb::Error>,
    },
    /// Another process has the file.
    #[error("`{path}` belongs to another coordinator, which runs")]
    InUse {
        /// The file.
        path: String,
    },
    /// An address of etcd is none.
    #[error("`{endpoint}` is not a URL; write http://HOST:PORT")]
    Endpoint {
        /// The address.
        endpoint: String,
    },
    /// No etcd server answers.
    #[error("etcd does not answer ({endpoint}): {reason}")]
    Unreachable {
        /// The server that was asked last.
        endpoint: String,
        /// What became of it.
        reason: String,
    },
    /// Etcd refuses what was asked.
    #[error("etcd refuses ({endpoint}): {reason}")]
    Refused {
        /// The server that was asked.
        endpoint: String,
        /// What it says.
        reason: String,
    },
    /// A key was to depend on a lease that is up.
    #[error("lease {lease} is up")]
    NoLease {
        /// The lease.
        lease: i64,
    },
    /// An answer or a record is not one.
    #[error("{key} cannot be understood: {reason}")]
    Malformed {
        /// What was read.
        key: String,
        /// What is wrong with it.
        reason: String,
    },
}

impl StoreError {
    /// Whether the same call may succeed later.
    pub fn is_passing(&self) -> bool {
        matches!(self, Self::Unreachable { .. })
    }
}
