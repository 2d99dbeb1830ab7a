//! The data sets of the fleet: known by name, at rest in storage, spread over workers.

use crate::at_rest::AtRest;
use crate::error::FleetError;
use crate::holder::release;
use crate::members::Members;
use crate::placed::Placed;
use crate::placement::Placement;
use shoal_coordination::{Leader, Write};
use shoal_storage::{RowCounts, Storage};
use shoal_wire::blocks::DataSetSchema;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tracing::{info, warn};

/// Data sets that are kept at most. When one more comes, the oldest that no job uses is removed.
pub(crate) const MAX_DATA_SETS: usize = 32;

/// Rows that no job uses stay on the workers for so long, for the labels of the last one or the next job.
const IDLE_AFTER: Duration = Duration::from_secs(60);

/// The key of the number that was given last. Storage fences nobody off, so numbers are given under the leader's.
const LAST_NUMBER: &str = "numbers/data_set";
/// What comes before the number of a data set that is being written, and of one that is to go from storage: the next leader
/// removes what the last one has not.
const RUBBISH: &str = "rubbish/";

/// Where data sets live: on workers, and in storage to come back from.
#[derive(Debug)]
pub(crate) struct Home {
    pub(crate) members: Arc<Members>,
    pub(crate) storage: Storage,
    /// Under which leader blocks are placed.
    pub(crate) epoch: u64,
}

/// A data set.
#[derive(Debug)]
pub(crate) struct DataSet {
    pub(crate) name: String,
    pub(crate) schema: DataSetSchema,
    pub(crate) n_rows: u64,
    /// How long its rows took to come and to be spread.
    pub(crate) placed_in: Duration,
    pub(crate) placed: Arc<Placed>,
}

/// Data sets by number. A job that needs one, though it may only wait, keeps its `Arc`: the data set stays in storage then.
pub(crate) struct DataSets {
    home: Arc<Home>,
    leader: Leader,
    kept: Mutex<BTreeMap<u64, Arc<DataSet>>>,
    /// Those that are to go once nobody has them. Locked before `kept`.
    unwanted: Mutex<BTreeSet<u64>>,
    /// Those that are there and cannot be read, and why.
    damaged: BTreeMap<u64, String>,
    /// Held while the next one is written.
    last_number: tokio::sync::Mutex<u64>,
    /// Held while workers let go, so that whoever needs room waits for the room that another one makes.
    letting_go: tokio::sync::Mutex<()>,
}

impl DataSets {
    /// Those that are in storage. Their blocks go to workers when somebody asks for them.
    pub(crate) async fn open(home: Arc<Home>, leader: Leader) -> Result<Self, FleetError> {
        sweep(&home.storage, &leader).await?;
        let (mut kept, mut damaged) = (BTreeMap::new(), BTreeMap::new());
        for (number, manifest) in home.storage.manifests().await? {
            let name = name_of(number);
            let read = manifest.and_then(|manifest| Ok((home.storage.schema(&manifest)?, manifest)));
            let (schema, manifest) = match read {
                Ok(read) => read,
                // Jobs that need it fail; all others do not.
                Err(error) => {
                    warn!(data_set = name, %error, "data set in storage is damaged");
                    damaged.insert(number, error.to_string());
                    continue;
                }
            };
            let n_rows = manifest.n_rows;
            info!(data_set = name, n_rows, "data set found in storage");
            let at_rest = AtRest { home: home.clone(), name: name.clone(), schema: schema.clone(), manifest };
            let placed = Arc::new(Placed::new(at_rest, Vec::new()));
            let data_set = DataSet { name, schema, n_rows, placed_in: Duration::ZERO, placed };
            kept.insert(number, Arc::new(data_set));
        }
        let last = match leader.store().get(LAST_NUMBER).await? {
            Some(entry) => String::from_utf8_lossy(&entry.value).parse().map_err(|error| FleetError::Record {
                name: LAST_NUMBER.to_owned(),
                reason: format!("it is no number: {error}"),
            })?,
            None => 0,
        };
        let last = kept.keys().chain(damaged.keys()).fold(last, |last: u64, number| last.max(*number));
        let (last_number, letting_go) = (tokio::sync::Mutex::new(last), tokio::sync::Mutex::default());
        Ok(Self { home, leader, kept: Mutex::new(kept), unwanted: Mutex::default(), damaged, last_number, letting_go })
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, Arc<DataSet>>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn get(&self, name: &str) -> Result<Arc<DataSet>, FleetError> {
        let number = number_of(name);
        if let Some(reason) = number.and_then(|number| self.damaged.get(&number)) {
            return Err(FleetError::Damaged { name: name.to_owned(), reason: reason.clone() });
        }
        let found = number.and_then(|number| {
            self.unwanted.lock().unwrap_or_else(PoisonError::into_inner).remove(&number);
            self.lock().get(&number).cloned()
        });
        found.ok_or_else(|| FleetError::NoDataSet { name: name.to_owned(), max: MAX_DATA_SETS })
    }

    /// Begins a new data set: its blocks go to the workers that are there, and to storage.
    pub(crate) async fn start(&self, schema: DataSetSchema) -> Result<Placement, FleetError> {
        self.make_room().await;
        let number = self.next_number().await?;
        let writer = self.home.storage.writer(number);
        Placement::start(&name_of(number), 0, schema, self.home.members.takers(), Some(writer))
    }

    /// Lets workers go of the rows that no job has, so that there is room for others.
    pub(crate) async fn make_room(&self) {
        self.let_go(|data_set| Arc::strong_count(data_set) == 1).await;
    }

    /// Lets workers go of all rows that nobody asks about. Jobs that wait find theirs in storage again.
    pub(crate) async fn make_all_room(&self) {
        self.let_go(|_| true).await;
    }

    /// Lets workers go of the rows that nobody has asked for in a while, and removes what nobody wants.
    pub(crate) async fn let_go_of_idle(&self) {
        self.let_go(|data_set| Arc::strong_count(data_set) == 1 && data_set.placed.is_idle(IDLE_AFTER)).await;
        self.remove_unwanted().await;
    }

    async fn let_go(&self, is_meant: impl Fn(&Arc<DataSet>) -> bool) {
        let _letting_go = self.letting_go.lock().await;
        let is_unused = |data_set: &&Arc<DataSet>| !data_set.placed.is_used() && is_meant(data_set);
        let placed: Vec<Arc<Placed>> =
            self.lock().values().filter(is_unused).map(|data_set| data_set.placed.clone()).collect();
        futures::future::join_all(placed.iter().map(|placed| placed.let_go())).await;
    }

    /// Removes a data set, from storage too, as soon as nobody has it any more; unless somebody asks for it before that.
    pub(crate) async fn remove_unused(&self, name: &str) {
        if let Some(number) = number_of(name) {
            self.unwanted.lock().unwrap_or_else(PoisonError::into_inner).insert(number);
            self.remove_unwanted().await;
        }
    }

    async fn remove_unwanted(&self) {
        let removed: Vec<Arc<DataSet>> = {
            let mut unwanted = self.unwanted.lock().unwrap_or_else(PoisonError::into_inner);
            let mut kept = self.lock();
            unwanted.retain(|number| kept.contains_key(number));
            let is_free = |number: &u64| kept.get(number).is_some_and(|data_set| Arc::strong_count(data_set) == 1);
            let free: Vec<u64> = unwanted.iter().copied().filter(is_free).collect();
            free.iter().filter_map(|number| kept.remove(number)).collect()
        };
        for data_set in removed {
            self.remove(&data_set).await;
        }
    }

    /// A number that no leader has given before.
    async fn next_number(&self) -> Result<u64, FleetError> {
        let mut last = self.last_number.lock().await;
        let number = *last + 1;
        let (key, value) = (LAST_NUMBER.to_owned(), number.to_string().into_bytes());
        self.leader.write(&[Write::Put { key, value, lease: None }, mark(number)]).await?;
        *last = number;
        Ok(number)
    }

    /// Makes a data set of what was placed, once it is whole in storage; when anything fails, nothing of it is kept
    /// anywhere.
    pub(crate) async fn commit(
        &self,
        mut placement: Placement,
        schema: DataSetSchema,
        counts: RowCounts,
    ) -> Result<Arc<DataSet>, FleetError> {
        let (name, members) = (placement.name().to_owned(), placement.members());
        let added = self.finish(&mut placement, schema, counts).await;
        if added.is_err() {
            placement.break_off().await;
            release(members, "", &name).await;
        }
        added
    }

    async fn finish(
        &self,
        placement: &mut Placement,
        schema: DataSetSchema,
        counts: RowCounts,
    ) -> Result<Arc<DataSet>, FleetError> {
        let (name, began) = (placement.name().to_owned(), placement.began());
        let (holders, Some(manifest)) = placement.finish(Some(counts)).await? else {
            unreachable!("a new data set is written to storage")
        };
        let number = manifest.number;
        let at_rest = AtRest { home: self.home.clone(), name: name.clone(), schema: schema.clone(), manifest };
        let placed = Arc::new(Placed::new(at_rest, holders));
        let n_rows = counts.n_rows;
        let added = self.add(DataSet { name, schema, n_rows, placed_in: began.elapsed(), placed }).await?;
        // Only from here on it is one: the next leader removes what has a mark.
        if let Err(error) = self.leader.write(&[unmark(number)]).await {
            self.lock().remove(&number);
            return Err(error.into());
        }
        Ok(added)
    }

    /// Lets workers and storage go of a data set that nobody uses. Storage takes orders from anybody, so first it is made
    /// certain that this coordinator leads: a later leader has seen the mark and does not know the data set.
    async fn remove(&self, data_set: &DataSet) {
        data_set.placed.let_go().await;
        let number = data_set.placed.manifest().number;
        let removed = async {
            self.leader.write(&[mark(number)]).await?;
            self.home.storage.sweep(number).await?;
            self.leader.write(&[unmark(number)]).await?;
            Ok::<_, FleetError>(())
        };
        if let Err(error) = removed.await {
            warn!(data_set = data_set.name, %error, "the data set is not removed from storage yet");
        }
    }

    async fn add(&self, data_set: DataSet) -> Result<Arc<DataSet>, FleetError> {
        let data_set = Arc::new(data_set);
        let dropped = {
            let mut kept = self.lock();
            let mut dropped = None;
            if kept.len() >= MAX_DATA_SETS {
                let unused = kept.iter().find(|(_, data_set)| Arc::strong_count(data_set) == 1);
                let number = unused.map(|(number, _)| *number);
                let number = number.ok_or(FleetError::TooManyDataSets { max: MAX_DATA_SETS })?;
                dropped = kept.remove(&number);
            }
            kept.insert(data_set.placed.manifest().number, data_set.clone());
            dropped
        };
        if let Some(dropped) = dropped {
            self.remove(&dropped).await;
        }
        Ok(data_set)
    }
}

/// Removes from storage what earlier leaders have left of data sets that were never whole or are not wanted any more. A mark
/// stays until there was nothing to remove: its leader may have written on for a moment.
async fn sweep(storage: &Storage, leader: &Leader) -> Result<(), FleetError> {
    for entry in leader.store().list(RUBBISH).await? {
        if let Some(number) = entry.key.strip_prefix(RUBBISH).and_then(|number| number.parse().ok())
            && !storage.sweep(number).await?
        {
            leader.write(&[unmark(number)]).await?;
        }
    }
    Ok(())
}

fn mark(number: u64) -> Write {
    Write::Put { key: format!("{RUBBISH}{number}"), value: Vec::new(), lease: None }
}

fn unmark(number: u64) -> Write {
    Write::Delete(format!("{RUBBISH}{number}"))
}

fn name_of(number: u64) -> String {
    format!("dataSets/{number}")
}

fn number_of(name: &str) -> Option<u64> {
    name.strip_prefix("dataSets/")?.parse().ok()
}
