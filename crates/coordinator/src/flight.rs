//! The Arrow Flight face of the coordinator: data sets in, labels out. Rows pass through and are not kept.

use crate::data_sets::{DataSet, DataSets};
use crate::holder::{Holder, HolderKey};
use crate::job::{Job, Outcome};
use crate::jobs_service::no_result;
use crate::placement::{Placement, Spreader};
use crate::queue::Queue;
use crate::results::Results;
use arrow::record_batch::RecordBatch;
use arrow_flight::flight_service_server::FlightService;
use arrow_flight::{
    Action, ActionType, Criteria, Empty, FlightData, FlightDescriptor, FlightInfo, HandshakeRequest, HandshakeResponse,
    PollInfo, PutResult, SchemaResult, Ticket,
};
use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use prost::Message;
use shoal_domain::BlockId;
use shoal_storage::RowCounts;
use shoal_wire::blocks::DataSetSchema;
use shoal_wire::flight::{DecodedPayload, Incoming, client, encode, status_of};
use shoal_wire::labels::{SilhouetteColumn, label_schema};
use shoal_wire::limits::LOSSES_MAX;
use shoal_wire::proto::{BlockLabelsTicket, BlockMetadata, DataSetReceipt, LabelsTicket, PutDataSet, PutMetadata};
use shoal_wire::status::{ToStatus, is_connection_error, one_line};
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Request, Response, Status, Streaming};

/// Batches of labels that wait for a slow reader.
const LABELS_UNDER_WAY: usize = 4;

/// Clones share everything; a put runs in a task of its own with one of them.
#[derive(Clone)]
pub(crate) struct RowsFlight {
    data_sets: Arc<DataSets>,
    queue: Arc<Queue>,
    results: Arc<Results>,
}

impl RowsFlight {
    pub(crate) fn new(data_sets: Arc<DataSets>, queue: Arc<Queue>, results: Arc<Results>) -> Self {
        Self { data_sets, queue, results }
    }

    /// Takes a data set and spreads it; nothing of it is kept unless all of it has come.
    async fn take(&self, incoming: &mut Incoming) -> Result<Arc<DataSet>, Status> {
        let first = incoming.next().await?.ok_or_else(|| Status::invalid_argument("the stream is empty"))?;
        let DecodedPayload::Schema(schema) = first.payload else {
            return Err(Status::invalid_argument("the stream does not begin with a schema"));
        };
        let descriptor = first.inner.flight_descriptor.unwrap_or_default();
        let put = PutDataSet::decode(descriptor.cmd).map_err(not_ours)?;
        let schema = DataSetSchema::new(schema, put.has_weight).map_err(|error| error.to_status())?;
        let mut placement = self.data_sets.start(schema.clone()).await.map_err(|error| error.to_status())?;
        match spread(incoming, &mut placement).await {
            Ok(counts) => self.data_sets.commit(placement, schema, counts).await.map_err(|error| error.to_status()),
            Err(status) => {
                placement.break_off().await;
                Err(status)
            }
        }
    }

    async fn labels(&self, job: &str) -> Result<BoxStream<'static, Result<FlightData, Status>>, Status> {
        let look = |job: &Job| (job.number, job.outcome, job.state, job.error.clone());
        let (number, outcome, state, error) = self.queue.look(job, look)?;
        let epoch = outcome.ok_or_else(|| no_result(job, state, &error))?;
        let outcome = self.results.outcome(number, epoch).await.map_err(|error| error.to_status())?;
        let silhouettes = match outcome.wants_row_silhouettes {
            true => self.results.row_silhouettes(number, epoch).await.map_err(|error| error.to_status())?,
            false => None,
        };
        let data_set = self.data_sets.get(&outcome.data_set_name).map_err(|error| error.to_status())?;
        let silhouettes = SilhouetteColumn::new(outcome.wants_row_silhouettes, silhouettes);
        let schema = silhouettes.schema(&label_schema(data_set.schema.arrow.field(0)));
        let (sender, receiver) = mpsc::channel(LABELS_UNDER_WAY);
        tokio::spawn(async move {
            if let Err(status) = relay(&data_set, &outcome, silhouettes, &sender).await {
                // A reader that has gone need not be told.
                let _ = sender.send(Err(status)).await;
            }
        });
        Ok(encode(schema, None, ReceiverStream::new(receiver)).map_err(status_of).boxed())
    }
}

/// Sends what comes on to the workers. Returns the rows once the end marker has confirmed them.
async fn spread(incoming: &mut Incoming, placement: &mut Placement) -> Result<RowCounts, Status> {
    let mut spreader = Spreader::new(placement).map_err(|error| error.to_status())?;
    let mut end = None;
    while let Some(message) = incoming.next().await? {
        if end.is_some() {
            return Err(Status::invalid_argument("the stream goes on after its end marker"));
        }
        end = PutMetadata::decode(message.inner.app_metadata).map_err(not_ours)?.end;
        if let DecodedPayload::RecordBatch(batch) = message.payload {
            spreader.push(batch).await.map_err(|error| error.to_status())?;
        }
    }
    let n_rows = spreader.n_rows();
    let Some(end) = end else {
        let message = format!("the stream was cut short after {n_rows} rows: it has no end marker; nothing was kept");
        return Err(Status::data_loss(message));
    };
    if end.n_rows != n_rows {
        let message = format!("{} rows were sent and {n_rows} have come; nothing was kept", end.n_rows);
        return Err(Status::data_loss(message));
    }
    spreader.finish().await.map_err(|error| error.to_status())
}

type LabelSender = mpsc::Sender<Result<(RecordBatch, Bytes), Status>>;

/// Reads the labels of all workers at once and passes them on in block order. When a worker is lost, those that hold its
/// blocks then are asked for the rest.
async fn relay(
    data_set: &DataSet,
    outcome: &Outcome,
    mut silhouettes: SilhouetteColumn,
    sender: &LabelSender,
) -> Result<(), Status> {
    let mut streams: BTreeMap<HolderKey, Incoming> = BTreeMap::new();
    let n_blocks = data_set.placed.manifest().n_blocks();
    // A reader that goes ends this by itself.
    let cancelled = AtomicBool::new(false);
    let (mut number, mut n_lost) = (0, 0);
    while number < n_blocks {
        let holder = data_set.placed.holder_of(BlockId(number), &cancelled).await.map_err(|error| error.to_status())?;
        let next = async {
            if let Entry::Vacant(vacant) = streams.entry(holder.key()) {
                vacant.insert(worker_labels(outcome, &holder, number).await?);
            }
            next_labels(streams.get_mut(&holder.key()).expect("it is there now"), &holder, number).await
        };
        let (labels, metadata) = match next.await {
            Ok(message) => message,
            Err(status) if is_loss(&status) && n_lost < LOSSES_MAX => {
                n_lost += 1;
                holder.member.give_up("it sends no labels");
                streams.remove(&holder.key());
                continue;
            }
            Err(status) => return Err(status),
        };
        let labels = silhouettes.put_beside(&labels).map_err(|error| error.to_status())?;
        if sender.send(Ok((labels, metadata))).await.is_err() {
            return Ok(());
        }
        number += 1;
    }
    Ok(())
}

/// Whether a worker has gone, or has forgotten its rows, which comes to the same.
fn is_loss(status: &Status) -> bool {
    is_connection_error(status) || status.code() == Code::NotFound
}

/// The next batch of a worker's labels, which must be those of a block.
async fn next_labels(stream: &mut Incoming, holder: &Holder, number: u64) -> Result<(RecordBatch, Bytes), Status> {
    let ended = || Status::unavailable(format!("worker {} has ended before block {number}", holder.member.id));
    let (labels, metadata) = loop {
        let message = tokio::select! {
            message = stream.next() => message?.ok_or_else(ended)?,
            () = holder.member.until_gone() => return Err(ended()),
        };
        if let DecodedPayload::RecordBatch(batch) = message.payload {
            break (batch, message.inner.app_metadata);
        }
    };
    match BlockMetadata::decode(metadata.clone()).map_err(not_ours)?.block == number {
        true => Ok((labels, metadata)),
        false => Err(Status::internal(format!("worker {} has sent another block than {number}", holder.member.id))),
    }
}

/// The labels of a worker's blocks from one on.
async fn worker_labels(outcome: &Outcome, holder: &Holder, first: u64) -> Result<Incoming, Status> {
    let ticket = BlockLabelsTicket {
        data_set: holder.held_as.clone(),
        preparation: Some((&outcome.preparation).into()),
        centroids: Some((&outcome.centroids).into()),
        blocks: holder.blocks.iter().map(|block| block.0).filter(|block| *block >= first).collect(),
    };
    let ticket = Ticket::new(ticket.encode_to_vec());
    let messages = client(holder.member.channel.clone()).do_get(ticket).await.map_err(|status| {
        let (id, address) = (&holder.member.id, &holder.member.worker.address);
        Status::new(status.code(), format!("worker {id} ({address}): {}", one_line(&status)))
    })?;
    Ok(Incoming::new(messages.into_inner()))
}

fn not_ours(error: prost::DecodeError) -> Status {
    Status::invalid_argument(format!("the command, ticket or metadata is not ours: {error}"))
}

fn not_offered<T>(call: &str) -> Result<T, Status> {
    Err(Status::unimplemented(format!("the coordinator does not offer {call}")))
}

#[tonic::async_trait]
impl FlightService for RowsFlight {
    type HandshakeStream = BoxStream<'static, Result<HandshakeResponse, Status>>;
    type ListFlightsStream = BoxStream<'static, Result<FlightInfo, Status>>;
    type DoGetStream = BoxStream<'static, Result<FlightData, Status>>;
    type DoPutStream = BoxStream<'static, Result<PutResult, Status>>;
    type DoActionStream = BoxStream<'static, Result<arrow_flight::Result, Status>>;
    type ListActionsStream = BoxStream<'static, Result<ActionType, Status>>;
    type DoExchangeStream = BoxStream<'static, Result<FlightData, Status>>;

    async fn do_put(&self, request: Request<Streaming<FlightData>>) -> Result<Response<Self::DoPutStream>, Status> {
        let mut incoming = Incoming::new(request.into_inner());
        let this = self.clone();
        // A task of its own goes on when the client hangs up, so that what was begun is ended in order.
        let put = tokio::spawn(async move {
            let taken = this.take(&mut incoming).await;
            if taken.is_err() {
                // A client that is still sending would see its stream reset instead of the status that tells why.
                incoming.drain().await;
            }
            taken
        });
        let data_set = put.await.map_err(|error| Status::internal(format!("the put panicked: {error}")))??;
        let (n_rows, n_blocks) = (data_set.n_rows, data_set.placed.manifest().n_blocks());
        let receipt = DataSetReceipt { name: data_set.name.clone(), n_rows, n_blocks };
        let result = PutResult { app_metadata: receipt.encode_to_vec().into() };
        Ok(Response::new(futures::stream::iter([Ok(result)]).boxed()))
    }

    async fn do_get(&self, request: Request<Ticket>) -> Result<Response<Self::DoGetStream>, Status> {
        let ticket = LabelsTicket::decode(request.into_inner().ticket).map_err(not_ours)?;
        Ok(Response::new(self.labels(&ticket.job).await?))
    }

    async fn handshake(
        &self,
        _: Request<Streaming<HandshakeRequest>>,
    ) -> Result<Response<Self::HandshakeStream>, Status> {
        not_offered("Handshake")
    }

    async fn list_flights(&self, _: Request<Criteria>) -> Result<Response<Self::ListFlightsStream>, Status> {
        not_offered("ListFlights")
    }

    async fn get_flight_info(&self, _: Request<FlightDescriptor>) -> Result<Response<FlightInfo>, Status> {
        not_offered("GetFlightInfo")
    }

    async fn poll_flight_info(&self, _: Request<FlightDescriptor>) -> Result<Response<PollInfo>, Status> {
        not_offered("PollFlightInfo")
    }

    async fn get_schema(&self, _: Request<FlightDescriptor>) -> Result<Response<SchemaResult>, Status> {
        not_offered("GetSchema")
    }

    async fn do_action(&self, _: Request<Action>) -> Result<Response<Self::DoActionStream>, Status> {
        not_offered("DoAction")
    }

    async fn list_actions(&self, _: Request<Empty>) -> Result<Response<Self::ListActionsStream>, Status> {
        not_offered("ListActions")
    }

    async fn do_exchange(&self, _: Request<Streaming<FlightData>>) -> Result<Response<Self::DoExchangeStream>, Status> {
        not_offered("DoExchange")
    }
}
