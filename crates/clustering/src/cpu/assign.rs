//! The nearest centroid of every row of a block, certified.
//!
//! Rows are taken in tiles of [`LANES`], transposed so that a vector lane is a row, and scored against eight centroids at
//! a time: `score = x . c - |c|^2 / 2`, whose largest value belongs to the nearest centroid, since |x|^2 is the same for
//! all of them. Scores are float32. The winner is believed only if it leads the second by more than the rounding error
//! that either score can have; otherwise the row is decided by float64 distances, the lowest centroid on ties. So labels
//! are the float64 argmin on every instruction set.

use super::Isa;
use crate::answers::BlockLabels;
use shoal_domain::{Block, Centroids};

/// Rows of a tile.
const LANES: usize = 16;
/// Centroids scored together.
const GROUP: usize = 8;
/// Lanes of the float64 distance. The number is part of the result: it fixes the order of additions.
const DISTANCE_LANES: usize = 8;

/// Half the distance between 1 and the next float32.
const ROUNDING: f32 = f32::EPSILON / 2.0;

/// What is found for each row of a block. Kept between blocks, so that nothing is allocated in a pass.
#[derive(Debug, Default)]
pub struct Nearest {
    /// The nearest centroid, the lowest one on ties.
    pub labels: Vec<u32>,
    /// The squared distance to it.
    pub squares: Vec<f64>,
    /// A lower bound of half the difference to the second smallest squared distance.
    pub leads: Vec<f32>,
}

/// Centroids laid out for scoring.
pub struct Assigner<'a> {
    centroids: &'a Centroids,
    isa: Isa,
    /// n_groups x n_features x GROUP.
    packed: Vec<[f32; GROUP]>,
    /// n_groups x GROUP; infinite for the centroids that fill up the last group, so that they never win.
    half_norms: Vec<f32>,
    /// Largest norm of a centroid.
    max_norm: f32,
}

impl<'a> Assigner<'a> {
    /// Lays out the centroids.
    pub fn new(centroids: &'a Centroids, isa: Isa) -> Self {
        let n_groups = centroids.n_clusters().div_ceil(GROUP);
        let n_features = centroids.n_features();
        let mut packed = vec![[0.0; GROUP]; n_groups * n_features];
        let mut half_norms = vec![f32::INFINITY; n_groups * GROUP];
        let mut max_squared_norm = 0.0f64;
        for (cluster, centroid) in centroids.rows().enumerate() {
            for (column, value) in centroid.iter().enumerate() {
                packed[cluster / GROUP * n_features + column][cluster % GROUP] = *value;
            }
            let squared_norm: f64 = centroid.iter().map(|value| f64::from(*value) * f64::from(*value)).sum();
            half_norms[cluster] = (squared_norm / 2.0) as f32;
            max_squared_norm = max_squared_norm.max(squared_norm);
        }
        Self { centroids, isa, packed, half_norms, max_norm: max_squared_norm.sqrt() as f32 }
    }

    /// Finds the nearest centroid of each row of the block.
    pub fn assign(&self, block: &Block, nearest: &mut Nearest) {
        nearest.labels.resize(block.n_rows(), 0);
        nearest.squares.resize(block.n_rows(), 0.0);
        nearest.leads.resize(block.n_rows(), 0.0);
        match self.isa {
            // SAFETY: an `Isa` other than Portable comes from `Isa::detect`, which saw these features on this machine.
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => unsafe { assign_avx512(self, block, nearest) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => unsafe { assign_avx2(self, block, nearest) },
            _ => assign_tiles::<false>(self, block, nearest),
        }
    }

    /// Labels and distances of a block, as users get them.
    pub fn block_labels(&self, block: &Block) -> BlockLabels {
        let mut nearest = Nearest::default();
        self.assign(block, &mut nearest);
        let distances = nearest.squares.into_iter().map(f64::sqrt).collect();
        BlockLabels { labels: nearest.labels, distances, kept: block.kept().map(<[u32]>::to_vec) }
    }

    /// The float64 argmin of one row, the lowest centroid on ties.
    fn decide(&self, row: &[f32]) -> u32 {
        let mut nearest = (f64::INFINITY, 0);
        for (cluster, centroid) in self.centroids.rows().enumerate() {
            let distance = squared_distance(row, centroid);
            if distance < nearest.0 {
                nearest = (distance, cluster as u32);
            }
        }
        nearest.1
    }

    /// The lead that makes a winner certain, for a row of the given norm.
    ///
    /// A float32 dot product of d terms, in any order and with or without fused multiply-add, is off by at most
    /// (d + 2) u |x| |c| (Higham, "Accuracy and stability", 3.1), the half norm by u |c|^2 / 2, and each of the two
    /// scores may be off that much. The last term covers the rounding of the float64 distances that define the answer.
    fn certain_lead(&self, norm: f32) -> f32 {
        let terms = (self.centroids.n_features() + 4) as f32;
        let scores = 2.2 * terms * ROUNDING * self.max_norm * (norm + self.max_norm / 2.0);
        scores + terms * f32::EPSILON * f32::EPSILON * norm * norm
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
fn assign_avx512(assigner: &Assigner<'_>, block: &Block, nearest: &mut Nearest) {
    assign_tiles::<true>(assigner, block, nearest);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn assign_avx2(assigner: &Assigner<'_>, block: &Block, nearest: &mut Nearest) {
    assign_tiles::<true>(assigner, block, nearest);
}

#[inline(always)]
fn assign_tiles<const FMA: bool>(assigner: &Assigner<'_>, block: &Block, nearest: &mut Nearest) {
    let n_features = block.n_features();
    let mut tile = vec![[0.0f32; LANES]; n_features];
    for (tile_idx, rows) in block.values().chunks(LANES * n_features).enumerate() {
        transpose(rows, n_features, &mut tile);
        let (winners, leads, norms) = score::<FMA>(assigner, &tile);
        for (lane, row) in rows.chunks_exact(n_features).enumerate() {
            let row_idx = tile_idx * LANES + lane;
            // Written so that a NaN, from scores beyond the range of float32, is not certain either.
            let certain_lead = assigner.certain_lead(norms[lane].sqrt());
            let is_certain = leads[lane] > certain_lead;
            let label = if is_certain { winners[lane] } else { assigner.decide(row) };
            nearest.labels[row_idx] = label;
            nearest.squares[row_idx] = squared_distance(row, assigner.centroids.row(label as usize));
            nearest.leads[row_idx] = if is_certain { leads[lane] - certain_lead } else { 0.0 };
        }
    }
}

/// Writes rows (up to LANES x n_features) as columns (n_features x LANES); lanes without a row keep what they had.
#[inline(always)]
fn transpose(rows: &[f32], n_features: usize, tile: &mut [[f32; LANES]]) {
    for (lane, row) in rows.chunks_exact(n_features).enumerate() {
        for (column, value) in tile.iter_mut().zip(row) {
            column[lane] = *value;
        }
    }
}

/// For each lane the centroid with the best score, its lead over the second, and the row's squared norm.
#[inline(always)]
fn score<const FMA: bool>(
    assigner: &Assigner<'_>,
    tile: &[[f32; LANES]],
) -> ([u32; LANES], [f32; LANES], [f32; LANES]) {
    let mut best = [f32::NEG_INFINITY; LANES];
    let mut second = [f32::NEG_INFINITY; LANES];
    let mut winners = [0u32; LANES];
    let groups = assigner.packed.chunks_exact(tile.len()).zip(assigner.half_norms.chunks_exact(GROUP));
    for (group_idx, (group, half_norms)) in groups.enumerate() {
        let mut dots = [[0.0f32; LANES]; GROUP];
        for (column, centroids) in tile.iter().zip(group) {
            for (dots, centroid) in dots.iter_mut().zip(centroids) {
                for (dot, value) in dots.iter_mut().zip(column) {
                    *dot = multiply_add::<FMA>(*value, *centroid, *dot);
                }
            }
        }
        for (idx, (dots, half_norm)) in dots.iter().zip(half_norms).enumerate() {
            let cluster = (group_idx * GROUP + idx) as u32;
            for lane in 0..LANES {
                let score = dots[lane] - half_norm;
                let wins = score > best[lane];
                let runner_up = if wins { best[lane] } else { score };
                second[lane] = if runner_up > second[lane] { runner_up } else { second[lane] };
                winners[lane] = if wins { cluster } else { winners[lane] };
                best[lane] = if wins { score } else { best[lane] };
            }
        }
    }
    let mut norms = [0.0f32; LANES];
    for column in tile {
        for (norm, value) in norms.iter_mut().zip(column) {
            *norm = multiply_add::<FMA>(*value, *value, *norm);
        }
    }
    let mut leads = [0.0f32; LANES];
    for lane in 0..LANES {
        leads[lane] = best[lane] - second[lane];
    }
    (winners, leads, norms)
}

/// `a * b + c`, fused where the instruction set fuses; elsewhere `mul_add` would be a slow library call.
#[inline(always)]
fn multiply_add<const FMA: bool>(a: f32, b: f32, c: f32) -> f32 {
    if FMA { a.mul_add(b, c) } else { a * b + c }
}

/// Squared Euclidean distance in float64, its additions in an order that no instruction set changes.
#[inline(always)]
pub fn squared_distance(row: &[f32], centroid: &[f32]) -> f64 {
    let mut lanes = [0.0f64; DISTANCE_LANES];
    let (rows, row_tail) = row.as_chunks::<DISTANCE_LANES>();
    let (centroids, centroid_tail) = centroid.as_chunks::<DISTANCE_LANES>();
    for (row, centroid) in rows.iter().zip(centroids) {
        for lane in 0..DISTANCE_LANES {
            let difference = f64::from(row[lane]) - f64::from(centroid[lane]);
            lanes[lane] += difference * difference;
        }
    }
    for ((lane, value), centroid) in lanes.iter_mut().zip(row_tail).zip(centroid_tail) {
        let difference = f64::from(*value) - f64::from(*centroid);
        *lane += difference * difference;
    }
    ((lanes[0] + lanes[4]) + (lanes[2] + lanes[6])) + ((lanes[1] + lanes[5]) + (lanes[3] + lanes[7]))
}
