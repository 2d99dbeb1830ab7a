//! The gRPC face of a worker: message in, question, answer, message out.

use crate::store::{DataSet, Store};
use futures::StreamExt;
use futures::stream::BoxStream;
use shoal_clustering::{ClusteringError, Draw, Picked, Rows, Shard};
use shoal_domain::{BlockId, Centroids, Preparation};
use shoal_stats::DigitQuery;
use shoal_wire::convert::{WireError, f32s_from_bytes, i128s_from_bytes, picked_to, required};
use shoal_wire::proto::shards_server::Shards;
use shoal_wire::proto::{self, PickedResponse};
use shoal_wire::status::ToStatus;
use std::sync::Arc;
use tonic::{Request, Response, Status};

/// Blocks whose moments travel together: some hundred bytes a column, so that 500 columns stay below the message limit.
const PROFILED_BLOCKS_PER_MESSAGE: usize = 1_000;

type Answer<T> = Result<Response<T>, Status>;

pub(crate) struct ShardService {
    store: Arc<Store>,
}

impl ShardService {
    pub(crate) fn new(store: Arc<Store>) -> Self {
        Self { store }
    }

    /// Asks the raw blocks of a data set.
    async fn ask_rows<T: Send + 'static>(
        &self,
        name: &str,
        ask: impl FnOnce(&DataSet, &Store) -> Result<T, ClusteringError> + Send + 'static,
    ) -> Result<T, Status> {
        let (data_set, store) = (self.store.data_set(name)?, self.store.clone());
        compute(move || ask(&data_set, &store)).await
    }

    /// Asks the prepared rows of a run.
    async fn ask_shard<T: Send + 'static>(
        &self,
        run: &str,
        ask: impl FnOnce(&dyn Shard) -> Result<T, ClusteringError> + Send + 'static,
    ) -> Result<T, Status> {
        let shard = self.store.shard(run)?;
        compute(move || ask(shard.as_ref())).await
    }
}

/// Async ends here: `work` runs on a thread that may block, and spreads over the device's threads from there. A panic is
/// the question's failure, not the worker's.
pub(crate) async fn compute<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ClusteringError> + Send + 'static,
) -> Result<T, Status> {
    let done = tokio::task::spawn_blocking(work).await;
    let result = done.map_err(|error| Status::internal(format!("the computation panicked: {error}")))?;
    result.map_err(|error| error.to_status())
}

fn invalid(error: WireError) -> Status {
    error.to_status()
}

fn centroids(message: Option<proto::Centroids>) -> Result<Centroids, Status> {
    proto::Centroids::required(message).map_err(invalid)
}

pub(crate) fn preparation(message: Option<proto::Preparation>) -> Result<Preparation, Status> {
    required("preparation", message).and_then(TryInto::try_into).map_err(invalid)
}

fn picked(answers: Vec<Picked>, ns: &[usize]) -> Response<PickedResponse> {
    let messages = answers.into_iter().zip(ns).map(|(picked, n)| picked_to(picked, *n));
    Response::new(PickedResponse { picked: messages.collect() })
}

#[tonic::async_trait]
impl Shards for ShardService {
    type ProfileStream = BoxStream<'static, Result<proto::ProfileResponse, Status>>;

    async fn profile(&self, request: Request<proto::ProfileRequest>) -> Answer<Self::ProfileStream> {
        let request = request.into_inner();
        let reading = required("reading", request.reading).map_err(invalid)?.into();
        let ask = move |rows: &DataSet, store: &Store| rows.rows(&store.device).profile(&reading);
        let profile = proto::ProfileResponse::from(&self.ask_rows(&request.data_set, ask).await?);
        let mut blocks = profile.blocks.into_iter();
        let pages = std::iter::from_fn(move || {
            let blocks: Vec<_> = blocks.by_ref().take(PROFILED_BLOCKS_PER_MESSAGE).collect();
            (!blocks.is_empty()).then_some(Ok(proto::ProfileResponse { blocks }))
        });
        Ok(Response::new(futures::stream::iter(pages).boxed()))
    }

    async fn count_digits(&self, request: Request<proto::CountDigitsRequest>) -> Answer<proto::CountDigitsResponse> {
        let request = request.into_inner();
        let reading = required("reading", request.reading).map_err(invalid)?.into();
        let queries = request.queries.into_iter().map(TryInto::try_into);
        let queries: Vec<DigitQuery> = queries.collect::<Result<_, _>>().map_err(invalid)?;
        let data_set = self.store.data_set(&request.data_set)?;
        if queries.iter().any(|query| query.column >= data_set.schema.features.n_features()) {
            return Err(Status::invalid_argument("queries.column: there is no such column"));
        }
        let ask = move |rows: &DataSet, store: &Store| rows.rows(&store.device).count_digits(&reading, &queries);
        let counts = self.ask_rows(&request.data_set, ask).await?;
        Ok(Response::new((&counts).into()))
    }

    async fn describe(&self, request: Request<proto::DescribeRequest>) -> Answer<proto::DescribeResponse> {
        let request = request.into_inner();
        let (preparation, centroids) = (preparation(request.preparation)?, centroids(request.centroids)?);
        let ask = move |rows: &DataSet, store: &Store| rows.rows(&store.device).describe(&preparation, &centroids);
        let description = self.ask_rows(&request.data_set, ask).await?;
        Ok(Response::new((&description).into()))
    }

    async fn prepare(&self, request: Request<proto::PrepareRequest>) -> Answer<proto::PrepareResponse> {
        let request = request.into_inner();
        let preparation = preparation(request.preparation)?;
        let run = request.run;
        let ask = move |rows: &DataSet, store: &Store| store.prepare(&run, rows, &preparation);
        let blocks = self.ask_rows(&request.data_set, ask).await?;
        Ok(Response::new(proto::PrepareResponse { blocks: blocks.into_iter().map(|block| block.0).collect() }))
    }

    async fn release(&self, request: Request<proto::ReleaseRequest>) -> Answer<proto::ReleaseResponse> {
        let request = request.into_inner();
        self.store.release(&request.run, &request.data_set);
        Ok(Response::new(proto::ReleaseResponse {}))
    }

    async fn assign(&self, request: Request<proto::AssignRequest>) -> Answer<proto::AssignResponse> {
        let request = request.into_inner();
        let sets = request.sets.into_iter().map(TryInto::try_into);
        let sets: Vec<Centroids> = sets.collect::<Result<_, _>>().map_err(invalid)?;
        let partials = self.ask_shard(&request.run, move |shard| shard.assign(&sets)).await?;
        Ok(Response::new(proto::AssignResponse { partials: partials.iter().map(Into::into).collect() }))
    }

    async fn draw(&self, request: Request<proto::DrawRequest>) -> Answer<PickedResponse> {
        let request = request.into_inner();
        let draws = request.draws.into_iter().map(TryInto::try_into);
        let draws: Vec<Draw> = draws.collect::<Result<_, _>>().map_err(invalid)?;
        let ns: Vec<usize> = draws.iter().map(|draw| draw.n).collect();
        let drawn = self.ask_shard(&request.run, move |shard| shard.draw(&draws)).await?;
        Ok(picked(drawn, &ns))
    }

    async fn farthest(&self, request: Request<proto::FarthestRequest>) -> Answer<PickedResponse> {
        let request = request.into_inner();
        let (centroids, n) = (centroids(request.centroids)?, request.n as usize);
        let rows = self.ask_shard(&request.run, move |shard| shard.farthest(&centroids, n)).await?;
        Ok(picked(vec![rows], &[n]))
    }

    async fn movers(&self, request: Request<proto::MoversRequest>) -> Answer<PickedResponse> {
        let request = request.into_inner();
        let (centroids, n) = (centroids(request.centroids)?, request.n as usize);
        let weights = i128s_from_bytes(&request.weights, "weights").map_err(invalid)?;
        if weights.len() != centroids.n_clusters() {
            return Err(Status::invalid_argument("weights: one a cluster is needed"));
        }
        let rows = self.ask_shard(&request.run, move |shard| shard.movers(&centroids, &weights, n)).await?;
        Ok(picked(vec![rows], &[n]))
    }

    async fn spread(&self, request: Request<proto::SpreadRequest>) -> Answer<proto::SpreadResponse> {
        let request = request.into_inner();
        let (label_by, measure_from) = (centroids(request.label_by)?, centroids(request.measure_from)?);
        if label_by.n_clusters() != measure_from.n_clusters() {
            return Err(Status::invalid_argument("measure_from: one point a cluster is needed"));
        }
        let spread = self.ask_shard(&request.run, move |shard| shard.spread(&label_by, &measure_from)).await?;
        Ok(Response::new((&spread).into()))
    }

    async fn query_rows(&self, request: Request<proto::QueryRowsRequest>) -> Answer<proto::QueryRowsResponse> {
        let request = request.into_inner();
        let (centroids, block) = (centroids(request.centroids)?, BlockId(request.block));
        let rows = self.ask_shard(&request.run, move |shard| shard.query_rows(block, &centroids)).await?;
        Ok(Response::new(rows.into()))
    }

    async fn distance_sums(&self, request: Request<proto::DistanceSumsRequest>) -> Answer<proto::DistanceSumsResponse> {
        let request = request.into_inner();
        let (centroids, unit) = (centroids(request.centroids)?, request.unit);
        let values = f32s_from_bytes(&request.values, "values").map_err(invalid)?;
        let is_power_of_two = unit.is_normal() && unit > 0.0 && unit.to_bits().trailing_zeros() >= 52;
        if !values.len().is_multiple_of(centroids.n_features()) || !is_power_of_two {
            return Err(Status::invalid_argument("values: whole rows and a unit that is a power of two are needed"));
        }
        let ask = move |shard: &dyn Shard| shard.distance_sums(&values, &centroids, unit);
        let sums = self.ask_shard(&request.run, ask).await?;
        Ok(Response::new((&sums).into()))
    }
}
