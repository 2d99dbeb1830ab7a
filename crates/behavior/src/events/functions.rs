//! Columns of a log as whole numbers: kinds, hashes, millionths. What SQL has no word for, one row at a time.

use super::kinds::Kinds;
use arrow::array::{Array, ArrayRef, AsArray, Int64Array};
use arrow::buffer::NullBuffer;
use arrow::compute::cast;
use arrow::datatypes::{DataType, Decimal128Type, Int64Type, TimeUnit, TimestampMicrosecondType};
use datafusion::common::hash_utils::{QualityRandomState, create_hashes};
use datafusion::error::Result;
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility};
use datafusion::prelude::Expr;
use std::collections::HashMap;
use std::sync::Arc;

/// The number of kinds that nobody knows, beside those of [`shoal_domain::events::EventKind`].
pub(super) const UNKNOWN_KIND: i64 = 7;
/// Stands in place of a kind for an event that is not as the tracking plan has it.
pub(super) const AGAINST_PLAN: i64 = 10;

/// Any fixed number: hashes must be the same in every process that works on one job.
const HASH_SEED: u64 = 0x5348_4f41;
/// Times are kept with four bits more: what is left are 18,000 years around 1970.
const TIME_LIMIT: i64 = 1 << 59;
/// Six digits after the point hold every currency's smallest unit.
const AMOUNT: DataType = DataType::Decimal128(38, 6);

/// Kinds of events by their number.
pub(super) fn kind(column: Expr, kinds: Kinds) -> Expr {
    call("event_kind", Recode::Kind(Arc::new(kinds)), column)
}

/// Numbers from 1 on of what is in an ascending list; 0 of what is not.
pub(crate) fn recode_states(column: Expr, states: &[String]) -> Expr {
    call("state", Recode::State(Arc::from(states)), column)
}

/// A number for each distinct value, null where there is none. Two values of one customer share a number once in 2^64 pairs.
pub(super) fn hash(column: Expr) -> Expr {
    call("hash", Recode::Hash, column)
}

/// Amounts in millionths of their unit; null where a value is none that 64 bits hold.
pub(super) fn millionths(column: Expr) -> Expr {
    call("millionths", Recode::Millionths, column)
}

/// Whole numbers; null where a value is none that 64 bits hold.
pub(super) fn whole_number(column: Expr) -> Expr {
    call("whole_number", Recode::WholeNumber, column)
}

/// Microseconds since 1970; null where a value is no time, or one that is further away than histories reach.
pub(crate) fn microseconds(column: Expr) -> Expr {
    call("microseconds", Recode::Microseconds, column)
}

fn call(name: &'static str, recode: Recode, column: Expr) -> Expr {
    let signature = Signature::any(1, Volatility::Immutable);
    ScalarUDF::from(Function { name, recode, signature }).call(vec![column])
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Function {
    name: &'static str,
    recode: Recode,
    signature: Signature,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Recode {
    Kind(Arc<Kinds>),
    State(Arc<[String]>),
    Hash,
    Millionths,
    WholeNumber,
    Microseconds,
}

impl ScalarUDFImpl for Function {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Int64)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let column = args.args[0].to_array(args.number_rows)?;
        let numbers = match &self.recode {
            Recode::Kind(kinds) => kinds_of(&column, kinds)?,
            Recode::State(states) => states_of(&column, states)?,
            Recode::Hash => hashes_of(&column)?,
            Recode::Millionths => millionths_of(&column)?,
            Recode::WholeNumber => cast(&column, &DataType::Int64)?.as_primitive::<Int64Type>().clone(),
            Recode::Microseconds => microseconds_of(&column)?,
        };
        Ok(ColumnarValue::Array(Arc::new(numbers)))
    }
}

fn kinds_of(column: &ArrayRef, kinds: &Kinds) -> Result<Int64Array> {
    by_distinct_text(column, &|name| kinds.of(name).map_or(UNKNOWN_KIND, |kind| kind as i64))
}

/// A number for each text, looked up once a distinct one; the empty text stands for nothing.
fn by_distinct_text(column: &ArrayRef, number: &dyn Fn(&str) -> i64) -> Result<Int64Array> {
    if let Some(dictionary) = column.as_any_dictionary_opt() {
        let of_values = by_distinct_text(dictionary.values(), number)?;
        let of_key =
            |(row, key): (usize, usize)| if dictionary.is_valid(row) { of_values.value(key) } else { number("") };
        return Ok(dictionary.normalized_keys().into_iter().enumerate().map(of_key).map(Some).collect());
    }
    let text = cast(column, &DataType::Utf8)?;
    let text = text.as_string::<i32>();
    let mut known: HashMap<&str, i64> = HashMap::new();
    let of_row = |row| {
        let name = if text.is_valid(row) { text.value(row) } else { "" };
        *known.entry(name).or_insert_with(|| number(name))
    };
    Ok(Int64Array::from_iter_values((0..text.len()).map(of_row)))
}

fn states_of(column: &ArrayRef, states: &[String]) -> Result<Int64Array> {
    let place = |name: &str| states.binary_search_by(|state| state.as_str().cmp(name));
    by_distinct_text(column, &|name| place(name).map_or(0, |place| place as i64 + 1))
}

fn hashes_of(column: &ArrayRef) -> Result<Int64Array> {
    // How a file encodes its ids is not part of them.
    let column = &match column.data_type() {
        DataType::Dictionary(_, values) => cast(column, values)?,
        DataType::LargeUtf8 | DataType::Utf8View => cast(column, &DataType::Utf8)?,
        _ => Arc::clone(column),
    };
    let mut hashes = vec![0; column.len()];
    create_hashes([column], &QualityRandomState::with_seed(HASH_SEED), &mut hashes)?;
    // 0 stands for nothing.
    let numbers: Vec<i64> = hashes.into_iter().map(|hash| if hash == 0 { 1 } else { hash as i64 }).collect();
    let nothing = NullBuffer::union(column.logical_nulls().as_ref(), empty_texts(column).as_ref());
    Ok(Int64Array::new(numbers.into(), nothing))
}

/// Which texts are empty, if any is.
fn empty_texts(column: &ArrayRef) -> Option<NullBuffer> {
    let texts = column.as_string_opt::<i32>()?;
    let is_text: NullBuffer = texts.offsets().lengths().map(|length| length > 0).collect();
    (is_text.null_count() > 0).then_some(is_text)
}

fn millionths_of(column: &ArrayRef) -> Result<Int64Array> {
    // What is NaN, infinite or no number becomes null here.
    let decimals = cast(column, &AMOUNT)?;
    let decimals = decimals.as_primitive::<Decimal128Type>();
    Ok(decimals.iter().map(|value| value.and_then(|value| i64::try_from(value).ok())).collect())
}

fn microseconds_of(column: &ArrayRef) -> Result<Int64Array> {
    let times = cast(column, &DataType::Timestamp(TimeUnit::Microsecond, None))?;
    let times = times.as_primitive::<TimestampMicrosecondType>();
    let is_near = |time: &i64| (-TIME_LIMIT..TIME_LIMIT).contains(time);
    Ok(times.iter().map(|time| time.filter(is_near)).collect())
}
