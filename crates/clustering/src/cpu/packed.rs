//! Centroids laid out for kernels, with the error that a row's nearness to them may have.

use super::assign::squared_distance_in;
use super::vector::Vector;
use shoal_domain::Centroids;

/// Centroids that lie side by side; kernels take all of a group or half of it at a time.
pub(super) const GROUP: usize = 8;

/// Half the distance between 1 and the next float32.
const ROUNDING: f64 = f32::EPSILON as f64 / 2.0;

/// Centroids in groups of eight, column by column, and their half norms.
pub(super) struct PackedCentroids<'a> {
    centroids: &'a Centroids,
    /// n_groups x n_features x GROUP.
    values: Vec<[f32; GROUP]>,
    /// n_groups x GROUP; infinite for the centroids that fill up the last group, so that they never win.
    half_norms: Vec<f32>,
    /// A lead is certain when it is larger than `lead_per_norm x |x|^2 + lead_min`.
    pub(super) lead_per_norm: f32,
    pub(super) lead_min: f32,
}

/// Up to eight centroids.
pub(super) struct Group<'a> {
    /// The number of its first centroid.
    pub(super) first: usize,
    /// How many of the eight there are.
    pub(super) n_centroids: usize,
    /// n_features x GROUP.
    pub(super) values: &'a [[f32; GROUP]],
    pub(super) half_norms: &'a [f32; GROUP],
}

impl<'a> PackedCentroids<'a> {
    pub(super) fn new(centroids: &'a Centroids) -> Self {
        let n_groups = centroids.n_clusters().div_ceil(GROUP);
        let n_features = centroids.n_features();
        let mut values = vec![[0.0; GROUP]; n_groups * n_features];
        let mut half_norms = vec![f32::INFINITY; n_groups * GROUP];
        let mut max_squared_norm = 0.0f64;
        for (cluster, centroid) in centroids.rows().enumerate() {
            for (column, value) in centroid.iter().enumerate() {
                values[cluster / GROUP * n_features + column][cluster % GROUP] = *value;
            }
            let squared_norm: f64 = centroid.iter().map(|value| f64::from(*value) * f64::from(*value)).sum();
            half_norms[cluster] = (squared_norm / 2.0) as f32;
            max_squared_norm = max_squared_norm.max(squared_norm);
        }
        // A float32 dot product of d terms, in any order and with or without fused multiply-add, is off by at most
        // (d + 2) u (|x| |c| + |c|^2 / 2) (Higham, "Accuracy and stability", 3.1), the half norm included, and each of
        // the two may be off that much. Since 2 |x| |c| <= |x|^2 + |c|^2, both together are off by at most
        // (d + 2) u (|x|^2 + 2 |c|^2). What is added to d and multiplied covers |x|^2 itself being rounded, and the
        // rounding of the float64 distances that define the answer.
        let unit = 1.1 * (n_features + 4) as f64 * ROUNDING;
        Self {
            centroids,
            values,
            half_norms,
            lead_per_norm: unit as f32,
            // At least what products that are too small for float32 may lose.
            lead_min: (2.0 * unit * max_squared_norm).max(f64::from(f32::MIN_POSITIVE)) as f32,
        }
    }

    pub(super) fn n_features(&self) -> usize {
        self.centroids.n_features()
    }

    pub(super) fn centroids(&self) -> &Centroids {
        self.centroids
    }

    pub(super) fn n_groups(&self) -> usize {
        self.centroids.n_clusters().div_ceil(GROUP)
    }

    /// The groups in order.
    pub(super) fn groups(&self) -> impl Iterator<Item = Group<'_>> {
        let groups = self.values.chunks_exact(self.n_features()).zip(self.half_norms.as_chunks::<GROUP>().0);
        let n_clusters = self.centroids.n_clusters();
        groups.enumerate().map(move |(idx, (values, half_norms))| {
            let first = idx * GROUP;
            Group { first, n_centroids: (n_clusters - first).min(GROUP), values, half_norms }
        })
    }

    /// The float64 argmin of one row, the lowest centroid on ties. The same
    /// on every instruction set.
    ///
    /// # Safety
    ///
    /// The caller has enabled V.
    #[inline(always)]
    pub(super) unsafe fn decide<V: Vector>(&self, row: &[f32]) -> u32 {
        let mut nearest = (f64::INFINITY, 0);
        for (cluster, centroid) in self.centroids.rows().enumerate() {
            // SAFETY: V is enabled.
            let square = unsafe { squared_distance_in::<V>(row, centroid) };
            if square < nearest.0 {
                nearest = (square, cluster as u32);
            }
        }
        nearest.1
    }
}
