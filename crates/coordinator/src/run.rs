//! The prepared rows of a job as workers hold them, and how one that does not have them comes by them.

use crate::holder::{Holder, HolderKey};
use crate::members::Shards;
use futures::future::BoxFuture;
use shoal_clustering::Sample;
use shoal_domain::Preparation;
use shoal_wire::proto::{self, PrepareRequest, SampleRequest};
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use tonic::Status;

/// Prepared rows under a name.
pub(crate) struct Run {
    name: String,
    made_from: MadeFrom,
    /// The holders that have made it. Locked to look or to add.
    ready: Mutex<BTreeSet<HolderKey>>,
}

enum MadeFrom {
    /// The raw blocks of the data set.
    Blocks(proto::Preparation),
    /// The prepared rows of another run.
    Run(Arc<Run>, Sample),
}

impl Run {
    /// The rows of a data set, prepared.
    pub(crate) fn prepared(name: String, preparation: &Preparation) -> Arc<Self> {
        let made_from = MadeFrom::Blocks(preparation.into());
        Arc::new(Self { name, made_from, ready: Mutex::default() })
    }

    /// A sample of the rows.
    pub(crate) fn sampled(self: &Arc<Self>, sample: &Sample) -> Arc<Self> {
        let Sample { block_rows, stream } = sample;
        let name = format!("{}/sample of {block_rows} by {}.{}", self.name, stream.seed, stream.stream);
        Arc::new(Self { name, made_from: MadeFrom::Run(self.clone(), *sample), ready: Mutex::default() })
    }

    /// The name of what a holder has of it: a worker may be the holder of several placements.
    pub(crate) fn name_on(&self, holder: &Holder) -> String {
        format!("{}#{}", self.name, holder.placement)
    }

    /// Lets a holder make it, unless it has.
    pub(crate) fn make_ready(
        self: Arc<Self>,
        mut worker: Shards,
        holder: Arc<Holder>,
    ) -> BoxFuture<'static, Result<(), Status>> {
        Box::pin(async move {
            let key = holder.key();
            if self.ready.lock().unwrap_or_else(PoisonError::into_inner).contains(&key) {
                return Ok(());
            }
            let run = self.name_on(&holder);
            match &self.made_from {
                MadeFrom::Blocks(preparation) => {
                    let (data_set, preparation) = (holder.held_as.clone(), Some(preparation.clone()));
                    let prepared = worker.prepare(PrepareRequest { run, data_set, preparation }).await?.into_inner();
                    if !prepared.blocks.iter().copied().eq(holder.blocks.iter().map(|block| block.0)) {
                        return Err(Status::internal("it prepared other blocks than it was given"));
                    }
                }
                MadeFrom::Run(other, Sample { block_rows, stream }) => {
                    other.clone().make_ready(worker.clone(), holder.clone()).await?;
                    let (other, block_rows) = (other.name_on(&holder), *block_rows as u32);
                    let (seed, stream) = (stream.seed, stream.stream);
                    worker.sample(SampleRequest { run: other, sample: run, block_rows, seed, stream }).await?;
                }
            }
            self.ready.lock().unwrap_or_else(PoisonError::into_inner).insert(key);
            Ok(())
        })
    }
}
