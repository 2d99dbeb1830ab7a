//! Parquet files on this machine's disk, read a page at a time.
//!
//! An asynchronous reader fetches a whole row group before it gives the first row of it, which suits a bucket, where
//! each request costs time. On a disk it only costs memory: a row group of Arrow's default size, 1,048,576 rows, is as
//! large as many a data set, and the query engine holds one or two of them. Here every column has one page in memory,
//! usually 1 MiB, however large the row groups are.

use arrow::array::{ArrayRef, new_null_array};
use arrow::compute::cast;
use arrow::datatypes::{FieldRef, SchemaRef};
use arrow::record_batch::RecordBatch;
use datafusion::catalog::streaming::StreamingTable;
use datafusion::dataframe::DataFrame;
use datafusion::datasource::listing::ListingTableUrl;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::{SendableRecordBatchStream, SessionState, TaskContext};
use datafusion::parquet::arrow::ProjectionMask;
use datafusion::parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use datafusion::physical_plan::stream::RecordBatchReceiverStreamBuilder;
use datafusion::physical_plan::streaming::PartitionStream;
use datafusion::prelude::SessionContext;
use futures::TryStreamExt;
use object_store::ObjectMeta;
use object_store::local::LocalFileSystem;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::sync::mpsc::Sender;
use url::Url;

/// Batches that are read ahead of whoever takes them.
const READ_AHEAD: usize = 2;

/// The table `files`, limited to some of its columns, but read page by page. `location` is where `files` reads, a `file:`
/// URL, and `ending` what its names end with.
pub(crate) async fn open(
    context: &SessionContext,
    files: &DataFrame,
    columns: &[&str],
    location: &str,
    ending: &str,
) -> Result<DataFrame> {
    let schema = files.schema().as_arrow();
    let wanted = columns.iter().map(|column| schema.index_of(column)).collect::<Result<Vec<_>, _>>()?;
    let schema = Arc::new(schema.project(&wanted)?);
    let paths = paths(&context.state(), location, ending).await?;
    let pages = Arc::new(PagedParquet { schema: schema.clone(), paths: paths.into() });
    context.read_table(Arc::new(StreamingTable::try_new(schema, vec![pages])?))
}

/// The files that the engine would read, in its order: that of their names.
async fn listed(state: &SessionState, url: &ListingTableUrl, ending: &str) -> Result<Vec<ObjectMeta>> {
    let store = state.runtime_env().object_store(url)?;
    let mut found: Vec<_> = url.list_all_files(state, store.as_ref(), ending).await?.try_collect().await?;
    found.sort_by(|a, b| a.location.cmp(&b.location));
    Ok(found)
}

/// The same as URLs, each of which is a location of its own.
pub(crate) async fn files(state: &SessionState, location: &str, ending: &str) -> Result<Vec<String>> {
    let url = ListingTableUrl::parse(location)?;
    if !url.is_collection() {
        return Ok(vec![location.to_owned()]);
    }
    let store = url.object_store();
    let base: &Url = store.as_ref();
    let of_file = |file: ObjectMeta| {
        let mut url = base.clone();
        url.set_path(file.location.as_ref());
        url.to_string()
    };
    Ok(listed(state, &url, ending).await?.into_iter().map(of_file).collect())
}

async fn paths(state: &SessionState, location: &str, ending: &str) -> Result<Vec<PathBuf>> {
    let disk = LocalFileSystem::new();
    let found = listed(state, &ListingTableUrl::parse(location)?, ending).await?;
    Ok(found.iter().map(|file| disk.path_to_filesystem(&file.location)).collect::<Result<_, _>>()?)
}

/// Files one after the other. Can be read as often as needed.
#[derive(Debug)]
struct PagedParquet {
    /// The columns that are read, whatever else the files hold.
    schema: SchemaRef,
    paths: Arc<[PathBuf]>,
}

impl PartitionStream for PagedParquet {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, context: Arc<TaskContext>) -> SendableRecordBatchStream {
        let (schema, paths) = (self.schema.clone(), self.paths.clone());
        let batch_rows = context.session_config().batch_size();
        let mut stream = RecordBatchReceiverStreamBuilder::new(schema.clone(), READ_AHEAD);
        let sender = stream.tx();
        stream.spawn_blocking(move || {
            for path in paths.iter() {
                let reader = reader(path, &schema, batch_rows)?;
                if send_all(reader, &schema, &sender)?.is_none() {
                    break;
                }
            }
            Ok(())
        });
        stream.build()
    }
}

/// Reads the columns of `schema` that the file has.
fn reader(path: &Path, schema: &SchemaRef, batch_rows: usize) -> Result<ParquetRecordBatchReader> {
    let file = File::open(path)?;
    let builder = ParquetRecordBatchReaderBuilder::try_new(file)?;
    let is_wanted = |(_, field): &(usize, &FieldRef)| schema.index_of(field.name()).is_ok();
    let roots: Vec<usize> =
        builder.schema().fields().iter().enumerate().filter(is_wanted).map(|(root, _)| root).collect();
    let mask = ProjectionMask::roots(builder.parquet_schema(), roots);
    Ok(builder.with_projection(mask).with_batch_size(batch_rows).build()?)
}

/// Sends a file's rows in the types of `schema`; none when nobody wants the rest.
fn send_all(
    reader: ParquetRecordBatchReader,
    schema: &SchemaRef,
    sender: &Sender<Result<RecordBatch>>,
) -> Result<Option<()>> {
    for batch in reader {
        let batch = in_types_of(schema, &batch?)?;
        if sender.blocking_send(Ok(batch)).is_err() {
            return Ok(None);
        }
    }
    Ok(Some(()))
}

/// Files of a folder may differ in order and number of columns, and in how they encode them; a column that a file lacks
/// is null there.
fn in_types_of(schema: &SchemaRef, batch: &RecordBatch) -> Result<RecordBatch> {
    let column = |field: &FieldRef| -> Result<ArrayRef> {
        match batch.column_by_name(field.name()) {
            Some(array) => Ok(cast(array, field.data_type())?),
            None => Ok(new_null_array(field.data_type(), batch.num_rows())),
        }
    };
    let columns = schema.fields().iter().map(column).collect::<Result<Vec<_>>>()?;
    RecordBatch::try_new(schema.clone(), columns).map_err(DataFusionError::from)
}
