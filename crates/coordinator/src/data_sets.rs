//! The data sets that the fleet holds.

use crate::error::FleetError;
use crate::members::Member;
use crate::placement::{Holder, Placement, release};
use shoal_wire::blocks::DataSetSchema;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Data sets that are held at most. When one more comes, the oldest that no job uses is let go.
pub(crate) const MAX_DATA_SETS: usize = 32;

/// A data set and where its blocks are.
#[derive(Debug)]
pub(crate) struct DataSet {
    pub(crate) name: String,
    pub(crate) schema: DataSetSchema,
    pub(crate) n_rows: u64,
    pub(crate) holders: Vec<Holder>,
}

impl DataSet {
    pub(crate) fn n_blocks(&self) -> u64 {
        self.holders.iter().map(|holder| holder.blocks.len() as u64).sum()
    }

    fn members(&self) -> Vec<Member> {
        self.holders.iter().map(|holder| holder.member.clone()).collect()
    }
}

/// Data sets by number. A job that needs one keeps its `Arc`; that is what "in use" means.
#[derive(Default)]
pub(crate) struct DataSets {
    held: Mutex<Held>,
}

#[derive(Default)]
struct Held {
    by_number: BTreeMap<u64, Arc<DataSet>>,
    n_named: u64,
}

impl DataSets {
    fn lock(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A name for a new data set.
    pub(crate) fn new_name(&self) -> String {
        let mut held = self.lock();
        held.n_named += 1;
        format!("dataSets/{}", held.n_named)
    }

    pub(crate) fn get(&self, name: &str) -> Result<Arc<DataSet>, FleetError> {
        let held = self.lock();
        let found = number_of(name).and_then(|number| held.by_number.get(&number)).cloned();
        found.ok_or_else(|| FleetError::NoDataSet { name: name.to_owned(), max: MAX_DATA_SETS })
    }

    /// Waits for the workers' receipts and adds the data set; when anything fails, nothing of it is kept anywhere.
    pub(crate) async fn commit(
        &self,
        placement: Placement,
        schema: DataSetSchema,
        n_rows: u64,
    ) -> Result<Arc<DataSet>, FleetError> {
        let (name, members) = (placement.name().to_owned(), placement.members());
        let added = match placement.finish().await {
            Ok(holders) => self.add(DataSet { name: name.clone(), schema, n_rows, holders }).await,
            Err(error) => Err(error),
        };
        if added.is_err() {
            release(members, "", &name).await;
        }
        added
    }

    /// Lets go of a data set that did not come to its end.
    pub(crate) async fn abandon(&self, placement: Placement) {
        let (name, members) = (placement.name().to_owned(), placement.members());
        // Streams end first, or a worker might take blocks after it was told to let go.
        let _ = placement.finish().await;
        release(members, "", &name).await;
    }

    async fn add(&self, data_set: DataSet) -> Result<Arc<DataSet>, FleetError> {
        let data_set = Arc::new(data_set);
        let dropped = {
            let mut held = self.lock();
            let mut dropped = None;
            if held.by_number.len() >= MAX_DATA_SETS {
                let unused = held.by_number.iter().find(|(_, data_set)| Arc::strong_count(data_set) == 1);
                let number = unused.map(|(number, _)| *number);
                let number = number.ok_or(FleetError::TooManyDataSets { max: MAX_DATA_SETS })?;
                dropped = held.by_number.remove(&number);
            }
            let number = number_of(&data_set.name).unwrap_or(held.n_named);
            held.by_number.insert(number, data_set.clone());
            dropped
        };
        if let Some(dropped) = dropped {
            release(dropped.members(), "", &dropped.name).await;
        }
        Ok(data_set)
    }
}

fn number_of(name: &str) -> Option<u64> {
    name.strip_prefix("dataSets/")?.parse().ok()
}
