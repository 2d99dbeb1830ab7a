//! Arrays in NumPy's own format, which every peer reads.

use anyhow::Result;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

/// Writes an array of 4-byte numbers from pieces of its values in C order. `dtype` is `<f4` or `<i4`.
pub(crate) fn write<const N: usize>(
    path: &Path,
    dtype: &str,
    shape: &[usize],
    values: impl Iterator<Item = [u8; N]>,
) -> Result<()> {
    let lengths: String = shape.iter().map(|length| format!("{length},")).collect();
    let header = format!("{{'descr': '{dtype}', 'fortran_order': False, 'shape': ({lengths}), }}");
    // Magic, version and length take ten bytes; the header ends with a newline at a multiple of 64.
    let padded = (10 + header.len() + 1).next_multiple_of(64) - 10;
    let mut file = BufWriter::with_capacity(1 << 20, File::create(path)?);
    file.write_all(b"\x93NUMPY\x01\x00")?;
    file.write_all(&u16::try_from(padded)?.to_le_bytes())?;
    file.write_all(format!("{header:width$}\n", width = padded - 1).as_bytes())?;
    for value in values {
        file.write_all(&value)?;
    }
    Ok(file.flush()?)
}
