//! Days as jobs write them.

use arrow::array::{Array, ArrayRef, AsArray, StringArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Date32Type};
use std::sync::Arc;

/// Microseconds of a day.
pub(crate) const DAY: i64 = 86_400_000_000;

/// Midnight (UTC) of a day `YYYY-MM-DD`, in microseconds since 1970.
pub(crate) fn midnight(day: &str) -> Option<i64> {
    let text: ArrayRef = Arc::new(StringArray::from(vec![day]));
    let days = cast(&text, &DataType::Date32).ok()?;
    let is_day = days.is_valid(0) && day.len() == "YYYY-MM-DD".len();
    is_day.then(|| i64::from(days.as_primitive::<Date32Type>().value(0)) * DAY)
}
