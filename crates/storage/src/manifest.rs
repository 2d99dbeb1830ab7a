//! What belongs to a data set.

use serde::{Deserialize, Serialize};
use shoal_domain::BlockId;
use std::ops::Range;

/// The manifest's name in the folder of its data set.
pub(crate) const NAME: &str = "manifest.json";

/// The format of manifest and chunks.
const FORMAT: &str = "shoal-data-set-1";

/// The name of a chunk.
pub(crate) fn chunk_name(idx: usize) -> String {
    format!("{idx:06}.arrow")
}

/// A data set that is whole.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    format: String,
    /// The data set's number.
    pub number: u64,
    /// Rows in all.
    pub n_rows: u64,
    /// Whether the last column is a weight.
    pub has_weight: bool,
    /// The chunks in the order of their blocks.
    pub chunks: Vec<Chunk>,
}

/// Some blocks in one object.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Chunk {
    /// Its blocks.
    pub n_blocks: u64,
    /// BLAKE3 of the object, in hexadecimal digits.
    pub blake3: String,
}

impl Manifest {
    pub(crate) fn new(number: u64, n_rows: u64, has_weight: bool, chunks: Vec<Chunk>) -> Self {
        Self { format: FORMAT.to_owned(), number, n_rows, has_weight, chunks }
    }

    /// Reads a manifest of this format.
    pub(crate) fn from_json(json: &[u8]) -> Result<Self, String> {
        let manifest: Self = serde_json::from_slice(json).map_err(|error| error.to_string())?;
        match manifest.format == FORMAT {
            true => Ok(manifest),
            false => Err(format!("its format is {}, not {FORMAT}", manifest.format)),
        }
    }

    /// Blocks in all.
    pub fn n_blocks(&self) -> u64 {
        self.chunks.iter().map(|chunk| chunk.n_blocks).sum()
    }

    /// The numbers of the blocks of each chunk.
    pub(crate) fn blocks_of_chunks(&self) -> impl Iterator<Item = Range<u64>> {
        self.chunks.iter().scan(0, |next, chunk| {
            let first = *next;
            *next += chunk.n_blocks;
            Some(first..*next)
        })
    }

    /// All blocks.
    pub fn blocks(&self) -> Vec<BlockId> {
        (0..self.n_blocks()).map(BlockId).collect()
    }
}
