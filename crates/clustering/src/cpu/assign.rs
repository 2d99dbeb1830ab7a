//! The nearest centroid of every row of a block, with the distance to it: for draws, moves, spreads and labels. Lloyd
//! passes need no distances and go another way ([`super::pass`]).

use super::isa::{Isa, Kernel};
use super::packed::PackedCentroids;
use super::tile::{Ahead, FindNearest, Found};
use super::vector::Vector;
use crate::answers::BlockLabels;
use shoal_domain::{BLOCK_ROWS, Block, Centroids};

/// Lanes of the float64 distance. The number is part of the result: it fixes the order of additions.
const DISTANCE_LANES: usize = 8;

/// The numbers of all rows that a block can have.
pub(super) const ALL_ROWS: [u16; BLOCK_ROWS] = {
    let mut rows = [0; BLOCK_ROWS];
    let mut row = 0;
    while row < BLOCK_ROWS {
        rows[row] = row as u16;
        row += 1;
    }
    rows
};

/// What is found for each row of a block. Kept between blocks, so that nothing is allocated for each.
#[derive(Default)]
pub struct Nearest {
    found: Found,
    squares: Vec<f64>,
}

impl Nearest {
    /// The nearest centroid of each row, the lowest one on ties.
    pub fn labels(&self) -> &[u32] {
        &self.found.labels[..self.squares.len()]
    }

    /// The squared distance to it.
    pub fn squares(&self) -> &[f64] {
        &self.squares
    }

    /// A lower bound of half the difference to the second smallest squared distance.
    pub fn leads(&self) -> &[f32] {
        &self.found.ahead[..self.squares.len()]
    }
}

/// Assigns rows to centroids.
pub struct Assigner<'a> {
    packed: PackedCentroids<'a>,
    isa: Isa,
}

impl<'a> Assigner<'a> {
    /// Lays out the centroids. Panics where the machine does not have the instruction set.
    pub fn new(centroids: &'a Centroids, isa: Isa) -> Self {
        assert!(isa.is_available(), "this machine has no {}", isa.name());
        Self { packed: PackedCentroids::new(centroids), isa }
    }

    /// Finds the nearest centroid of each row of the block. Panics when the block has other columns than the centroids.
    pub fn assign(&self, block: &Block, nearest: &mut Nearest) {
        self.isa.run(Assign { packed: &self.packed, block, nearest });
    }

    /// Labels and distances of a block, as users get them.
    pub fn block_labels(&self, block: &Block) -> BlockLabels {
        let mut nearest = Nearest::default();
        self.assign(block, &mut nearest);
        BlockLabels {
            labels: nearest.labels().to_vec(),
            distances: nearest.squares().iter().map(|square| square.sqrt()).collect(),
            kept: block.kept().map(<[u32]>::to_vec),
        }
    }
}

/// Labels, leads and distances of a block's rows.
pub(super) struct Assign<'a> {
    pub(super) packed: &'a PackedCentroids<'a>,
    pub(super) block: &'a Block,
    pub(super) nearest: &'a mut Nearest,
}

impl Kernel for Assign<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector, const N: usize, const G: usize>(self) {
        let Self { packed, block, nearest: Nearest { found, squares } } = self;
        let find = FindNearest { packed, block, rows: &ALL_ROWS[..block.n_rows()], ahead: Ahead::Lead, found };
        // SAFETY: the caller has enabled V.
        unsafe { find.run::<V, N, G>() };
        let rows = block.values().chunks_exact(block.n_features()).zip(found.labels.iter());
        squares.clear();
        squares.extend(rows.map(|(row, label)| squared_distance(row, packed.centroids().row(*label as usize))));
    }
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
