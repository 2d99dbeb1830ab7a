//! Sums of distances between the rows of a question and those of a shard, cluster by cluster.

use crate::gpu::{Buffer, GpuError};
use crate::ordered::OrderedRows;
use crate::pairs::{Compared, Comparing, PANEL_ROWS, Panel, RowSums, SumsAt, TILE, panels, total};
use crate::rows::DeviceRows;
use shoal_clustering::{DistanceSums, PairQuestion, QueryRows};
use std::ops::Range;

/// What the rows of a cluster that are laid out at a time may take.
const PANEL_BYTES: usize = 256 << 20;

/// For each of the given rows, the sum of its distances to the rows of each cluster.
pub(crate) fn distance_sums(
    rows: &DeviceRows,
    ordered: &OrderedRows,
    query: &QueryRows,
    question: &PairQuestion,
) -> Result<DistanceSums, GpuError> {
    let clusters = ordered.order.clusters();
    let (n, n_clusters) = (query.clusters.len(), clusters.len());
    let comparing = Comparing::new(rows, question)?;
    let (values, by_cluster) = (query_values(rows, query)?, by_cluster(query, n_clusters));
    let order: Vec<u32> = by_cluster.iter().flatten().copied().collect();
    let of_query = Buffer::of(&rows.gpu, &order)?;
    // A block adds the sums of its few given rows once it is done, all blocks to the same numbers: better few long ones.
    let panel_rows = (PANEL_BYTES / (rows.n_features * size_of::<f32>())).next_multiple_of(TILE).max(PANEL_ROWS);
    let largest = clusters.iter().map(Range::len).max().unwrap_or(0).min(panel_rows);
    let room = [Panel::new(rows, n)?, Panel::new(rows, largest)?];
    // Of all given rows to the first cluster, then to the next one, and so on.
    let sums = RowSums::new(&rows.gpu, n * n_clusters)?;
    let mut first = 0;
    for (from, given) in by_cluster.iter().enumerate().filter(|(_, given)| !given.is_empty()) {
        for (to, there) in clusters.iter().enumerate() {
            let at = SumsAt { sums: &sums, first: to * n, n, row: first };
            let x =
                Compared { values: &values, order: &of_query, first, n: given.len(), panel: &room[0], sums: Some(at) };
            for part in panels(there, panel_rows) {
                let y = Compared {
                    values: &rows.values,
                    order: &ordered.rows,
                    first: part.start,
                    n: part.len(),
                    panel: &room[1],
                    sums: None,
                };
                comparing.compare((from, to), [x, y])?;
            }
        }
        first += given.len();
    }
    let numbers = sums.read()?;
    let all: Vec<usize> = (0..n_clusters).collect();
    let mut found = vec![0; n * n_clusters];
    let mut position = 0;
    for (from, given) in by_cluster.iter().enumerate() {
        let shifts = comparing.shifts(from, &all);
        for idx in given {
            for (to, shift) in shifts.iter().enumerate() {
                found[*idx as usize * n_clusters + to] = total(&numbers, n, to * n, position, *shift);
            }
            position += 1;
        }
    }
    Ok(DistanceSums(found))
}

/// The given rows as rows of the shard lie in memory.
fn query_values(rows: &DeviceRows, query: &QueryRows) -> Result<Buffer<f32>, GpuError> {
    let mut values = Vec::with_capacity(query.clusters.len() * rows.stride);
    for row in query.values.chunks_exact(rows.n_features) {
        values.extend_from_slice(row);
        values.resize(values.len().next_multiple_of(rows.stride), 0.0);
    }
    Buffer::of(&rows.gpu, &values)
}

/// The given rows of each cluster.
fn by_cluster(query: &QueryRows, n_clusters: usize) -> Vec<Vec<u32>> {
    let mut by_cluster = vec![Vec::new(); n_clusters];
    query.clusters.iter().enumerate().for_each(|(idx, cluster)| by_cluster[*cluster as usize].push(idx as u32));
    by_cluster
}
