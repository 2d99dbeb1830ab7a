//! The files of a source as one table, in which every column has one type and is found by its name.

use crate::columns::{kind_of, query_error};
use crate::csv_error::csv_error;
use crate::error::BehaviorError;
use crate::paged;
use arrow::datatypes::{DataType, Field, FieldRef, Schema};
use datafusion::dataframe::DataFrame;
use datafusion::prelude::{CsvReadOptions, ParquetReadOptions, SessionContext};
use shoal_domain::job::SourceSpec;
use url::Url;

/// Lines of a CSV file that are looked at for the type of its times.
const LINES_LOOKED_AT: usize = 1_000;

/// What a column is for.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Role {
    Name,
    Number,
    Time,
    None,
}

pub(crate) fn role_of(column: &str, spec: &SourceSpec) -> Role {
    // What is wrong with an event puts it in quarantine, so its columns are read as they are written.
    if spec.events.is_some() {
        return Role::Name;
    }
    let purchases = spec.purchases.as_ref();
    let is = |wanted: Option<&String>| wanted.is_some_and(|wanted| wanted == column);
    let is_name = is(spec.id.as_ref()) || is(purchases.map(|it| &it.customer)) || is(purchases.map(|it| &it.order));
    let is_feature = spec.features.iter().flatten().any(|feature| feature == column);
    match () {
        () if is_name => Role::Name,
        () if is_feature || is(spec.weight.as_ref()) || is(purchases.map(|it| &it.amount)) => Role::Number,
        () if is(purchases.map(|it| &it.time)) => Role::Time,
        () => Role::None,
    }
}

/// CSV files, whose columns are found by their place: all files must have the same header. What a column holds is said by
/// what the job wants of it: names as they are written, numbers as float64. Only the type of times is guessed.
pub(crate) async fn csv(
    context: &SessionContext,
    location: &str,
    ending: &str,
    spec: &SourceSpec,
) -> Result<DataFrame, BehaviorError> {
    let failed = query_error(&spec.path);
    let options = CsvReadOptions::new().file_extension(ending).newlines_in_values(true);
    let look = options.clone().schema_infer_max_records(LINES_LOOKED_AT);
    let mut first: Option<(String, Schema)> = None;
    for file in paged::files(&context.state(), location, ending).await.map_err(&failed)? {
        let cannot_look = |error| csv_error(&name_of(&file), &[], error).unwrap_or_else(query_error(&name_of(&file)));
        let table = context.read_csv(file.clone(), look.clone()).await.map_err(cannot_look)?;
        let schema = table.schema().as_arrow().clone();
        if schema.fields().is_empty() {
            return Err(BehaviorError::EmptyFile { file: name_of(&file) });
        }
        match &first {
            None => first = Some((file, schema)),
            Some((_, other)) if header(other) == header(&schema) => {}
            Some((other_file, other)) => {
                let (file, other_file) = (name_of(&file), name_of(other_file));
                let (columns, other_columns) = (header(&schema).join(", "), header(other).join(", "));
                return Err(BehaviorError::OtherHeader { file, columns, other_file, other_columns });
            }
        }
    }
    let guessed = first.map_or_else(Schema::empty, |(_, schema)| schema);
    let field = |field: &FieldRef| {
        let data_type = match role_of(field.name(), spec) {
            Role::Number => DataType::Float64,
            Role::Time => field.data_type().clone(),
            Role::Name | Role::None => DataType::Utf8,
        };
        Field::new(field.name(), data_type, true)
    };
    let schema = Schema::new(guessed.fields().iter().map(field).collect::<Vec<_>>());
    context.read_csv(location, options.schema(&schema)).await.map_err(failed)
}

fn header(schema: &Schema) -> Vec<&str> {
    schema.fields().iter().map(|field| field.name().as_str()).collect()
}

/// Parquet files, whose columns are found by their names. A column that is an integer in one file and a fraction in another is
/// a float64, one of integers of several widths an int64; one that a file does not have is missing there.
pub(crate) async fn parquet(
    context: &SessionContext,
    location: &str,
    ending: &str,
    spec: &SourceSpec,
) -> Result<DataFrame, BehaviorError> {
    let failed = query_error(&spec.path);
    let mut fields: Vec<Field> = Vec::new();
    for file in paged::files(&context.state(), location, ending).await.map_err(&failed)? {
        let options = ParquetReadOptions { file_extension: ending, ..Default::default() };
        let table = context.read_parquet(file.clone(), options).await.map_err(query_error(&name_of(&file)))?;
        for field in table.schema().as_arrow().fields() {
            let Some(known) = fields.iter_mut().find(|known| known.name() == field.name()) else {
                fields.push(field.as_ref().clone().with_nullable(true));
                continue;
            };
            match (known.data_type(), field.data_type()) {
                (known, other) if known == other => {}
                (one, other) if is_whole(one) && is_whole(other) => known.set_data_type(DataType::Int64),
                (one, other) if one.is_numeric() && other.is_numeric() => known.set_data_type(DataType::Float64),
                _ if role_of(field.name(), spec) == Role::None => {}
                (one, other) => {
                    let (column, actual, wanted) = (field.name().clone(), kind_of(other), kind_of(one));
                    return Err(BehaviorError::OtherType { file: name_of(&file), column, actual, wanted });
                }
            }
        }
    }
    let schema = Schema::new(fields);
    let options = ParquetReadOptions { file_extension: ending, schema: Some(&schema), ..Default::default() };
    context.read_parquet(location, options).await.map_err(failed)
}

/// Integers that 64 bits with a sign hold: ids among them stay what they are.
fn is_whole(data_type: &DataType) -> bool {
    data_type.is_integer() && *data_type != DataType::UInt64
}

/// A file's path where it is on this machine, and otherwise its URL.
pub(crate) fn name_of(url: &str) -> String {
    let path = Url::parse(url).ok().filter(|url| url.scheme() == "file").and_then(|url| url.to_file_path().ok());
    path.map_or_else(|| url.to_owned(), |path| path.display().to_string())
}
