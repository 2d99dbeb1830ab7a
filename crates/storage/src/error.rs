use shoal_wire::blocks::BlockError;
use thiserror::Error;

/// Why data at rest could not be written or read.
#[derive(Debug, Error)]
pub enum StorageError {
    /// The location is none that can be opened.
    #[error("`{location}` cannot be opened: {source}")]
    Open {
        /// The location.
        location: String,
        /// What the store says.
        source: object_store::Error,
    },
    /// The folder could not be made.
    #[error("the folder `{folder}` cannot be made: {source}")]
    Folder {
        /// The folder.
        folder: String,
        /// What the system says.
        source: std::io::Error,
    },
    /// A file could not be brought to disk.
    #[error("{path} could not be brought to disk: {source}")]
    Sync {
        /// The file.
        path: String,
        /// What the system says.
        source: std::io::Error,
    },
    /// The store could not do what was asked.
    #[error("`{location}`, {path}: {source}")]
    Access {
        /// The storage's location.
        location: String,
        /// The object.
        path: String,
        /// What the store says.
        source: object_store::Error,
    },
    /// What was read is not what was written.
    #[error("`{location}`, {path}: is damaged: {reason}")]
    Corrupt {
        /// The storage's location.
        location: String,
        /// The object.
        path: String,
        /// How that was noticed.
        reason: String,
    },
    /// Rows could not be encoded.
    #[error("a block cannot be written: {0}")]
    Block(#[from] BlockError),
}
