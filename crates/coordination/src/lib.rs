//! What coordinators agree on: who of them leads, and the small records that only the leader may change.
//!
//! There are two stores for it, a file of one machine ([`FileStore`]) and etcd ([`EtcdStore`]), behind one small interface
//! ([`Store`]); and one rule for both ([`Leader`]): whoever has written the key [`LEADER`] leads until its lease is up, the revision
//! at which it was written is the leader's *epoch*, and every later write is made under the condition that this very key is
//! still there. So a leader that was paused, cut off or replaced cannot write, whatever it believes.
//!
//! Nothing here is watched: a store is asked for the one key that matters, often enough. A notice that was missed, a history
//! that was compacted away and a stream that has died in silence cannot do harm where there are none.
//!
//! Values are small (etcd takes 1.5 MB); what is large lies in storage.

mod error;
mod etcd;
mod file;
mod leader;

pub use error::StoreError;
pub use etcd::EtcdStore;
pub use file::FileStore;
pub use leader::{LEADER, Leader, LeaderError};

use async_trait::async_trait;
use std::fmt::Debug;
use std::time::Duration;

/// Counts the changes of a store. Later ones are larger, and a store that is opened again goes on counting.
pub type Revision = u64;

/// The number of a lease.
pub type LeaseId = i64;

/// A key and what lies under it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The key, such as `jobs/7`.
    pub key: String,
    /// The value.
    pub value: Vec<u8>,
    /// The revision at which the key was written first since it was last absent.
    pub created: Revision,
}

/// What must hold for a commit.
#[derive(Debug, Clone)]
pub enum Condition {
    /// There is no such key.
    Absent(String),
    /// The key is there, and has been since this revision.
    Created(String, Revision),
}

/// A change.
#[derive(Debug, Clone)]
pub enum Write {
    /// Puts a value under a key, or replaces the one that is there.
    Put {
        /// The key.
        key: String,
        /// The value.
        value: Vec<u8>,
        /// The lease with which the key goes.
        lease: Option<LeaseId>,
    },
    /// Removes a key, if it is there.
    Delete(String),
}

impl Write {
    /// The lease that it binds its key to.
    fn lease(&self) -> Option<LeaseId> {
        match self {
            Self::Put { lease, .. } => *lease,
            Self::Delete(_) => None,
        }
    }
}

/// Keys with values, changed by transactions, and leases that keys may depend on.
///
/// An error of a call that changes something does not tell whether the change was made: the answer may have been lost.
#[async_trait]
pub trait Store: Debug + Send + Sync {
    /// Looks at one key.
    async fn get(&self, key: &str) -> Result<Option<Entry>, StoreError>;

    /// All keys that begin so, in order. What is written meanwhile may or may not be among them.
    async fn list(&self, prefix: &str) -> Result<Vec<Entry>, StoreError>;

    /// Makes all changes, of which no two concern the same key, if all conditions hold, and none otherwise. Returns the
    /// revision of the changes, or none when a condition does not hold.
    async fn commit(&self, conditions: &[Condition], writes: &[Write]) -> Result<Option<Revision>, StoreError>;

    /// Grants a lease and says how long it lasts, which is at least `ttl`.
    async fn grant(&self, ttl: Duration) -> Result<(LeaseId, Duration), StoreError>;

    /// Lets a lease last its full time from now on. False when it is up.
    async fn keep_alive(&self, lease: LeaseId) -> Result<bool, StoreError>;

    /// Ends a lease, if there is one, and removes its keys.
    async fn revoke(&self, lease: LeaseId) -> Result<(), StoreError>;
}
