use thiserror::Error;

/// Why a source could not be read.
#[derive(Debug, Error)]
pub enum BehaviorError {
    /// The features are none or one of them twice.
    #[error(transparent)]
    Features(#[from] shoal_domain::DomainError),
    /// Nothing is there.
    #[error("source.path: there is no file or folder `{path}`")]
    NotFound {
        /// The path of the job.
        path: String,
    },
    /// Neither the ending nor the job tells the format.
    #[error("source.path: `{path}` ends neither in .parquet, .csv nor .jsonl; say which it is by source.format")]
    UnknownFormat {
        /// The path of the job.
        path: String,
    },
    /// A folder holds no data.
    #[error("source.path: the folder `{path}` holds no .parquet, .csv or .jsonl file")]
    EmptyFolder {
        /// The path of the job.
        path: String,
    },
    /// An SQL expression of the job cannot be used.
    #[error("{field}.{name}: {reason}")]
    Sql {
        /// The field of the job.
        field: &'static str,
        /// What the expression is called.
        name: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Identities of a log that has none.
    #[error("source.events.anonymous: identities are of cookies, and the job names no column of them")]
    NoCookies,
    /// There is no purchase before the day from which recency counts.
    #[error("source.purchases.as_of: there are no purchases before {as_of}")]
    NoPurchases {
        /// The day of the job.
        as_of: String,
    },
    /// All events are later than the day from which features look back.
    #[error("source.events.as_of: there are no events before {as_of}; the log is from {first} to {last}")]
    NoEvents {
        /// The day of the job.
        as_of: String,
        /// The time of the first event.
        first: String,
        /// The time of the last event.
        last: String,
    },
    /// The log has no rows.
    #[error("source.path: there are no events")]
    EmptyLog,
    /// All events are of visitors.
    #[error("source.events: {n_rows} events are of visitors, and nobody was ever logged in with one of their cookies")]
    OnlyVisitors {
        /// Events.
        n_rows: u64,
    },
    /// No row says enough to count.
    #[error("source.events: none of {n_rows} rows can be used; of one of them {reason}: {row}")]
    AllFlawed {
        /// Rows before the day from which features look back.
        n_rows: u64,
        /// What is wrong with one of them.
        reason: String,
        /// What it says.
        row: String,
    },
    /// A path leads through a value of another one.
    #[error("source: `{path}`: a value that the job names is within another one that it names")]
    JsonPaths {
        /// The path of the job.
        path: String,
    },
    /// No object has a value at a path.
    #[error("source: no object of `{path}` has a value at `{column}`")]
    NoJsonValue {
        /// The path of the job.
        path: String,
        /// The path within objects.
        column: String,
    },
    /// There is no such feature.
    #[error("source.features: there is no feature `{feature}`; there are {known}")]
    NoFeature {
        /// What the job has.
        feature: String,
        /// What there is.
        known: String,
    },
    /// A feature needs a column that the job does not name.
    #[error("source.features: `{feature}` needs {needs}")]
    FeatureNeeds {
        /// The feature.
        feature: String,
        /// The field that names the column.
        needs: &'static str,
    },
    /// Nothing says what customers do one after the other.
    #[error("source.events.state: journeys need a column of states, or `kind`")]
    NoState,
    /// A column has so many values that they are no states.
    #[error("source.events.state: column `{column}` has more than {most} different values")]
    TooManyStates {
        /// The column.
        column: String,
        /// How many are allowed.
        most: usize,
    },
    /// A folder holds several formats.
    #[error("source.path: the folder `{path}` holds files of several formats; say which to read by source.format")]
    MixedFormats {
        /// The path of the job.
        path: String,
    },
    /// A URL that no object store is known for.
    #[error("source.path: `{url}` cannot be opened: {source}")]
    Url {
        /// The URL of the job.
        url: String,
        /// What the object store says.
        source: object_store::Error,
    },
    /// A column that the job names is not in the source.
    #[error("{field}: `{path}` has no column `{column}`; it has `{available}`")]
    NoColumn {
        /// The field of the job.
        field: &'static str,
        /// The path of the job.
        path: String,
        /// The column.
        column: String,
        /// What there is instead.
        available: String,
    },
    /// The header has semicolons or tabs in it.
    #[error("`{path}` seems to be separated by semicolons or tabs, and commas are needed; its header is {available}")]
    Semicolons {
        /// The path of the job.
        path: String,
        /// The header.
        available: String,
    },
    /// A file has nothing in it, not even a header.
    #[error("source.path: `{file}` is empty")]
    EmptyFile {
        /// The file.
        file: String,
    },
    /// The CSV files of a folder have different headers.
    #[error(
        "source.path: `{file}` has the columns {columns}, and `{other_file}` has {other_columns}; CSV files of a folder must agree"
    )]
    OtherHeader {
        /// The file.
        file: String,
        /// Its columns.
        columns: String,
        /// The first file of the folder.
        other_file: String,
        /// Its columns.
        other_columns: String,
    },
    /// A column of the folder's files is of different kinds.
    #[error("source.path: column `{column}` of `{file}` is {actual}, in the files before it is {wanted}")]
    OtherType {
        /// The file.
        file: String,
        /// The column.
        column: String,
        /// What it is there.
        actual: String,
        /// What it was.
        wanted: String,
    },
    /// A value of a CSV file is no number.
    #[error("`{path}`, line {line}: column `{column}` is `{value}`, but a number is needed")]
    CsvValue {
        /// The path of the job.
        path: String,
        /// The line, counted from 1 for the header.
        line: u64,
        /// The column.
        column: String,
        /// What is there.
        value: String,
    },
    /// A line of a CSV file has more or fewer fields than the header.
    #[error("`{path}`: a line has {actual} fields, the header has {wanted}")]
    CsvFields {
        /// The path of the job.
        path: String,
        /// Its fields.
        actual: u64,
        /// Those of the header.
        wanted: u64,
    },
    /// A column has a type that cannot be used as the job wants.
    #[error("{field}: column `{column}` is {actual}, but {wanted} is needed")]
    ColumnType {
        /// The field of the job.
        field: &'static str,
        /// The column.
        column: String,
        /// Its type.
        actual: String,
        /// What would do.
        wanted: &'static str,
    },
    /// The day from which recency counts is not a day.
    #[error("{field}: `{value}` is not a date like 2018-01-02")]
    AsOf {
        /// The field of the job.
        field: &'static str,
        /// What the job has.
        value: String,
    },
    /// Purchase lines lack a value.
    #[error("{field}: {n_lines} purchase lines of customer {customer} have no value in column `{column}`")]
    MissingInPurchases {
        /// The field of the job.
        field: &'static str,
        /// The column.
        column: String,
        /// Whose lines.
        customer: String,
        /// How many.
        n_lines: i64,
    },
    /// The query engine could not read or compute.
    #[error("`{path}`: {source}")]
    Query {
        /// The path of the job.
        path: String,
        /// What the engine says.
        source: Box<datafusion::error::DataFusionError>,
    },
}
