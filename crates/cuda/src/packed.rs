//! Centroids as the kernels want them: split into float16 parts, laid out for tile products, with the error that a row's
//! nearness to them may have.

use bytemuck::{Pod, Zeroable};
use half::f16;
use half::slice::HalfFloatSliceExt;
use rayon::prelude::*;
use shoal_clustering::cpu::VALUES_ALONE;
use shoal_domain::{Centroids, Preparation};

/// Centroids of a tile product.
const TILE: usize = 8;
/// Tiles that a thread packs, at least.
const TILES_OF_THREAD: usize = 8;
/// Features of a tile product.
pub(crate) const STEP: usize = 16;
/// Lanes of a warp.
const LANES: usize = 32;

/// Scaled values are below 2^14, well below the largest float16.
const SCALED_EXPONENT: i32 = 14;
/// What float16 holds, less than half a unit of its last place.
const LARGEST_HALF: f64 = 65_504.0;

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

    pub(crate) fn n_parts(self) -> usize {
        match self {
            Self::One => 1,
            Self::Two => 2,
        }
    }
}

/// By how much a winner has to lead, all of it scaled, as kernels/lloyd_pass.cuh has it.
#[derive(Debug, Clone, Copy, Default, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct CertainLead {
    /// Times what float16 leaves of the row, as a length.
    per_residual: f32,
    /// Times the row's length.
    per_length: f32,
    /// Times its square.
    per_norm: f32,
    min: f32,
}

/// Centroids, laid out.
#[derive(Default)]
pub(crate) struct PackedCentroids {
    /// n_tiles x n_steps x 32 lanes x parts: four features of a centroid, as four float16 for each part.
    pub(crate) fragments: Vec<[f16; 4]>,
    /// n_tiles x 8, scaled; infinite where there is no centroid.
    pub(crate) half_norms: Vec<f32>,
    pub(crate) lead: CertainLead,
}

/// The largest squared norms of some centroids.
#[derive(Debug, Clone, Copy, Default)]
struct Largest {
    /// Of a centroid.
    norm: f64,
    /// Of what float16 leaves of it, in one part and in two.
    residuals: [f64; 2],
}

impl Largest {
    fn max(self, other: Self) -> Self {
        let [one, two] = [0, 1].map(|idx| self.residuals[idx].max(other.residuals[idx]));
        Self { norm: self.norm.max(other.norm), residuals: [one, two] }
    }
}

/// A bound of the absolute values of prepared rows.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bound(f64);

impl Bound {
    pub(crate) fn new(preparation: &Preparation) -> Self {
        let bounds = preparation.columns.iter().map(|column| column.bound());
        Self(bounds.fold(f64::from(f32::MIN_POSITIVE), f64::max))
    }

    /// The power of two that brings the rows below 2^14.
    pub(crate) fn scale(self) -> f32 {
        scale_of(self.0)
    }

    /// The power of two that brings the rows and some centroids below 2^14; that of the rows, if float16 holds the
    /// centroids at that.
    pub(crate) fn scale_with<'a>(self, sets: impl Iterator<Item = &'a Centroids>) -> f32 {
        let values = sets.flat_map(|set| set.values()).map(|value| f64::from(value.abs()));
        let largest = values.fold(self.0, f64::max);
        if largest * f64::from(self.scale()) <= LARGEST_HALF { self.scale() } else { scale_of(largest) }
    }
}

fn scale_of(largest: f64) -> f32 {
    // Rounded up to a power of two.
    let exponent = largest.log2().ceil() as i32;
    2f32.powi((SCALED_EXPONENT - exponent).clamp(-126, 126))
}

impl PackedCentroids {
    /// In one part, and in two. `n_steps` of a kernel may hold more features than there are; the rest are zeros.
    pub(crate) fn in_either(centroids: &Centroids, n_steps: usize, scale: f32) -> [Self; 2] {
        let n_tiles = centroids.n_clusters().div_ceil(TILE);
        let of_tile = n_steps * LANES;
        let mut one = vec![[f16::ZERO; 4]; n_tiles * of_tile];
        let mut two = vec![[f16::ZERO; 4]; 2 * n_tiles * of_tile];
        let mut half_norms = vec![f32::INFINITY; n_tiles * TILE];
        type Tile<'a> = (usize, ((&'a mut [[f16; 4]], &'a mut [[f16; 4]]), &'a mut [f32]));
        let pack_tile = |(tile, ((one, two), half_norms)): Tile<'_>| {
            let mut largest = Largest::default();
            let clusters = (tile * TILE..centroids.n_clusters()).take(TILE);
            let mut split = SplitRow::new(centroids.n_features());
            for (column, cluster) in clusters.enumerate() {
                let (norm, residuals) = split.take(centroids.row(cluster), scale);
                let [first, second] = &split.parts;
                for (group, (first, second)) in first.chunks(4).zip(second.chunks(4)).enumerate() {
                    let (step, quad) = (group / 4, group % 4);
                    let lane = step * LANES + column * 4 + quad;
                    one[lane][..first.len()].copy_from_slice(first);
                    two[2 * lane][..first.len()].copy_from_slice(first);
                    two[2 * lane + 1][..second.len()].copy_from_slice(second);
                }
                half_norms[column] = (norm / 2.0) as f32;
                largest = largest.max(Largest { norm, residuals });
            }
            largest
        };
        // To wake a thread costs more than to pack a few tiles.
        let largest = if centroids.values().len() <= VALUES_ALONE {
            let tiles = one.chunks_mut(of_tile).zip(two.chunks_mut(2 * of_tile)).zip(half_norms.chunks_mut(TILE));
            tiles.enumerate().map(pack_tile).fold(Largest::default(), Largest::max)
        } else {
            let tiles = one.par_chunks_mut(of_tile).zip(two.par_chunks_mut(2 * of_tile));
            let tiles = tiles.zip(half_norms.par_chunks_mut(TILE)).enumerate().with_min_len(TILES_OF_THREAD);
            tiles.map(pack_tile).reduce(Largest::default, Largest::max)
        };
        let lead = |parts| CertainLead::new(n_steps, largest, parts);
        let one = Self { fragments: one, half_norms: half_norms.clone(), lead: lead(Parts::One) };
        [one, Self { fragments: two, half_norms, lead: lead(Parts::Two) }]
    }

    pub(crate) fn n_tiles(&self) -> usize {
        self.half_norms.len() / TILE
    }
}

/// Room for a centroid's float16 parts and for what they leave.
struct SplitRow {
    parts: [Vec<f16>; 2],
    rest: Vec<f32>,
    part: Vec<f32>,
}

impl SplitRow {
    fn new(n_features: usize) -> Self {
        let parts = [vec![f16::ZERO; n_features], vec![f16::ZERO; n_features]];
        Self { parts, rest: vec![0.0; n_features], part: vec![0.0; n_features] }
    }

    /// Splits a centroid; its squared norm, and those of what one part and two leave of it.
    fn take(&mut self, centroid: &[f32], scale: f32) -> (f64, [f64; 2]) {
        let squares = |values: &[f32]| values.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>();
        self.rest.iter_mut().zip(centroid).for_each(|(rest, value)| *rest = value * scale);
        let norm = squares(&self.rest);
        let mut residuals = [0.0; 2];
        for (part, residual) in self.parts.iter_mut().zip(&mut residuals) {
            part.convert_from_f32_slice(&self.rest);
            part.convert_to_f32_slice(&mut self.part);
            self.rest.iter_mut().zip(&self.part).for_each(|(rest, part)| *rest -= part);
            *residual = squares(&self.rest);
        }
        (norm, residuals)
    }
}

impl CertainLead {
    /// From bounds of three errors of a nearness, twice each, since both of two centroids may be off that much.
    ///
    /// What float16 leaves, r of x and s of c: `|x . c - (x - r) . (c - s)| <= |r| |c| + |x| |s| + |r| |s|`, and in two
    /// parts the product of the second parts, at most 2^-22 |x| |c|. Sums: a tile product adds 16 products to a number; the
    /// products are exact, and the hardware lines all of them up with the largest and cuts off, so that each of the 17
    /// loses at most one unit of float32's last place (Fasi et al., "Numerical behavior of NVIDIA tensor cores", 2021,
    /// found this or better on all of them); with two parts, the smaller products are added by themselves, and what they
    /// lose is 2^-10 of that. Norms, and what the kernel does with them: a few roundings of
    /// `|x| |c| + |c|^2 / 2`, for which there is 2^-21 and the factor 1.1, which also cover the rounding of the float64
    /// distances that define the answer. For all but the first, 2 |x| |c| <= |x|^2 + |c|^2.
    fn new(n_steps: usize, largest: Largest, parts: Parts) -> Self {
        let products = 17.0 * n_steps as f64 * f64::from(f32::EPSILON) * (1.0 + 2.0f64.powi(-10));
        let relative = 1.1 * (products + 2.0f64.powi(-21) + if parts == Parts::Two { 2.0f64.powi(-22) } else { 0.0 });
        let (length, residual) = (largest.norm.sqrt(), largest.residuals[parts.n_parts() - 1].sqrt());
        Self {
            per_residual: round_up(2.2 * (length + residual)),
            per_length: round_up(2.2 * residual),
            per_norm: round_up(relative),
            min: round_up(2.0 * relative * largest.norm),
        }
    }
}

fn round_up(value: f64) -> f32 {
    (value * (1.0 + f64::from(f32::EPSILON))).max(f64::from(f32::MIN_POSITIVE)) as f32
}
