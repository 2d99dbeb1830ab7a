//! Parquet files on this machine's disk, read a page at a time.
//!
//! An asynchronous reader fetches a whole row group before it gives the first row of it, which suits a bucket, where
//! each request costs time. On a disk it only costs memory: a row group of Arrow's default size, 1,048,576 rows, is as
//! large as many a data set, and the query engine holds one or two of them. Here every column has one page in memory,
//! usually 1 MiB, however large the row groups are. Columns are read side by side, some by each thread, so that rows come
//! in order and as fast as the machine decodes them.

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
use std::thread::{self, JoinHandle, available_parallelism};
use tokio::sync::mpsc::{Receiver, Sender, channel};
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
        let batch_rows = context.session_config().batch_size();
        let mut stream = RecordBatchReceiverStreamBuilder::new(self.schema.clone(), READ_AHEAD);
        let part = |schema: SchemaRef| Part::start(self.paths.clone(), schema, batch_rows);
        let parts: Result<Vec<Part>> = side_by_side(&self.schema).into_iter().map(part).collect();
        let (schema, sender) = (self.schema.clone(), stream.tx());
        stream.spawn(async move { join(parts?, schema, sender).await });
        stream.build()
    }
}

/// Some columns, read by a thread of their own. It is none of the runtime's, which may have fewer than there are parts, and
/// parts wait for each other.
struct Part {
    batches: Receiver<Result<RecordBatch>>,
    thread: JoinHandle<()>,
}

impl Part {
    fn start(paths: Arc<[PathBuf]>, schema: SchemaRef, batch_rows: usize) -> Result<Self> {
        let (sender, batches) = channel(READ_AHEAD);
        let read = move || {
            if let Err(error) = read_files(&paths, &schema, batch_rows, &sender) {
                // A closed channel means that another part has failed, or that nobody wants the rest.
                let _ = sender.blocking_send(Err(error));
            }
        };
        let thread = thread::Builder::new().name("shoal-columns".to_owned()).spawn(read)?;
        Ok(Self { batches, thread })
    }
}

/// Cuts the columns into parts, as many as the machine has threads for.
fn side_by_side(schema: &SchemaRef) -> Vec<SchemaRef> {
    let n_threads = available_parallelism().map_or(1, usize::from);
    let n_columns = schema.fields().len();
    let columns: Vec<usize> = (0..n_columns).collect();
    let parts = columns.chunks(n_columns.div_ceil(n_threads).max(1));
    parts.map(|columns| Arc::new(schema.project(columns).expect("a schema has its own columns"))).collect()
}

/// Sends the rows of all files, as far as these columns have them.
fn read_files(
    paths: &[PathBuf],
    schema: &SchemaRef,
    batch_rows: usize,
    sender: &Sender<Result<RecordBatch>>,
) -> Result<()> {
    for path in paths {
        if send_all(reader(path, schema, batch_rows)?, schema, sender)?.is_none() {
            break;
        }
    }
    Ok(())
}

/// Puts the columns of all parts together again, whose batches are of the same rows.
async fn join(mut parts: Vec<Part>, schema: SchemaRef, sender: Sender<Result<RecordBatch>>) -> Result<()> {
    loop {
        let mut received = Vec::with_capacity(parts.len());
        for part in &mut parts {
            received.push(part.batches.recv().await.transpose()?);
        }
        if received.iter().all(Option::is_none) {
            // A thread that panicked has ended too, but not at the end of the data.
            let panicked = |_| DataFusionError::Internal("a reader of columns panicked".to_owned());
            return parts.into_iter().try_for_each(|part| part.thread.join().map_err(panicked));
        }
        let ended = || DataFusionError::Internal("some columns end before others".to_owned());
        let mut columns = Vec::with_capacity(schema.fields().len());
        for batch in received {
            columns.extend_from_slice(batch.ok_or_else(ended)?.columns());
        }
        // Of columns of different lengths no batch can be made.
        let batch = RecordBatch::try_new(schema.clone(), columns)?;
        if sender.send(Ok(batch)).await.is_err() {
            return Ok(());
        }
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

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::Int64Array;
    use arrow::datatypes::{DataType, Field, Schema};
    use futures::executor::block_on;

    /// A part whose thread sends batches of these numbers of rows, and then ends or panics.
    fn part(schema: &SchemaRef, batches: &'static [i64], panics: bool) -> Part {
        let (sender, receiver) = channel(READ_AHEAD);
        let schema = schema.clone();
        let thread = thread::spawn(move || {
            for n in batches {
                let column = Arc::new(Int64Array::from_iter_values(0..*n));
                let batch = RecordBatch::try_new(schema.clone(), vec![column]).expect("one column");
                sender.blocking_send(Ok(batch)).expect("somebody waits");
            }
            assert!(!panics, "as it should");
        });
        Part { batches: receiver, thread }
    }

    /// However a part ends early, what was read before is not taken for the whole.
    #[test]
    fn rows_are_never_cut_off_in_silence() {
        let fields = |names: &[&str]| -> SchemaRef {
            let field = |name: &&str| Field::new(*name, DataType::Int64, false);
            Arc::new(Schema::new(names.iter().map(field).collect::<Vec<_>>()))
        };
        let (a, b, both) = (fields(&["a"]), fields(&["b"]), fields(&["a", "b"]));
        let joined = |parts: Vec<Part>, schema: &SchemaRef| {
            let (sender, _receiver) = channel(8);
            block_on(join(parts, schema.clone(), sender)).map_err(|error| error.to_string())
        };
        assert_eq!(joined(vec![part(&a, &[3, 2], false), part(&b, &[3, 2], false)], &both), Ok(()));
        let cut_off = [
            joined(vec![part(&a, &[3], true)], &a),
            joined(vec![part(&a, &[3], true), part(&b, &[3], true)], &both),
            joined(vec![part(&a, &[3, 2], false), part(&b, &[3], false)], &both),
            joined(vec![part(&a, &[3], false), part(&b, &[2], false)], &both),
        ];
        for (case, result) in cut_off.into_iter().enumerate() {
            assert!(result.is_err(), "case {case}");
        }
    }
}
