//! Spreads the blocks of a data set over the workers as they are cut.

use crate::error::FleetError;
use crate::holders::Holder;
use crate::members::Member;
use arrow::record_batch::RecordBatch;
use arrow_flight::FlightDescriptor;
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use prost::Message;
use shoal_wire::blocks::{BlockCutter, DataSetSchema, SourceBlock};
use shoal_wire::flight::{client, encode};
use shoal_wire::proto::{BlockMetadata, BlocksReceipt, PutBlocks};
use shoal_wire::status::is_connection_error;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

/// Blocks that wait for one worker's connection; more wait with the sender.
const BLOCKS_UNDER_WAY: usize = 4;

/// A data set on its way to the workers. Block b goes to worker `b mod n`.
pub(crate) struct Placement {
    name: String,
    schema: DataSetSchema,
    lanes: Vec<Lane>,
    began: Instant,
}

struct Lane {
    holder: Holder,
    sender: mpsc::Sender<Result<(RecordBatch, Bytes), Status>>,
    /// None once its answer was taken.
    receipt: Option<JoinHandle<Result<BlocksReceipt, Status>>>,
}

impl Placement {
    /// Opens a stream to every worker.
    pub(crate) fn start(name: &str, schema: DataSetSchema, members: Vec<Member>) -> Result<Self, FleetError> {
        if members.is_empty() {
            return Err(FleetError::NoWorkers);
        }
        let lanes = members.into_iter().map(|member| open_lane(name, &schema, member)).collect();
        Ok(Self { name: name.to_owned(), schema, lanes, began: Instant::now() })
    }

    /// Sends one block; waits when its worker is slower than the source.
    pub(crate) async fn send(&mut self, block: &SourceBlock) -> Result<(), FleetError> {
        let id = block.raw.id();
        let metadata = BlockMetadata { block: id.0, digest: block.raw.digest().to_vec(), n_blocks: None };
        let batch = block.to_batch(&self.schema)?;
        let n_lanes = self.lanes.len() as u64;
        let lane = &mut self.lanes[(id.0 % n_lanes) as usize];
        lane.holder.blocks.push(id);
        match lane.sender.send(Ok((batch, metadata.encode_to_vec().into()))).await {
            Ok(()) => Ok(()),
            // The stream has ended early: its receipt says why.
            Err(_) => match lane.receipt().await {
                Err(status) => Err(failed(&lane.holder, status)),
                Ok(_) => Err(failed(&lane.holder, Status::internal("the worker has ended the stream early"))),
            },
        }
    }

    /// Ends all streams and waits until every worker has confirmed its blocks.
    pub(crate) async fn finish(&mut self) -> Result<Vec<Holder>, FleetError> {
        let receipts = self.lanes.iter_mut().map(|lane| lane.finish(&self.schema));
        let receipts = futures::future::join_all(receipts).await;
        receipts.into_iter().collect()
    }

    /// Breaks all streams off: without the end marker no worker keeps anything of them.
    pub(crate) async fn break_off(self) {
        let (senders, receipts): (Vec<_>, Vec<_>) =
            self.lanes.into_iter().map(|lane| (lane.sender, lane.receipt)).unzip();
        drop(senders);
        // What the workers answer to a broken stream is of no interest, only that they have.
        futures::future::join_all(receipts.into_iter().flatten()).await;
    }

    /// The workers, so that they can be told to let go.
    pub(crate) fn members(&self) -> Vec<Member> {
        self.lanes.iter().map(|lane| lane.holder.member.clone()).collect()
    }

    /// When the first rows came.
    pub(crate) fn began(&self) -> Instant {
        self.began
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }
}

impl Lane {
    async fn finish(&mut self, schema: &DataSetSchema) -> Result<Holder, FleetError> {
        let sent = self.holder.blocks.len() as u64;
        let end = BlockMetadata { n_blocks: Some(sent), ..Default::default() }.encode_to_vec();
        let marker = (RecordBatch::new_empty(schema.arrow.clone()), end.into());
        // A stream that has ended early has its reason in the receipt.
        let _ = self.sender.send(Ok(marker)).await;
        self.sender = mpsc::channel(1).0;
        let receipt = self.receipt().await.map_err(|status| failed(&self.holder, status))?;
        if receipt.n_blocks != sent {
            let worker = self.holder.member.id.clone();
            return Err(FleetError::Blocks { worker, taken: receipt.n_blocks, sent });
        }
        Ok(self.holder.clone())
    }

    async fn receipt(&mut self) -> Result<BlocksReceipt, Status> {
        let receipt = self.receipt.take().ok_or_else(|| Status::internal("the stream has failed before"))?;
        receipt.await.unwrap_or_else(|_| Err(Status::internal("the stream's task panicked")))
    }
}

fn open_lane(name: &str, schema: &DataSetSchema, member: Member) -> Lane {
    let (sender, receiver) = mpsc::channel(BLOCKS_UNDER_WAY);
    let put = PutBlocks { data_set: name.to_owned(), has_weight: schema.has_weight };
    let descriptor = FlightDescriptor::new_cmd(put.encode_to_vec());
    let messages = encode(schema.arrow.clone(), Some(descriptor), ReceiverStream::new(receiver));
    let channel = member.channel.clone();
    let receipt = tokio::spawn(async move {
        // An error of ours breaks the stream off before its end marker, and the worker keeps nothing.
        let messages = messages.take_while(|message| futures::future::ready(message.is_ok()));
        let messages = messages.filter_map(|message| futures::future::ready(message.ok()));
        let results = client(channel).do_put(messages).await?;
        let result = results.into_inner().try_next().await?;
        let result = result.ok_or_else(|| Status::internal("the worker gave no receipt"))?;
        BlocksReceipt::decode(result.app_metadata).map_err(|error| Status::internal(error.to_string()))
    });
    Lane { holder: Holder { member, blocks: Vec::new() }, sender, receipt: Some(receipt) }
}

fn failed(holder: &Holder, status: Status) -> FleetError {
    if is_connection_error(&status) {
        holder.member.give_up("it takes no blocks");
    }
    let Member { id, worker, .. } = &holder.member;
    FleetError::Worker { worker: id.clone(), address: worker.address.clone(), status }
}

/// Cuts batches into blocks and sends them on.
pub(crate) struct Spreader<'a> {
    cutter: BlockCutter,
    placement: &'a mut Placement,
    n_rows: u64,
}

impl<'a> Spreader<'a> {
    pub(crate) fn new(placement: &'a mut Placement) -> Result<Self, FleetError> {
        Ok(Self { cutter: BlockCutter::new(placement.schema.clone())?, placement, n_rows: 0 })
    }

    /// Rows that have come so far.
    pub(crate) fn n_rows(&self) -> u64 {
        self.n_rows
    }

    pub(crate) async fn push(&mut self, batch: RecordBatch) -> Result<(), FleetError> {
        self.n_rows += batch.num_rows() as u64;
        for block in self.cutter.push(batch)? {
            self.placement.send(&block).await?;
        }
        Ok(())
    }

    /// Sends the last block.
    pub(crate) async fn finish(self) -> Result<u64, FleetError> {
        if let Some(block) = self.cutter.finish()? {
            self.placement.send(&block).await?;
        }
        Ok(self.n_rows)
    }
}
