//! The nearest centroid of every row of a block, certified.
//!
//! Rows are taken in tiles of a few vectors, transposed so that a vector lane is a row, and scored against eight centroids at
//! a time: `score = x . c - |c|^2 / 2`, whose largest value belongs to the nearest centroid, since |x|^2 is the same for
//! all of them. Scores are float32. The winner is believed only if it leads the second by more than the rounding error
//! that either score can have; otherwise the row is decided by float64 distances, the lowest centroid on ties. So labels
//! are the float64 argmin on every instruction set.

use super::Isa;
#[cfg(target_arch = "x86_64")]
use super::vector::{Avx2, Avx512};
use super::vector::{Plain, Vector};
use crate::answers::BlockLabels;
use shoal_domain::{Block, Centroids};

/// Most rows of a tile.
const MAX_LANES: usize = 32;
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
    /// Lays out the centroids. The machine must have the instruction set.
    pub fn new(centroids: &'a Centroids, isa: Isa) -> Self {
        assert!(isa.is_available(), "this machine has no {}", isa.name());
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
            // SAFETY: `Assigner::new` has seen that this machine has these instructions.
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => unsafe { assign_avx512(self, block, nearest) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => unsafe { assign_avx2(self, block, nearest) },
            // SAFETY: plain numbers need nothing.
            _ => unsafe { assign_tiles::<Plain, 1>(self, block, nearest) },
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
    /// (d + 2) u (|x| |c| + |c|^2 / 2) (Higham, "Accuracy and stability", 3.1), the half norm included, and each of the two
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
    // SAFETY: this function enables what the vector needs.
    unsafe { assign_tiles::<Avx512, 2>(assigner, block, nearest) }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn assign_avx2(assigner: &Assigner<'_>, block: &Block, nearest: &mut Nearest) {
    // SAFETY: this function enables what the vector needs.
    unsafe { assign_tiles::<Avx2, 1>(assigner, block, nearest) }
}

/// Assigns tile after tile. A tile has N vectors of rows; GROUP x N sums and a column must fit the registers.
///
/// # Safety
///
/// The caller has enabled the instruction set of V.
#[inline(always)]
unsafe fn assign_tiles<V: Vector, const N: usize>(assigner: &Assigner<'_>, block: &Block, nearest: &mut Nearest) {
    let (n_features, n_lanes) = (block.n_features(), V::LANES * N);
    assert!(n_lanes <= MAX_LANES && n_features == assigner.centroids.n_features());
    let mut tile = vec![0.0f32; n_features * n_lanes];
    for (tile_idx, rows) in block.values().chunks(n_lanes * n_features).enumerate() {
        transpose(rows, n_features, n_lanes, &mut tile);
        // SAFETY: the caller has enabled V's instruction set; the tile holds n_features x n_lanes numbers.
        let scored = unsafe { score::<V, N>(assigner, &tile) };
        for (lane, row) in rows.chunks_exact(n_features).enumerate() {
            let row_idx = tile_idx * n_lanes + lane;
            let certain_lead = assigner.certain_lead(scored.norms[lane].sqrt());
            let lead = scored.best[lane] - scored.second[lane];
            // Numbers beyond the range of float32 make the certain lead infinite or NaN, and nothing leads by more.
            let is_certain = lead > certain_lead;
            let label = if is_certain { scored.winners[lane] as u32 } else { assigner.decide(row) };
            nearest.labels[row_idx] = label;
            nearest.squares[row_idx] = squared_distance(row, assigner.centroids.row(label as usize));
            nearest.leads[row_idx] = if is_certain { lead - certain_lead } else { 0.0 };
        }
    }
}

/// Writes rows (up to n_lanes x n_features) as columns (n_features x n_lanes); lanes without a row keep what they had.
#[inline(always)]
fn transpose(rows: &[f32], n_features: usize, n_lanes: usize, tile: &mut [f32]) {
    for (lane, row) in rows.chunks_exact(n_features).enumerate() {
        for (column, value) in tile.chunks_exact_mut(n_lanes).zip(row) {
            column[lane] = *value;
        }
    }
}

/// What scoring a tile finds for each lane.
struct Scored {
    /// The best score.
    best: [f32; MAX_LANES],
    /// The second best.
    second: [f32; MAX_LANES],
    /// The centroid with the best score. As float32, which counts exactly far beyond the most clusters there may be.
    winners: [f32; MAX_LANES],
    /// Squared norm of the row.
    norms: [f32; MAX_LANES],
}

/// Scores all centroids against a tile of n_features x (N x LANES) numbers.
///
/// # Safety
///
/// The caller has enabled the instruction set of V, and the tile is whole.
#[inline(always)]
unsafe fn score<V: Vector, const N: usize>(assigner: &Assigner<'_>, tile: &[f32]) -> Scored {
    let mut scored =
        Scored { best: [0.0; MAX_LANES], second: [0.0; MAX_LANES], winners: [0.0; MAX_LANES], norms: [0.0; MAX_LANES] };
    let n_features = assigner.centroids.n_features();
    // SAFETY: V is enabled; loads stay within the tile's n_features x N x LANES numbers, stores within MAX_LANES.
    unsafe {
        let column = |feature: usize, n: usize| V::load(tile.as_ptr().add((feature * N + n) * V::LANES));
        let mut best = [V::splat(f32::NEG_INFINITY); N];
        let mut second = best;
        let mut winners = [V::splat(0.0); N];
        for (group_idx, group) in assigner.packed.chunks_exact(n_features).enumerate() {
            let half_norms = &assigner.half_norms[group_idx * GROUP..(group_idx + 1) * GROUP];
            let mut scores: [[V; N]; GROUP] = std::array::from_fn(|idx| [V::splat(-half_norms[idx]); N]);
            for (feature, centroids) in group.iter().enumerate() {
                let columns: [V; N] = std::array::from_fn(|n| column(feature, n));
                for idx in 0..GROUP {
                    let centroid = V::splat(centroids[idx]);
                    for n in 0..N {
                        scores[idx][n] = centroid.multiply_add(columns[n], scores[idx][n]);
                    }
                }
            }
            for (idx, scores) in scores.into_iter().enumerate() {
                let cluster = V::splat((group_idx * GROUP + idx) as f32);
                for n in 0..N {
                    winners[n] = scores[n].select_greater(best[n], cluster, winners[n]);
                    second[n] = second[n].max(best[n].min(scores[n]));
                    best[n] = best[n].max(scores[n]);
                }
            }
        }
        for n in 0..N {
            let square = |norm: V, feature| column(feature, n).multiply_add(column(feature, n), norm);
            let norm = (0..n_features).fold(V::splat(0.0), square);
            norm.store(scored.norms.as_mut_ptr().add(n * V::LANES));
            best[n].store(scored.best.as_mut_ptr().add(n * V::LANES));
            second[n].store(scored.second.as_mut_ptr().add(n * V::LANES));
            winners[n].store(scored.winners.as_mut_ptr().add(n * V::LANES));
        }
    }
    scored
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
