//! The gRPC face of a worker: message in, question, answer, message out.

use crate::peers::{Peers, merged};
use crate::store::{DataSet, Store};
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt};
use shoal_clustering::{ClusteringError, Draw, PairQuestion, Partial, Picked, QueryRows, Rows, Sample, Shard};
use shoal_domain::{BlockId, Centroids, Preparation};
use shoal_stats::DigitQuery;
use shoal_wire::convert::{WireError, f32s_from_bytes, i128s_from_bytes, picked_to, required};
use shoal_wire::epoch::Stamp;
use shoal_wire::limits::{MAX_DIGIT_QUERIES, MAX_DISTANCE_SUMS, MAX_DRAWN_ROWS};
use shoal_wire::pace::Pace;
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
    peers: Peers,
}

impl ShardService {
    pub(crate) fn new(store: Arc<Store>, peers: Peers) -> Self {
        Self { store, peers }
    }

    /// Asks the raw blocks of a data set.
    async fn ask_rows<T: Send + 'static>(
        &self,
        name: &str,
        ask: impl FnOnce(&DataSet, &Store) -> Result<T, ClusteringError> + Send + 'static,
    ) -> Result<T, Status> {
        let (data_set, store) = (self.store.data_set(name)?, self.store.clone());
        self.store.computing.run(move || ask(&data_set, &store)).await
    }

    /// Asks the prepared rows of a run, once it is certain that all centroids have their columns.
    async fn ask_shard<T: Send + 'static>(
        &self,
        run: &str,
        centroids: &[&Centroids],
        ask: impl FnOnce(&dyn Shard) -> Result<T, ClusteringError> + Send + 'static,
    ) -> Result<T, Status> {
        let run = self.store.run(run)?;
        if let Some(other) = centroids.iter().find(|centroids| centroids.n_features() != run.n_features) {
            let (theirs, ours) = (other.n_features(), run.n_features);
            return Err(Status::invalid_argument(format!("centroids: {theirs} features, where the run has {ours}")));
        }
        self.store.computing.run(move || ask(run.shard.as_ref())).await
    }

    /// A Lloyd pass over the rows of a run.
    async fn pass(&self, run: &str, sets: Vec<Centroids>) -> Result<Vec<Partial>, Status> {
        let held = sets.clone();
        self.ask_shard(run, &held.iter().collect::<Vec<_>>(), move |shard| shard.assign(&sets)).await
    }

    /// The preparation of a data set, which must have its columns.
    fn preparation_of(&self, name: &str, message: Option<proto::Preparation>) -> Result<Preparation, Status> {
        let (preparation, data_set) = (preparation(message)?, self.store.data_set(name)?);
        if preparation.n_features() != data_set.schema.features.n_features() {
            return Err(Status::invalid_argument("preparation.columns: are not those of the data set"));
        }
        Ok(preparation)
    }
}

fn invalid(error: WireError) -> Status {
    error.to_status()
}

fn centroids(message: Option<proto::Centroids>) -> Result<Centroids, Status> {
    proto::Centroids::required(message).map_err(invalid)
}

fn centroid_sets(messages: Vec<proto::Centroids>) -> Result<Vec<Centroids>, Status> {
    messages.into_iter().map(TryInto::try_into).collect::<Result<_, _>>().map_err(invalid)
}

pub(crate) fn preparation(message: Option<proto::Preparation>) -> Result<Preparation, Status> {
    required("preparation", message).and_then(TryInto::try_into).map_err(invalid)
}

fn picked(answers: Vec<Picked>) -> Response<PickedResponse> {
    Response::new(PickedResponse { picked: answers.into_iter().map(picked_to).collect() })
}

#[tonic::async_trait]
impl Shards for ShardService {
    type ProfileStream = BoxStream<'static, Result<proto::ProfileResponse, Status>>;

    async fn profile(&self, request: Request<proto::ProfileRequest>) -> Answer<Self::ProfileStream> {
        let request = request.into_inner();
        let reading = required("reading", request.reading).map_err(invalid)?.into();
        let ask = move |rows: &DataSet, store: &Store| rows.rows(&store.machine).profile(&reading);
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
        if queries.len() > MAX_DIGIT_QUERIES {
            return Err(Status::invalid_argument(format!("queries: at most {MAX_DIGIT_QUERIES} at a time")));
        }
        if queries.iter().any(|query| query.column >= data_set.schema.features.n_features()) {
            return Err(Status::invalid_argument("queries.column: there is no such column"));
        }
        let ask = move |rows: &DataSet, store: &Store| rows.rows(&store.machine).count_digits(&reading, &queries);
        let counts = self.ask_rows(&request.data_set, ask).await?;
        Ok(Response::new((&counts).into()))
    }

    async fn describe(&self, request: Request<proto::DescribeRequest>) -> Answer<proto::DescribeResponse> {
        let request = request.into_inner();
        let preparation = self.preparation_of(&request.data_set, request.preparation)?;
        let centroids = centroids(request.centroids)?;
        if centroids.n_features() != preparation.n_features() {
            return Err(Status::invalid_argument("centroids: have other columns than the data set"));
        }
        let ask = move |rows: &DataSet, store: &Store| rows.rows(&store.machine).describe(&preparation, &centroids);
        let description = self.ask_rows(&request.data_set, ask).await?;
        Ok(Response::new((&description).into()))
    }

    async fn prepare(&self, request: Request<proto::PrepareRequest>) -> Answer<proto::PrepareResponse> {
        let request = request.into_inner();
        let preparation = self.preparation_of(&request.data_set, request.preparation)?;
        let run = request.run;
        let reserved = self.store.reserve_run(&run, self.store.data_set(&request.data_set)?.as_ref())?;
        let ask = move |rows: &DataSet, store: &Store| store.prepare(&run, rows, &preparation, reserved);
        let blocks = self.ask_rows(&request.data_set, ask).await?;
        Ok(Response::new(proto::PrepareResponse { blocks: blocks.into_iter().map(|block| block.0).collect() }))
    }

    async fn sample(&self, request: Request<proto::SampleRequest>) -> Answer<proto::SampleResponse> {
        let request = request.into_inner();
        let (run, store) = (self.store.run(&request.run)?, self.store.clone());
        let sample = Sample::try_from(&request).map_err(invalid)?;
        let reserved = store.reserve_sample(&run, &request.sample, &sample)?;
        let sample = move || store.sample(&run, &request.sample, &sample, reserved);
        self.store.computing.run(sample).await?;
        Ok(Response::new(proto::SampleResponse {}))
    }

    async fn part(&self, request: Request<proto::PartRequest>) -> Answer<proto::PartResponse> {
        let request = request.into_inner();
        self.store.part(&request.data_set, &request.part, &request.blocks)?;
        Ok(Response::new(proto::PartResponse {}))
    }

    async fn release(&self, request: Request<proto::ReleaseRequest>) -> Answer<proto::ReleaseResponse> {
        let request = request.into_inner();
        self.store.release(&request.run, &request.data_set);
        Ok(Response::new(proto::ReleaseResponse {}))
    }

    async fn assign(&self, request: Request<proto::AssignRequest>) -> Answer<proto::AssignResponse> {
        let request = request.into_inner();
        let partials = self.pass(&request.run, centroid_sets(request.sets)?).await?;
        Ok(Response::new(proto::AssignResponse { partials: partials.iter().map(Into::into).collect() }))
    }

    async fn assign_merged(&self, request: Request<proto::AssignMergedRequest>) -> Answer<proto::AssignMergedResponse> {
        let stamp = Stamp::of(request.metadata())?;
        let proto::AssignMergedRequest { sets, run, n_blocks, others } = request.into_inner();
        let pace = Pace::of(others.len() + 1);
        let own_sets = centroid_sets(sets.clone())?;
        let own = async {
            let partials = self.pass(&run, own_sets.clone()).await?;
            pace.has_answered(n_blocks as usize);
            Ok::<_, Status>(partials)
        };
        let asked = self.peers.assign(&sets, others, &stamp, &pace);
        let (own, others) = tokio::try_join!(own, asked.map(Ok))?;
        let merged = move || merged(own, others, &own_sets);
        Ok(Response::new(self.store.computing.run(merged).await?))
    }

    async fn weigh(&self, request: Request<proto::AssignRequest>) -> Answer<proto::WeighResponse> {
        let request = request.into_inner();
        let sets = centroid_sets(request.sets)?;
        let held = sets.clone();
        let weights =
            self.ask_shard(&request.run, &held.iter().collect::<Vec<_>>(), move |shard| shard.weigh(&sets)).await?;
        Ok(Response::new((&weights[..]).into()))
    }

    async fn draw(&self, request: Request<proto::DrawRequest>) -> Answer<PickedResponse> {
        let request = request.into_inner();
        let draws = request.draws.into_iter().map(TryInto::try_into);
        let draws: Vec<Draw> = draws.collect::<Result<_, _>>().map_err(invalid)?;
        if draws.iter().any(|draw| draw.n > MAX_DRAWN_ROWS) {
            return Err(Status::invalid_argument(format!("draws.n: at most {MAX_DRAWN_ROWS} rows")));
        }
        let far_from: Vec<Centroids> = draws.iter().filter_map(|draw| draw.far_from.clone()).collect();
        let far_from: Vec<&Centroids> = far_from.iter().collect();
        let drawn = self.ask_shard(&request.run, &far_from, move |shard| shard.draw(&draws)).await?;
        Ok(picked(drawn))
    }

    async fn farthest(&self, request: Request<proto::FarthestRequest>) -> Answer<PickedResponse> {
        let request = request.into_inner();
        let (centroids, n) = (centroids(request.centroids)?, request.n as usize);
        let rows =
            self.ask_shard(&request.run, &[&centroids.clone()], move |shard| shard.farthest(&centroids, n)).await?;
        Ok(picked(vec![rows]))
    }

    async fn movers(&self, request: Request<proto::MoversRequest>) -> Answer<PickedResponse> {
        let request = request.into_inner();
        let (centroids, n) = (centroids(request.centroids)?, request.n as usize);
        let weights = i128s_from_bytes(&request.weights, "weights").map_err(invalid)?;
        if weights.len() != centroids.n_clusters() {
            return Err(Status::invalid_argument("weights: one a cluster is needed"));
        }
        let rows = self
            .ask_shard(&request.run, &[&centroids.clone()], move |shard| shard.movers(&centroids, &weights, n))
            .await?;
        Ok(picked(vec![rows]))
    }

    async fn spread(&self, request: Request<proto::SpreadRequest>) -> Answer<proto::SpreadResponse> {
        let request = request.into_inner();
        let (label_by, measure_from) = (centroids(request.label_by)?, centroids(request.measure_from)?);
        if label_by.n_clusters() != measure_from.n_clusters() {
            return Err(Status::invalid_argument("measure_from: one point a cluster is needed"));
        }
        let (labels, points) = (label_by.clone(), measure_from.clone());
        let both = [&labels, &points];
        let spread = self.ask_shard(&request.run, &both, move |shard| shard.spread(&label_by, &measure_from)).await?;
        Ok(Response::new((&spread).into()))
    }

    async fn simplified_silhouettes(
        &self,
        request: Request<proto::SimplifiedSilhouettesRequest>,
    ) -> Answer<proto::SimplifiedSilhouettesResponse> {
        let request = request.into_inner();
        let centroids = centroids(request.centroids)?;
        if centroids.n_clusters() < 2 {
            return Err(Status::invalid_argument("centroids: a silhouette takes at least two"));
        }
        let ask = {
            let centroids = centroids.clone();
            move |shard: &dyn Shard| shard.simplified_silhouettes(&centroids)
        };
        let silhouettes = self.ask_shard(&request.run, &[&centroids], ask).await?;
        Ok(Response::new((&silhouettes).into()))
    }

    async fn query_rows(&self, request: Request<proto::QueryRowsRequest>) -> Answer<proto::QueryRowsResponse> {
        let request = request.into_inner();
        let (centroids, block) = (centroids(request.centroids)?, BlockId(request.block));
        let rows = self
            .ask_shard(&request.run, &[&centroids.clone()], move |shard| shard.query_rows(block, &centroids))
            .await?;
        Ok(Response::new(rows.into()))
    }

    async fn distance_sums(&self, request: Request<proto::DistanceSumsRequest>) -> Answer<proto::DistanceSumsResponse> {
        let request = request.into_inner();
        let (centroids, unit) = (centroids(request.centroids)?, request.unit);
        let values = f32s_from_bytes(&request.values, "values").map_err(invalid)?;
        let (n_clusters, clusters) = (centroids.n_clusters(), request.clusters);
        let is_power_of_two = unit.is_normal() && unit > 0.0 && unit.to_bits().trailing_zeros() >= 52;
        if !is_power_of_two {
            return Err(Status::invalid_argument("unit: a power of two is needed"));
        }
        if values.len() != clusters.len() * centroids.n_features() {
            return Err(Status::invalid_argument("values: as many rows are needed as there are clusters of rows"));
        }
        if clusters.iter().any(|cluster| *cluster as usize >= n_clusters) {
            return Err(Status::invalid_argument("clusters: each must be one of the centroids"));
        }
        let is_magnitude = |square: &f64| square.is_finite() && *square >= 0.0;
        if request.mean_squares.len() != n_clusters || !request.mean_squares.iter().all(is_magnitude) {
            return Err(Status::invalid_argument("mean_squares: one finite number a centroid is needed, 0 or more"));
        }
        if clusters.len() * n_clusters > MAX_DISTANCE_SUMS {
            return Err(Status::invalid_argument(format!("values: at most {MAX_DISTANCE_SUMS} sums at a time")));
        }
        let held = centroids.clone();
        let query = QueryRows { values, clusters };
        let question = PairQuestion { centroids, mean_squares: request.mean_squares, unit };
        let ask = move |shard: &dyn Shard| shard.distance_sums(&query, &question);
        let sums = self.ask_shard(&request.run, &[&held], ask).await?;
        Ok(Response::new((&sums).into()))
    }
}
