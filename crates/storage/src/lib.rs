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
mod error;
mod manifest;
mod reader;
mod writer;

pub use error::StorageError;
pub use manifest::{Chunk, Manifest};
pub use writer::DataSetWriter;

use futures::TryStreamExt;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutPayload};
use std::fs::File;
use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;
use url::Url;

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

    /// Where it is on this machine, if it is a folder.
    pub fn folder(&self) -> Option<&FilePath> {
        self.folder.as_deref()
    }

    /// Starts to write a data set. Nothing of it can be read until it is committed.
    pub fn writer(&self, number: u64) -> DataSetWriter {
        DataSetWriter::new(self.clone(), number)
    }

    /// The data sets that were committed, by number.
    pub async fn manifests(&self) -> Result<Vec<Manifest>, StorageError> {
        let folder = self.root.clone().join("data_sets");
        let failed = |source| self.failed(&folder, source);
        let objects: Vec<_> = self.store.list(Some(&folder)).try_collect().await.map_err(failed)?;
        let mut manifests = Vec::new();
        for object in objects.iter().filter(|object| object.location.filename() == Some(manifest::NAME)) {
            let bytes = self.get(&object.location).await?;
            manifests.push(Manifest::from_json(&bytes).map_err(|reason| self.corrupt(&object.location, reason))?);
        }
        manifests.sort_by_key(|manifest| manifest.number);
        Ok(manifests)
    }

    /// Removes a data set.
    pub async fn remove(&self, manifest: &Manifest) -> Result<(), StorageError> {
        self.remove_files(manifest.number, manifest.chunks.len()).await
    }

    /// The manifest goes first: what is left, if this breaks off, is rubbish that nobody reads.
    async fn remove_files(&self, number: u64, n_chunks: usize) -> Result<(), StorageError> {
        let names = std::iter::once(manifest::NAME.to_owned()).chain((0..n_chunks).map(manifest::chunk_name));
        for name in names {
            let path = self.path(number, &name);
            match self.store.delete(&path).await {
                Ok(()) | Err(object_store::Error::NotFound { .. }) => {}
                Err(source) => return Err(self.failed(&path, source)),
            }
        }
        Ok(())
    }

    fn path(&self, number: u64, name: &str) -> Path {
        self.root.clone().join("data_sets").join(number.to_string()).join(name)
    }

    async fn get(&self, path: &Path) -> Result<bytes::Bytes, StorageError> {
        let failed = |source| self.failed(path, source);
        self.store.get(path).await.map_err(failed)?.bytes().await.map_err(failed)
    }

    async fn put(&self, path: &Path, bytes: Vec<u8>) -> Result<(), StorageError> {
        let put = self.store.put(path, PutPayload::from(bytes)).await;
        put.map(|_| ()).map_err(|source| self.failed(path, source))
    }

    /// Returns once files of a folder would outlast a loss of power. Buckets promise that by themselves.
    async fn make_durable(&self, paths: Vec<Path>) -> Result<(), StorageError> {
        let Some(folder) = self.folder.clone() else {
            return Ok(());
        };
        let failed = |path: &Path, source| StorageError::Sync { path: path.to_string(), source };
        let sync = move || {
            for path in paths {
                let file = folder.join(path.as_ref());
                // A file is there once the folder that names it is.
                for opened in std::iter::once(file.as_path()).chain(file.parent()) {
                    File::open(opened).and_then(|file| file.sync_all()).map_err(|error| failed(&path, error))?;
                }
            }
            Ok(())
        };
        tokio::task::spawn_blocking(sync).await.expect("files are synced without a panic")
    }

    fn failed(&self, path: &Path, source: object_store::Error) -> StorageError {
        StorageError::Access { location: self.location.clone(), path: path.to_string(), source }
    }

    fn corrupt(&self, path: &Path, reason: impl ToString) -> StorageError {
        StorageError::Corrupt { location: self.location.clone(), path: path.to_string(), reason: reason.to_string() }
    }
}
