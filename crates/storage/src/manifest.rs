//! What belongs to a data set.

use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::StreamWriter;
use serde::{Deserialize, Serialize};
use shoal_domain::BlockId;
use shoal_wire::blocks::{BlockError, DataSetSchema};
use std::io::Cursor;
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
    /// Rows whose id another row had before; none where that is not known.
    #[serde(default)]
    pub n_repeated_ids: Option<u64>,
    /// Whether the last column is a weight.
    pub has_weight: bool,
    /// The columns: an Arrow IPC stream without batches, in hexadecimal digits.
    schema: String,
    /// The chunks in the order of their blocks.
    pub chunks: Vec<Chunk>,
    /// BLAKE3 of this document with nothing here, in hexadecimal digits.
    blake3: String,
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

/// How many rows a data set has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RowCounts {
    /// In all.
    pub n_rows: u64,
    /// Of these, those whose id another row had before; none where that is not known.
    pub n_repeated_ids: Option<u64>,
}

impl Manifest {
    pub(crate) fn new(
        number: u64,
        RowCounts { n_rows, n_repeated_ids }: RowCounts,
        schema: &DataSetSchema,
        chunks: Vec<Chunk>,
    ) -> Result<Self, BlockError> {
        let columns = StreamWriter::try_new(Vec::new(), &schema.arrow)?.into_inner()?;
        let (format, blake3, has_weight) = (FORMAT.to_owned(), String::new(), schema.has_weight);
        let schema = to_hex(&columns);
        let mut manifest = Self { format, number, n_rows, n_repeated_ids, has_weight, schema, chunks, blake3 };
        manifest.blake3 = manifest.digest();
        Ok(manifest)
    }

    /// Reads the manifest of a data set.
    pub(crate) fn from_json(json: &[u8], number: u64) -> Result<Self, String> {
        let mut manifest: Self = serde_json::from_slice(json).map_err(|error| error.to_string())?;
        if manifest.format != FORMAT {
            return Err(format!("its format is {}, not {FORMAT}", manifest.format));
        }
        let named = std::mem::take(&mut manifest.blake3);
        let actual = manifest.digest();
        if named != actual {
            return Err(format!("its BLAKE3 is {actual}, it says {named}"));
        }
        manifest.blake3 = named;
        match manifest.number == number {
            true => Ok(manifest),
            false => Err(format!("it is that of data set {}", manifest.number)),
        }
    }

    fn digest(&self) -> String {
        let json = serde_json::to_vec(self).expect("a manifest is a JSON document");
        blake3::hash(&json).to_hex().to_string()
    }

    /// The columns.
    pub(crate) fn schema(&self) -> Result<DataSetSchema, String> {
        let columns = from_hex(&self.schema).ok_or("its schema is not hexadecimal")?;
        let reader = StreamReader::try_new(Cursor::new(columns), None).map_err(|error| error.to_string())?;
        DataSetSchema::new(reader.schema(), self.has_weight).map_err(|error| error.to_string())
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

fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn from_hex(digits: &str) -> Option<Vec<u8>> {
    let pairs = digits.as_bytes().chunks(2);
    pairs.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect()
}
