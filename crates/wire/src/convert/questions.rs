//! Questions as messages.

use super::{WireError, required};
use crate::proto;
use bytes::Bytes;
use shoal_clustering::prepare::Reading;
use shoal_clustering::{Draw, Sample};
use shoal_domain::{BLOCK_ROWS, Centroids, ColumnPreparation, Preparation, Transform};
use shoal_stats::{DigitQuery, RandomStream};

/// Float32 numbers as little-endian bytes.
pub fn f32s_to_bytes(values: &[f32]) -> Bytes {
    values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>().into()
}

/// The numbers of [`f32s_to_bytes`].
pub fn f32s_from_bytes(bytes: &[u8], field: &'static str) -> Result<Vec<f32>, WireError> {
    let (numbers, rest) = bytes.as_chunks::<4>();
    let whole = rest.is_empty();
    let numbers = numbers.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
    whole.then_some(numbers).ok_or(WireError::Invalid { field, reason: "does not hold whole float32 numbers" })
}

/// 128-bit integers, each in as many little-endian bytes as the largest of them needs, which come after that number: sums of
/// a few thousand rows need half of the 16.
pub fn i128s_to_bytes(values: &[i128]) -> Vec<u8> {
    let Some(width) = values.iter().map(|value| width_of(*value)).max() else {
        return Vec::new();
    };
    let mut bytes = Vec::with_capacity(1 + width * values.len());
    bytes.push(width as u8);
    for value in values {
        bytes.extend_from_slice(&value.to_le_bytes()[..width]);
    }
    bytes
}

/// Bytes that a number and its sign take.
fn width_of(value: i128) -> usize {
    let bits_of_value = 128 - (value ^ (value >> 127)).leading_zeros() as usize;
    bits_of_value / 8 + 1
}

/// The integers of [`i128s_to_bytes`].
pub fn i128s_from_bytes(bytes: &[u8], field: &'static str) -> Result<Vec<i128>, WireError> {
    let Some((width, numbers)) = bytes.split_first() else {
        return Ok(Vec::new());
    };
    let width = usize::from(*width);
    if !(1..=size_of::<i128>()).contains(&width) || numbers.len() % width != 0 {
        return Err(WireError::Invalid { field, reason: "does not hold whole integers of at most 128 bits" });
    }
    let unused_bits = 128 - 8 * width as u32;
    let number = |bytes: &[u8]| {
        let mut whole = [0; size_of::<i128>()];
        whole[..width].copy_from_slice(bytes);
        // The sign comes down from where the last byte is.
        (i128::from_le_bytes(whole) << unused_bits) >> unused_bits
    };
    Ok(numbers.chunks_exact(width).map(number).collect())
}

impl From<&Centroids> for proto::Centroids {
    fn from(centroids: &Centroids) -> Self {
        Self {
            n_clusters: centroids.n_clusters() as u32,
            n_features: centroids.n_features() as u32,
            values: f32s_to_bytes(centroids.values()).to_vec(),
        }
    }
}

impl TryFrom<proto::Centroids> for Centroids {
    type Error = WireError;

    fn try_from(centroids: proto::Centroids) -> Result<Self, WireError> {
        let values = f32s_from_bytes(&centroids.values, "centroids.values")?;
        Ok(Self::new(centroids.n_clusters as usize, centroids.n_features as usize, values)?)
    }
}

impl From<&Reading> for proto::Reading {
    fn from(reading: &Reading) -> Self {
        let log1p = reading.transform == Transform::Log1p;
        Self { log1p, fills: reading.fills.clone(), drop_missing: reading.drop_missing }
    }
}

impl From<proto::Reading> for Reading {
    fn from(reading: proto::Reading) -> Self {
        Self { transform: transform(reading.log1p), fills: reading.fills, drop_missing: reading.drop_missing }
    }
}

impl From<&DigitQuery> for proto::DigitQuery {
    fn from(query: &DigitQuery) -> Self {
        Self { column: query.column as u32, known_bits: query.known_bits, prefix: query.prefix }
    }
}

impl TryFrom<proto::DigitQuery> for DigitQuery {
    type Error = WireError;

    fn try_from(query: proto::DigitQuery) -> Result<Self, WireError> {
        if query.known_bits >= u64::BITS {
            return Err(WireError::Invalid { field: "queries.known_bits", reason: "must be below 64" });
        }
        Ok(Self { column: query.column as usize, known_bits: query.known_bits, prefix: query.prefix })
    }
}

/// Powers of two that a grid may have; float64 has no others, and some room is left for adding to them.
const EXPONENTS: std::ops::Range<i32> = -1_100..960;

impl From<&Preparation> for proto::Preparation {
    fn from(preparation: &Preparation) -> Self {
        let column = |column: &ColumnPreparation| proto::PreparedColumn {
            feature: column.feature.clone(),
            log1p: column.transform == Transform::Log1p,
            fill: column.fill,
            shift: column.shift,
            scale: column.scale,
            unit_exponent: column.unit_exponent,
        };
        Self {
            columns: preparation.columns.iter().map(column).collect(),
            drop_missing: preparation.drop_missing,
            weight_exponent: preparation.weight_exponent,
        }
    }
}

impl TryFrom<proto::Preparation> for Preparation {
    type Error = WireError;

    fn try_from(preparation: proto::Preparation) -> Result<Self, WireError> {
        let column = |column: proto::PreparedColumn| {
            if !(column.shift.is_finite() && column.scale.is_finite() && column.scale != 0.0) {
                let reason = "shift and scale must be finite and scale not 0";
                return Err(WireError::Invalid { field: "preparation.columns", reason });
            }
            if !EXPONENTS.contains(&column.unit_exponent) {
                let reason = "is not an exponent of a float64";
                return Err(WireError::Invalid { field: "preparation.columns.unit_exponent", reason });
            }
            Ok(ColumnPreparation {
                feature: column.feature,
                transform: transform(column.log1p),
                fill: column.fill,
                shift: column.shift,
                scale: column.scale,
                unit_exponent: column.unit_exponent,
            })
        };
        if preparation.weight_exponent.is_some_and(|exponent| !EXPONENTS.contains(&exponent)) {
            let reason = "is not an exponent of a float64";
            return Err(WireError::Invalid { field: "preparation.weight_exponent", reason });
        }
        Ok(Self {
            columns: preparation.columns.into_iter().map(column).collect::<Result<_, _>>()?,
            drop_missing: preparation.drop_missing,
            weight_exponent: preparation.weight_exponent,
        })
    }
}

impl From<&Draw> for proto::Draw {
    fn from(draw: &Draw) -> Self {
        Self {
            n: draw.n as u32,
            far_from: draw.far_from.as_ref().map(Into::into),
            ignore_weights: draw.ignore_weights,
            seed: draw.stream.seed,
            stream: draw.stream.stream,
        }
    }
}

impl TryFrom<proto::Draw> for Draw {
    type Error = WireError;

    fn try_from(draw: proto::Draw) -> Result<Self, WireError> {
        Ok(Self {
            n: draw.n as usize,
            far_from: draw.far_from.map(TryInto::try_into).transpose()?,
            ignore_weights: draw.ignore_weights,
            stream: RandomStream { seed: draw.seed, stream: draw.stream },
        })
    }
}

impl TryFrom<&proto::SampleRequest> for Sample {
    type Error = WireError;

    fn try_from(request: &proto::SampleRequest) -> Result<Self, WireError> {
        let block_rows = request.block_rows as usize;
        if !(1..=BLOCK_ROWS).contains(&block_rows) {
            return Err(WireError::Invalid { field: "block_rows", reason: "must be from 1 to 1024" });
        }
        Ok(Self { block_rows, stream: RandomStream { seed: request.seed, stream: request.stream } })
    }
}

/// Centroids that must be there.
impl proto::Centroids {
    /// The value of a required field.
    pub fn required(centroids: Option<Self>) -> Result<Centroids, WireError> {
        required("centroids", centroids)?.try_into()
    }
}

fn transform(log1p: bool) -> Transform {
    if log1p { Transform::Log1p } else { Transform::Identity }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_come_back_from_as_few_bytes_as_they_need() {
        let edges = (0..127).flat_map(|bits| [1i128 << bits, (1 << bits) - 1, -(1 << bits), -(1 << bits) - 1]);
        let edges: Vec<i128> = edges.chain([i128::MIN, i128::MAX]).collect();
        for (idx, edge) in edges.iter().enumerate() {
            let values = [0, *edge, -1, 1];
            let bytes = i128s_to_bytes(&values);
            assert_eq!(i128s_from_bytes(&bytes, "").expect("they were written so"), values, "{edge}");
            assert!(bytes.len() <= 1 + 4 * (idx / 4 / 8 + 2), "{edge}");
        }
        assert_eq!(i128s_from_bytes(&i128s_to_bytes(&edges), "").expect("they were written so"), edges);
        assert!(i128s_from_bytes(&i128s_to_bytes(&[]), "").expect("none").is_empty());
        for wrong in [vec![0], vec![17, 0], vec![2, 0, 0, 0]] {
            assert!(i128s_from_bytes(&wrong, "sums").is_err(), "{wrong:?}");
        }
    }
}
