//! Centroids as the kernels want them: split into float16 parts, laid out for tile products, with the error that a row's
//! nearness to them may have.

use half::f16;
use rayon::prelude::*;
use shoal_domain::{Centroids, Preparation};

/// Centroids of a tile product.
const TILE: usize = 8;
/// Tiles that a thread packs, at least.
const TILES_OF_THREAD: usize = 64;
/// Features of a tile product.
pub(crate) const STEP: usize = 16;
/// Lanes of a warp.
const LANES: usize = 32;

/// Scaled values are below 2^14, well below the largest float16.
const SCALED_EXPONENT: i32 = 14;
/// What a number loses that is too small for float16, whose numbers end at 2^-24.
const SMALLEST_ERROR: f64 = 1.0 / (1u64 << 25) as f64;

/// In how many float16 numbers a float32 is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Parts {
    /// Rounded to one; of two numbers one product is taken.
    One,
    /// Split into two; of two numbers three products are taken, that of the second parts being left out.
    Two,
}

impl Parts {
    /// 16-byte words of a step of a tile of centroids.
    pub(crate) fn step_words(self) -> usize {
        LANES / 2 * self.n_parts()
    }

    fn n_parts(self) -> usize {
        match self {
            Self::One => 1,
            Self::Two => 2,
        }
    }

    fn n_products(self) -> usize {
        match self {
            Self::One => 1,
            Self::Two => 3,
        }
    }

    /// What a product of two numbers may be off, relative to it: either number by half the last bit of its last part, and
    /// in two parts by the product that is left out.
    fn product_error(self) -> f64 {
        match self {
            Self::One => 2.0f64.powi(-10),
            Self::Two => 3.0 * 2.0f64.powi(-22),
        }
    }
}

/// Centroids, laid out.
pub(crate) struct PackedCentroids {
    /// n_tiles x n_steps x 32 lanes x parts: four features of a centroid, as two words of two float16 for each part.
    pub(crate) fragments: Vec<[u32; 2]>,
    /// n_tiles x 8, scaled; infinite where there is no centroid.
    pub(crate) half_norms: Vec<f32>,
    /// A lead is certain when it is larger than `lead_per_norm x |x|^2 + lead_min`, all of it scaled.
    pub(crate) lead_per_norm: f32,
    pub(crate) lead_min: f32,
}

/// A bound of the absolute values of prepared rows.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bound(f64);

impl Bound {
    pub(crate) fn new(preparation: &Preparation) -> Self {
        let bounds = preparation.columns.iter().map(|column| column.bound());
        Self(bounds.fold(f64::from(f32::MIN_POSITIVE), f64::max))
    }

    /// The power of two that brings the rows, and some centroids, below 2^14.
    pub(crate) fn scale<'a>(self, sets: impl Iterator<Item = &'a Centroids>) -> f32 {
        let values = sets.flat_map(|set| set.values()).map(|value| f64::from(value.abs()));
        let largest = values.fold(self.0, f64::max);
        // Rounded up to a power of two.
        let exponent = largest.log2().ceil() as i32;
        2f32.powi((SCALED_EXPONENT - exponent).clamp(-126, 126))
    }
}

impl PackedCentroids {
    /// `n_steps` of a kernel may hold more features than there are; the rest are zeros.
    pub(crate) fn new(centroids: &Centroids, n_steps: usize, scale: f32, parts: Parts) -> Self {
        let n_tiles = centroids.n_clusters().div_ceil(TILE);
        let of_lane = parts.n_parts();
        let of_tile = n_steps * LANES * of_lane;
        let mut fragments = vec![[0; 2]; n_tiles * of_tile];
        let mut half_norms = vec![f32::INFINITY; n_tiles * TILE];
        let pack_tile = |(tile, (fragments, half_norms)): (usize, (&mut [[u32; 2]], &mut [f32]))| {
            let mut largest = 0.0f64;
            let clusters = (tile * TILE..centroids.n_clusters()).take(TILE);
            for (column, cluster) in clusters.enumerate() {
                let centroid = centroids.row(cluster);
                for (group, features) in centroid.chunks(4).enumerate() {
                    let (step, quad) = (group / 4, group % 4);
                    let lane = step * LANES + column * 4 + quad;
                    pack_four(features, scale, &mut fragments[lane * of_lane..(lane + 1) * of_lane]);
                }
                let squares = centroid.iter().map(|value| (f64::from(*value) * f64::from(scale)).powi(2));
                let squared_norm: f64 = squares.sum();
                half_norms[column] = (squared_norm / 2.0) as f32;
                largest = largest.max(squared_norm);
            }
            largest
        };
        let tiles = fragments.par_chunks_mut(of_tile).zip(half_norms.par_chunks_mut(TILE)).enumerate();
        // To wake a thread costs more than to pack a few tiles.
        let tiles = tiles.with_min_len(TILES_OF_THREAD);
        let max_squared_norm = tiles.map(pack_tile).reduce(|| 0.0, f64::max);
        let (lead_per_norm, lead_min) = certain_lead(centroids.n_features(), n_steps, max_squared_norm, parts);
        Self { fragments, half_norms, lead_per_norm, lead_min }
    }

    pub(crate) fn n_tiles(&self) -> usize {
        self.half_norms.len() / TILE
    }
}

/// The float16 parts of four features, fewer at the end.
fn pack_four(features: &[f32], scale: f32, parts: &mut [[u32; 2]]) {
    for (idx, value) in features.iter().enumerate() {
        let mut rest = value * scale;
        for words in &mut *parts {
            let part = f16::from_f32(rest);
            words[idx / 2] |= u32::from(part.to_bits()) << (16 * (idx % 2));
            rest -= part.to_f32();
        }
    }
}

/// By how much a winner has to lead, from bounds of three errors, relative to `|x| |c|` or to `|x| |c| + |c|^2 / 2`.
///
/// Products: see [`Parts::product_error`]. Sums: a tile product adds 16 products to a number; the products are exact, and
/// the hardware lines all of them up with the largest and cuts off, so that each of the 17 loses at most one unit of
/// float32's last place (Fasi et al., "Numerical behavior of NVIDIA tensor cores", 2021, found this or better on all of
/// them). Norms, and what the kernel does with them: a few roundings, for which there is 2^-22 and the factor 1.1, which
/// also cover the rounding of the float64 distances that define the answer. Both of two centroids may be off that much, and
/// 2 |x| |c| <= |x|^2 + |c|^2.
///
/// What is too small for float16 comes on top: sqrt(d) 2^-25 (|x| + |c|), twice.
fn certain_lead(n_features: usize, n_steps: usize, max_squared_norm: f64, parts: Parts) -> (f32, f32) {
    let sums = 17.0 * (parts.n_products() * n_steps) as f64 * f64::from(f32::EPSILON) + 2.0f64.powi(-22);
    let products = parts.product_error();
    let smallest = (n_features as f64).sqrt() * SMALLEST_ERROR;
    let norm = max_squared_norm.sqrt().max(1.0);
    // 2 smallest |x| <= smallest (|x|^2 / norm + norm).
    let per_norm = 1.1 * (sums + products) + smallest / norm;
    let min = 1.1 * (2.0 * sums + products) * max_squared_norm + 3.0 * smallest * norm;
    (round_up(per_norm), round_up(min))
}

fn round_up(value: f64) -> f32 {
    (value * (1.0 + f64::from(f32::EPSILON))).max(f64::from(f32::MIN_POSITIVE)) as f32
}
