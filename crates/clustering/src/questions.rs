//! The questions that rows can be asked. Each goes to every holder of rows, and the answers merge.

use crate::answers::{
    ClusterWeights, Description, DistanceSums, PairQuestion, Partial, Picked, Profile, QueryRows, Spread,
};
use crate::error::ClusteringError;
use crate::prepare::Reading;
use crate::sample::Sample;
use crate::silhouette::{Silhouettes, SimplifiedSilhouettes};
use shoal_domain::{Block, BlockId, Centroids, FeatureNames, Preparation};
use shoal_stats::{DigitCounts, DigitQuery, RandomStream};

/// Rows as they were collected, wherever they are: in a file, in memory, in the memories of a fleet.
pub trait Rows {
    /// The names of the columns.
    fn features(&self) -> &FeatureNames;

    /// Counts, moments and digests of all blocks, the columns read as `reading` says.
    fn profile(&self, reading: &Reading) -> Result<Profile, ClusteringError>;

    /// For each query, how many values have each next digit.
    fn count_digits(&self, reading: &Reading, queries: &[DigitQuery]) -> Result<DigitCounts, ClusteringError>;

    /// Rows whose id another row has too, once they were profiled; none where that is not known.
    fn n_repeated_ids(&self) -> Option<u64>;

    /// Prepares every block and keeps the result where it can be asked again and again.
    fn prepare(&self, preparation: &Preparation) -> Result<Box<dyn Shard + '_>, ClusteringError>;

    /// Sums of the raw columns by cluster.
    fn describe(&self, preparation: &Preparation, centroids: &Centroids) -> Result<Description, ClusteringError>;
}

/// Prepared rows that sit on a device, or on all the devices of a fleet: what the algorithms ask.
///
/// Every answer is the same bits for the same rows and question, whoever gives it. All questions are whole passes;
/// there are no tensor operations to be put together by the caller.
pub trait Shard: Send + Sync {
    /// The blocks, in ascending order.
    fn block_ids(&self) -> Vec<BlockId>;

    /// A sample of the rows, copied to where it can be asked the same questions. It costs memory as long as it is held.
    fn sample(&self, sample: &Sample) -> Result<Box<dyn Shard>, ClusteringError>;

    /// Assigns each row to its nearest centroid, once for every set of centroids: one partial a set.
    fn assign(&self, sets: &[Centroids]) -> Result<Vec<Partial>, ClusteringError>;

    /// The weight of the rows that are nearest to each centroid, once for every set. Tells less than
    /// [`Shard::assign`], and is meant for sets that are not asked about again.
    fn weigh(&self, sets: &[Centroids]) -> Result<Vec<ClusterWeights>, ClusteringError>;

    /// Draws rows at random: one answer a draw.
    fn draw(&self, draws: &[Draw]) -> Result<Vec<Picked>, ClusteringError>;

    /// The `n` rows that are farthest from their centroid, the farthest first, without those that have no weight or lie on it.
    fn farthest(&self, centroids: &Centroids, n: usize) -> Result<Picked, ClusteringError>;

    /// The `n` rows whose move to another cluster would lower the inertia most, the largest gain first (`order` is the
    /// gain, negated). `weights` are the clusters' weights in units of the weight grid.
    fn movers(&self, centroids: &Centroids, weights: &[i128], n: usize) -> Result<Picked, ClusteringError>;

    /// How far the rows of each cluster of `label_by` are from the same row of `measure_from`.
    fn spread(&self, label_by: &Centroids, measure_from: &Centroids) -> Result<Spread, ClusteringError>;

    /// The rows of one block with the clusters they belong to.
    fn query_rows(&self, block: BlockId, centroids: &Centroids) -> Result<QueryRows, ClusteringError>;

    /// For each of the given rows, the sum of its distances to the rows of every cluster.
    fn distance_sums(&self, query: &QueryRows, question: &PairQuestion) -> Result<DistanceSums, ClusteringError>;

    /// The simplified silhouettes of all rows, summed by cluster; each of the centroids stands for a cluster with rows.
    fn simplified_silhouettes(&self, centroids: &Centroids) -> Result<SimplifiedSilhouettes, ClusteringError>;

    /// The silhouettes of all rows, from a shard that holds all there are; None from one that does not, whose rows have
    /// to be brought together by [`Shard::query_rows`] and [`Shard::distance_sums`]. Both ways lead to the same bits.
    /// `on_done` is told the share of the work that is done and may end it.
    fn silhouettes(
        &self,
        question: &PairQuestion,
        on_done: &mut dyn FnMut(f64) -> Result<(), ClusteringError>,
    ) -> Result<Option<Silhouettes>, ClusteringError> {
        let _ = (question, on_done);
        Ok(None)
    }
}

/// A machine's part that can hold rows and answer for them.
pub trait Device: Send + Sync {
    /// What it is, for the report: `cpu (avx512, 2 threads)`.
    fn name(&self) -> String;

    /// Takes prepared blocks one after the other, in any order.
    fn load(
        &self,
        preparation: &Preparation,
        blocks: &mut dyn Iterator<Item = Result<Block, ClusteringError>>,
    ) -> Result<Box<dyn Shard>, ClusteringError>;
}

/// A weighted random draw without replacement.
#[derive(Debug, Clone, PartialEq)]
pub struct Draw {
    /// Rows wanted.
    pub n: usize,
    /// A row's chance is its weight times its squared distance to the nearest of these; its weight alone when absent.
    pub far_from: Option<Centroids>,
    /// Every row has the same chance, whatever it weighs.
    pub ignore_weights: bool,
    /// The random numbers.
    pub stream: RandomStream,
}
