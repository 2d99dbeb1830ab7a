//! The prepared rows of a run on the fleet: one call a worker, one merge.

use crate::holders::{Holders, impossible};
use shoal_clustering::silhouette::SimplifiedSilhouettes;
use shoal_clustering::{
    ClusterWeights, ClusteringError, DistanceSums, Draw, PairQuestion, Partial, Picked, QueryRows, Sample, Shard,
    Spread,
};
use shoal_domain::{BlockId, Centroids, Merge};
use shoal_stats::RandomStream;
use shoal_wire::convert::{f32s_to_bytes, i128s_to_bytes, picked_from};
use shoal_wire::proto::{
    AssignRequest, DistanceSumsRequest, DrawRequest, FarthestRequest, MoversRequest, PickedResponse, QueryRowsRequest,
    SampleRequest, SimplifiedSilhouettesRequest, SpreadRequest,
};

pub(crate) struct FleetShard {
    workers: Holders,
    run: String,
    n_features: usize,
}

impl FleetShard {
    pub(crate) fn new(workers: Holders, run: String, n_features: usize) -> Self {
        Self { workers, run, n_features }
    }

    /// Merges lists of answers item by item: item i of every worker belongs to question i.
    fn merge_lists<T: Merge>(&self, lists: Vec<Vec<T>>, n: usize) -> Result<Vec<T>, ClusteringError> {
        let mut merged: Vec<T> = Vec::new();
        for (list, holder) in lists.into_iter().zip(&self.workers.holders) {
            if list.len() != n {
                return Err(impossible(&holder.member, format!("{} answers to {n} questions", list.len())));
            }
            if merged.is_empty() {
                merged = list;
            } else {
                merged.iter_mut().zip(list).for_each(|(merged, more)| merged.merge(more));
            }
        }
        Ok(merged)
    }

    /// Merges draws; `wanted` are rows and clusters of each question.
    fn merge_picked(
        &self,
        answers: Vec<PickedResponse>,
        wanted: &[(usize, usize)],
    ) -> Result<Vec<Picked>, ClusteringError> {
        let mut lists = Vec::new();
        for (answer, holder) in answers.into_iter().zip(&self.workers.holders) {
            let picked = answer.picked.into_iter().zip(wanted);
            let picked = picked.map(|(picked, (n, n_clusters))| picked_from(picked, *n, self.n_features, *n_clusters));
            let picked = picked.collect::<Result<Vec<_>, _>>();
            lists.push(picked.map_err(|error| impossible(&holder.member, error))?);
        }
        self.merge_lists(lists, wanted.len())
    }

    fn only(&self, answers: Vec<PickedResponse>, n: usize, n_clusters: usize) -> Result<Picked, ClusteringError> {
        let mut picked = self.merge_picked(answers, &[(n, n_clusters)])?;
        Ok(picked.pop().unwrap_or_else(|| Picked::new(0)))
    }
}

impl Drop for FleetShard {
    fn drop(&mut self) {
        self.workers.release_run(&self.run);
    }
}

impl Shard for FleetShard {
    fn block_ids(&self) -> Vec<BlockId> {
        let mut blocks: Vec<BlockId> =
            self.workers.holders.iter().flat_map(|holder| holder.blocks.iter().copied()).collect();
        blocks.sort();
        blocks
    }

    fn sample(&self, sample: &Sample) -> Result<Box<dyn Shard>, ClusteringError> {
        let name = format!("{}/sample of {}", self.run, sample.block_rows);
        // Made first: whatever happens from here on, its end tells the workers to let go.
        let shard = Self::new(self.workers.clone(), name.clone(), self.n_features);
        let RandomStream { seed, stream } = sample.stream;
        let block_rows = sample.block_rows as u32;
        let request = SampleRequest { run: self.run.clone(), sample: name, block_rows, seed, stream };
        self.workers.ask_all(|mut worker, _| {
            let request = request.clone();
            Box::pin(async move { worker.sample(request).await })
        })?;
        Ok(Box::new(shard))
    }

    fn assign(&self, sets: &[Centroids]) -> Result<Vec<Partial>, ClusteringError> {
        let request = AssignRequest { run: self.run.clone(), sets: sets.iter().map(Into::into).collect() };
        let answers = self.workers.ask_all(|mut worker, _| {
            let request = request.clone();
            Box::pin(async move { worker.assign(request).await })
        })?;
        let mut lists = Vec::new();
        for (answer, holder) in answers.into_iter().zip(&self.workers.holders) {
            let partials = answer.partials.into_iter().map(TryInto::try_into).collect::<Result<Vec<Partial>, _>>();
            let partials = partials.map_err(|error| impossible(&holder.member, error))?;
            let fits = |(partial, set): (&Partial, &Centroids)| {
                partial.n_clusters() == set.n_clusters() && partial.n_features() == set.n_features()
            };
            if !partials.iter().zip(sets).all(fits) {
                return Err(impossible(&holder.member, "its partial has another shape than the centroids"));
            }
            lists.push(partials);
        }
        self.merge_lists(lists, sets.len())
    }

    fn weigh(&self, sets: &[Centroids]) -> Result<Vec<ClusterWeights>, ClusteringError> {
        let request = AssignRequest { run: self.run.clone(), sets: sets.iter().map(Into::into).collect() };
        let answers = self.workers.ask_all(|mut worker, _| {
            let request = request.clone();
            Box::pin(async move { worker.weigh(request).await })
        })?;
        let mut lists = Vec::new();
        for (answer, holder) in answers.into_iter().zip(&self.workers.holders) {
            let weights = Vec::<ClusterWeights>::try_from(answer).map_err(|error| impossible(&holder.member, error))?;
            if !weights.iter().zip(sets).all(|(weights, set)| weights.0.len() == set.n_clusters()) {
                return Err(impossible(&holder.member, "its weights are not as many as the centroids"));
            }
            lists.push(weights);
        }
        self.merge_lists(lists, sets.len())
    }

    fn draw(&self, draws: &[Draw]) -> Result<Vec<Picked>, ClusteringError> {
        let request = DrawRequest { run: self.run.clone(), draws: draws.iter().map(Into::into).collect() };
        let answers = self.workers.ask_all(|mut worker, _| {
            let request = request.clone();
            Box::pin(async move { worker.draw(request).await })
        })?;
        let n_clusters = |draw: &Draw| draw.far_from.as_ref().map_or(1, Centroids::n_clusters);
        let wanted: Vec<(usize, usize)> = draws.iter().map(|draw| (draw.n, n_clusters(draw))).collect();
        self.merge_picked(answers, &wanted)
    }

    fn farthest(&self, centroids: &Centroids, n: usize) -> Result<Picked, ClusteringError> {
        let n_clusters = centroids.n_clusters();
        let request = FarthestRequest { run: self.run.clone(), centroids: Some(centroids.into()), n: n as u32 };
        let answers = self.workers.ask_all(|mut worker, _| {
            let request = request.clone();
            Box::pin(async move { worker.farthest(request).await })
        })?;
        self.only(answers, n, n_clusters)
    }

    fn movers(&self, centroids: &Centroids, weights: &[i128], n: usize) -> Result<Picked, ClusteringError> {
        let n_clusters = centroids.n_clusters();
        let (centroids, weights) = (Some(centroids.into()), i128s_to_bytes(weights).to_vec());
        let request = MoversRequest { run: self.run.clone(), centroids, weights, n: n as u32 };
        let answers = self.workers.ask_all(|mut worker, _| {
            let request = request.clone();
            Box::pin(async move { worker.movers(request).await })
        })?;
        self.only(answers, n, n_clusters)
    }

    fn spread(&self, label_by: &Centroids, measure_from: &Centroids) -> Result<Spread, ClusteringError> {
        let n_clusters = label_by.n_clusters();
        let (label_by, measure_from) = (Some(label_by.into()), Some(measure_from.into()));
        let request = SpreadRequest { run: self.run.clone(), label_by, measure_from };
        let answers = self.workers.ask_all(|mut worker, _| {
            let request = request.clone();
            Box::pin(async move { worker.spread(request).await })
        })?;
        let n_sums = n_clusters * self.n_features;
        self.workers.merge(answers, |spread: &Spread| spread.counts.len() == n_clusters && spread.sums.len() == n_sums)
    }

    fn simplified_silhouettes(&self, centroids: &Centroids) -> Result<SimplifiedSilhouettes, ClusteringError> {
        let n_clusters = centroids.n_clusters();
        let request = SimplifiedSilhouettesRequest { run: self.run.clone(), centroids: Some(centroids.into()) };
        let answers = self.workers.ask_all(|mut worker, _| {
            let request = request.clone();
            Box::pin(async move { worker.simplified_silhouettes(request).await })
        })?;
        self.workers.merge(answers, |silhouettes: &SimplifiedSilhouettes| silhouettes.counts.len() == n_clusters)
    }

    fn query_rows(&self, block: BlockId, centroids: &Centroids) -> Result<QueryRows, ClusteringError> {
        let holder = self.workers.holder_of(block)?;
        let request = QueryRowsRequest { run: self.run.clone(), block: block.0, centroids: Some(centroids.into()) };
        let answer = self.workers.ask_one(holder, |mut worker| {
            let request = request.clone();
            Box::pin(async move { worker.query_rows(request).await })
        })?;
        let rows = QueryRows::try_from(answer).map_err(|error| impossible(&holder.member, error))?;
        let is_known = |cluster: &u32| (*cluster as usize) < centroids.n_clusters();
        if rows.values.len() != rows.clusters.len() * self.n_features || !rows.clusters.iter().all(is_known) {
            return Err(impossible(&holder.member, "its rows and their clusters do not belong together"));
        }
        Ok(rows)
    }

    fn distance_sums(&self, query: &QueryRows, question: &PairQuestion) -> Result<DistanceSums, ClusteringError> {
        let request = DistanceSumsRequest {
            run: self.run.clone(),
            values: f32s_to_bytes(&query.values).to_vec(),
            centroids: Some((&question.centroids).into()),
            unit: question.unit,
            clusters: query.clusters.clone(),
            mean_squares: question.mean_squares.clone(),
        };
        let answers = self.workers.ask_all(|mut worker, _| {
            let request = request.clone();
            Box::pin(async move { worker.distance_sums(request).await })
        })?;
        let n_sums = query.clusters.len() * question.centroids.n_clusters();
        self.workers.merge(answers, |sums: &DistanceSums| sums.0.len() == n_sums)
    }
}
