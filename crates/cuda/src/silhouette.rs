//! The silhouettes of all rows of a shard: every pair of rows once, cluster after cluster.

use crate::gpu::GpuError;
use crate::ordered::OrderedRows;
use crate::pairs::{Compared, Comparing, PANEL_ROWS, Panel, RowSums, SumsAt, TILE, panels, total};
use crate::rows::DeviceRows;
use rayon::prelude::*;
use shoal_clustering::cpu::CpuDevice;
use shoal_clustering::silhouette::{Silhouettes, mean_distance};
use shoal_clustering::{ClusteringError, PairQuestion};
use std::ops::Range;

/// Sums of a panel's rows to every other cluster, three numbers each.
const SUMS_MAX: usize = 16 << 20;

/// The silhouettes of all rows, in the order that their labels give.
pub(crate) fn silhouettes(
    rows: &DeviceRows,
    cpu: &CpuDevice,
    ordered: &OrderedRows,
    question: &PairQuestion,
    on_done: &mut dyn FnMut(f64) -> Result<(), ClusteringError>,
) -> Result<Silhouettes, ClusteringError> {
    let order = &ordered.order;
    let comparing = AllRows::new(rows, cpu, ordered, question)?;
    let n_rows = rows.n_rows;
    let mut means = Means { within: vec![0.0; n_rows], nearest: vec![f64::INFINITY; n_rows] };
    let mut n_pairs_done = 0.0;
    // What the GPU has found is turned into means while it goes on.
    let mut found: Option<Found> = None;
    for (from, own) in order.clusters().iter().enumerate().filter(|(_, own)| !own.is_empty()) {
        let of_cluster = comparing.sums_of_cluster(from)?;
        for part in panels(own, comparing.rows_together(from)) {
            let of_part = comparing.compare_part(from, &part, &of_cluster)?;
            if let Some(found) = found.take() {
                comparing.take_over(&found, &mut means);
            }
            let of_cluster = match part.end == own.end {
                true => Some([of_cluster.own.read()?, of_cluster.later.read()?]),
                false => None,
            };
            found = Some(Found { from, part, of_part: of_part.read()?, of_cluster });
        }
        n_pairs_done += own.len() as f64 * ((n_rows - own.end) as f64 + own.len() as f64 / 2.0);
        on_done((2.0 * n_pairs_done / (n_rows as f64).powi(2)).min(1.0))?;
    }
    if let Some(found) = found {
        comparing.take_over(&found, &mut means);
    }
    Ok(order.silhouettes(|position| (means.within[position], means.nearest[position])))
}

/// Mean distances of each row, in the order of their clusters: to its own cluster, and to the nearest of the others so far.
struct Means {
    within: Vec<f64>,
    nearest: Vec<f64>,
}

/// Sums of distances between the rows of a cluster, and of the rows of all later clusters to it.
struct ClusterSums {
    own: RowSums,
    later: RowSums,
}

/// What the comparisons of some rows of a cluster have found.
struct Found {
    from: usize,
    part: Range<usize>,
    /// Their sums to each other cluster.
    of_part: Vec<u64>,
    /// Those of the cluster, when these rows were its last: see [`ClusterSums`].
    of_cluster: Option<[Vec<u64>; 2]>,
}

/// Comparisons of all rows with each other.
struct AllRows<'a> {
    comparing: Comparing<'a>,
    /// Whose threads turn sums into means.
    cpu: &'a CpuDevice,
    ordered: &'a OrderedRows,
    clusters: &'a [Range<usize>],
    /// Where a panel of either side is laid out.
    panels: [Panel; 2],
}

impl<'a> AllRows<'a> {
    fn new(
        rows: &'a DeviceRows,
        cpu: &'a CpuDevice,
        ordered: &'a OrderedRows,
        question: &'a PairQuestion,
    ) -> Result<Self, GpuError> {
        let clusters = ordered.order.clusters();
        let n_rows = clusters.iter().map(Range::len).max().unwrap_or(0).min(PANEL_ROWS);
        let panels = [Panel::new(rows, n_rows)?, Panel::new(rows, n_rows)?];
        Ok(Self { comparing: Comparing::new(rows, question)?, cpu, ordered, clusters, panels })
    }

    /// Some rows in the order of their clusters.
    fn compared<'s>(&'s self, rows: &Range<usize>, panel: usize, sums: SumsAt<'s>) -> Compared<'s> {
        Compared {
            values: &self.comparing.rows.values,
            order: &self.ordered.rows,
            first: rows.start,
            n: rows.len(),
            panel: &self.panels[panel],
            sums: Some(sums),
        }
    }

    /// Works on numbers of rows, each with its place.
    fn each(&self, values: &mut [f64], work: impl Fn(usize, &mut f64) + Sync) {
        self.cpu.install(|| values.par_iter_mut().enumerate().for_each(|(row, value)| work(row, value)));
    }

    /// The later clusters that have rows.
    fn others(&self, from: usize) -> Vec<usize> {
        (from + 1..self.clusters.len()).filter(|to| !self.clusters[*to].is_empty()).collect()
    }

    /// Rows of a cluster that are compared at a time.
    fn rows_together(&self, from: usize) -> usize {
        (SUMS_MAX / self.others(from).len().max(1)).clamp(TILE, PANEL_ROWS) / TILE * TILE
    }

    fn sums_of_cluster(&self, from: usize) -> Result<ClusterSums, GpuError> {
        let (own, rows) = (&self.clusters[from], self.comparing.rows);
        Ok(ClusterSums {
            own: RowSums::new(&rows.gpu, own.len())?,
            later: RowSums::new(&rows.gpu, rows.n_rows - own.end)?,
        })
    }

    /// Starts to compare some rows of a cluster with those that follow in it and with those of all later clusters; the sums
    /// to either of the latter come back.
    fn compare_part(&self, from: usize, part: &Range<usize>, sums: &ClusterSums) -> Result<RowSums, GpuError> {
        let own = &self.clusters[from];
        let at = |sums, group: &Range<usize>, base: usize, row: usize| SumsAt {
            sums,
            first: group.start - base,
            n: group.len(),
            row: row - group.start,
        };
        let own_sums = |row| at(&sums.own, own, own.start, row);
        let of_part = self.compared(part, 0, own_sums(part.start));
        self.comparing.compare_with_each_other(from, of_part)?;
        for other in panels(own, self.rows_together(from)).filter(|other| other.start > part.start) {
            let sides = [of_part, self.compared(&other, 1, own_sums(other.start))];
            self.comparing.compare((from, from), sides)?;
        }
        let others = self.others(from);
        let n = part.len();
        let to_others = RowSums::new(&self.comparing.rows.gpu, n * others.len())?;
        for (idx, to) in others.into_iter().enumerate() {
            let there = &self.clusters[to];
            let x_sums = SumsAt { sums: &to_others, first: idx * n, n, row: 0 };
            for other in panels(there, PANEL_ROWS) {
                let y_sums = at(&sums.later, there, own.end, other.start);
                let sides = [self.compared(part, 0, x_sums), self.compared(&other, 1, y_sums)];
                self.comparing.compare((from, to), sides)?;
            }
        }
        Ok(to_others)
    }

    /// Turns sums into means.
    fn take_over(&self, found: &Found, means: &mut Means) {
        let (from, n) = (found.from, found.part.len());
        let own = self.clusters[from].clone();
        let others = self.others(from);
        let shifts = self.comparing.shifts(from, &others);
        let unit = self.comparing.question.unit;
        let mean = |sum: i128, to: usize| mean_distance(sum, unit, self.clusters[to].len() as u64);
        self.each(&mut means.nearest[found.part.clone()], |row, nearest| {
            for (idx, (to, shift)) in others.iter().zip(&shifts).enumerate() {
                *nearest = nearest.min(mean(total(&found.of_part, n, idx * n, row, *shift), *to));
            }
        });
        let Some([of_own, of_later]) = &found.of_cluster else { return };
        let shift = self.comparing.shifts(from, &[from])[0];
        // A row's distance to itself, which is 0, does not count.
        let n_others = own.len().max(2) as u64 - 1;
        self.each(&mut means.within[own.clone()], |row, within| {
            *within = mean_distance(total(of_own, own.len(), 0, row, shift), unit, n_others);
        });
        for (to, shift) in others.iter().zip(&shifts) {
            let there = self.clusters[*to].clone();
            let (first, n) = (there.start - own.end, there.len());
            self.each(&mut means.nearest[there], |row, nearest| {
                *nearest = nearest.min(mean(total(of_later, n, first, row, *shift), from));
            });
        }
    }
}
