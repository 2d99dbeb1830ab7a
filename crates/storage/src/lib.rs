//! Data sets at rest: in a folder or in a bucket, so that rows outlive the processes that hold them.
//!
//! A data set is some chunks, Arrow IPC streams with a block a batch, and a manifest that names them with their hashes. The
//! manifest comes last: without it there is no data set, and what was written of it is rubbish. Nothing is ever changed.
//!
//! ```text
//! data_sets/7/000000.arrow      blocks 0 to 15
//! data_sets/7/000001.arrow      blocks 16 to 31
//! data_sets/7/manifest.json
//! ```
//!
//! Beside them lie documents, such as the records of jobs.

mod documents;
mod durable;
mod error;
mod manifest;
mod reader;
mod writer;

pub use error::StorageError;
pub use manifest::{Chunk, Manifest, RowCounts};
pub use writer::DataSetWriter;

use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutPayload};
use std::collections::BTreeMap;
use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;
use url::Url;

/// The folder of the data sets.
const DATA_SETS: &str = "data_sets";

/// A folder or a bucket.
#[derive(Debug, Clone)]
pub struct Storage {
    store: Arc<dyn ObjectStore>,
    /// Where in the store everything is.
    root: Path,
    /// As it was named, for errors.
    location: String,
    /// Where it is on this machine, if it is.
    folder: Option<PathBuf>,
}

impl Storage {
    /// Opens a folder, which is made when it does not exist, or a URL (`s3://`, `gs://`, `az://`, `file://`). `options` are
    /// keys and values for object stores, such as `aws_access_key_id`; what a store does not know it ignores.
    pub fn open(location: &str, options: &[(String, String)]) -> Result<Self, StorageError> {
        let failed = |source| StorageError::Open { location: location.to_owned(), source };
        let location = location.to_owned();
        if let Some(url) = Url::parse(&location).ok().filter(|url| location.contains("://") && url.scheme() != "file") {
            let (store, root) = object_store::parse_url_opts(&url, options.iter().cloned()).map_err(failed)?;
            return Ok(Self { store: store.into(), root, location, folder: None });
        }
        let folder = location.strip_prefix("file://").unwrap_or(&location);
        std::fs::create_dir_all(folder).map_err(|source| StorageError::Folder { folder: folder.to_owned(), source })?;
        let store = LocalFileSystem::new_with_prefix(folder).map_err(failed)?;
        let folder = Some(PathBuf::from(folder));
        Ok(Self { store: Arc::new(store), root: Path::default(), location, folder })
    }

    /// As it was named.
    pub fn location(&self) -> &str {
        &self.location
    }

    /// Where it is on this machine, if it is a folder.
    pub fn folder(&self) -> Option<&FilePath> {
        self.folder.as_deref()
    }

    /// Starts to write a data set. Nothing of it can be read until it is committed.
    pub fn writer(&self, number: u64) -> DataSetWriter {
        DataSetWriter::new(self.clone(), number)
    }

    /// The data sets that were committed, by number; of one whose manifest cannot be read, why.
    pub async fn manifests(&self) -> Result<BTreeMap<u64, Result<Manifest, StorageError>>, StorageError> {
        let mut manifests = BTreeMap::new();
        for number in self.folders(DATA_SETS).await?.iter().filter_map(|folder| folder.parse().ok()) {
            let path = self.path(number, manifest::NAME);
            match self.get(&path).await {
                Ok(json) => {
                    let manifest = Manifest::from_json(&json, number).map_err(|reason| self.corrupt(&path, reason));
                    manifests.insert(number, manifest);
                }
                // It was never committed.
                Err(StorageError::Access { source: object_store::Error::NotFound { .. }, .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(manifests)
    }

    /// Removes a data set, or what there is of it, and says whether there was anything.
    pub async fn sweep(&self, number: u64) -> Result<bool, StorageError> {
        // The manifest goes first: what is left, if this breaks off, is rubbish that nobody reads.
        let had_manifest = self.remove_document(&format!("{DATA_SETS}/{number}/{}", manifest::NAME)).await?;
        Ok(self.remove_folder(&format!("{DATA_SETS}/{number}")).await? || had_manifest)
    }

    fn path(&self, number: u64, name: &str) -> Path {
        self.root.clone().join(DATA_SETS).join(number.to_string()).join(name)
    }

    async fn get(&self, path: &Path) -> Result<bytes::Bytes, StorageError> {
        let failed = |source| self.failed(path, source);
        self.store.get(path).await.map_err(failed)?.bytes().await.map_err(failed)
    }

    /// Writes an object. When this returns it would outlast a loss of power, and at no moment is there half of it.
    async fn put(&self, path: &Path, bytes: Vec<u8>) -> Result<(), StorageError> {
        let Some(folder) = self.folder.clone() else {
            // Buckets promise that by themselves.
            let put = self.store.put(path, PutPayload::from(bytes)).await;
            return put.map(|_| ()).map_err(|source| self.failed(path, source));
        };
        let file = path.to_string();
        let written = tokio::task::spawn_blocking(move || durable::write(&folder, &file, &bytes)).await;
        let failed = |source| StorageError::Sync { path: path.to_string(), source };
        written.expect("files are written without a panic").map_err(failed)
    }

    fn failed(&self, path: &Path, source: object_store::Error) -> StorageError {
        StorageError::Access { location: self.location.clone(), path: path.to_string(), source }
    }

    fn corrupt(&self, path: &Path, reason: impl ToString) -> StorageError {
        StorageError::Corrupt { location: self.location.clone(), path: path.to_string(), reason: reason.to_string() }
    }
}
