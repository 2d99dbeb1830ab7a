//! The data sets that the fleet holds.

use crate::error::FleetError;
use crate::holders::{Holder, release};
use crate::members::Member;
use crate::placement::Placement;
use shoal_wire::blocks::DataSetSchema;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Data sets that are held at most. When one more comes, the oldest that no job uses is let go.
pub(crate) const MAX_DATA_SETS: usize = 32;

/// A data set and where its blocks are.
#[derive(Debug)]
pub(crate) struct DataSet {
    pub(crate) name: String,
    pub(crate) schema: DataSetSchema,
    pub(crate) n_rows: u64,
    /// How long its rows took to come and to be spread.
    pub(crate) placed_in: Duration,
    pub(crate) holders: Vec<Holder>,
}

impl DataSet {
    pub(crate) fn n_blocks(&self) -> u64 {
        self.holders.iter().map(|holder| holder.blocks.len() as u64).sum()
    }

    /// Whether a worker that has blocks of it is gone.
    fn is_broken(&self) -> bool {
        self.holders.iter().any(|holder| !holder.blocks.is_empty() && holder.member.is_gone())
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

    /// Lets go of data sets that have lost a holder: no job can use what is left of them.
    pub(crate) async fn release_broken(&self) {
        let broken: Vec<Arc<DataSet>> = {
            let mut held = self.lock();
            let numbers: Vec<u64> =
                held.by_number.iter().filter(|(_, data_set)| data_set.is_broken()).map(|(number, _)| *number).collect();
            numbers.into_iter().filter_map(|number| held.by_number.remove(&number)).collect()
        };
        for data_set in broken {
            let alive = data_set.members().into_iter().filter(|member| !member.is_gone()).collect();
            release(alive, "", &data_set.name).await;
        }
    }

    /// Waits for the workers' receipts and adds the data set; when anything fails, nothing of it is kept anywhere.
    pub(crate) async fn commit(
        &self,
        mut placement: Placement,
        schema: DataSetSchema,
        n_rows: u64,
    ) -> Result<Arc<DataSet>, FleetError> {
        let (name, members, began) = (placement.name().to_owned(), placement.members(), placement.began());
        let added = match placement.finish().await {
            Ok(holders) => {
                let placed_in = began.elapsed();
                self.add(DataSet { name: name.clone(), schema, n_rows, placed_in, holders }).await
            }
            Err(error) => Err(error),
        };
        if added.is_err() {
            release(members, "", &name).await;
        }
        added
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
