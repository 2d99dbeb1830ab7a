//! Small documents beside the data sets, such as the records of jobs.

use crate::{Storage, StorageError};
use bytes::Bytes;
use futures::TryStreamExt;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};

impl Storage {
    /// Writes a document, for instance `jobs/7/record.json`. One of that name is replaced, and at no moment half of it.
    pub async fn write(&self, name: &str, bytes: Vec<u8>) -> Result<(), StorageError> {
        self.put(&self.document(name), bytes).await
    }

    /// Reads a document, if it is there.
    pub async fn read(&self, name: &str) -> Result<Option<Bytes>, StorageError> {
        match self.get(&self.document(name)).await {
            Ok(bytes) => Ok(Some(bytes)),
            Err(StorageError::Access { source: object_store::Error::NotFound { .. }, .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Removes a document, and says whether it was there.
    pub async fn remove_document(&self, name: &str) -> Result<bool, StorageError> {
        let path = self.document(name);
        // Some stores remove what is not there without a word.
        let is_there = match self.store.head(&path).await {
            Ok(_) => true,
            Err(object_store::Error::NotFound { .. }) => false,
            Err(source) => return Err(self.failed(&path, source)),
        };
        match self.store.delete(&path).await {
            Ok(()) => Ok(is_there),
            Err(object_store::Error::NotFound { .. }) => Ok(false),
            Err(source) => Err(self.failed(&path, source)),
        }
    }

    /// The names of the folders in a folder, in no order.
    pub async fn folders(&self, name: &str) -> Result<Vec<String>, StorageError> {
        let folder = self.document(name);
        let listed = self.store.list_with_delimiter(Some(&folder)).await;
        let listed = listed.map_err(|source| self.failed(&folder, source))?;
        Ok(listed.common_prefixes.iter().filter_map(|path| path.filename().map(str::to_owned)).collect())
    }

    /// Removes all documents of a folder, and says whether there were any.
    pub async fn remove_folder(&self, name: &str) -> Result<bool, StorageError> {
        let folder = self.document(name);
        let failed = |source| self.failed(&folder, source);
        let objects: Vec<_> = self.store.list(Some(&folder)).try_collect().await.map_err(failed)?;
        for object in &objects {
            match self.store.delete(&object.location).await {
                Ok(()) | Err(object_store::Error::NotFound { .. }) => {}
                Err(source) => return Err(self.failed(&object.location, source)),
            }
        }
        Ok(!objects.is_empty())
    }

    fn document(&self, name: &str) -> Path {
        name.split('/').fold(self.root.clone(), |path, part| path.join(part))
    }
}
