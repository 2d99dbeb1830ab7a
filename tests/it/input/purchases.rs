//! Purchase lines become recency, frequency and monetary value, or an error that names the column and the customer.

use super::{Folder, check_refused, column, floats, integers, maybe_floats, read_well, texts};
use arrow::array::{
    ArrayRef, AsArray, Date32Array, DictionaryArray, StringArray, TimestampMicrosecondArray, TimestampSecondArray,
};
use arrow::datatypes::Int32Type;
use shoal_domain::job::{PurchasesSpec, SourceSpec};
use std::sync::Arc;

/// 2018-01-01T00:00:00 in seconds since 1970.
const NEW_YEAR: i64 = 1_514_764_800;
const DAY: i64 = 86_400;

fn purchases(path: &str, as_of: &str) -> SourceSpec {
    let spec = PurchasesSpec {
        customer: "customer".to_owned(),
        time: "at".to_owned(),
        order: "order".to_owned(),
        amount: "amount".to_owned(),
        as_of: as_of.to_owned(),
    };
    SourceSpec { path: path.to_owned(), purchases: Some(spec), ..SourceSpec::default() }
}

fn at(seconds: impl IntoIterator<Item = i64>) -> ArrayRef {
    Arc::new(TimestampSecondArray::from_iter_values(seconds))
}

/// Good lines of two customers, of which a test replaces what it wants to spoil.
fn lines() -> Vec<(&'static str, ArrayRef)> {
    vec![
        ("customer", texts(["b", "a", "b", "b", "a"])),
        ("at", at([0, -3 * DAY, -DAY + 1, -DAY + 1, 5].map(|offset| NEW_YEAR + offset))),
        ("order", integers([1, 2, 3, 3, 4])),
        ("amount", floats([10.5, 20.25, 0.1, 0.2, -5.0])),
    ]
}

fn with(name: &'static str, replaced: ArrayRef) -> Vec<(&'static str, ArrayRef)> {
    let replace = |(column, values)| if column == name { (column, replaced.clone()) } else { (column, values) };
    lines().into_iter().map(replace).collect()
}

#[test]
fn features_by_hand() {
    let folder = Folder::new();
    let path = folder.write_parquet("lines.parquet", lines());
    let check = |as_of: &str, customers: &[&str], recency: &[f64], frequency: &[f64], monetary: &[f64]| {
        let data = read_well(&purchases(&path, as_of));
        let ids = data.blocks[0].ids.as_string::<i32>();
        assert_eq!(ids.iter().flatten().collect::<Vec<_>>(), customers, "as of {as_of}");
        assert_eq!(column(&data, 0), recency, "recency as of {as_of}");
        assert_eq!(column(&data, 1), frequency, "frequency as of {as_of}");
        assert_eq!(column(&data, 2), monetary, "monetary as of {as_of}");
    };
    // Whole days are rounded down; two lines of one order are one order; a refund is an order and lowers the sum.
    check("2018-01-02", &["a", "b"], &[0.0, 1.0], &[2.0, 2.0], &[15.25, 10.8]);
    check("2018-01-11", &["a", "b"], &[9.0, 10.0], &[2.0, 2.0], &[15.25, 10.8]);
    // Purchases on the day itself and later do not count.
    check("2018-01-01", &["a", "b"], &[3.0, 0.0], &[1.0, 1.0], &[20.25, 0.3]);
    check("2017-12-31", &["a"], &[2.0], &[1.0], &[20.25]);
}

#[test]
fn times_may_have_any_unit() {
    let folder = Folder::new();
    let expected = column(&read_well(&purchases(&folder.write_parquet("s.parquet", lines()), "2018-01-02")), 0);
    let offsets = [0, -3 * DAY, -DAY + 1, -DAY + 1, 5];
    let microseconds =
        TimestampMicrosecondArray::from_iter_values(offsets.map(|offset| (NEW_YEAR + offset) * 1_000_000));
    let path = folder.write_parquet("us.parquet", with("at", Arc::new(microseconds)));
    assert_eq!(column(&read_well(&purchases(&path, "2018-01-02")), 0), expected);
    let days = Date32Array::from_iter_values(offsets.map(|offset| ((NEW_YEAR + offset).div_euclid(DAY)) as i32));
    let path = folder.write_parquet("days.parquet", with("at", Arc::new(days)));
    assert_eq!(column(&read_well(&purchases(&path, "2018-01-02")), 0), [1.0, 1.0]);
    let csv = "customer,at,order,amount\nb,2018-01-01T00:00:00,1,10.5\na,2018-01-01T00:00:05,4,-5\n";
    let path = folder.write_text("lines.csv", csv);
    assert_eq!(column(&read_well(&purchases(&path, "2018-01-02")), 0), [0.0, 1.0]);
}

/// The order of customers is that of their ids, not that of a file's dictionary.
#[test]
fn customers_may_be_kept_as_a_dictionary() {
    let folder = Folder::new();
    let customers: DictionaryArray<Int32Type> = ["b", "a", "b", "b", "a"].into_iter().collect();
    let path = folder.write_parquet("dictionary.parquet", with("customer", Arc::new(customers)));
    let data = read_well(&purchases(&path, "2018-01-02"));
    assert_eq!(data.blocks[0].ids.as_string::<i32>().iter().flatten().collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!(column(&data, 2), [15.25, 10.8]);
}

#[test]
fn the_first_fraction_of_a_csv_amount_may_come_late() {
    let folder = Folder::new();
    let amount = |row: usize| if row == 2000 { "0.25" } else { "1" };
    let lines: String = (0..3000).map(|row| format!("c,2018-01-01T00:00:00,{row},{}\n", amount(row))).collect();
    let path = folder.write_text("late.csv", &format!("customer,at,order,amount\n{lines}"));
    assert_eq!(column(&read_well(&purchases(&path, "2018-01-02")), 2), [2999.25]);
}

#[test]
fn a_line_without_a_value_is_named() {
    let folder = Folder::new();
    let check = |name: &'static str, spoilt: ArrayRef, expected: &[&str]| {
        let path = folder.write_parquet(&format!("no-{name}.parquet"), with(name, spoilt));
        check_refused(&purchases(&path, "2018-01-02"), expected);
    };
    let amounts = maybe_floats([Some(1.0), None, Some(1.0), Some(1.0), None]);
    check("amount", amounts, &["source.purchases.amount", "2 purchase lines of customer a", "column `amount`"]);
    let times = TimestampSecondArray::from(vec![Some(NEW_YEAR), Some(NEW_YEAR), None, Some(NEW_YEAR), Some(NEW_YEAR)]);
    check("at", Arc::new(times), &["source.purchases.time", "1 purchase lines of customer b", "column `at`"]);
    let orders = StringArray::from(vec![Some("1"), Some("2"), None, None, Some("4")]);
    check("order", Arc::new(orders), &["source.purchases.order", "2 purchase lines of customer b", "column `order`"]);
    let customers = StringArray::from(vec![Some("b"), None, Some("b"), Some("b"), Some("a")]);
    check("customer", Arc::new(customers), &["source.purchases.customer", "column `customer`"]);
}

#[test]
fn an_amount_that_is_no_number_is_refused() {
    let folder = Folder::new();
    for (name, bad) in [("nan", f64::NAN), ("infinite", f64::INFINITY), ("huge", 1e300)] {
        let path = folder.write_parquet(&format!("{name}.parquet"), with("amount", floats([1.0, 2.0, bad, 3.0, 4.0])));
        check_refused(&purchases(&path, "2018-01-02"), &["column `amount`"]);
    }
}

#[test]
fn columns_of_the_wrong_type_are_named() {
    let folder = Folder::new();
    let check = |name: &'static str, spoilt: ArrayRef, expected: &[&str]| {
        let path = folder.write_parquet(&format!("type-{name}.parquet"), with(name, spoilt));
        check_refused(&purchases(&path, "2018-01-02"), expected);
    };
    check("amount", texts(["1"; 5]), &["source.purchases.amount", "column `amount` is text", "a number is needed"]);
    check(
        "at",
        integers([1; 5]),
        &["source.purchases.time", "column `at` is a number", "a timestamp or date is needed"],
    );
    let path = folder.write_parquet("lines.parquet", lines());
    let mut spec = purchases(&path, "2018-01-02");
    spec.purchases.as_mut().expect("purchases").order = "basket".to_owned();
    check_refused(&spec, &["source.purchases.order", "no column `basket`", "`customer`, `at`, `order`, `amount`"]);
}

#[test]
fn as_of_is_a_date() {
    let folder = Folder::new();
    let path = folder.write_parquet("lines.parquet", lines());
    for bad in
        ["tomorrow", "2018-1-2", "2018-13-01", "2018-02-30", "02.01.2018", "", "2018-01-02T00:00:00", " 2018-1-02"]
    {
        check_refused(&purchases(&path, bad), &["source.purchases.as_of", &format!("`{bad}` is not a date")]);
    }
}

#[test]
fn nobody_before_as_of_is_refused() {
    let folder = Folder::new();
    let path = folder.write_parquet("lines.parquet", lines());
    check_refused(&purchases(&path, "2001-01-01"), &["source.purchases.as_of", "no purchases before 2001-01-01"]);
}
