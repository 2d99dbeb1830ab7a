//! Spreads blocks over workers, and writes those of a new data set to storage on the way.

use crate::error::FleetError;
use crate::holder::Holder;
use crate::members::Member;
use arrow::record_batch::RecordBatch;
use arrow_flight::FlightDescriptor;
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use prost::Message;
use shoal_storage::{DataSetWriter, Manifest, RowCounts};
use shoal_wire::blocks::{BlockCutter, DataSetSchema, SourceBlock};
use shoal_wire::flight::{client, encode};
use shoal_wire::ids::IdCounter;
use shoal_wire::proto::{BlockMetadata, BlocksReceipt, PutBlocks};
use shoal_wire::status::is_connection_error;
use shoal_wire::uncut::UncutBlock;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;
use tracing::warn;

/// Blocks that wait for one worker's connection; more wait with the sender.
const BLOCKS_UNDER_WAY: usize = 4;

/// Blocks that are checked and hashed at a time.
const BLOCKS_CUT_TOGETHER: usize = 16;

/// Blocks on their way to workers, in proportion to the memory that these have.
///
/// Where they are written to storage too, a worker that is lost on the way does no harm: its blocks are placed anew when
/// somebody asks for them. Where they are not, they came from there, and the whole placement is tried again.
pub(crate) struct Placement {
    name: String,
    schema: DataSetSchema,
    lanes: Vec<Lane>,
    writer: Option<DataSetWriter>,
    began: Instant,
}

struct Lane {
    holder: Holder,
    sender: mpsc::Sender<Result<(RecordBatch, Bytes), Status>>,
    /// None once its answer was taken.
    receipt: Option<JoinHandle<Result<BlocksReceipt, Status>>>,
    is_lost: bool,
    /// Blocks that were meant for it, those that it was lost for included.
    n_blocks: usize,
}

impl Placement {
    /// Opens a stream to every worker. `name` is what the workers will know the blocks by, `number` tells placements of one
    /// data set apart.
    pub(crate) fn start(
        name: &str,
        number: u64,
        schema: DataSetSchema,
        members: Vec<Member>,
        writer: Option<DataSetWriter>,
    ) -> Result<Self, FleetError> {
        if members.is_empty() {
            return Err(FleetError::NoWorkers);
        }
        let lanes = members.into_iter().map(|member| open_lane(name, number, &schema, member)).collect();
        Ok(Self { name: name.to_owned(), schema, lanes, writer, began: Instant::now() })
    }

    /// Sends one block; waits when its worker is slower than the source.
    pub(crate) async fn send(&mut self, block: &SourceBlock) -> Result<(), FleetError> {
        if let Some(writer) = &mut self.writer {
            writer.push(block, &self.schema).await?;
        }
        let id = block.raw.id();
        let metadata = BlockMetadata { block: id.0, digest: block.raw.digest().to_vec(), n_blocks: None };
        let message = (block.to_batch(&self.schema)?, Bytes::from(metadata.encode_to_vec()));
        let emptiest =
            self.lanes.iter_mut().min_by(|one, other| one.fill_after_next().total_cmp(&other.fill_after_next()));
        let lane = emptiest.ok_or(FleetError::NoWorkers)?;
        lane.n_blocks += 1;
        if lane.is_lost {
            return Ok(());
        }
        lane.holder.blocks.push(id);
        if lane.sender.send(Ok(message)).await.is_ok() {
            return Ok(());
        }
        // The stream has ended early: its receipt says why.
        let status = match lane.receipt().await {
            Err(status) => status,
            Ok(_) => Status::internal("the worker has ended the stream early"),
        };
        lane.fail(status, self.writer.is_some())
    }

    /// Ends all streams and waits until every worker has confirmed its blocks, and storage, where the blocks go
    /// there too, the data set of so many rows.
    pub(crate) async fn finish(
        &mut self,
        counts: Option<RowCounts>,
    ) -> Result<(Vec<Holder>, Option<Manifest>), FleetError> {
        let is_written = self.writer.is_some();
        let finishing = self.lanes.iter_mut().map(|lane| lane.finish(&self.schema, is_written));
        futures::future::join_all(finishing).await.into_iter().collect::<Result<(), FleetError>>()?;
        let manifest = match (&mut self.writer, counts) {
            (Some(writer), Some(counts)) => Some(writer.commit(counts, &self.schema).await?),
            _ => None,
        };
        let has_blocks = |holder: &Holder| !holder.blocks.is_empty();
        let holders = self.lanes.iter().filter(|lane| !lane.is_lost).map(|lane| lane.holder.clone());
        Ok((holders.filter(has_blocks).collect(), manifest))
    }

    /// Breaks all streams off: without the end marker no worker keeps anything of them; and storage keeps nothing, even of what
    /// was whole there.
    pub(crate) async fn break_off(self) {
        let (senders, receipts): (Vec<_>, Vec<_>) =
            self.lanes.into_iter().map(|lane| (lane.sender, lane.receipt)).unzip();
        drop(senders);
        // What the workers answer to a broken stream is of no interest, only that they have.
        futures::future::join_all(receipts.into_iter().flatten()).await;
        if let Some(writer) = self.writer
            && let Err(error) = writer.abandon().await
        {
            warn!(data_set = self.name, %error, "what was written of a broken stream is still in storage");
        }
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
    /// How full the worker would be with one more block, beside the others.
    fn fill_after_next(&self) -> f64 {
        (self.n_blocks + 1) as f64 / self.holder.member.worker.memory_bytes.max(1) as f64
    }

    async fn finish(&mut self, schema: &DataSetSchema, is_written: bool) -> Result<(), FleetError> {
        if self.is_lost {
            return Ok(());
        }
        let sent = self.holder.blocks.len() as u64;
        let end = BlockMetadata { n_blocks: Some(sent), ..Default::default() }.encode_to_vec();
        let marker = (RecordBatch::new_empty(schema.arrow.clone()), end.into());
        // A stream that has ended early has its reason in the receipt.
        let _ = self.sender.send(Ok(marker)).await;
        self.sender = mpsc::channel(1).0;
        match self.receipt().await {
            Ok(receipt) if receipt.n_blocks == sent => Ok(()),
            Ok(receipt) => {
                let worker = self.holder.member.id.clone();
                Err(FleetError::Blocks { worker, taken: receipt.n_blocks, sent })
            }
            Err(status) => self.fail(status, is_written),
        }
    }

    /// A worker that is lost may be done without where the blocks are written to storage; any other failure is one.
    fn fail(&mut self, status: Status, is_written: bool) -> Result<(), FleetError> {
        let is_lost = is_connection_error(&status);
        let Member { id, worker, .. } = &self.holder.member;
        let error = FleetError::Worker { worker: id.clone(), address: worker.address.clone(), status };
        if is_lost {
            self.holder.member.give_up("it takes no blocks");
        }
        self.is_lost = is_lost && is_written;
        if self.is_lost { Ok(()) } else { Err(error) }
    }

    async fn receipt(&mut self) -> Result<BlocksReceipt, Status> {
        let receipt = self.receipt.take().ok_or_else(|| Status::internal("the stream has failed before"))?;
        receipt.await.unwrap_or_else(|_| Err(Status::internal("the stream's task panicked")))
    }
}

fn open_lane(name: &str, number: u64, schema: &DataSetSchema, member: Member) -> Lane {
    let (sender, receiver) = mpsc::channel(BLOCKS_UNDER_WAY);
    let put = PutBlocks { data_set: name.to_owned(), has_weight: schema.has_weight };
    let descriptor = FlightDescriptor::new_cmd(put.encode_to_vec());
    let messages = encode(schema.arrow.clone(), Some(descriptor), ReceiverStream::new(receiver));
    let (channel, gone) = (member.channel.clone(), member.clone());
    let receipt = tokio::spawn(async move {
        // An error of ours breaks the stream off before its end marker, and the worker keeps nothing.
        let messages = messages.take_while(|message| futures::future::ready(message.is_ok()));
        let messages = messages.filter_map(|message| futures::future::ready(message.ok()));
        let put = async {
            let results = client(channel).do_put(messages).await?;
            let result = results.into_inner().try_next().await?;
            let result = result.ok_or_else(|| Status::internal("the worker gave no receipt"))?;
            BlocksReceipt::decode(result.app_metadata).map_err(|error| Status::internal(error.to_string()))
        };
        tokio::select! {
            put = put => put,
            // A worker that stands still with its connections open would otherwise hold the stream up.
            () = gone.until_gone() => Err(Status::unavailable("the worker is gone")),
        }
    });
    let holder = Holder { member, blocks: Vec::new(), placement: number, held_as: name.to_owned() };
    Lane { holder, sender, receipt: Some(receipt), is_lost: false, n_blocks: 0 }
}

/// Cuts batches into blocks and sends them on: some blocks are checked and hashed while others are on their way.
pub(crate) struct Spreader<'a> {
    cutter: BlockCutter,
    ids: IdCounter,
    placement: &'a mut Placement,
    n_rows: u64,
}

impl<'a> Spreader<'a> {
    pub(crate) fn new(placement: &'a mut Placement) -> Result<Self, FleetError> {
        Ok(Self {
            cutter: BlockCutter::new(placement.schema.clone())?,
            ids: IdCounter::default(),
            placement,
            n_rows: 0,
        })
    }

    /// Rows that have come so far.
    pub(crate) fn n_rows(&self) -> u64 {
        self.n_rows
    }

    pub(crate) async fn push(&mut self, batch: RecordBatch) -> Result<(), FleetError> {
        self.n_rows += batch.num_rows() as u64;
        let uncut = self.cutter.push_uncut(batch)?;
        self.send(uncut).await
    }

    async fn send(&mut self, uncut: Vec<UncutBlock>) -> Result<(), FleetError> {
        let cut = |uncut: UncutBlock| tokio::task::spawn_blocking(move || uncut.cut_with_ids());
        let mut cut = futures::stream::iter(uncut).map(cut).buffered(BLOCKS_CUT_TOGETHER);
        while let Some(block) = cut.next().await {
            let (block, ids) = block.map_err(|_| FleetError::CuttingPanicked)??;
            self.ids.add(&ids);
            self.placement.send(&block).await?;
        }
        Ok(())
    }

    /// Sends the last block.
    pub(crate) async fn finish(mut self) -> Result<RowCounts, FleetError> {
        let last = self.cutter.finish_uncut()?;
        self.send(last.into_iter().collect()).await?;
        if self.n_rows == 0 {
            return Err(FleetError::NoRows);
        }
        let n_repeated_ids = tokio::task::spawn_blocking(|| self.ids.n_repeated()).await;
        Ok(RowCounts { n_rows: self.n_rows, n_repeated_ids: n_repeated_ids.map_err(|_| FleetError::CuttingPanicked)? })
    }
}
