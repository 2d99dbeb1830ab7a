//! Centroids as the kernels want them: split into float16 parts, laid out for tile products, with the error that a row's
//! nearness to them may have.

use crate::gpu::Four;
use half::f16;
use shoal_domain::{Centroids, Preparation};

/// Centroids of a tile product.
const TILE: usize = 8;
/// Features of a tile product.
pub(crate) const STEP: usize = 16;
/// Lanes of a warp.
const LANES: usize = 32;

/// Float16 has 11 bits and its numbers end at 2^-24; scaled values are below 2^14, and so is what they are compared with.
const SCALED_EXPONENT: i32 = 14;
/// Half the last bit of the second float16 part of a number, relative to the number.
const SPLIT_ERROR: f64 = 1.0 / (1u64 << 22) as f64;
/// What a number loses that is too small for float16.
const SPLIT_FLOOR: f64 = 1.0 / (1u64 << 25) as f64;

/// Centroids, laid out.
pub(crate) struct PackedCentroids {
    /// n_tiles x n_steps x 32: the first parts of four features, and their second parts.
    pub(crate) fragments: Vec<Four>,
    /// n_tiles x 8, scaled; infinite where there is no centroid.
    pub(crate) half_norms: Vec<f32>,
    /// A lead is certain when it is larger than `lead_per_norm x |x|^2 + lead_min`, all of it scaled.
    pub(crate) lead_per_norm: f32,
    pub(crate) lead_min: f32,
}

/// The power of two that brings the rows of a preparation, and some centroids, below 2^14.
pub(crate) fn scale(preparation: &Preparation, sets: &[Centroids]) -> f32 {
    let bounds = preparation.columns.iter().map(|column| column.bound());
    let values = sets.iter().flat_map(|set| set.values()).map(|value| f64::from(value.abs()));
    let largest = bounds.chain(values).fold(f64::from(f32::MIN_POSITIVE), f64::max);
    // Rounded up to a power of two.
    let exponent = largest.log2().ceil() as i32;
    2f32.powi((SCALED_EXPONENT - exponent).clamp(-126, 126))
}

impl PackedCentroids {
    /// `n_steps` of a kernel may hold more features than there are; the rest are zeros.
    pub(crate) fn new(centroids: &Centroids, n_steps: usize, scale: f32) -> Self {
        let n_tiles = centroids.n_clusters().div_ceil(TILE);
        let mut fragments = vec![Four([0; 4]); n_tiles * n_steps * LANES];
        let mut half_norms = vec![f32::INFINITY; n_tiles * TILE];
        let mut max_squared_norm = 0.0f64;
        for (cluster, centroid) in centroids.rows().enumerate() {
            let (tile, column) = (cluster / TILE, cluster % TILE);
            for (group, features) in centroid.chunks(4).enumerate() {
                let (step, quad) = (group / 4, group % 4);
                fragments[(tile * n_steps + step) * LANES + column * 4 + quad] = fragment(features, scale);
            }
            let squares = centroid.iter().map(|value| (f64::from(*value) * f64::from(scale)).powi(2));
            let squared_norm: f64 = squares.sum();
            half_norms[cluster] = (squared_norm / 2.0) as f32;
            max_squared_norm = max_squared_norm.max(squared_norm);
        }
        let (lead_per_norm, lead_min) = certain_lead(centroids.n_features(), n_steps, max_squared_norm);
        Self { fragments, half_norms, lead_per_norm, lead_min }
    }

    pub(crate) fn n_tiles(&self) -> usize {
        self.half_norms.len() / TILE
    }
}

/// Two float16 parts of each of four features, fewer at the end.
fn fragment(features: &[f32], scale: f32) -> Four {
    let mut parts = [[0u32; 4]; 2];
    for (idx, value) in features.iter().enumerate() {
        let scaled = value * scale;
        let first = f16::from_f32(scaled);
        let second = f16::from_f32(scaled - first.to_f32());
        (parts[0][idx], parts[1][idx]) = (u32::from(first.to_bits()), u32::from(second.to_bits()));
    }
    let pair = |part: usize, idx: usize| parts[part][idx] | parts[part][idx + 1] << 16;
    Four([pair(0, 0), pair(0, 2), pair(1, 0), pair(1, 2)])
}

/// By how much a winner has to lead, from bounds of three errors, all relative to `|x| |c| + |c|^2 / 2`.
///
/// Parts: of a product of two numbers in two parts each, the product of the second parts is left out, and either number
/// may be off by half the last bit of its second part: at most 3 x 2^-22. Sums: a tile product adds 16 products to a
/// number; the products are exact, and the hardware lines all of them up with the largest and cuts off, so that each of
/// the 17 loses at most one unit of float32's last place (Fasi et al., "Numerical behavior of NVIDIA tensor cores", 2021,
/// found this or better on all of them); there are three products a step. Norms and what the
/// kernel does with them: a few roundings, for which there is a fourth 2^-22 and the factor 1.1, which also cover the
/// rounding of the float64 distances that define the answer. Both of two centroids may be off that much, and
/// 2 |x| |c| <= |x|^2 + |c|^2.
///
/// What is too small for float16 comes on top: sqrt(d) 2^-25 (|x| + |c|), twice.
fn certain_lead(n_features: usize, n_steps: usize, max_squared_norm: f64) -> (f32, f32) {
    let ulp = f64::from(f32::EPSILON);
    let unit = 1.1 * (17.0 * 3.0 * n_steps as f64 * ulp + 4.0 * SPLIT_ERROR);
    let floor = (n_features as f64).sqrt() * SPLIT_FLOOR;
    let norm = max_squared_norm.sqrt().max(1.0);
    // 2 floor |x| <= floor (|x|^2 / norm + norm).
    let per_norm = unit + floor / norm;
    let min = 2.0 * unit * max_squared_norm + 3.0 * floor * norm;
    (round_up(per_norm), round_up(min))
}

fn round_up(value: f64) -> f32 {
    (value * (1.0 + f64::from(f32::EPSILON))).max(f64::from(f32::MIN_POSITIVE)) as f32
}
