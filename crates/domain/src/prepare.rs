//! How raw columns become the numbers that are clustered: transform, shift, scale, and the grid that makes sums exact.

use serde::{Deserialize, Serialize};

/// Bits of a prepared value relative to the largest one of its column.
///
/// Prepared values are rounded to multiples of a column's `unit = 2^(e - 40)`, where `2^e` bounds the column. A float32
/// has 24 bits, so only values smaller than 1/65,536 of the column's largest are touched at all. In return every value
/// is an integer of at most 40 bits times a power of two: a float64 adds 2^13 of them without rounding, more than a block
/// has ([`crate::BLOCK_ROWS`]), and a 128-bit integer adds any number. Sums then do not depend on their order, which is what lets any number
/// of threads, workers and devices return the same bits.
pub const GRID_BITS: i32 = 40;

/// Bits of a distance between two rows relative to the largest one there may be.
pub const DISTANCE_UNIT_BITS: i32 = 64;

/// Bits of a sample weight relative to the largest one.
pub const WEIGHT_BITS: i32 = 32;

/// What happens to a raw value before it is shifted and scaled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Transform {
    /// The value itself.
    Identity,
    /// `ln(1 + x)`, for counts and amounts with a long tail.
    Log1p,
}

/// The fitted preparation of one column: `round_to_grid((transform(x) - shift) / scale)`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ColumnPreparation {
    /// The column's name.
    pub feature: String,
    /// First step.
    pub transform: Transform,
    /// What stands for a missing value, in raw units; none when missing values are refused or dropped.
    pub fill: Option<f64>,
    /// Subtracted after the transform.
    pub shift: f64,
    /// Divided by, after the shift; never 0.
    pub scale: f64,
    /// The grid's unit is `2^unit_exponent` prepared units.
    pub unit_exponent: i32,
}

impl ColumnPreparation {
    /// The prepared value of a raw one, on the grid.
    pub fn apply(&self, raw: f64) -> f32 {
        let transformed = match self.transform {
            Transform::Identity => raw,
            Transform::Log1p => libm::log1p(raw),
        };
        // Adding and taking away 1.5 x 2^52 units leaves the nearest multiple of the unit, halves to even.
        let rounder = libm::ldexp(1.5, self.unit_exponent + 52);
        let scaled = (transformed - self.shift) / self.scale;
        ((scaled + rounder) - rounder) as f32
    }

    /// The raw value of a prepared one.
    pub fn invert(&self, prepared: f64) -> f64 {
        let transformed = prepared * self.scale + self.shift;
        match self.transform {
            Transform::Identity => transformed,
            Transform::Log1p => libm::expm1(transformed),
        }
    }

    /// The grid's step in prepared units, a power of two.
    pub fn unit(&self) -> f64 {
        libm::ldexp(1.0, self.unit_exponent)
    }

    /// A bound of the column's absolute prepared values, a power of two.
    pub fn bound(&self) -> f64 {
        libm::ldexp(1.0, self.unit_exponent + GRID_BITS)
    }
}

/// The fitted preparation of a data set.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Preparation {
    /// One entry a feature, in column order.
    pub columns: Vec<ColumnPreparation>,
    /// Rows with a missing value are taken out.
    pub drop_missing: bool,
    /// Where the data set has weights: a weight is an integer times `2^weight_exponent`.
    pub weight_exponent: Option<i32>,
}

impl Preparation {
    /// How many features.
    pub fn n_features(&self) -> usize {
        self.columns.len()
    }

    /// The grid's step of each column.
    pub fn units(&self) -> Vec<f64> {
        self.columns.iter().map(ColumnPreparation::unit).collect()
    }

    /// The grid's step of the weights; 1 where the data set has none.
    pub fn weight_unit(&self) -> f64 {
        self.weight_exponent.map_or(1.0, |exponent| libm::ldexp(1.0, exponent))
    }

    /// A bound of the distance between two prepared rows, a power of two.
    pub fn diameter(&self) -> f64 {
        let diameter_squared: f64 = self.columns.iter().map(|column| 4.0 * column.bound() * column.bound()).sum();
        let (_, exponent) = libm::frexp(libm::sqrt(diameter_squared));
        libm::ldexp(1.0, exponent)
    }

    /// The unit of sums of distances, so small that what is lost below it never counts.
    pub fn distance_unit(&self) -> f64 {
        libm::ldexp(self.diameter(), -DISTANCE_UNIT_BITS)
    }
}
