//! The prepared rows of a run on the fleet: one call a worker, one merge.

use crate::groups::{Answer, Merged};
use crate::holder::{Call, Holder};
use crate::holders::{Holders, impossible, merge};
use crate::members::Shards;
use crate::run::Run;
use shoal_clustering::silhouette::SimplifiedSilhouettes;
use shoal_clustering::{
    ClusterWeights, ClusteringError, DistanceSums, Draw, PairQuestion, Partial, Picked, QueryRows, Sample, Shard,
    Spread,
};
use shoal_domain::{BlockId, Centroids, Merge};
use shoal_wire::convert::{f32s_to_bytes, i128s_to_bytes, partials_from, picked_from};
use shoal_wire::proto::{
    self, AssignMergedRequest, AssignMergedResponse, AssignRequest, AssignResponse, DistanceSumsRequest, DrawRequest,
    FarthestRequest, MoversRequest, Peer, PickedResponse, QueryRowsRequest, SimplifiedSilhouettesRequest,
    SpreadRequest,
};
use std::sync::Arc;
use tonic::{Response, Status};

pub(crate) struct FleetShard {
    workers: Holders,
    run: Arc<Run>,
}

impl FleetShard {
    pub(crate) fn new(workers: Holders, run: Arc<Run>) -> Self {
        Self { workers, run }
    }

    fn n_features(&self) -> usize {
        self.workers.data_set().schema.features.n_features()
    }

    /// Lets every worker prepare its rows. Without it they do so when they are first asked.
    pub(crate) fn make_ready(&self) -> Result<(), ClusteringError> {
        self.ask_all(|_, _| Box::pin(async { Ok(Response::new(())) })).map(|_| ())
    }

    /// Asks every worker; `call` is given the run's name there.
    fn ask_all<A>(&self, call: impl Fn(Shards, String) -> Call<'static, A>) -> Result<Vec<Answer<A>>, ClusteringError>
    where
        A: 'static,
    {
        self.workers.ask_all(|worker, holder| self.call_when_ready(worker, holder, &call))
    }

    fn call_when_ready<A: 'static>(
        &self,
        worker: Shards,
        holder: &Arc<Holder>,
        call: &impl Fn(Shards, String) -> Call<'static, A>,
    ) -> Call<'static, A> {
        let ready = self.run.clone().make_ready(worker.clone(), holder.clone());
        let answer = call(worker, self.run.name_on(holder));
        Box::pin(async move {
            ready.await?;
            answer.await
        })
    }

    /// A pass over the rows of some holders, by a call to the first of them.
    fn assign_merged(&self, group: &[Arc<Holder>], sets: &[proto::Centroids]) -> Call<'static, Merged<AssignResponse>> {
        let Some((first, others)) = group.split_first() else {
            return Box::pin(async { Err(Status::internal("nobody is asked")) });
        };
        let ready: Vec<_> =
            group.iter().map(|holder| self.run.clone().make_ready(holder.member.shards(), holder.clone())).collect();
        let peer = |holder: &Arc<Holder>| Peer {
            address: holder.member.worker.address.clone(),
            run: self.run.name_on(holder),
            n_blocks: holder.blocks.len() as u64,
        };
        let Peer { run, n_blocks, .. } = peer(first);
        let others = others.iter().map(peer).collect();
        let request = AssignMergedRequest { sets: sets.to_vec(), run, n_blocks, others };
        let mut worker = first.member.shards();
        Box::pin(async move {
            futures::future::try_join_all(ready).await?;
            let AssignMergedResponse { partials, unanswered } = worker.assign_merged(request).await?.into_inner();
            Ok(Response::new((AssignResponse { partials }, unanswered)))
        })
    }

    /// Merges draws; `wanted` are rows and clusters of each question.
    fn merge_picked(
        &self,
        answers: Vec<Answer<PickedResponse>>,
        wanted: &[(usize, usize)],
    ) -> Result<Vec<Picked>, ClusteringError> {
        let mut lists = Vec::new();
        for Answer { by, answer, .. } in answers {
            let picked = answer.picked.into_iter().zip(wanted);
            let picked =
                picked.map(|(picked, (n, n_clusters))| picked_from(picked, *n, self.n_features(), *n_clusters));
            let picked = picked.collect::<Result<Vec<_>, _>>();
            lists.push((by.clone(), picked.map_err(|error| impossible(&by.member, error))?));
        }
        merge_lists(lists, wanted.len())
    }

    fn only(
        &self,
        answers: Vec<Answer<PickedResponse>>,
        n: usize,
        n_clusters: usize,
    ) -> Result<Picked, ClusteringError> {
        let mut picked = self.merge_picked(answers, &[(n, n_clusters)])?;
        Ok(picked.pop().unwrap_or_else(|| Picked::new(0)))
    }
}

/// Merges lists of answers item by item: item i of every worker belongs to question i.
fn merge_lists<T: Merge>(lists: Vec<(Arc<Holder>, Vec<T>)>, n: usize) -> Result<Vec<T>, ClusteringError> {
    let mut merged: Vec<T> = Vec::new();
    for (holder, list) in lists {
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

impl Drop for FleetShard {
    fn drop(&mut self) {
        self.workers.release_run(|holder| self.run.name_on(holder));
    }
}

impl Shard for FleetShard {
    fn block_ids(&self) -> Vec<BlockId> {
        self.workers.data_set().placed.manifest().blocks()
    }

    fn sample(&self, sample: &Sample) -> Result<Box<dyn Shard>, ClusteringError> {
        Ok(Box::new(Self::new(self.workers.clone(), self.run.sampled(sample))))
    }

    fn assign(&self, sets: &[Centroids]) -> Result<Vec<Partial>, ClusteringError> {
        let messages: Vec<_> = sets.iter().map(Into::into).collect();
        let call = |worker: Shards, holder: &Arc<Holder>| {
            self.call_when_ready(worker, holder, &|mut worker: Shards, run| {
                let request = AssignRequest { run, sets: messages.clone() };
                Box::pin(async move { worker.assign(request).await })
            })
        };
        let answers = self.workers.ask_all_in_groups(call, &|group| self.assign_merged(group, &messages))?;
        let mut lists = Vec::new();
        for Answer { by, answer, .. } in answers {
            let partials = partials_from(answer.partials, sets).map_err(|error| impossible(&by.member, error))?;
            lists.push((by, partials));
        }
        merge_lists(lists, sets.len())
    }

    fn weigh(&self, sets: &[Centroids]) -> Result<Vec<ClusterWeights>, ClusteringError> {
        let request = AssignRequest { sets: sets.iter().map(Into::into).collect(), ..Default::default() };
        let answers = self.ask_all(|mut worker, run| {
            let request = AssignRequest { run, ..request.clone() };
            Box::pin(async move { worker.weigh(request).await })
        })?;
        let mut lists = Vec::new();
        for Answer { by, answer, .. } in answers {
            let weights = Vec::<ClusterWeights>::try_from(answer).map_err(|error| impossible(&by.member, error))?;
            if !weights.iter().zip(sets).all(|(weights, set)| weights.0.len() == set.n_clusters()) {
                return Err(impossible(&by.member, "its weights are not as many as the centroids"));
            }
            lists.push((by, weights));
        }
        merge_lists(lists, sets.len())
    }

    fn draw(&self, draws: &[Draw]) -> Result<Vec<Picked>, ClusteringError> {
        let request = DrawRequest { draws: draws.iter().map(Into::into).collect(), ..Default::default() };
        let answers = self.ask_all(|mut worker, run| {
            let request = DrawRequest { run, ..request.clone() };
            Box::pin(async move { worker.draw(request).await })
        })?;
        let n_clusters = |draw: &Draw| draw.far_from.as_ref().map_or(1, Centroids::n_clusters);
        let wanted: Vec<(usize, usize)> = draws.iter().map(|draw| (draw.n, n_clusters(draw))).collect();
        self.merge_picked(answers, &wanted)
    }

    fn farthest(&self, centroids: &Centroids, n: usize) -> Result<Picked, ClusteringError> {
        let n_clusters = centroids.n_clusters();
        let request = FarthestRequest { centroids: Some(centroids.into()), n: n as u32, ..Default::default() };
        let answers = self.ask_all(|mut worker, run| {
            let request = FarthestRequest { run, ..request.clone() };
            Box::pin(async move { worker.farthest(request).await })
        })?;
        self.only(answers, n, n_clusters)
    }

    fn movers(&self, centroids: &Centroids, weights: &[i128], n: usize) -> Result<Picked, ClusteringError> {
        let n_clusters = centroids.n_clusters();
        let (centroids, weights) = (Some(centroids.into()), i128s_to_bytes(weights));
        let request = MoversRequest { centroids, weights, n: n as u32, ..Default::default() };
        let answers = self.ask_all(|mut worker, run| {
            let request = MoversRequest { run, ..request.clone() };
            Box::pin(async move { worker.movers(request).await })
        })?;
        self.only(answers, n, n_clusters)
    }

    fn spread(&self, label_by: &Centroids, measure_from: &Centroids) -> Result<Spread, ClusteringError> {
        let n_clusters = label_by.n_clusters();
        let (label_by, measure_from) = (Some(label_by.into()), Some(measure_from.into()));
        let request = SpreadRequest { label_by, measure_from, ..Default::default() };
        let answers = self.ask_all(|mut worker, run| {
            let request = SpreadRequest { run, ..request.clone() };
            Box::pin(async move { worker.spread(request).await })
        })?;
        let n_sums = n_clusters * self.n_features();
        merge(answers, |spread: &Spread| spread.counts.len() == n_clusters && spread.sums.len() == n_sums)
    }

    fn simplified_silhouettes(&self, centroids: &Centroids) -> Result<SimplifiedSilhouettes, ClusteringError> {
        let n_clusters = centroids.n_clusters();
        let request = SimplifiedSilhouettesRequest { centroids: Some(centroids.into()), ..Default::default() };
        let answers = self.ask_all(|mut worker, run| {
            let request = SimplifiedSilhouettesRequest { run, ..request.clone() };
            Box::pin(async move { worker.simplified_silhouettes(request).await })
        })?;
        merge(answers, |silhouettes: &SimplifiedSilhouettes| silhouettes.counts.len() == n_clusters)
    }

    fn query_rows(&self, block: BlockId, centroids: &Centroids) -> Result<QueryRows, ClusteringError> {
        let request = QueryRowsRequest { block: block.0, centroids: Some(centroids.into()), ..Default::default() };
        let Answer { by, answer, .. } = self.workers.ask_holder_of(block, |worker, holder| {
            self.call_when_ready(worker, holder, &|mut worker: Shards, run| {
                let request = QueryRowsRequest { run, ..request.clone() };
                Box::pin(async move { worker.query_rows(request).await })
            })
        })?;
        let rows = QueryRows::try_from(answer).map_err(|error| impossible(&by.member, error))?;
        let is_known = |cluster: &u32| (*cluster as usize) < centroids.n_clusters();
        if rows.values.len() != rows.clusters.len() * self.n_features() || !rows.clusters.iter().all(is_known) {
            return Err(impossible(&by.member, "its rows and their clusters do not belong together"));
        }
        Ok(rows)
    }

    fn distance_sums(&self, query: &QueryRows, question: &PairQuestion) -> Result<DistanceSums, ClusteringError> {
        let request = DistanceSumsRequest {
            values: f32s_to_bytes(&query.values).to_vec(),
            centroids: Some((&question.centroids).into()),
            unit: question.unit,
            clusters: query.clusters.clone(),
            mean_squares: question.mean_squares.clone(),
            ..Default::default()
        };
        let answers = self.ask_all(|mut worker, run| {
            let request = DistanceSumsRequest { run, ..request.clone() };
            Box::pin(async move { worker.distance_sums(request).await })
        })?;
        let n_sums = query.clusters.len() * question.centroids.n_clusters();
        merge(answers, |sums: &DistanceSums| sums.0.len() == n_sums)
    }
}
