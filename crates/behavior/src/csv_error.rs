//! What the CSV reader says, in terms of the file.

use crate::error::BehaviorError;
use datafusion::error::DataFusionError;

/// An error of reading CSV files with these columns; any other error is given back.
pub(crate) fn csv_error(
    path: &str,
    columns: &[String],
    error: DataFusionError,
) -> Result<BehaviorError, DataFusionError> {
    let text = error.to_string();
    let path = path.to_owned();
    value(&text, columns)
        .map(|(line, column, value)| BehaviorError::CsvValue { path: path.clone(), line, column, value })
        .or_else(|| fields(&text).map(|(actual, wanted)| BehaviorError::CsvFields { path, actual, wanted }))
        .ok_or(error)
}

/// From `Error while parsing value 'many' as type 'Float64' for column 2 at line 7`. Lines are counted after the header.
fn value(text: &str, columns: &[String]) -> Option<(u64, String, String)> {
    let (_, text) = text.split_once("Error while parsing value '")?;
    let (value, text) = text.split_once("' as type '")?;
    let (_, text) = text.split_once("' for column ")?;
    let (column, text) = text.split_once(" at line ")?;
    let column = columns.get(column.parse::<usize>().ok()?)?.clone();
    let line: u64 = text.split(|digit: char| !digit.is_ascii_digit()).next()?.parse().ok()?;
    Some((line + 1, column, value.to_owned()))
}

/// From `Expected 8 records, found 2 records at line 69`. Which line it is the reader does not know.
fn fields(text: &str) -> Option<(u64, u64)> {
    let (_, text) = text.split_once("Expected ")?;
    let (wanted, text) = text.split_once(" records, found ")?;
    Some((text.split(' ').next()?.parse().ok()?, wanted.parse().ok()?))
}
