//! Ready features: columns, ids, weights, order, and every way in which they can be wrong.

use super::{Folder, check_refused, column, digests, floats, integers, maybe_floats, read_well, ready, texts};
use arrow::array::{Array, ArrayRef, AsArray, Decimal128Array, DictionaryArray, Int8Array, UInt64Array};
use arrow::datatypes::{DataType, Float64Type, Int32Type, Int64Type};
use arrow::record_batch::RecordBatch;
use shoal_domain::BLOCK_ROWS;
use shoal_domain::job::{FileFormat, SourceSpec};
use shoal_wire::blocks::{BlockCutter, DataSetSchema, SourceBlock};
use std::path::Path;
use std::sync::Arc;

/// Three customers with two features, one of them with a gap, and weights.
fn three_customers(folder: &Folder) -> String {
    folder.write_parquet(
        "three.parquet",
        vec![
            ("id", integers([11, 12, 13])),
            ("visits", integers([1, 2, 3])),
            ("Total Spend.EUR", maybe_floats([Some(1.5), None, Some(-2.5)])),
            ("note", texts(["a", "b", "c"])),
            ("w", floats([1.0, 0.0, 2.5])),
        ],
    )
}

#[test]
fn columns_come_as_they_are_asked_for() {
    let folder = Folder::new();
    let spec = ready(&three_customers(&folder), &["Total Spend.EUR", "visits"]);
    let data = read_well(&SourceSpec { weight: Some("w".to_owned()), ..spec });
    assert_eq!(data.schema.features.as_slice(), ["Total Spend.EUR", "visits"]);
    assert_eq!(data.blocks.len(), 1);
    let spend = column(&data, 0);
    assert!(spend[0] == 1.5 && spend[1].is_nan() && spend[2] == -2.5, "{spend:?}");
    assert_eq!(column(&data, 1), [1.0, 2.0, 3.0]);
    assert_eq!(data.blocks[0].raw.weights(), Some(&[1.0, 0.0, 2.5][..]));
    assert_eq!(data.blocks[0].ids.as_primitive::<Int64Type>().values(), &[11, 12, 13]);
}

#[test]
fn a_feature_may_also_be_the_weight() {
    let folder = Folder::new();
    let spec = ready(&three_customers(&folder), &["visits"]);
    let data = read_well(&SourceSpec { weight: Some("visits".to_owned()), ..spec });
    assert_eq!(column(&data, 0), [1.0, 2.0, 3.0]);
    assert_eq!(data.blocks[0].raw.weights(), Some(&[1.0, 2.0, 3.0][..]));
}

#[test]
fn any_number_may_be_a_feature_and_any_type_an_id() {
    let folder = Folder::new();
    let decimals =
        Decimal128Array::from(vec![125, -50]).with_precision_and_scale(10, 2).expect("ten digits hold these");
    let check = |name: &str, id: ArrayRef, data_type: DataType| {
        let columns: Vec<(&str, ArrayRef)> = vec![
            ("id", id),
            ("decimal", Arc::new(decimals.clone())),
            ("small", Arc::new(Int8Array::from(vec![-1, 1]))),
            ("large", Arc::new(UInt64Array::from(vec![u64::MAX, 0]))),
        ];
        let path = folder.write_parquet(name, columns);
        let data = read_well(&ready(&path, &["decimal", "small", "large"]));
        assert_eq!(*data.blocks[0].ids.data_type(), data_type, "{name}");
        assert_eq!(column(&data, 0), [1.25, -0.5]);
        assert_eq!(column(&data, 1), [-1.0, 1.0]);
        assert_eq!(column(&data, 2), [u64::MAX as f64, 0.0]);
    };
    check("text.parquet", texts(["b", "a"]), DataType::Utf8);
    check("integer.parquet", integers([7, -7]), DataType::Int64);
    check("small.parquet", Arc::new(Int8Array::from(vec![3, 2])), DataType::Int8);
    check("unsigned.parquet", Arc::new(UInt64Array::from(vec![u64::MAX, 2])), DataType::UInt64);
    // Text that a file keeps as a dictionary is text.
    let dictionary: DictionaryArray<Int32Type> = ["b", "a"].into_iter().collect();
    check("dictionary.parquet", Arc::new(dictionary), DataType::Utf8);
}

#[test]
fn a_csv_file_is_the_parquet_file_of_the_same_rows() {
    let folder = Folder::new();
    let n_rows = BLOCK_ROWS + 100;
    let value = |row: usize| row as f64 * 0.1 - 3.0;
    let lines: String = (0..n_rows).map(|row| format!("c{row},{},{row}\n", value(row))).collect();
    let csv = folder.write_text("rows.csv", &format!("id,x,n\n{lines}"));
    let columns = vec![
        ("id", texts((0..n_rows).map(|row| format!("c{row}")))),
        ("x", floats((0..n_rows).map(value))),
        ("n", integers(0..n_rows as i64)),
    ];
    let parquet = folder.write_parquet("rows.parquet", columns);
    let (from_csv, from_parquet) = (read_well(&ready(&csv, &["x", "n"])), read_well(&ready(&parquet, &["x", "n"])));
    assert_eq!(from_csv.blocks.len(), 2);
    assert_eq!(from_csv.blocks[0].ids.data_type(), &DataType::Utf8);
    assert_eq!(digests(&from_csv), digests(&from_parquet));
    // The digest covers ids, values and their order of columns.
    assert_ne!(digests(&from_csv), digests(&read_well(&ready(&csv, &["n", "x"]))));
    let other_ids = folder.write_text("others.csv", &format!("id,x,n\n{}", lines.replacen("c0,", "c00,", 1)));
    assert_ne!(digests(&from_csv), digests(&read_well(&ready(&other_ids, &["x", "n"]))));
    // The ending is a hint, and the job has the last word.
    let unnamed = folder.write_text("rows.txt", &format!("id,x,n\n{lines}"));
    let spec = ready(&unnamed, &["x", "n"]);
    assert_eq!(digests(&read_well(&SourceSpec { format: Some(FileFormat::Csv), ..spec })), digests(&from_csv));
}

#[test]
fn gaps_of_a_csv_file_are_missing_values() {
    let folder = Folder::new();
    let path = folder.write_text("gaps.csv", "id,x,y\n1,,0.5\n2,3,\n3,4,1.5\n");
    let data = read_well(&ready(&path, &["x", "y"]));
    let is_missing = |idx: usize| column(&data, idx).iter().map(|value| value.is_nan()).collect::<Vec<_>>();
    assert_eq!(is_missing(0), [true, false, false]);
    assert_eq!(is_missing(1), [false, true, false]);
}

/// The reader guesses types from the first lines, but a feature is a float64 whatever they look like.
#[test]
fn the_first_fraction_of_a_csv_column_may_come_late() {
    let folder = Folder::new();
    let lines: String = (0..5000).map(|row| format!("{row},{}\n", if row == 4001 { "1.5" } else { "2" })).collect();
    let path = folder.write_text("late.csv", &format!("id,x\n{lines}"));
    assert_eq!(column(&read_well(&ready(&path, &["x"])), 0)[4000..4003], [2.0, 1.5, 2.0]);
}

/// Parquet's statistics do not count NaN, so a file may seem to hold one value only.
#[test]
fn a_gap_in_a_constant_column_stays_a_gap() {
    let folder = Folder::new();
    let columns = vec![("id", integers([1, 2, 3])), ("x", floats([4.0, f64::NAN, 4.0])), ("y", floats([f64::NAN; 3]))];
    let data = read_well(&ready(&folder.write_parquet("gap.parquet", columns), &["x", "y"]));
    let x = column(&data, 0);
    assert!(x[0] == 4.0 && x[1].is_nan() && x[2] == 4.0, "{x:?}");
    assert!(column(&data, 1).iter().all(|value| value.is_nan()));
}

#[test]
fn a_folder_is_read_in_the_order_of_its_names() {
    let folder = Folder::new();
    // Written in another order than named, the first one largest, with other files in between.
    for (name, first, n_rows) in [("part-c", 30, 3), ("part-a", 0, 20), ("part-d", 33, 9), ("part-b", 20, 10)] {
        let ids = integers(first..first + n_rows);
        let values = floats((first..first + n_rows).map(|value| value as f64));
        folder.write_parquet(&format!("{name}.parquet"), vec![("id", ids), ("x", values)]);
    }
    folder.write_text("README.md", "not data");
    let expected: Vec<f64> = (0..42).map(f64::from).collect();
    for path in [folder.path(""), folder.path("").trim_end_matches('/').to_owned()] {
        let data = read_well(&ready(&path, &["x"]));
        assert_eq!(column(&data, 0), expected, "{path}");
    }
}

/// Exports grow columns and change their order; a folder of them is still one table.
#[test]
fn files_of_a_folder_may_differ_in_their_columns() {
    let folder = Folder::new();
    let narrow = vec![("y", floats([3.0, 4.0])), ("id", integers([3, 4]))];
    let wide = vec![
        ("id", integers([1, 2])),
        ("note", texts(["a", "b"])),
        ("x", floats([0.5, 1.5])),
        ("y", floats([7.0, 8.0])),
    ];
    folder.write_parquet("a.parquet", wide);
    folder.write_parquet("b.parquet", narrow);
    let data = read_well(&ready(&folder.path(""), &["y", "x"]));
    assert_eq!(column(&data, 0), [7.0, 8.0, 3.0, 4.0]);
    let x = column(&data, 1);
    assert!(x[..2] == [0.5, 1.5] && x[2].is_nan() && x[3].is_nan(), "{x:?}");
    assert_eq!(data.blocks[0].ids.as_primitive::<Int64Type>().values(), &[1, 2, 3, 4]);
}

#[test]
fn csv_files_of_a_folder_must_have_one_header() {
    let other_header = |header: &str, expected: &[&str]| {
        let folder = Folder::new();
        folder.write_text("a.csv", "id,x,y\n1,2,3\n");
        folder.write_text("b 2.csv", &format!("{header}\n4,5,6\n"));
        check_refused(&ready(&folder.path(""), &["x", "y"]), expected);
    };
    other_header("id,y,x", &["b 2.csv` has the columns id, y, x", "a.csv` has id, x, y"]);
    other_header("id,x,z", &["b 2.csv`", "id, x, z"]);
    other_header("7,8,9", &["b 2.csv`", "7, 8, 9"]);
    let folder = Folder::new();
    folder.write_text("a.csv", "id,x\n1,2\n");
    folder.write_text("b.csv", "");
    check_refused(&ready(&folder.path(""), &["x"]), &["b.csv` is empty"]);
    folder.write_text("b.csv", "id,x\n");
    assert_eq!(column(&read_well(&ready(&folder.path(""), &["x"])), 0), [2.0]);
    let semicolons = folder.write_text("semi.csv", "id;x\n1;2\n");
    check_refused(&ready(&semicolons, &["x"]), &["separated by semicolons", "id;x"]);
}

/// What an id looks like further up says nothing about it, and zeros in front are part of it.
#[test]
fn ids_of_a_csv_file_are_text_as_it_is_written() {
    let folder = Folder::new();
    let lines: String =
        (0..1_200).map(|row| if row == 1_100 { "X1,7\n".to_owned() } else { format!("{row:06},7\n") }).collect();
    let data = read_well(&ready(&folder.write_text("ids.csv", &format!("id,x\n{lines}")), &["x"]));
    let ids: Vec<_> = data.blocks.iter().flat_map(|block| block.ids.as_string::<i32>().iter().flatten()).collect();
    assert_eq!((ids[0], ids[12], ids[1_100]), ("000000", "000012", "X1"));
    let quoted = folder.write_text("quoted.csv", "id,note,x\n1,\"two\nlines, one field\",5\n2,-,6\n");
    assert_eq!(column(&read_well(&ready(&quoted, &["x"])), 0), [5.0, 6.0]);
}

#[test]
fn folders_in_a_folder_are_part_of_it() {
    let folder = Folder::new();
    for (name, value) in [("a/1%#?.parquet", 1.0), ("b/c/2.parquet", 2.0), ("z 3.parquet", 3.0)] {
        let path = folder.path(name);
        std::fs::create_dir_all(Path::new(&path).parent().expect("it is in a folder")).expect("folders can be made");
        folder.write_parquet(name, vec![("id", integers([1])), ("x", floats([value]))]);
    }
    assert_eq!(column(&read_well(&ready(&folder.path(""), &["x"])), 0), [1.0, 2.0, 3.0]);
}

#[test]
fn whole_numbers_in_one_file_and_fractions_in_another_are_one_column() {
    let folder = Folder::new();
    folder.write_parquet("a.parquet", vec![("id", integers([1])), ("x", integers([2]))]);
    folder.write_parquet("b.parquet", vec![("id", integers([2])), ("x", floats([2.5]))]);
    assert_eq!(column(&read_well(&ready(&folder.path(""), &["x"])), 0), [2.0, 2.5]);
    folder.write_parquet("c.parquet", vec![("id", integers([3])), ("x", texts(["many"]))]);
    check_refused(&ready(&folder.path(""), &["x"]), &["c.parquet` is text", "column `x`", "a number"]);
}

#[test]
fn reading_again_gives_the_same_rows() {
    let folder = Folder::new();
    let n_rows = 3 * BLOCK_ROWS + 5;
    let columns = vec![("id", integers(0..n_rows as i64)), ("x", floats((0..n_rows).map(|row| row as f64)))];
    let spec = ready(&folder.write_parquet("rows.parquet", columns), &["x"]);
    let data = read_well(&spec);
    let sizes: Vec<usize> = data.blocks.iter().map(|block| block.raw.n_rows()).collect();
    assert_eq!(sizes, [BLOCK_ROWS, BLOCK_ROWS, BLOCK_ROWS, 5]);
    assert_eq!(column(&data, 0), (0..n_rows).map(|row| row as f64).collect::<Vec<_>>());
    assert_eq!(digests(&data), digests(&read_well(&spec)));
}

#[test]
fn a_path_may_hold_any_character() {
    let folder = Folder::new();
    for name in ["two words.parquet", "100%.parquet", "a#b.parquet", "x[1].parquet", "what?.parquet", "café.parquet"] {
        let path = folder.write_parquet(name, vec![("id", integers([1, 2])), ("x", floats([3.0, 4.0]))]);
        assert_eq!(column(&read_well(&ready(&path, &["x"])), 0), [3.0, 4.0], "{name}");
    }
}

#[test]
fn what_is_not_there_is_named() {
    let folder = Folder::new();
    let path = three_customers(&folder);
    let missing = folder.path("nowhere.parquet");
    check_refused(&ready(&missing, &["x"]), &["source.path", "no file or folder", &missing]);
    let text = folder.write_text("rows.txt", "id,x\n1,2\n");
    check_refused(&ready(&text, &["x"]), &["source.path", "neither in .parquet, .csv nor .jsonl", "source.format"]);
    let all = "`id`, `visits`, `Total Spend.EUR`, `note`, `w`";
    check_refused(&ready(&path, &["visits", "vsits"]), &["source.features", "no column `vsits`", all]);
    let spec = ready(&path, &["visits"]);
    check_refused(&SourceSpec { id: Some("ID".to_owned()), ..spec.clone() }, &["source.id", "no column `ID`", all]);
    check_refused(
        &SourceSpec { weight: Some("weight".to_owned()), ..spec },
        &["source.weight", "no column `weight`", all],
    );
}

#[test]
fn what_is_no_number_is_named() {
    let folder = Folder::new();
    let path = three_customers(&folder);
    check_refused(
        &ready(&path, &["visits", "note"]),
        &["source.features", "column `note` is text", "a number is needed"],
    );
    let spec = ready(&path, &["visits"]);
    check_refused(&SourceSpec { weight: Some("note".to_owned()), ..spec }, &["source.weight", "column `note` is text"]);
    check_refused(&ready(&path, &["visits", "visits"]), &["source.features", "`visits` is listed twice"]);
    check_refused(&ready(&path, &["visits", "id"]), &["source.", "`id`"]);
    let broken = folder.write_text("broken.parquet", "this is no Parquet file");
    check_refused(&ready(&broken, &["x"]), &[&broken]);
    let lines: String = (0..2 * BLOCK_ROWS)
        .map(|row| format!("{row},{}\n", if row == 2 * BLOCK_ROWS - 100 { "many".to_owned() } else { row.to_string() }))
        .collect();
    let csv = folder.write_text("late.csv", &format!("id,x\n{lines}"));
    check_refused(&ready(&csv, &["x"]), &[&csv, "line 1950: column `x` is `many`"]);
    let ragged = folder.write_text("ragged.csv", &format!("id,x\n{}1\n", "1,2\n".repeat(500)));
    check_refused(&ready(&ragged, &["x"]), &[&ragged, "a line has 1 fields, the header has 2"]);
}

#[test]
fn values_that_no_model_can_use_are_named_by_row_and_id() {
    let folder = Folder::new();
    let n_rows = BLOCK_ROWS + 10;
    let bad_row = BLOCK_ROWS + 3;
    let ids = || texts((0..n_rows).map(|row| format!("c{row}")));
    let with_bad = |bad: f64| floats((0..n_rows).map(move |row| if row == bad_row { bad } else { 1.0 }));
    let good = || floats((0..n_rows).map(|row| row as f64));
    // Rows are counted from 1 for people.
    let row = bad_row + 1;
    let place = [format!("row {row} (id c{bad_row})"), "column `x`".to_owned()];
    for (name, bad, says) in
        [("inf", f64::INFINITY, "inf is not a finite number"), ("minf", f64::NEG_INFINITY, "-inf is not")]
    {
        let columns = vec![("id", ids()), ("good", good()), ("x", with_bad(bad))];
        let path = folder.write_parquet(&format!("{name}.parquet"), columns);
        check_refused(&ready(&path, &["good", "x"]), &[&place[0], &place[1], says]);
    }
    for (name, bad, says) in [("negative", -0.5, "-0.5 is not a weight"), ("nan", f64::NAN, "NaN is not a weight")] {
        let columns = vec![("id", ids()), ("good", good()), ("x", with_bad(bad))];
        let path = folder.write_parquet(&format!("{name}.parquet"), columns);
        let spec = SourceSpec { weight: Some("x".to_owned()), ..ready(&path, &["good"]) };
        check_refused(&spec, &[&place[0], &place[1], says]);
    }
    let nulls: arrow::array::StringArray = (0..n_rows).map(|row| (row != bad_row).then(|| format!("c{row}"))).collect();
    let path = folder.write_parquet("nulls.parquet", vec![("id", Arc::new(nulls)), ("x", good())]);
    check_refused(&ready(&path, &["x"]), &[&format!("row {row}: the id (column `id`) is null")]);
}

/// Rows `first .. first + n` of a made-up data set.
fn batch(first: usize, n: usize) -> RecordBatch {
    let rows = first..first + n;
    let id = integers(rows.clone().map(|row| row as i64));
    let columns = vec![("id", id, true), ("x", floats(rows.map(|row| (row * row) as f64)), true)];
    RecordBatch::try_from_iter_with_nullable(columns).expect("columns have equal lengths")
}

fn cut(lengths: &[usize]) -> Vec<SourceBlock> {
    let schema = DataSetSchema::new(batch(0, 1).schema(), false).expect("an id and a feature");
    let mut cutter = BlockCutter::new(schema).expect("integers are ids");
    let mut first = 0;
    let mut blocks = Vec::new();
    for length in lengths {
        blocks.extend(cutter.push(batch(first, *length)).expect("the columns are the same"));
        first += length;
    }
    blocks.extend(cutter.finish().expect("the rows are good"));
    blocks
}

#[test]
fn blocks_do_not_depend_on_batches() {
    let digests_of =
        |lengths: &[usize]| cut(lengths).iter().map(|block| (block.raw.id(), block.raw.digest())).collect::<Vec<_>>();
    let n_rows = 2 * BLOCK_ROWS + 17;
    let expected = digests_of(&[n_rows]);
    assert_eq!(expected.len(), 3);
    assert_eq!(digests_of(&[1, 0, n_rows - 1]), expected);
    assert_eq!(digests_of(&[BLOCK_ROWS, BLOCK_ROWS, 17]), expected);
    assert_eq!(digests_of(&[BLOCK_ROWS - 1, BLOCK_ROWS + 1, 0, 16, 1]), expected);
    assert_eq!(cut(&[BLOCK_ROWS]).len(), 1);
    assert_eq!(cut(&[0]).len(), 0);
    assert_eq!(cut(&[]).len(), 0);
}

#[test]
fn a_block_sent_as_a_batch_is_the_block() {
    let schema = DataSetSchema::new(batch(0, 1).schema(), false).expect("an id and a feature");
    let block = &cut(&[100])[0];
    let sent = block.to_batch(&schema).expect("the columns fit");
    assert_eq!(sent.column(1).as_primitive::<Float64Type>().values(), &block.raw.columns()[0]);
    let mut cutter = BlockCutter::new(schema).expect("integers are ids");
    assert_eq!(cutter.push(sent).expect("the columns are the same").len(), 0);
    let again = cutter.finish().expect("the rows are good").expect("100 rows");
    assert_eq!(again.raw.digest(), block.raw.digest());
}

#[test]
fn columns_may_not_change_on_the_way() {
    let schema = DataSetSchema::new(batch(0, 1).schema(), false).expect("an id and a feature");
    let mut cutter = BlockCutter::new(schema).expect("integers are ids");
    let other = RecordBatch::try_from_iter(vec![("id", integers([1])), ("y", floats([1.0]))]).expect("one row");
    let error = cutter.push(other).expect_err("another column");
    assert!(error.to_string().contains("y Float64 instead of id Int64, x Float64"), "{error}");
    let check = |columns: Vec<(&str, ArrayRef)>, has_weight: bool, expected: &str| {
        let batch = RecordBatch::try_from_iter(columns).expect("columns have equal lengths");
        let error = DataSetSchema::new(batch.schema(), has_weight).expect_err(expected).to_string();
        assert!(error.contains(expected), "`{error}` should say `{expected}`");
    };
    check(vec![("id", integers([1]))], false, "1 columns do not hold an id and a feature");
    check(vec![("id", integers([1])), ("w", floats([1.0]))], true, "2 columns do not hold");
    check(vec![("id", integers([1])), ("n", integers([1]))], false, "column `n` is Int64, but float64 is needed");
}
