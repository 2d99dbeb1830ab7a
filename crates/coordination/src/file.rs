//! The store of one machine: a file, which one process has at a time.

use crate::{Condition, Entry, LeaseId, Revision, Store, StoreError, Write};
use async_trait::async_trait;
use redb::{
    Builder, Database, DatabaseError, ReadOnlyTable, ReadableDatabase, ReadableTable, TableDefinition, WriteTransaction,
};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;
use tokio::task::spawn_blocking;
use tokio::time::Instant;

/// Key to the revision of its creation, its lease (0 for none), and its value.
const ENTRIES: TableDefinition<&str, (Revision, LeaseId, &[u8])> = TableDefinition::new("entries");
/// `revision` to the last one.
const COUNTERS: TableDefinition<&str, u64> = TableDefinition::new("counters");
const REVISION: &str = "revision";

type Entries = ReadOnlyTable<&'static str, (Revision, LeaseId, &'static [u8])>;

/// Records in a redb database. What a commit has changed outlasts a loss of power.
///
/// Leases last as long as the process: nobody else could have renewed them, so keys that depend on one are gone when the
/// file is opened again, and a coordinator that is started anew leads at once.
#[derive(Debug, Clone)]
pub struct FileStore {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    path: PathBuf,
    /// None where it could not be opened again.
    database: RwLock<Option<Database>>,
    /// Another process has it.
    is_lost: AtomicBool,
    leases: Mutex<Leases>,
}

#[derive(Debug, Default)]
struct Leases {
    by_id: BTreeMap<LeaseId, Lease>,
    n_granted: LeaseId,
}

#[derive(Debug)]
struct Lease {
    lasts: Duration,
    up_at: Instant,
}

impl FileStore {
    /// Opens the file, or makes it. One that another process has is refused.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let database = RwLock::new(Some(open_or_make(path)?));
        let (is_lost, leases) = (AtomicBool::new(false), Mutex::default());
        let store = Self { shared: Arc::new(Shared { path: path.to_owned(), database, is_lost, leases }) };
        store.shared.change(|transaction| {
            transaction.open_table(ENTRIES)?.retain(|_, (_, lease, _)| lease == 0)?;
            transaction.open_table(COUNTERS)?;
            Ok(true)
        })?;
        Ok(store)
    }

    /// Does what waits for the disk on a thread that may.
    async fn work<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Shared) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let shared = self.shared.clone();
        let done = spawn_blocking(move || {
            shared.end_leases()?;
            work(&shared)
        });
        done.await.expect("the database is used without a panic")
    }
}

#[async_trait]
impl Store for FileStore {
    async fn get(&self, key: &str) -> Result<Option<Entry>, StoreError> {
        let key = key.to_owned();
        self.work(move |shared| {
            shared.read(|table| Ok(table.get(key.as_str())?.map(|value| entry(&key, value.value()))))
        })
        .await
    }

    async fn list(&self, prefix: &str) -> Result<Vec<Entry>, StoreError> {
        let prefix = prefix.to_owned();
        self.work(move |shared| {
            shared.read(|table| {
                let mut entries = Vec::new();
                for found in table.range(prefix.as_str()..)? {
                    let (key, value) = found?;
                    if !key.value().starts_with(&prefix) {
                        break;
                    }
                    entries.push(entry(key.value(), value.value()));
                }
                Ok(entries)
            })
        })
        .await
    }

    async fn commit(&self, conditions: &[Condition], writes: &[Write]) -> Result<Option<Revision>, StoreError> {
        let (conditions, writes) = (conditions.to_vec(), writes.to_vec());
        self.work(move |shared| {
            let leases = shared.lock();
            if let Some(lease) =
                writes.iter().find_map(|write| write.lease().filter(|id| !leases.by_id.contains_key(id)))
            {
                return Err(StoreError::NoLease { lease });
            }
            let mut revision = None;
            shared.change(|transaction| {
                if !hold(transaction, &conditions)? {
                    return Ok(false);
                }
                revision = Some(apply(transaction, &writes)?);
                Ok(true)
            })?;
            Ok(revision)
        })
        .await
    }

    async fn grant(&self, ttl: Duration) -> Result<(LeaseId, Duration), StoreError> {
        let mut leases = self.shared.lock();
        leases.n_granted += 1;
        let id = leases.n_granted;
        leases.by_id.insert(id, Lease { lasts: ttl, up_at: Instant::now() + ttl });
        Ok((id, ttl))
    }

    async fn keep_alive(&self, lease: LeaseId) -> Result<bool, StoreError> {
        self.work(move |shared| {
            let mut leases = shared.lock();
            let Some(lease) = leases.by_id.get_mut(&lease).filter(|_| !shared.is_lost.load(Ordering::Relaxed)) else {
                return Ok(false);
            };
            lease.up_at = Instant::now() + lease.lasts;
            Ok(true)
        })
        .await
    }

    async fn revoke(&self, lease: LeaseId) -> Result<(), StoreError> {
        if let Some(lease) = self.shared.lock().by_id.get_mut(&lease) {
            lease.up_at = Instant::now();
        }
        // Whatever is done next ends the lease first.
        self.work(|_| Ok(())).await
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Leases> {
        self.leases.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Works with the database. One that has failed before, since its disk was full for instance, takes nothing more and is opened
    /// again: what was committed is in it.
    fn work<T>(&self, mut work: impl FnMut(&Database) -> Result<T, redb::Error>) -> Result<T, StoreError> {
        let mut attempt = || match &*self.database.read().unwrap_or_else(PoisonError::into_inner) {
            Some(database) => work(database),
            None => Err(redb::Error::PreviousIo),
        };
        let done = match attempt() {
            Err(redb::Error::PreviousIo) => {
                self.open_again()?;
                attempt()
            }
            done => done,
        };
        done.map_err(|error| failed(&self.path, error))
    }

    fn open_again(&self) -> Result<(), StoreError> {
        let mut database = self.database.write().unwrap_or_else(PoisonError::into_inner);
        // It has to be closed first.
        *database = None;
        match open(&self.path) {
            Ok(opened) => {
                *database = Some(opened);
                Ok(())
            }
            Err(error) => {
                // Another process may have taken it in between, and with it all that depended on a lease.
                self.is_lost.fetch_or(matches!(error, StoreError::InUse { .. }), Ordering::Relaxed);
                Err(error)
            }
        }
    }

    fn read<T>(&self, read: impl Fn(&Entries) -> Result<T, redb::Error>) -> Result<T, StoreError> {
        self.work(|database| read(&database.begin_read()?.open_table(ENTRIES)?))
    }

    /// Makes changes in one transaction, which counts for nothing when `make` says so.
    fn change(&self, mut make: impl FnMut(&WriteTransaction) -> Result<bool, redb::Error>) -> Result<(), StoreError> {
        self.work(|database| {
            let transaction = database.begin_write()?;
            if make(&transaction)? {
                transaction.commit()?
            } else {
                transaction.abort()?
            }
            Ok(())
        })
    }

    /// Removes the keys of leases that are up.
    fn end_leases(&self) -> Result<(), StoreError> {
        let mut leases = self.lock();
        let now = Instant::now();
        if leases.by_id.values().all(|lease| lease.up_at > now) {
            return Ok(());
        }
        // Locked until the keys are gone, so that no lease is renewed between its end and theirs.
        self.change(|transaction| {
            let is_up = |lease: LeaseId| leases.by_id.get(&lease).is_some_and(|lease| lease.up_at <= now);
            transaction.open_table(ENTRIES)?.retain(|_, (_, lease, _)| !is_up(lease))?;
            next_revision(transaction)?;
            Ok(true)
        })?;
        leases.by_id.retain(|_, lease| lease.up_at > now);
        Ok(())
    }
}

/// Opens a file that is there.
fn open(path: &Path) -> Result<Database, StoreError> {
    opened(path, checking().open(path))
}

fn open_or_make(path: &Path) -> Result<Database, StoreError> {
    opened(path, checking().create(path))
}

fn checking() -> Builder {
    let mut builder = Database::builder();
    builder.set_check_integrity_on_open(true);
    builder
}

fn opened(path: &Path, opened: Result<Database, DatabaseError>) -> Result<Database, StoreError> {
    match opened {
        Ok(database) => Ok(database),
        Err(DatabaseError::DatabaseAlreadyOpen) => Err(StoreError::InUse { path: path.display().to_string() }),
        Err(error) => Err(failed(path, error.into())),
    }
}

fn failed(path: &Path, source: redb::Error) -> StoreError {
    StoreError::File { path: path.display().to_string(), source: Box::new(source) }
}

fn entry(key: &str, (created, _, value): (Revision, LeaseId, &[u8])) -> Entry {
    Entry { key: key.to_owned(), value: value.to_vec(), created }
}

fn hold(transaction: &WriteTransaction, conditions: &[Condition]) -> Result<bool, redb::Error> {
    let table = transaction.open_table(ENTRIES)?;
    for condition in conditions {
        let holds = match condition {
            Condition::Absent(key) => table.get(key.as_str())?.is_none(),
            Condition::Created(key, revision) => {
                table.get(key.as_str())?.is_some_and(|value| value.value().0 == *revision)
            }
        };
        if !holds {
            return Ok(false);
        }
    }
    Ok(true)
}

fn apply(transaction: &WriteTransaction, writes: &[Write]) -> Result<Revision, redb::Error> {
    let revision = next_revision(transaction)?;
    let mut table = transaction.open_table(ENTRIES)?;
    for write in writes {
        match write {
            Write::Put { key, value, lease } => {
                let created = table.get(key.as_str())?.map_or(revision, |value| value.value().0);
                table.insert(key.as_str(), (created, lease.unwrap_or_default(), value.as_slice()))?;
            }
            Write::Delete(key) => _ = table.remove(key.as_str())?,
        }
    }
    Ok(revision)
}

fn next_revision(transaction: &WriteTransaction) -> Result<Revision, redb::Error> {
    let mut counters = transaction.open_table(COUNTERS)?;
    let revision = counters.get(REVISION)?.map_or(0, |revision| revision.value()) + 1;
    counters.insert(REVISION, revision)?;
    Ok(revision)
}
