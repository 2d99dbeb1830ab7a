//! Small documents beside the data sets, such as the records of jobs.

use crate::{Storage, StorageError};
use bytes::Bytes;
use futures::TryStreamExt;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};

impl Storage {
    /// Writes a document, for instance `jobs/7/record.json`. One of that name is replaced, and at no moment half of it.
    pub async fn write(&self, name: &str, bytes: Vec<u8>) -> Result<(), StorageError> {
        let path = self.document(name);
        self.put(&path, bytes).await?;
        self.make_durable(vec![path]).await
    }

    /// Reads a document, if it is there.
    pub async fn read(&self, name: &str) -> Result<Option<Bytes>, StorageError> {
        match self.get(&self.document(name)).await {
            Ok(bytes) => Ok(Some(bytes)),
            Err(StorageError::Access { source: object_store::Error::NotFound { .. }, .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Removes a document, if it is there.
    pub async fn remove_document(&self, name: &str) -> Result<(), StorageError> {
        let path = self.document(name);
        match self.store.delete(&path).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
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

    /// Removes all documents of a folder.
    pub async fn remove_folder(&self, name: &str) -> Result<(), StorageError> {
        let folder = self.document(name);
        let failed = |source| self.failed(&folder, source);
        let objects: Vec<_> = self.store.list(Some(&folder)).try_collect().await.map_err(failed)?;
        for object in objects {
            self.store.delete(&object.location).await.map_err(failed)?;
        }
        Ok(())
    }

    fn document(&self, name: &str) -> Path {
        name.split('/').fold(self.root.clone(), |path, part| path.join(part))
    }
}
