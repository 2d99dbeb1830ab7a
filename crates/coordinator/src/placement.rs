//! Spreads the blocks of a data set over the workers as they are cut.

use crate::error::FleetError;
use crate::members::Member;
use crate::remote::is_connection_error;
use arrow::record_batch::RecordBatch;
use arrow_flight::FlightDescriptor;
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use prost::Message;
use shoal_domain::BlockId;
use shoal_wire::blocks::{DataSetSchema, SourceBlock};
use shoal_wire::flight::{client, encode};
use shoal_wire::proto::{BlockMetadata, BlocksReceipt, PutBlocks, ReleaseRequest};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

/// Blocks that wait for one worker's connection; more wait with the sender.
const BLOCKS_UNDER_WAY: usize = 4;

/// A worker with the blocks of a data set that it holds.
#[derive(Debug, Clone)]
pub(crate) struct Holder {
    pub(crate) member: Member,
    pub(crate) blocks: Vec<BlockId>,
}

/// A data set on its way to the workers. Block b goes to worker `b mod n`.
pub(crate) struct Placement {
    name: String,
    schema: DataSetSchema,
    lanes: Vec<Lane>,
}

struct Lane {
    holder: Holder,
    sender: mpsc::Sender<Result<(RecordBatch, Bytes), Status>>,
    receipt: JoinHandle<Result<BlocksReceipt, Status>>,
}

impl Placement {
    /// Opens a stream to every worker.
    pub(crate) fn start(name: &str, schema: DataSetSchema, members: Vec<Member>) -> Result<Self, FleetError> {
        if members.is_empty() {
            return Err(FleetError::NoWorkers);
        }
        let lanes = members.into_iter().map(|member| open_lane(name, &schema, member)).collect();
        Ok(Self { name: name.to_owned(), schema, lanes })
    }

    /// Sends one block; waits when its worker is slower than the source.
    pub(crate) async fn send(&mut self, block: &SourceBlock) -> Result<(), FleetError> {
        let id = block.raw.id();
        let metadata = BlockMetadata { block: id.0, digest: block.raw.digest().to_vec() }.encode_to_vec();
        let batch = block.to_batch(&self.schema)?;
        let n_lanes = self.lanes.len() as u64;
        let lane = &mut self.lanes[(id.0 % n_lanes) as usize];
        lane.holder.blocks.push(id);
        if lane.sender.send(Ok((batch, metadata.into()))).await.is_ok() {
            return Ok(());
        }
        // The stream has ended early: its receipt says why.
        let status = match (&mut lane.receipt).await {
            Ok(Err(status)) => status,
            _ => Status::unavailable("the stream was closed"),
        };
        Err(failed(&lane.holder, status))
    }

    /// Ends all streams and waits until every worker has confirmed its blocks.
    pub(crate) async fn finish(self) -> Result<Vec<Holder>, FleetError> {
        let mut holders = Vec::new();
        for lane in self.lanes {
            drop(lane.sender);
            let receipt = lane.receipt.await.unwrap_or_else(|_| Err(Status::internal("the stream's task panicked")));
            let receipt = receipt.map_err(|status| failed(&lane.holder, status))?;
            let sent = lane.holder.blocks.len() as u64;
            if receipt.n_blocks != sent {
                return Err(FleetError::Blocks { worker: lane.holder.member.id, taken: receipt.n_blocks, sent });
            }
            holders.push(lane.holder);
        }
        Ok(holders)
    }

    /// The workers, so that they can be told to let go.
    pub(crate) fn members(&self) -> Vec<Member> {
        self.lanes.iter().map(|lane| lane.holder.member.clone()).collect()
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }
}

fn open_lane(name: &str, schema: &DataSetSchema, member: Member) -> Lane {
    let (sender, receiver) = mpsc::channel(BLOCKS_UNDER_WAY);
    let put = PutBlocks { data_set: name.to_owned(), has_weight: schema.has_weight };
    let descriptor = FlightDescriptor::new_cmd(put.encode_to_vec());
    let messages = encode(schema.arrow.clone(), Some(descriptor), ReceiverStream::new(receiver));
    let channel = member.channel.clone();
    let receipt = tokio::spawn(async move {
        // An error of ours ends the request; the worker then sees a stream that is cut short and keeps nothing.
        let messages = messages.take_while(|message| futures::future::ready(message.is_ok()));
        let messages = messages.filter_map(|message| futures::future::ready(message.ok()));
        let results = client(channel).do_put(messages).await?;
        let result = results.into_inner().try_next().await?;
        let result = result.ok_or_else(|| Status::internal("the worker gave no receipt"))?;
        BlocksReceipt::decode(result.app_metadata).map_err(|error| Status::internal(error.to_string()))
    });
    Lane { holder: Holder { member, blocks: Vec::new() }, sender, receipt }
}

fn failed(holder: &Holder, status: Status) -> FleetError {
    if is_connection_error(&status) {
        holder.member.give_up("it takes no blocks");
    }
    let Member { id, worker, .. } = &holder.member;
    FleetError::Worker { worker: id.clone(), address: worker.address.clone(), status }
}

/// Tells workers to let go of a run, a data set, or both. One that does not hear it is gone and has let go of everything.
pub(crate) async fn release(members: Vec<Member>, run: &str, data_set: &str) {
    let release = |member: Member| {
        let request = ReleaseRequest { run: run.to_owned(), data_set: data_set.to_owned() };
        async move {
            if let Err(status) = member.shards().release(request).await {
                tracing::debug!(worker = member.id, %status, "release was not heard");
            }
        }
    };
    futures::future::join_all(members.into_iter().map(release)).await;
}
