//! Opens what a job's `source` names and reads it as features.

use crate::columns::{column_type, query_error};
use crate::error::BehaviorError;
use crate::{paged, rfm};
use arrow::datatypes::{DataType, FieldRef, Schema};
use datafusion::dataframe::DataFrame;
use datafusion::error::DataFusionError;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::prelude::{CsvReadOptions, ParquetReadOptions, SessionConfig, SessionContext, cast, ident};
use shoal_domain::FeatureNames;
use shoal_domain::job::{FileFormat, SourceSpec};
use std::path::Path;
use url::Url;

/// Rows that the query engine handles at a time.
const BATCH_ROWS: usize = 8192;

/// Keys and values for object stores, such as `aws_access_key_id`; what a store does not know it ignores.
pub type StoreOptions = Vec<(String, String)>;

/// One row a customer: id, features, perhaps a weight. Can be read as often as needed, always in the same order.
pub struct FeatureSource {
    /// Columns: id, features as float64, weight as float64 when there is one.
    table: DataFrame,
    path: String,
    features: FeatureNames,
    has_weight: bool,
}

impl FeatureSource {
    /// Opens the source and checks its columns. Purchases are turned into features here and held in memory, one row a
    /// customer; ready features stay where they are.
    pub async fn open(spec: &SourceSpec, options: &StoreOptions) -> Result<Self, BehaviorError> {
        if let Some(features) = &spec.features {
            FeatureNames::new(features.clone())?;
        }
        let (table, features) = match (&spec.purchases, &spec.features) {
            (Some(purchases), _) => {
                // An aggregate may use every core: its result is sorted.
                let lines = open_files(spec, options, SessionConfig::new()).await?.table;
                let table = rfm::features(lines, purchases, &spec.path).await?;
                (table, rfm::FEATURES.map(str::to_owned).to_vec())
            }
            (None, features) => {
                // One partition reads the files in the order of their names, and their rows in order.
                let config = SessionConfig::new().with_target_partitions(1);
                let files = open_files(spec, options, config).await?;
                (ready_features(files, spec).await?, features.clone().unwrap_or_default())
            }
        };
        let features = FeatureNames::new(features)?;
        Ok(Self { table, path: spec.path.clone(), features, has_weight: spec.weight.is_some() })
    }

    /// The features in column order.
    pub fn features(&self) -> &FeatureNames {
        &self.features
    }

    /// Whether the last column is a weight.
    pub fn has_weight(&self) -> bool {
        self.has_weight
    }

    /// The columns of [`FeatureSource::batches`].
    pub fn schema(&self) -> Schema {
        self.table.schema().as_arrow().clone()
    }

    /// Reads all rows.
    pub async fn batches(&self) -> Result<SendableRecordBatchStream, BehaviorError> {
        self.table.clone().execute_stream().await.map_err(query_error(&self.path))
    }

    /// An error of the stream, with the path.
    pub fn read_error(&self, error: DataFusionError) -> BehaviorError {
        query_error(&self.path)(error)
    }
}

/// Finds the columns of ready features and casts numbers to float64.
async fn ready_features(files: OpenFiles, spec: &SourceSpec) -> Result<DataFrame, BehaviorError> {
    let schema = files.table.schema().as_arrow().clone();
    let id = spec.id.clone().unwrap_or_default();
    let mut columns = vec![match column_type(&schema, "source.id", &id, &spec.path)? {
        // How a file encodes its ids is not part of their type.
        DataType::Dictionary(_, values) => cast(ident(&id), (**values).clone()).alias(&id),
        _ => ident(&id),
    }];
    let mut names = vec![id.as_str()];
    let features = spec.features.iter().flatten().map(|feature| ("source.features", feature));
    for (field, column) in features.chain(spec.weight.iter().map(|weight| ("source.weight", weight))) {
        let data_type = column_type(&schema, field, column, &spec.path)?;
        // A CSV column without any value has no type; it is one of missing numbers.
        if !(data_type.is_numeric() || data_type.is_null()) {
            let (column, actual) = (column.clone(), data_type.to_string());
            return Err(BehaviorError::ColumnType { field, column, actual, wanted: "a number" });
        }
        if *column == id {
            let (column, actual) = (id.clone(), "the id".to_owned());
            return Err(BehaviorError::ColumnType { field, column, actual, wanted: "another column" });
        }
        let is_feature = spec.features.iter().flatten().any(|feature| feature == column);
        let alias = if field == "source.weight" && is_feature { format!("{column} (weight)") } else { column.clone() };
        columns.push(cast(ident(column), DataType::Float64).alias(alias));
        if !is_feature || field == "source.features" {
            names.push(column);
        }
    }
    let files = files.by_pages(&names).await;
    files.and_then(|files| files.select(columns)).map_err(query_error(&spec.path))
}

/// Files that the engine can read.
struct OpenFiles {
    table: DataFrame,
    context: SessionContext,
    location: String,
    /// What the names of the files end with.
    ending: String,
    format: FileFormat,
}

impl OpenFiles {
    /// The same files; Parquet on this machine's disk is read by pages, of the named columns alone.
    async fn by_pages(self, columns: &[&str]) -> Result<DataFrame, DataFusionError> {
        match self.format == FileFormat::Parquet && self.location.starts_with("file:") {
            true => paged::open(&self.context, &self.table, columns, &self.location, &self.ending).await,
            false => Ok(self.table),
        }
    }
}

async fn open_files(
    spec: &SourceSpec,
    options: &StoreOptions,
    config: SessionConfig,
) -> Result<OpenFiles, BehaviorError> {
    let mut config = config.with_batch_size(BATCH_ROWS);
    // Ids keep their type: text stays text instead of becoming a view.
    config.options_mut().execution.parquet.schema_force_view_types = false;
    // A column whose minimum is its maximum would be taken for a constant, although statistics do not count NaN.
    config.options_mut().execution.collect_statistics = false;
    let context = SessionContext::new_with_config(config);
    let (location, is_folder) = locate(&context, &spec.path, options)?;
    let format = match spec.format {
        Some(format) => format,
        None => guess_format(&spec.path, is_folder)?,
    };
    let extension = Path::new(&spec.path).extension().and_then(|extension| extension.to_str());
    let ending = match (is_folder, extension, format) {
        (false, Some(extension), _) => format!(".{extension}"),
        (false, None, _) => String::new(),
        (true, _, FileFormat::Parquet) => ".parquet".to_owned(),
        (true, _, FileFormat::Csv) => ".csv".to_owned(),
    };
    let files = match format {
        FileFormat::Parquet => {
            let options = ParquetReadOptions { file_extension: &ending, ..Default::default() };
            context.read_parquet(location.clone(), options).await
        }
        FileFormat::Csv => {
            let options = CsvReadOptions::new().file_extension(&ending);
            let guessed = context.read_csv(location.clone(), options.clone()).await.map_err(query_error(&spec.path))?;
            let schema = with_fractions(guessed.schema().as_arrow(), spec);
            context.read_csv(location.clone(), options.schema(&schema)).await
        }
    };
    let table = files.map_err(query_error(&spec.path))?;
    Ok(OpenFiles { table, context, location, ending, format })
}

/// The guessed schema of CSV files, whose first lines need not show that a column of numbers has fractions.
fn with_fractions(guessed: &Schema, spec: &SourceSpec) -> Schema {
    let amount = spec.purchases.as_ref().map(|purchases| &purchases.amount);
    let is_number = |name: &String| {
        let is_feature = spec.features.iter().flatten().any(|feature| feature == name);
        is_feature || spec.weight.as_ref() == Some(name) || amount == Some(name)
    };
    let field = |field: &FieldRef| {
        let is_id = spec.id.as_ref() == Some(field.name());
        match field.data_type() {
            DataType::Int64 if is_number(field.name()) && !is_id => {
                field.as_ref().clone().with_data_type(DataType::Float64)
            }
            _ => field.as_ref().clone(),
        }
    };
    Schema::new(guessed.fields().iter().map(field).collect::<Vec<_>>())
}

/// The location as DataFusion reads it, and whether it is a folder. A URL's store is registered on the way.
fn locate(context: &SessionContext, path: &str, options: &StoreOptions) -> Result<(String, bool), BehaviorError> {
    if let Some(url) = Url::parse(path).ok().filter(|url| path.contains("://") && url.scheme() != "file") {
        // Stores refuse plain HTTP unless told; a URL that says http tells.
        let plain = (url.scheme() == "http").then(|| ("allow_http".to_owned(), "true".to_owned()));
        let open = object_store::parse_url_opts(&url, options.iter().cloned().chain(plain));
        let (store, _) = open.map_err(|source| BehaviorError::Url { url: path.to_owned(), source })?;
        let mut base = url.clone();
        base.set_path("");
        context.register_object_store(&base, store.into());
        return Ok((path.to_owned(), path.ends_with('/')));
    }
    let local = path.strip_prefix("file://").unwrap_or(path);
    let metadata = std::fs::metadata(local).map_err(|_| BehaviorError::NotFound { path: path.to_owned() })?;
    let is_folder = metadata.is_dir();
    // A URL, since in a plain path brackets and question marks would be patterns.
    let absolute = std::path::absolute(local).map_err(|_| BehaviorError::NotFound { path: path.to_owned() })?;
    let url = if is_folder { Url::from_directory_path(absolute) } else { Url::from_file_path(absolute) };
    let location = url.map_err(|()| BehaviorError::NotFound { path: path.to_owned() })?.to_string();
    Ok((location, is_folder))
}

fn guess_format(path: &str, is_folder: bool) -> Result<FileFormat, BehaviorError> {
    let of_name = |name: &str| match name.to_ascii_lowercase() {
        name if name.ends_with(".parquet") => Some(FileFormat::Parquet),
        name if name.ends_with(".csv") => Some(FileFormat::Csv),
        _ => None,
    };
    let local = path.strip_prefix("file://").unwrap_or(path);
    let names: Vec<String> = match std::fs::read_dir(local) {
        Ok(entries) if is_folder => entries.flatten().map(|entry| entry.file_name().to_string_lossy().into()).collect(),
        _ => vec![path.to_owned()],
    };
    let mut found = names.iter().filter_map(|name| of_name(name));
    let first = found.next().ok_or_else(|| match is_folder {
        true => BehaviorError::EmptyFolder { path: path.to_owned() },
        false => BehaviorError::UnknownFormat { path: path.to_owned() },
    })?;
    match found.any(|other| other != first) {
        true => Err(BehaviorError::MixedFormats { path: path.to_owned() }),
        false => Ok(first),
    }
}
