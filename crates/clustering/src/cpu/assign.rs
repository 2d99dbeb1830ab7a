//! The nearest centroid of every row of a block, with the distance to it: for draws, moves, spreads and labels. Lloyd
//! passes need no distances and go another way ([`super::pass`]).

use super::doubles::{Doubles, TOGETHER};
use super::isa::{Isa, Kernel};
use super::packed::PackedCentroids;
use super::tile::{Ahead, FindNearest, Found};
use super::vector::{Plain, Vector};
use crate::answers::BlockLabels;
use shoal_domain::{BLOCK_ROWS, Block, Centroids};

/// Lanes of the float64 distance. The number is part of the result: it fixes the order of additions.
const DISTANCE_LANES: usize = TOGETHER;

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
        squares.resize(block.n_rows(), 0.0);
        // A plain loop, since a closure given to an iterator may be compiled outside of the function that enables V.
        for (idx, square) in squares.iter_mut().enumerate() {
            let centroid = packed.centroids().row(found.labels[idx] as usize);
            // SAFETY: as above.
            *square = unsafe { squared_distance_in::<V>(block.row(idx), centroid) };
        }
    }
}

/// Squared Euclidean distance in float64, its additions in an order that no instruction set changes.
#[inline(always)]
pub fn squared_distance(row: &[f32], centroid: &[f32]) -> f64 {
    // SAFETY: plain numbers need nothing.
    unsafe { squared_distance_in::<Plain>(row, centroid) }
}

/// [`squared_distance`], the same bits of it, in the vectors of V.
///
/// # Safety
///
/// The caller has enabled V.
#[inline(always)]
pub(super) unsafe fn squared_distance_in<V: Vector>(row: &[f32], centroid: &[f32]) -> f64 {
    assert!(row.len() == centroid.len());
    let mut lanes = [0.0f64; DISTANCE_LANES];
    let n_whole = row.len() / DISTANCE_LANES * DISTANCE_LANES;
    for first in (0..DISTANCE_LANES).step_by(V::Doubles::LANES) {
        // SAFETY: V is enabled; LANES divides the eight lanes, and eight columns lie from each of the whole ones on.
        unsafe {
            let mut sum = V::Doubles::splat(0.0);
            for column in (0..n_whole).step_by(DISTANCE_LANES) {
                let value = V::Doubles::widen(row.as_ptr().add(column + first));
                let difference = value.subtract(V::Doubles::widen(centroid.as_ptr().add(column + first)));
                sum = sum.add(difference.multiply(difference));
            }
            sum.store(lanes.as_mut_ptr().add(first));
        }
    }
    for ((lane, value), centroid) in lanes.iter_mut().zip(&row[n_whole..]).zip(&centroid[n_whole..]) {
        let difference = f64::from(*value) - f64::from(*centroid);
        *lane += difference * difference;
    }
    ((lanes[0] + lanes[4]) + (lanes[2] + lanes[6])) + ((lanes[1] + lanes[5]) + (lanes[3] + lanes[7]))
}
