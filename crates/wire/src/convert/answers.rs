//! Answers as messages.

use super::questions::{f32s_from_bytes, f32s_to_bytes, i128s_from_bytes, i128s_to_bytes};
use super::{WireError, required};
use crate::proto;
use shoal_clustering::silhouette::SimplifiedSilhouettes;
use shoal_clustering::{
    ClusterWeights, Description, DistanceSums, Partial, Picked, PickedRow, Profile, ProfiledBlock, QueryRows, Spread,
    Unusable,
};
use shoal_domain::{BlockId, Centroids};
use shoal_stats::{ColumnMoments, DIGIT_BUCKETS, DigitCounts, ExactSum};

impl From<&ExactSum> for proto::ExactSum {
    fn from(sum: &ExactSum) -> Self {
        let digits = sum.to_digits();
        let Some(first) = digits.iter().position(|digit| *digit != 0) else {
            return Self { first: 0, digits: Vec::new() };
        };
        let last = digits.iter().rposition(|digit| *digit != 0).unwrap_or(first);
        Self { first: first as u32, digits: digits[first..=last].to_vec() }
    }
}

impl TryFrom<proto::ExactSum> for ExactSum {
    type Error = WireError;

    fn try_from(sum: proto::ExactSum) -> Result<Self, WireError> {
        let wrong = WireError::Invalid { field: "exact_sum.digits", reason: "are not the digits of a sum" };
        let mut digits = Self::default().to_digits();
        let first = sum.first as usize;
        let end = first.saturating_add(sum.digits.len());
        digits.get_mut(first..end).ok_or(wrong.clone())?.copy_from_slice(&sum.digits);
        Self::from_digits(&digits).ok_or(wrong)
    }
}

fn sums_to(sums: &[ExactSum]) -> Vec<proto::ExactSum> {
    sums.iter().map(Into::into).collect()
}

fn sums_from(sums: Vec<proto::ExactSum>) -> Result<Vec<ExactSum>, WireError> {
    sums.into_iter().map(TryInto::try_into).collect()
}

/// Two lists of one answer must have the lengths that belong together.
fn check(holds: bool, field: &'static str) -> Result<(), WireError> {
    holds.then_some(()).ok_or(WireError::Invalid { field, reason: "has another length than the rest of the answer" })
}

impl From<&Partial> for proto::Partial {
    fn from(partial: &Partial) -> Self {
        Self {
            counts: partial.counts.clone(),
            weights: i128s_to_bytes(&partial.weights),
            sums: i128s_to_bytes(&partial.sums),
            inertia: Some((&partial.inertia).into()),
        }
    }
}

impl TryFrom<proto::Partial> for Partial {
    type Error = WireError;

    fn try_from(partial: proto::Partial) -> Result<Self, WireError> {
        let weights = i128s_from_bytes(&partial.weights, "partial.weights")?;
        let sums = i128s_from_bytes(&partial.sums, "partial.sums")?;
        check(!partial.counts.is_empty() && weights.len() == partial.counts.len(), "partial.weights")?;
        check(sums.len() % partial.counts.len() == 0, "partial.sums")?;
        let inertia = required("partial.inertia", partial.inertia)?.try_into()?;
        Ok(Self { counts: partial.counts, weights, sums, inertia })
    }
}

/// The partials of a pass over these sets, each of its set's shape.
pub fn partials_from(partials: Vec<proto::Partial>, sets: &[Centroids]) -> Result<Vec<Partial>, WireError> {
    let partials = partials.into_iter().map(TryInto::try_into).collect::<Result<Vec<Partial>, _>>()?;
    let fits = |(partial, set): (&Partial, &Centroids)| {
        partial.n_clusters() == set.n_clusters() && partial.n_features() == set.n_features()
    };
    if partials.len() != sets.len() || !partials.iter().zip(sets).all(fits) {
        return Err(WireError::Invalid { field: "partials", reason: "have another shape than the centroids" });
    }
    Ok(partials)
}

/// The rows of a draw as a message.
pub fn picked_to(picked: Picked) -> proto::Picked {
    let rows = picked.into_rows();
    let mut message = proto::Picked::default();
    for row in &rows {
        message.orders.push(row.order);
        message.rows.push(row.row);
        message.clusters.push(row.cluster);
        message.targets.push(row.target);
        message.weights.push(row.weight);
    }
    let values: Vec<f32> = rows.into_iter().flat_map(|row| row.values).collect();
    message.values = f32s_to_bytes(&values).to_vec();
    message
}

/// The rows of a draw from a message: at most `n`, of `n_features` columns, from `n_clusters` clusters.
pub fn picked_from(
    message: proto::Picked,
    n: usize,
    n_features: usize,
    n_clusters: usize,
) -> Result<Picked, WireError> {
    let n_rows = message.rows.len();
    let values = f32s_from_bytes(&message.values, "picked.values")?;
    let lengths = [message.orders.len(), message.clusters.len(), message.targets.len(), message.weights.len()];
    check(lengths.iter().all(|length| *length == n_rows), "picked.rows")?;
    check(n_rows <= n && values.len() == n_rows * n_features, "picked.values")?;
    let is_known = |cluster: &u32| (*cluster as usize) < n_clusters;
    check(message.clusters.iter().chain(&message.targets).all(is_known), "picked.clusters")?;
    let mut picked = Picked::new(n);
    for idx in 0..n_rows {
        let row = PickedRow {
            order: message.orders[idx],
            row: message.rows[idx],
            cluster: message.clusters[idx],
            target: message.targets[idx],
            weight: message.weights[idx],
            values: values[idx * n_features..(idx + 1) * n_features].to_vec(),
        };
        picked.offer(row.order, row.row, || row.clone());
    }
    Ok(picked)
}

impl From<&Spread> for proto::SpreadResponse {
    fn from(spread: &Spread) -> Self {
        let (distances, squares) = (sums_to(&spread.distances), sums_to(&spread.squares));
        Self { counts: spread.counts.clone(), distances, squares, sums: i128s_to_bytes(&spread.sums) }
    }
}

impl TryFrom<proto::SpreadResponse> for Spread {
    type Error = WireError;

    fn try_from(spread: proto::SpreadResponse) -> Result<Self, WireError> {
        let n_clusters = spread.counts.len();
        check(spread.distances.len() == n_clusters && spread.squares.len() == n_clusters, "spread.distances")?;
        let (distances, squares) = (sums_from(spread.distances)?, sums_from(spread.squares)?);
        let sums = i128s_from_bytes(&spread.sums, "spread.sums")?;
        check(sums.len().is_multiple_of(n_clusters.max(1)), "spread.sums")?;
        Ok(Self { counts: spread.counts, sums, distances, squares })
    }
}

impl From<&Description> for proto::DescribeResponse {
    fn from(description: &Description) -> Self {
        Self { counts: description.counts.clone(), sums: sums_to(&description.sums) }
    }
}

impl TryFrom<proto::DescribeResponse> for Description {
    type Error = WireError;

    fn try_from(description: proto::DescribeResponse) -> Result<Self, WireError> {
        check(description.counts.len() == description.sums.len(), "description.sums")?;
        Ok(Self { counts: description.counts, sums: sums_from(description.sums)? })
    }
}

impl From<&[ClusterWeights]> for proto::WeighResponse {
    fn from(weights: &[ClusterWeights]) -> Self {
        Self { weights: weights.iter().map(|weights| i128s_to_bytes(&weights.0)).collect() }
    }
}

impl TryFrom<proto::WeighResponse> for Vec<ClusterWeights> {
    type Error = WireError;

    fn try_from(response: proto::WeighResponse) -> Result<Self, WireError> {
        let weights = |bytes: &Vec<u8>| Ok(ClusterWeights(i128s_from_bytes(bytes, "weigh.weights")?));
        response.weights.iter().map(weights).collect()
    }
}

impl From<&SimplifiedSilhouettes> for proto::SimplifiedSilhouettesResponse {
    fn from(silhouettes: &SimplifiedSilhouettes) -> Self {
        Self { counts: silhouettes.counts.clone(), sums: sums_to(&silhouettes.sums) }
    }
}

impl TryFrom<proto::SimplifiedSilhouettesResponse> for SimplifiedSilhouettes {
    type Error = WireError;

    fn try_from(silhouettes: proto::SimplifiedSilhouettesResponse) -> Result<Self, WireError> {
        check(silhouettes.counts.len() == silhouettes.sums.len(), "simplified_silhouettes.sums")?;
        Ok(Self { counts: silhouettes.counts, sums: sums_from(silhouettes.sums)? })
    }
}

impl From<&DistanceSums> for proto::DistanceSumsResponse {
    fn from(sums: &DistanceSums) -> Self {
        Self { sums: i128s_to_bytes(&sums.0) }
    }
}

impl TryFrom<proto::DistanceSumsResponse> for DistanceSums {
    type Error = WireError;

    fn try_from(sums: proto::DistanceSumsResponse) -> Result<Self, WireError> {
        Ok(Self(i128s_from_bytes(&sums.sums, "distance_sums.sums")?))
    }
}

impl From<QueryRows> for proto::QueryRowsResponse {
    fn from(rows: QueryRows) -> Self {
        Self { values: f32s_to_bytes(&rows.values).to_vec(), clusters: rows.clusters }
    }
}

impl TryFrom<proto::QueryRowsResponse> for QueryRows {
    type Error = WireError;

    fn try_from(rows: proto::QueryRowsResponse) -> Result<Self, WireError> {
        Ok(Self { values: f32s_from_bytes(&rows.values, "query_rows.values")?, clusters: rows.clusters })
    }
}

impl From<&DigitCounts> for proto::CountDigitsResponse {
    fn from(counts: &DigitCounts) -> Self {
        let histogram = |counts: &Vec<u64>| proto::DigitHistogram { counts: counts.clone() };
        Self { histograms: counts.0.iter().map(histogram).collect() }
    }
}

impl TryFrom<proto::CountDigitsResponse> for DigitCounts {
    type Error = WireError;

    fn try_from(counts: proto::CountDigitsResponse) -> Result<Self, WireError> {
        let histograms: Vec<Vec<u64>> = counts.histograms.into_iter().map(|histogram| histogram.counts).collect();
        check(histograms.iter().all(|counts| counts.len() == DIGIT_BUCKETS), "histograms.counts")?;
        Ok(Self(histograms))
    }
}

impl From<&Profile> for proto::ProfileResponse {
    fn from(profile: &Profile) -> Self {
        let moments = |moments: &ColumnMoments| proto::Moments {
            n_values: moments.n_values,
            n_missing: moments.n_missing,
            mean: moments.mean,
            m2: moments.m2,
            min: moments.min,
            max: moments.max,
        };
        let unusable = |unusable: Unusable| proto::Unusable {
            row: unusable.row,
            column: unusable.column as u32,
            value: unusable.value,
        };
        let block = |(id, block): (&BlockId, &ProfiledBlock)| proto::ProfiledBlock {
            block: id.0,
            n_rows: block.n_rows,
            n_kept: block.n_kept,
            columns: block.columns.iter().map(moments).collect(),
            max_weight: block.max_weight,
            least_weight: block.least_weight,
            unusable: block.unusable.map(unusable),
            digest: block.digest.to_vec(),
        };
        Self { blocks: profile.blocks.iter().map(block).collect() }
    }
}

impl TryFrom<proto::ProfileResponse> for Profile {
    type Error = WireError;

    fn try_from(profile: proto::ProfileResponse) -> Result<Self, WireError> {
        let blocks = profile.blocks.into_iter().map(|block| Ok((BlockId(block.block), profiled_block(block)?)));
        Ok(Self { blocks: blocks.collect::<Result<_, WireError>>()? })
    }
}

fn profiled_block(block: proto::ProfiledBlock) -> Result<ProfiledBlock, WireError> {
    let moments = |moments: proto::Moments| ColumnMoments {
        n_values: moments.n_values,
        n_missing: moments.n_missing,
        mean: moments.mean,
        m2: moments.m2,
        min: moments.min,
        max: moments.max,
    };
    let unusable = |unusable: proto::Unusable| Unusable {
        row: unusable.row,
        column: unusable.column as usize,
        value: unusable.value,
    };
    let digest = block.digest.as_slice().try_into();
    Ok(ProfiledBlock {
        n_rows: block.n_rows,
        n_kept: block.n_kept,
        columns: block.columns.into_iter().map(moments).collect(),
        max_weight: block.max_weight,
        least_weight: block.least_weight,
        unusable: block.unusable.map(unusable),
        digest: digest.map_err(|_| WireError::Invalid { field: "blocks.digest", reason: "must have 32 bytes" })?,
    })
}
