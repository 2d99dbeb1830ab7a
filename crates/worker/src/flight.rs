//! The Arrow Flight face of a worker: blocks come in, labels go out. The other Flight calls are not offered.

use crate::service::preparation;
use crate::store::{HeldBlock, Store};
use arrow::datatypes::Field;
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
use shoal_clustering::ClusteringError;
use shoal_clustering::cpu::Assigner;
use shoal_clustering::prepare::prepare_block;
use shoal_domain::{BlockId, Centroids, Preparation};
use shoal_wire::blocks::{BlockCutter, DataSetSchema, SourceBlock};
use shoal_wire::flight::{DecodedPayload, Incoming, encode};
use shoal_wire::labels::{label_batch, label_schema};
use shoal_wire::proto::{BlockLabelsTicket, BlockMetadata, BlocksReceipt, Centroids as CentroidsMessage, PutBlocks};
use shoal_wire::status::ToStatus;
use std::sync::Arc;
use tonic::{Request, Response, Status, Streaming};

pub(crate) struct BlockFlight {
    store: Arc<Store>,
}

impl BlockFlight {
    pub(crate) fn new(store: Arc<Store>) -> Self {
        Self { store }
    }

    /// Takes the blocks of one stream; none of them is kept unless all of them have come.
    async fn take(&self, incoming: &mut Incoming) -> Result<u64, Status> {
        let mut target: Option<(PutBlocks, DataSetSchema)> = None;
        let mut blocks = Vec::new();
        let mut end = None;
        while let Some(message) = incoming.next().await? {
            match (message.payload, &target) {
                (DecodedPayload::Schema(schema), None) => {
                    let descriptor = message.inner.flight_descriptor.unwrap_or_default();
                    let put = PutBlocks::decode(descriptor.cmd).map_err(invalid_metadata)?;
                    let schema = DataSetSchema::new(schema, put.has_weight).map_err(|error| error.to_status())?;
                    target = Some((put, schema));
                }
                (DecodedPayload::RecordBatch(batch), Some((put, schema))) => {
                    let metadata = BlockMetadata::decode(message.inner.app_metadata).map_err(invalid_metadata)?;
                    if metadata.n_blocks.is_some() {
                        end = metadata.n_blocks;
                        continue;
                    }
                    let block = block_of(batch, schema, &metadata)?;
                    let what = format!("data set {}", put.data_set);
                    let _reserved = self.store.budget.reserve(block.n_bytes() as u64, &what)?;
                    blocks.push(HeldBlock { block, _reserved });
                }
                (DecodedPayload::None, _) => {}
                _ => return Err(Status::invalid_argument("a block came before the schema, or a second schema")),
            }
        }
        let (put, schema) = target.ok_or_else(|| Status::invalid_argument("the stream has no schema"))?;
        let n_blocks = blocks.len() as u64;
        if end != Some(n_blocks) {
            return Err(Status::data_loss(format!(
                "the stream was cut short after {n_blocks} blocks; nothing was kept"
            )));
        }
        self.store.put(&put.data_set, schema, blocks);
        Ok(n_blocks)
    }

    fn labels(&self, ticket: BlockLabelsTicket) -> Result<BoxStream<'static, Result<FlightData, Status>>, Status> {
        let data_set = self.store.data_set(&ticket.data_set)?;
        let preparation = Arc::new(preparation(ticket.preparation)?);
        let centroids = CentroidsMessage::required(ticket.centroids).map_err(|error| error.to_status())?;
        let n_features = data_set.schema.features.n_features();
        if preparation.n_features() != n_features || centroids.n_features() != n_features {
            return Err(Status::invalid_argument("preparation and centroids must have the data set's columns"));
        }
        let (centroids, store) = (Arc::new(centroids), self.store.clone());
        let id_field = data_set.schema.arrow.field(0).clone();
        let schema = label_schema(&id_field);
        let batches = futures::stream::iter(ticket.blocks).then(move |id| {
            let held = data_set.blocks.get(&BlockId(id)).cloned();
            let (preparation, centroids, store) = (preparation.clone(), centroids.clone(), store.clone());
            let id_field = id_field.clone();
            async move {
                let held = held.ok_or_else(|| ClusteringError::NoSuchBlock { block: id }.to_status())?;
                let of_block = {
                    let store = store.clone();
                    move || labels_of(&id_field, &held.block, &preparation, &centroids, &store)
                };
                let batch = store.computing.run(of_block).await?;
                Ok((batch, Bytes::from(BlockMetadata { block: id, ..Default::default() }.encode_to_vec())))
            }
        });
        Ok(encode(schema, None, batches).map_err(shoal_wire::flight::status_of).boxed())
    }
}

fn labels_of(
    id: &Field,
    held: &SourceBlock,
    preparation: &Preparation,
    centroids: &Centroids,
    store: &Store,
) -> Result<RecordBatch, ClusteringError> {
    let block = prepare_block(preparation, &held.raw)?;
    let labels = Assigner::new(centroids, store.machine.cpu.isa()).block_labels(&block);
    label_batch(id, &held.ids, labels).map_err(ClusteringError::rows)
}

/// A block that arrived, checked against the digest that it was sent with.
fn block_of(batch: RecordBatch, schema: &DataSetSchema, metadata: &BlockMetadata) -> Result<SourceBlock, Status> {
    let block = BlockCutter::one(schema.clone(), BlockId(metadata.block), &batch).map_err(|error| error.to_status())?;
    if block.raw.digest().as_slice() != metadata.digest {
        return Err(Status::data_loss(format!("block {} is not what was sent", metadata.block)));
    }
    Ok(block)
}

fn invalid_metadata(error: prost::DecodeError) -> Status {
    Status::invalid_argument(format!("the metadata is not ours: {error}"))
}

fn not_offered<T>(call: &str) -> Result<T, Status> {
    Err(Status::unimplemented(format!("a worker does not offer {call}")))
}

#[tonic::async_trait]
impl FlightService for BlockFlight {
    type HandshakeStream = BoxStream<'static, Result<HandshakeResponse, Status>>;
    type ListFlightsStream = BoxStream<'static, Result<FlightInfo, Status>>;
    type DoGetStream = BoxStream<'static, Result<FlightData, Status>>;
    type DoPutStream = BoxStream<'static, Result<PutResult, Status>>;
    type DoActionStream = BoxStream<'static, Result<arrow_flight::Result, Status>>;
    type ListActionsStream = BoxStream<'static, Result<ActionType, Status>>;
    type DoExchangeStream = BoxStream<'static, Result<FlightData, Status>>;

    async fn do_put(&self, request: Request<Streaming<FlightData>>) -> Result<Response<Self::DoPutStream>, Status> {
        let mut incoming = Incoming::new(request.into_inner());
        let taken = self.take(&mut incoming).await;
        if taken.is_err() {
            // A sender that is still sending would see its stream reset instead of the status that tells why.
            incoming.drain().await;
        }
        let n_blocks = taken?;
        let receipt = BlocksReceipt { n_blocks }.encode_to_vec();
        let result = PutResult { app_metadata: receipt.into() };
        Ok(Response::new(futures::stream::iter([Ok(result)]).boxed()))
    }

    async fn do_get(&self, request: Request<Ticket>) -> Result<Response<Self::DoGetStream>, Status> {
        let ticket = BlockLabelsTicket::decode(request.into_inner().ticket).map_err(invalid_metadata)?;
        Ok(Response::new(self.labels(ticket)?))
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
