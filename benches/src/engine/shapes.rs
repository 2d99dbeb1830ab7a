//! The shapes that are measured, and the rows that they are filled with.

use rayon::prelude::*;
use shoal_domain::prepare::GRID_BITS;
use shoal_domain::{BLOCK_ROWS, Block, BlockId, Centroids, ColumnPreparation, Preparation, Transform};
use shoal_stats::philox4x32_10;

/// Rows, features and clusters of one measurement.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Shape {
    pub(crate) name: &'static str,
    pub(crate) n_samples: usize,
    pub(crate) n_features: usize,
    pub(crate) n_clusters: usize,
    /// Typical distance between two centres, in standard deviations of the noise.
    separation: f64,
}

/// At this distance blobs overlap as groups of customers do, and k-means needs tens of passes; far-off blobs would end
/// after three.
const OVERLAPPING: f64 = 4.0;

const fn shape(name: &'static str, n_samples: usize, n_features: usize, n_clusters: usize) -> Shape {
    Shape { name, n_samples, n_features, n_clusters, separation: OVERLAPPING }
}

/// From a mid-sized customer base with a few features to many clusters of many features, for passes. A0 is A without any
/// clusters to be found: there k-means never comes to rest, and little can be left alone.
pub(crate) const FITS: [Shape; 7] = [
    shape("A", 1_000_000, 16, 8),
    Shape { separation: 0.0, ..shape("A0", 1_000_000, 16, 8) },
    shape("B", 1_000_000, 32, 16),
    shape("C", 2_000_000, 64, 64),
    shape("D", 500_000, 128, 256),
    shape("E", 100_000, 64, 1000),
    shape("F", 10_000_000, 16, 8),
];

/// For the exact silhouette, whose work grows with the square of the rows.
pub(crate) const SILHOUETTES: [Shape; 3] =
    [shape("S20k", 20_000, 16, 8), shape("S100k", 100_000, 16, 8), shape("S1M", 1_000_000, 16, 8)];

impl Shape {
    pub(crate) fn named(name: &str) -> Option<Self> {
        FITS.into_iter().chain(SILHOUETTES).find(|shape| shape.name == name)
    }

    /// A shape of its own, with overlapping blobs.
    pub(crate) const fn overlapping(n_samples: usize, n_features: usize, n_clusters: usize) -> Self {
        shape("", n_samples, n_features, n_clusters)
    }

    /// What it is called without a name.
    pub(crate) fn numbers(&self) -> String {
        format!("{},{},{}", self.n_samples, self.n_features, self.n_clusters)
    }

    pub(crate) fn bytes(&self) -> usize {
        self.n_samples * self.n_features * size_of::<f32>()
    }

    /// Multiplications and additions of a pass that scores every row against every centroid.
    pub(crate) fn flops(&self) -> f64 {
        2.0 * (self.n_samples * self.n_features) as f64 * self.n_clusters as f64
    }
}

/// A bound of all values, 2^5: centres lie within 5 of the origin, noise within 3.5 of its centre.
const BOUND_EXPONENT: i32 = 5;

/// Rows in overlapping blobs, one a cluster, the same for the same shape on every machine.
///
/// The centre of a blob is uniform in a cube whose size gives two centres their typical distance in any number of
/// dimensions. A row belongs to a random blob; its noise is the sum of four uniform numbers in each feature,
/// scaled to a standard deviation of 1. All random numbers are Philox4x32-10 of what they are for. Values are multiples
/// of 2^-17, so that every library sees exactly the same numbers.
pub(crate) struct Data {
    shape: Shape,
    /// n_clusters x n_features.
    centres: Vec<f64>,
}

impl Data {
    pub(crate) fn new(shape: Shape) -> Self {
        let d = shape.n_features;
        let reach = shape.separation * (1.5 / d as f64).sqrt();
        let centre = |blob: usize, column: usize| {
            let bits = philox4x32_10([blob as u32, column as u32, 0, 0], [1, shape.n_clusters as u32])[0];
            reach * (f64::from(bits) / 2f64.powi(31) - 1.0)
        };
        Self { shape, centres: (0..shape.n_clusters * d).map(|idx| centre(idx / d, idx % d)).collect() }
    }

    /// All rows, in blocks that are made as they are taken.
    pub(crate) fn blocks(&self) -> impl Iterator<Item = Block> {
        (0..self.n_blocks()).map(|block| self.block(block))
    }

    /// All rows, made on all threads.
    pub(crate) fn blocks_in_parallel(&self) -> Vec<Block> {
        (0..self.n_blocks()).into_par_iter().map(|block| self.block(block)).collect()
    }

    fn n_blocks(&self) -> usize {
        self.shape.n_samples.div_ceil(BLOCK_ROWS)
    }

    fn block(&self, block: usize) -> Block {
        let first = block * BLOCK_ROWS;
        let rows = first..(first + BLOCK_ROWS).min(self.shape.n_samples);
        let mut values = Vec::with_capacity(rows.len() * self.shape.n_features);
        rows.for_each(|row| self.push_row(&mut values, row));
        Block::new(BlockId(block as u64), self.shape.n_features, values, None, None).expect("the shape is right")
    }

    /// The first rows, which are a random draw, as centroids to start from.
    pub(crate) fn initial(&self) -> Centroids {
        let mut values = Vec::new();
        (0..self.shape.n_clusters).for_each(|row| self.push_row(&mut values, row));
        Centroids::new(self.shape.n_clusters, self.shape.n_features, values).expect("the shape is right")
    }

    fn push_row(&self, values: &mut Vec<f32>, row: usize) {
        let blob = philox4x32_10([row as u32, 0, 0, 0], [2, 0])[0] as usize % self.shape.n_clusters;
        let centre = &self.centres[blob * self.shape.n_features..][..self.shape.n_features];
        // One block of random bits is the noise of two features.
        for (pair, centre) in centre.chunks(2).enumerate() {
            let bits = philox4x32_10([row as u32, pair as u32, 0, 0], [3, 0]);
            for (bits, centre) in bits.chunks_exact(2).zip(centre) {
                let sum: u32 = bits.iter().map(|bits| (bits & 0xffff) + (bits >> 16)).sum();
                // The variance of a uniform number is 1/12, that of four together 1/3.
                let noise = (f64::from(sum) / 65_536.0 - 2.0) * 3f64.sqrt();
                values.push(((centre + noise) * 131_072.0).round() as f32 / 131_072.0);
            }
        }
    }

    /// Rows are clustered as they are.
    pub(crate) fn preparation(&self) -> Preparation {
        let column = |column: usize| ColumnPreparation {
            feature: format!("x{column}"),
            transform: Transform::Identity,
            fill: None,
            shift: 0.0,
            scale: 1.0,
            unit_exponent: BOUND_EXPONENT - GRID_BITS,
        };
        let columns = (0..self.shape.n_features).map(column).collect();
        Preparation { columns, drop_missing: false, weight_exponent: None }
    }
}
