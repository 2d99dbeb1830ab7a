//! JSON lines: one object a line, whose values are found by their paths, such as `properties.total`.
//!
//! Only what a job names is read. Whatever a value is, a text, a number or true, names and events are read as they are written; where an
//! object or a list stands in its place it is missing.

use crate::columns::query_error;
use crate::error::BehaviorError;
use crate::files::name_of;
use crate::paged;
use arrow::array::{ArrayRef, AsArray};
use arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef};
use arrow::json::reader::{Decoder, ReaderBuilder};
use arrow::record_batch::RecordBatch;
use datafusion::catalog::streaming::StreamingTable;
use datafusion::dataframe::DataFrame;
use datafusion::datasource::listing::ListingTableUrl;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::functions_aggregate::expr_fn::count;
use datafusion::physical_plan::stream::RecordBatchReceiverStreamBuilder;
use datafusion::physical_plan::streaming::PartitionStream;
use datafusion::prelude::{SessionContext, ident};
use futures::StreamExt;
use object_store::ObjectStoreExt;
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::mpsc::Sender;

/// Batches that are read ahead of whoever takes them.
const READ_AHEAD: usize = 2;

/// Files as one table with a column for each path.
pub(crate) async fn open(
    context: &SessionContext,
    location: &str,
    ending: &str,
    columns: &[(String, DataType)],
    path: &str,
) -> Result<DataFrame, BehaviorError> {
    let failed = query_error(path);
    let files = paged::files(&context.state(), location, ending).await.map_err(&failed)?;
    let objects = object_schema(columns).ok_or_else(|| BehaviorError::JsonPaths { path: path.to_owned() })?;
    let fields: Fields = columns.iter().map(|(name, data_type)| Field::new(name, data_type.clone(), true)).collect();
    let schema = Arc::new(Schema::new(fields));
    let n_partitions = context.state().config().target_partitions().min(files.len()).max(1);
    let part = |first: usize| -> Arc<dyn PartitionStream> {
        let files = files.iter().skip(first).step_by(n_partitions).cloned().collect();
        Arc::new(JsonLines { schema: Arc::clone(&schema), objects: Arc::clone(&objects), files })
    };
    let table = StreamingTable::try_new(Arc::clone(&schema), (0..n_partitions).map(part).collect());
    let table = table.and_then(|table| context.read_table(Arc::new(table))).map_err(&failed)?;
    check_paths(&table, columns, path).await?;
    Ok(table)
}

/// A path that no object has was meant to be another one.
async fn check_paths(table: &DataFrame, columns: &[(String, DataType)], path: &str) -> Result<(), BehaviorError> {
    let failed = query_error(path);
    let counts = columns.iter().map(|(name, _)| count(ident(name)).alias(name)).collect();
    let counts = table.clone().aggregate(vec![], counts).map_err(&failed)?.collect().await.map_err(&failed)?;
    let n_rows = table.clone().count().await.map_err(&failed)?;
    let is_there = |name: &str| {
        let mut column = counts.iter().filter_map(|batch| batch.column_by_name(name));
        column
            .any(|counts| counts.as_primitive::<arrow::datatypes::Int64Type>().values().iter().any(|count| *count > 0))
    };
    match columns.iter().find(|(name, _)| n_rows > 0 && !is_there(name)) {
        Some((name, _)) => Err(BehaviorError::NoJsonValue { path: path.to_owned(), column: name.clone() }),
        None => Ok(()),
    }
}

/// Objects within objects, as far as paths lead.
#[derive(Default)]
struct Tree {
    value: Option<DataType>,
    fields: BTreeMap<String, Tree>,
}

impl Tree {
    fn field(&self, name: &str) -> Option<Field> {
        match (&self.value, self.fields.is_empty()) {
            (Some(data_type), true) => Some(Field::new(name, data_type.clone(), true)),
            (None, false) => Some(Field::new(name, DataType::Struct(self.children()?), true)),
            _ => None,
        }
    }

    fn children(&self) -> Option<Fields> {
        self.fields.iter().map(|(name, tree)| tree.field(name)).collect::<Option<Vec<_>>>().map(Fields::from)
    }
}

/// The schema of the objects; none if a path leads through the value of another one.
fn object_schema(columns: &[(String, DataType)]) -> Option<SchemaRef> {
    let mut root = Tree::default();
    for (path, data_type) in columns {
        let leaf = path.split('.').fold(&mut root, |tree, name| tree.fields.entry(name.to_owned()).or_default());
        leaf.value = Some(data_type.clone());
    }
    root.children().map(|fields| Arc::new(Schema::new(fields)))
}

/// Some files, one after the other. Can be read as often as needed.
#[derive(Debug)]
struct JsonLines {
    schema: SchemaRef,
    objects: SchemaRef,
    files: Vec<String>,
}

impl PartitionStream for JsonLines {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, context: Arc<TaskContext>) -> SendableRecordBatchStream {
        let mut stream = RecordBatchReceiverStreamBuilder::new(Arc::clone(&self.schema), READ_AHEAD);
        let (schema, objects, files) = (Arc::clone(&self.schema), Arc::clone(&self.objects), self.files.clone());
        let sender = stream.tx();
        stream.spawn(async move {
            for file in &files {
                let reader = FileReader { file, schema: &schema, objects: &objects, sender: &sender };
                if !reader.read(&context).await? {
                    break;
                }
            }
            Ok(())
        });
        stream.build()
    }
}

struct FileReader<'a> {
    file: &'a str,
    schema: &'a SchemaRef,
    objects: &'a SchemaRef,
    sender: &'a Sender<Result<RecordBatch>>,
}

impl FileReader<'_> {
    /// Sends the rows of the file; false if nobody wants them any more.
    async fn read(&self, context: &TaskContext) -> Result<bool> {
        let url = ListingTableUrl::parse(self.file)?;
        let store = context.runtime_env().object_store(&url)?;
        let mut bytes = store.get(url.prefix()).await?.into_stream();
        let mut decoder = ReaderBuilder::new(Arc::clone(self.objects))
            .with_batch_size(context.session_config().batch_size())
            .with_coerce_primitive(true)
            .with_ignore_type_conflicts(true)
            .build_decoder()?;
        let mut n_sent = 0;
        while let Some(chunk) = bytes.next().await {
            let chunk = chunk?;
            let mut rest = chunk.as_ref();
            while !rest.is_empty() {
                let n_read = decoder.decode(rest).map_err(|error| self.failed(n_sent + decoder.len(), &error))?;
                rest = &rest[n_read..];
                // Less than everything is read when a batch is full.
                if !rest.is_empty() && !self.send(&mut decoder, &mut n_sent).await? {
                    return Ok(false);
                }
            }
        }
        if decoder.has_partial_record() {
            return Err(self.failed(n_sent + decoder.len(), &"the file ends within an object"));
        }
        self.send(&mut decoder, &mut n_sent).await
    }

    /// Objects are counted, since the decoder knows no lines.
    fn failed(&self, n_read: usize, error: &dyn std::fmt::Display) -> DataFusionError {
        DataFusionError::Execution(format!("{}, object {n_read}: {error}", name_of(self.file)))
    }

    async fn send(&self, decoder: &mut Decoder, n_sent: &mut usize) -> Result<bool> {
        let batch = decoder.flush().map_err(|error| self.failed(*n_sent, &error))?;
        let Some(batch) = batch else { return Ok(true) };
        *n_sent += batch.num_rows();
        let columns = self.schema.fields().iter().map(|field| value_at(&batch, field.name())).collect();
        let batch = RecordBatch::try_new(Arc::clone(self.schema), columns)?;
        Ok(self.sender.send(Ok(batch)).await.is_ok())
    }
}

/// The values at a path of the schema that the batch was decoded with.
fn value_at(batch: &RecordBatch, path: &str) -> ArrayRef {
    let mut names = path.split('.');
    let first = names.next().unwrap_or_default();
    let column = batch.column_by_name(first).expect("objects are decoded by the paths");
    names.fold(Arc::clone(column), |object, name| {
        let inner = object.as_struct().column_by_name(name);
        Arc::clone(inner.expect("objects are decoded by the paths"))
    })
}
