//! Opens what a job's `source` names and reads it as features.

use crate::columns::{column_type, kind_of, query_error};
use crate::csv_error::csv_error;
use crate::error::BehaviorError;
use crate::files::{Role, csv, parquet, role_of};
use crate::journeys::{self, Journeys};
use crate::sql::Sql;
use crate::{Quality, derived, events, jsonl, paged, rfm};
use arrow::datatypes::{DataType, Schema, TimeUnit};
use arrow::record_batch::RecordBatch;
use datafusion::dataframe::DataFrame;
use datafusion::error::DataFusionError;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::execution::memory_pool::FairSpillPool;
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::physical_plan::displayable;
use datafusion::prelude::{SessionConfig, SessionContext, cast, ident};
use shoal_domain::FeatureNames;
use shoal_domain::events::EventsSpec;
use shoal_domain::job::{FileFormat, SourceSpec};
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use url::Url;

/// Rows that the query engine handles at a time.
const BATCH_ROWS: usize = 8192;
/// The same where a row may hold all events of a customer: of each temporary file so many are in memory when files are merged. Fewer where
/// memory is short, one for each mebibyte.
fn batch_customers(memory_bytes: Option<u64>) -> usize {
    let mebibytes = memory_bytes.map_or(u64::MAX, |bytes| bytes >> 20);
    mebibytes.clamp(256, 4096) as usize
}

/// What reading needs besides the job.
#[derive(Debug, Clone, Default)]
pub struct ReadOptions {
    /// Keys and values for object stores, such as `aws_access_key_id`; what a store does not know it ignores.
    pub store: Vec<(String, String)>,
    /// How many bytes queries may hold before they write what they hold to temporary files; no limit when absent.
    pub memory_bytes: Option<u64>,
}

/// The field of the job that computes columns.
const COLUMNS: &str = "source.columns";

/// What a sort keeps free for merging its temporary files.
const SORT_RESERVE: usize = 1 << 20;

/// The part of its memory that a query knows of. The rest is what it does not count: pages of files as they are read, and states on their
/// way to temporary files.
const KNOWN_MEMORY: f64 = 0.6;

/// One row a customer: id, features, perhaps a weight. Can be read as often as needed, always in the same order.
pub struct FeatureSource {
    /// Columns: id, features as float64, weight as float64 when there is one.
    table: DataFrame,
    path: String,
    features: FeatureNames,
    has_weight: bool,
    /// The columns of CSV files, for errors; none of Parquet files.
    csv_columns: Vec<String>,
    /// What was found in the events, where features are made of events.
    quality: Option<Quality>,
}

impl FeatureSource {
    /// Opens the source and checks its columns. Purchases and events are turned into features here and held in memory, one row a
    /// customer; ready features stay where they are.
    pub async fn open(spec: &SourceSpec, options: &ReadOptions) -> Result<Self, BehaviorError> {
        if let Some(features) = &spec.features {
            FeatureNames::new(features.clone())?;
        }
        let mut quality = None;
        let (table, features, csv_columns) = match (&spec.events, &spec.purchases, &spec.features) {
            (Some(events), ..) => {
                let listed = derived::needed(spec, events)?;
                let files = open_files(spec, options, SessionConfig::new()).await?;
                let columns = files.csv_columns();
                let found = events::features(files.table, events, listed.as_ref(), &spec.path).await;
                let found = found.map_err(|error| in_terms_of_csv(error, &columns))?;
                quality = Some(found.quality);
                (found.table, found.names, Vec::new())
            }
            (None, Some(purchases), _) => {
                // An aggregate may use every core: its result is sorted.
                let files = open_files(spec, options, SessionConfig::new()).await?;
                let columns = files.csv_columns();
                let table = rfm::features(files.table, purchases, &spec.path).await;
                let table = table.map_err(|error| in_terms_of_csv(error, &columns))?;
                (table, rfm::FEATURES.map(str::to_owned).to_vec(), Vec::new())
            }
            (None, None, features) => {
                // One partition reads the files in the order of their names, and their rows in order.
                let config = SessionConfig::new().with_target_partitions(1);
                let files = open_files(spec, options, config).await?;
                let columns = files.csv_columns();
                (ready_features(files, spec).await?, features.clone().unwrap_or_default(), columns)
            }
        };
        let (table, features) = derived::with_derived(table, &features, spec)?;
        let features = FeatureNames::new(features)?;
        Ok(Self { table, path: spec.path.clone(), features, has_weight: spec.weight.is_some(), csv_columns, quality })
    }

    /// The features in column order.
    pub fn features(&self) -> &FeatureNames {
        &self.features
    }

    /// Whether the last column is a weight.
    pub fn has_weight(&self) -> bool {
        self.has_weight
    }

    /// What was found in the events, where features are made of events.
    pub fn quality(&self) -> Option<&Quality> {
        self.quality.as_ref()
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
        csv_error(&self.path, &self.csv_columns, error).unwrap_or_else(query_error(&self.path))
    }
}

/// The rows of an event log that say too little to be in a feature: all their columns, and why in the column `reason`.
pub async fn quarantine(
    spec: &SourceSpec,
    events: &EventsSpec,
    options: &ReadOptions,
) -> Result<SendableRecordBatchStream, BehaviorError> {
    let files = open_files(spec, options, SessionConfig::new().with_target_partitions(1)).await?;
    let flawed = events::flawed(files.table, events, &spec.path).await?;
    flawed.execute_stream().await.map_err(query_error(&spec.path))
}

/// How the query engine would make the features, a line for each step, the last one first.
pub async fn explain(spec: &SourceSpec, options: &ReadOptions) -> Result<String, BehaviorError> {
    let files = open_files(spec, options, SessionConfig::new()).await?;
    let table = match (&spec.events, &spec.purchases) {
        (Some(events), _) => {
            let listed = derived::needed(spec, events)?;
            return events::explained(files.table, events, listed.as_ref(), &spec.path).await;
        }
        (None, Some(purchases)) => rfm::by_customer(files.table, purchases, &spec.path)?.0,
        (None, None) => ready_features(files, spec).await?,
    };
    let plan = table.create_physical_plan().await.map_err(query_error(&spec.path))?;
    Ok(displayable(plan.as_ref()).indent(false).to_string())
}

/// Who was taken for whom in an event log with cookies: `kind` (`anonymous` or `customer`), `id`, `person`, `n_events` during which the
/// person was logged in with the id, `confidence` (their share of all with the id during which anyone was), and whether it `is_shared`.
pub async fn identities(
    spec: &SourceSpec,
    events: &EventsSpec,
    options: &ReadOptions,
) -> Result<RecordBatch, BehaviorError> {
    let files = open_files(spec, options, SessionConfig::new()).await?;
    events::identities(files.table, events, &spec.path).await
}

/// The paths of customers through the states of an event log.
pub async fn open_journeys(
    spec: &SourceSpec,
    events: &EventsSpec,
    options: &ReadOptions,
) -> Result<Journeys, BehaviorError> {
    let files = open_files(spec, options, SessionConfig::new()).await?;
    journeys::journeys(files.table, events, &spec.path).await
}

/// What the CSV reader says within a query, in terms of the file.
fn in_terms_of_csv(error: BehaviorError, columns: &[String]) -> BehaviorError {
    match error {
        BehaviorError::Query { path, source } => match csv_error(&path, columns, *source) {
            Ok(error) => error,
            Err(source) => BehaviorError::Query { path, source: Box::new(source) },
        },
        error => error,
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
        if !data_type.is_numeric() {
            let (column, actual) = (column.clone(), kind_of(data_type));
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
    /// Whether the table has columns that the files do not have.
    is_computed: bool,
}

impl OpenFiles {
    fn csv_columns(&self) -> Vec<String> {
        let fields = self.table.schema().as_arrow().fields().iter().map(|field| field.name().clone());
        if self.format == FileFormat::Csv { fields.collect() } else { Vec::new() }
    }

    /// The same files; Parquet on this machine's disk is read by pages, of the named columns alone, where all columns are theirs.
    async fn by_pages(self, columns: &[&str]) -> Result<DataFrame, DataFusionError> {
        let is_paged = self.format == FileFormat::Parquet && self.location.starts_with("file:") && !self.is_computed;
        match is_paged {
            true => paged::open(&self.context, &self.table, columns, &self.location, &self.ending).await,
            false => Ok(self.table),
        }
    }
}

async fn open_files(
    spec: &SourceSpec,
    options: &ReadOptions,
    config: SessionConfig,
) -> Result<OpenFiles, BehaviorError> {
    let batch_rows = if spec.events.is_some() { batch_customers(options.memory_bytes) } else { BATCH_ROWS };
    let mut config = config.with_batch_size(batch_rows);
    // Rows that are sorted are one a customer: little, and merged in little memory.
    config.options_mut().execution.sort_spill_reservation_bytes = SORT_RESERVE;
    // Ids keep their type: text stays text instead of becoming a view.
    config.options_mut().execution.parquet.schema_force_view_types = false;
    config.options_mut().sql_parser.map_string_types_to_utf8view = false;
    // A folder in a folder is part of it.
    config.options_mut().execution.listing_table_ignore_subdirectory = false;
    // A column whose minimum is its maximum would be taken for a constant, although statistics do not count NaN.
    config.options_mut().execution.collect_statistics = false;
    let mut runtime = RuntimeEnvBuilder::new();
    if let Some(bytes) = options.memory_bytes {
        runtime = runtime.with_memory_pool(Arc::new(FairSpillPool::new((bytes as f64 * KNOWN_MEMORY) as usize)));
    }
    let runtime = runtime.build_arc().map_err(query_error(&spec.path))?;
    let context = SessionContext::new_with_config_rt(config, runtime);
    let (location, is_folder) = locate(&context, &spec.path, &options.store)?;
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
        (true, _, FileFormat::Jsonl) => ".jsonl".to_owned(),
    };
    let table = match format {
        FileFormat::Parquet => parquet(&context, &location, &ending, spec).await?,
        FileFormat::Csv => csv(&context, &location, &ending, spec).await?,
        FileFormat::Jsonl => jsonl::open(&context, &location, &ending, &json_columns(spec)?, &spec.path).await?,
    };
    let table = computed(table, spec)?;
    Ok(OpenFiles { table, context, location, ending, format, is_computed: !spec.columns.is_empty() })
}

/// The table with the columns that the job computes, each from those of the files.
fn computed(files: DataFrame, spec: &SourceSpec) -> Result<DataFrame, BehaviorError> {
    let mut table = files.clone();
    for column in Sql::all(COLUMNS, &spec.columns) {
        if files.schema().as_arrow().field_with_name(column.name).is_ok() {
            return Err(column.wrong("the files have a column of that name"));
        }
        let value = column.of_row(&files)?;
        table = table.with_column(column.name, value).map_err(query_error(&spec.path))?;
    }
    Ok(table)
}

/// What a job names of JSON objects, each value once: numbers as float64, everything else as it is written.
fn json_columns(spec: &SourceSpec) -> Result<Vec<(String, DataType)>, BehaviorError> {
    let rules = spec.events.iter().flat_map(|events| Sql::all("source.events.leave_out", &events.leave_out));
    let measures = spec.events.iter().flat_map(|events| Sql::all("source.events.measures", &events.measures));
    let mut in_sql = BTreeSet::new();
    for sql in Sql::all(COLUMNS, &spec.columns).chain(rules).chain(measures) {
        in_sql.extend(sql.columns()?);
    }
    let purchases = spec.purchases.iter().flat_map(|it| [&it.customer, &it.time, &it.order, &it.amount]);
    let ready = if spec.events.is_some() { None } else { spec.features.as_ref() };
    let ready = ready.into_iter().flatten().chain(&spec.id).chain(&spec.weight).chain(purchases).map(String::as_str);
    let mut columns: Vec<(String, DataType)> = Vec::new();
    let named = ready.chain(spec.events.iter().flat_map(EventsSpec::columns)).chain(in_sql.iter().map(String::as_str));
    for column in named.filter(|column| !spec.columns.contains_key(*column)) {
        let data_type = match role_of(column, spec) {
            Role::Number => DataType::Float64,
            Role::Time => DataType::Timestamp(TimeUnit::Microsecond, None),
            Role::Name | Role::None => DataType::Utf8,
        };
        if columns.iter().all(|(known, _)| known != column) {
            columns.push((column.to_owned(), data_type));
        }
    }
    Ok(columns)
}

/// The location as DataFusion reads it, and whether it is a folder. A URL's store is registered on the way.
fn locate(context: &SessionContext, path: &str, options: &[(String, String)]) -> Result<(String, bool), BehaviorError> {
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

/// The names of all files in a folder and the folders in it.
fn names_in(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let names = |entry: std::fs::DirEntry| match entry.path() {
        path if path.is_dir() => names_in(&path),
        _ => vec![entry.file_name().to_string_lossy().into()],
    };
    entries.flat_map(names).collect()
}

fn guess_format(path: &str, is_folder: bool) -> Result<FileFormat, BehaviorError> {
    let of_name = |name: &str| match name.to_ascii_lowercase() {
        name if name.ends_with(".parquet") => Some(FileFormat::Parquet),
        name if name.ends_with(".csv") => Some(FileFormat::Csv),
        name if name.ends_with(".jsonl") => Some(FileFormat::Jsonl),
        _ => None,
    };
    let local = path.strip_prefix("file://").unwrap_or(path);
    let names = if is_folder { names_in(Path::new(local)) } else { vec![path.to_owned()] };
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
