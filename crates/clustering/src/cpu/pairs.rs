//! Distances between the rows of two clusters, summed for each row, with vectors: what the silhouette is made of. What a
//! pair adds is said in [`crate::pairs`]; here every pair is computed once for both of its rows.

use super::assign::squared_distance;
use super::isa::Kernel;
use super::packed::GROUP;
use super::tile::MAX_TILE;
use super::vector::{LINE, Line, Vector};
use crate::pairs::{LONGEST_SQUARED, PairScale, SHARE_MIN, SHORTEST_SQUARED};

/// Cache lines of a feature in a tile.
const TILE_LINES: usize = MAX_TILE / LINE;
/// Rows of a cluster that are compared at a time.
pub(super) const STRIP_ROWS: usize = 1008;
/// Integers of up to 1.5 x 2^24 that an i32 adds safely.
const MAX_ADDITIONS: usize = 64;
/// Rows of `y` between two emptyings of the sums of `x`.
const Y_TOGETHER: usize = MAX_ADDITIONS;

/// How far ahead of its use a row is asked for: those of a cluster lie here and there in memory.
const ROWS_AHEAD: usize = 24;
/// Cache lines of a row that are asked for; memory brings the later ones by itself.
#[cfg(target_arch = "x86_64")]
const LINES_AHEAD: usize = 4;

/// Asks for a row that will be needed soon.
#[inline(always)]
fn ask_for(row: Option<&&[f32]>) {
    #[cfg(target_arch = "x86_64")]
    for line in row.into_iter().flat_map(|row| row.chunks(LINE).take(LINES_AHEAD)) {
        super::vector_x86::prefetch(line.as_ptr());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = row;
}

/// Rows of one cluster, laid out so that a vector lane is a row.
#[derive(Default)]
pub(super) struct Lanes<'a> {
    rows: Vec<&'a [f32]>,
    /// n_tiles x n_features x TILE_LINES.
    tiles: Vec<Line>,
    /// n_tiles x MAX_TILE; infinite where there is no row, so that no distance counts.
    norms: Vec<f32>,
}

impl<'a> Lanes<'a> {
    pub(super) fn set(&mut self, rows: impl Iterator<Item = &'a [f32]>, n_features: usize, scale: &PairScale<'_>) {
        self.rows.clear();
        self.rows.extend(rows);
        let n_tiles = self.rows.len().div_ceil(MAX_TILE);
        self.tiles.clear();
        self.tiles.resize(n_tiles * n_features * TILE_LINES, Line([0.0; LINE]));
        self.norms.clear();
        self.norms.resize(n_tiles * MAX_TILE, f32::INFINITY);
        for (idx, row) in self.rows.iter().enumerate() {
            ask_for(self.rows.get(idx + ROWS_AHEAD));
            let tile = &mut self.tiles[idx / MAX_TILE * n_features * TILE_LINES..];
            let (line, lane) = (idx % MAX_TILE / LINE, idx % LINE);
            let mut norm = 0.0f32;
            for (feature, value) in scale.place(row).enumerate() {
                tile[feature * TILE_LINES + line].0[lane] = value;
                norm += value * value;
            }
            self.norms[idx] = norm;
        }
    }
}

/// Rows of one cluster, laid out in groups whose values are broadcast.
#[derive(Default)]
pub(super) struct Broadcasts<'a> {
    rows: Vec<&'a [f32]>,
    /// n_groups x n_features x GROUP.
    groups: Vec<[f32; GROUP]>,
    /// n_groups x GROUP; infinite where there is no row, so that no distance counts.
    norms: Vec<f32>,
}

impl<'a> Broadcasts<'a> {
    pub(super) fn set(&mut self, rows: impl Iterator<Item = &'a [f32]>, n_features: usize, scale: &PairScale<'_>) {
        self.rows.clear();
        self.rows.extend(rows);
        self.groups.clear();
        self.groups.resize(self.rows.len().div_ceil(GROUP) * n_features, [0.0; GROUP]);
        self.norms.clear();
        self.norms.resize(self.rows.len().next_multiple_of(GROUP), f32::INFINITY);
        let groups = self.groups.chunks_exact_mut(n_features).zip(self.norms.chunks_exact_mut(GROUP));
        for (first, (rows, (group, norms))) in (0..).step_by(GROUP).zip(self.rows.chunks(GROUP).zip(groups)) {
            for (lane, row) in rows.iter().enumerate() {
                ask_for(self.rows.get(first + lane + ROWS_AHEAD));
                let mut norm = 0.0f32;
                for (values, value) in group.iter_mut().zip(scale.place(row)) {
                    values[lane] = value;
                    norm += value * value;
                }
                norms[lane] = norm;
            }
        }
    }
}

/// Sums of distances, one a row.
#[derive(Default)]
pub(super) struct RowSums {
    /// In integers of the pair scale.
    counted: Vec<i64>,
    /// Of the pairs put aside, in units of the question.
    aside: Vec<i128>,
}

impl RowSums {
    pub(super) fn reset(&mut self, n_rows: usize) {
        self.counted.clear();
        self.counted.resize(n_rows, 0);
        self.aside.clear();
        self.aside.resize(n_rows, 0);
    }

    /// The sums in units of the question.
    pub(super) fn in_units<'a>(&'a self, scale: &PairScale<'_>) -> impl Iterator<Item = i128> + 'a {
        let shift = scale.shift();
        self.counted.iter().zip(&self.aside).map(move |(counted, aside)| (i128::from(*counted) << shift) + aside)
    }
}

/// All pairs of some rows of one cluster with some of another, or of the same.
pub(super) struct Pairs<'a, 'r> {
    pub(super) x: &'a Lanes<'r>,
    pub(super) y: &'a Broadcasts<'r>,
    pub(super) n_features: usize,
    /// The unit of the question.
    pub(super) unit: f64,
    pub(super) x_sums: &'a mut RowSums,
    /// None where `y` has its pairs from somebody else.
    pub(super) y_sums: Option<&'a mut RowSums>,
    /// Scratch: pairs put aside.
    pub(super) aside: &'a mut Vec<(u32, u32)>,
}

impl Pairs<'_, '_> {
    /// Adds the pairs that were put aside, by differences in float64.
    fn add_aside(&mut self) {
        for (x, y) in self.aside.drain(..) {
            let (x, y) = (x as usize, y as usize);
            let (x_row, y_row) = (self.x.rows[x], self.y.rows[y]);
            // Equal rows are the most frequent case by far, and add nothing.
            if x_row == y_row {
                continue;
            }
            let distance = libm::rint(squared_distance(x_row, y_row).sqrt() / self.unit) as i128;
            self.x_sums.aside[x] += distance;
            if let Some(sums) = &mut self.y_sums {
                sums.aside[y] += distance;
            }
        }
    }
}

impl Kernel for Pairs<'_, '_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector, const N: usize, const G: usize>(mut self) {
        let tile_rows = V::LANES * N;
        assert!(MAX_TILE.is_multiple_of(tile_rows), "tiles of every width are parts of the widest");
        assert!(self.x_sums.counted.len() == self.x.rows.len());
        let mut y_partials = [0i32; Y_TOGETHER * 16];
        let n_tiles = self.x.rows.len().div_ceil(tile_rows);
        // Between two emptyings the sums of `y` take N integers of each tile.
        for first_tile in (0..n_tiles).step_by(MAX_ADDITIONS / N) {
            let tiles = first_tile..(first_tile + MAX_ADDITIONS / N).min(n_tiles);
            for first_y in (0..self.y.rows.len()).step_by(Y_TOGETHER) {
                let ys = first_y..(first_y + Y_TOGETHER).min(self.y.rows.len());
                y_partials.fill(0);
                for tile in tiles.clone() {
                    // SAFETY: the caller has enabled V.
                    unsafe { self.tile::<V, N, G>(tile * tile_rows, ys.clone(), &mut y_partials) }
                }
                if let Some(sums) = &mut self.y_sums {
                    for (sum, lanes) in sums.counted[ys].iter_mut().zip(y_partials.chunks_exact(V::LANES)) {
                        *sum += lanes.iter().map(|lane| i64::from(*lane)).sum::<i64>();
                    }
                }
            }
        }
        self.add_aside();
    }
}

impl Pairs<'_, '_> {
    /// N vectors of rows of `x`, from `first_x` on, with some rows of `y`.
    #[inline(always)]
    unsafe fn tile<V: Vector, const N: usize, const G: usize>(
        &mut self,
        first_x: usize,
        ys: std::ops::Range<usize>,
        y_partials: &mut [i32; Y_TOGETHER * 16],
    ) {
        let tile = &self.x.tiles[first_x / MAX_TILE * self.n_features * TILE_LINES..][..self.n_features * TILE_LINES];
        let lane_0 = first_x % MAX_TILE;
        let valid = |n: usize| {
            let n_left = self.x.rows.len().saturating_sub(first_x + n * V::LANES).min(V::LANES);
            ((1u64 << n_left) - 1) as u32
        };
        let valid: [u32; N] = std::array::from_fn(valid);
        let has_y_sums = self.y_sums.is_some();
        // SAFETY: V is enabled; a tile has n_features x MAX_TILE numbers and MAX_TILE norms, and N x LANES of them lie
        // from lane_0 on; y_partials has 16 integers for each of `ys`.
        unsafe {
            let norms: [V; N] = std::array::from_fn(|n| V::load(self.x.norms.as_ptr().add(first_x + n * V::LANES)));
            let zero = V::splat(0.0);
            let none = zero.integers_where(zero.is_within(zero, zero));
            let mut x_partials = [none; N];
            for first_y in ys.clone().step_by(G) {
                let group = &self.y.groups[first_y / GROUP * self.n_features..][..self.n_features];
                let dots = dots::<V, N, G>(tile.as_ptr().cast::<f32>().add(lane_0), group, first_y % GROUP);
                let y_norms = &self.y.norms[first_y..first_y + G];
                // A fixed number of rounds, so that all dot products stay in registers.
                for (idx, dots) in dots.into_iter().enumerate() {
                    let y = first_y + idx;
                    let y_norm = V::splat(y_norms[idx]);
                    let mut y_partial = none;
                    for n in 0..N {
                        let norm = norms[n].add(y_norm);
                        let square = dots[n].fused_multiply_add(V::splat(-2.0), norm);
                        let shortest = norm.multiply(V::splat(SHARE_MIN)).max(V::splat(SHORTEST_SQUARED));
                        let counts = square.is_within(shortest, V::splat(LONGEST_SQUARED));
                        let distance = square.sqrt().integers_where(counts);
                        x_partials[n] = V::add_integers(x_partials[n], distance);
                        y_partial = V::add_integers(y_partial, distance);
                        let aside = !V::bits(counts) & valid[n];
                        if aside != 0 && y < ys.end {
                            put_aside(self.aside, aside, first_x + n * V::LANES, y);
                        }
                    }
                    if has_y_sums {
                        let partial = y_partials.as_mut_ptr().add((y - ys.start) * V::LANES);
                        V::store_integers(V::add_integers(V::load_integers(partial), y_partial), partial);
                    }
                }
            }
            for (n, partials) in x_partials.into_iter().enumerate() {
                let mut lanes = [0i32; 16];
                V::store_integers(partials, lanes.as_mut_ptr());
                let sums = self.x_sums.counted.iter_mut().skip(first_x + n * V::LANES);
                sums.zip(&lanes[..V::LANES]).for_each(|(sum, lane)| *sum += i64::from(*lane));
            }
        }
    }
}

#[cold]
fn put_aside(aside: &mut Vec<(u32, u32)>, mut lanes: u32, first_x: usize, y: usize) {
    while lanes != 0 {
        aside.push((first_x as u32 + lanes.trailing_zeros(), y as u32));
        lanes &= lanes - 1;
    }
}

/// Dot products of N vectors of rows with G rows of a group, fused, in the order of the features.
#[inline(always)]
unsafe fn dots<V: Vector, const N: usize, const G: usize>(
    tile: *const f32,
    group: &[[f32; GROUP]],
    part: usize,
) -> [[V; N]; G] {
    // SAFETY: the caller has enabled V; each feature of the tile has MAX_TILE numbers.
    unsafe {
        let mut dots = [[V::splat(0.0); N]; G];
        for (feature, values) in group.iter().enumerate() {
            let columns: [V; N] = std::array::from_fn(|n| V::load(tile.add(feature * MAX_TILE + n * V::LANES)));
            for idx in 0..G {
                let value = V::splat(values[part + idx]);
                for n in 0..N {
                    dots[idx][n] = value.fused_multiply_add(columns[n], dots[idx][n]);
                }
            }
        }
        dots
    }
}
