//! `shoal submit`: a job, and the rows it needs, to a coordinator.

use crate::args::{Reader, SubmitArguments};
use crate::client::Coordinator;
use crate::environment::{process_number, read_options};
use crate::followed::Followed;
use crate::job_file;
use crate::log_quality;
use crate::progress::ProgressLine;
use crate::say::say;
use anyhow::{Result, anyhow};
use arrow::record_batch::RecordBatch;
use arrow_flight::FlightDescriptor;
use bytes::Bytes;
use futures::StreamExt;
use prost::Message;
use shoal_behavior::FeatureSource;
use shoal_domain::BLOCK_ROWS;
use shoal_domain::job::SourceSpec;
use shoal_wire::blocks::DataSetSchema;
use shoal_wire::documents::to_bytes;
use shoal_wire::flight::{client, encode};
use shoal_wire::proto::{DataSetReceipt, PutDataSet, PutEnd, PutMetadata, SubmitJobRequest};
use std::sync::{Arc, Mutex, PoisonError};
use tonic::Status;

/// Sends the rows when this client reads them, submits the job, and waits for it when asked to.
pub(crate) async fn submit(arguments: &SubmitArguments) -> Result<()> {
    let spec = job_file::read(&arguments.job)?;
    let warm_start = job_file::warm_start(&spec)?;
    let mut coordinator = Coordinator::find(&arguments.coordinator).await?;
    let line = ProgressLine::new();
    let data_set = match arguments.read_on {
        Reader::Coordinator => String::new(),
        Reader::Client => {
            line.begin("put", None);
            put(&coordinator, &spec.source, line.clone()).await?.name
        }
    };
    let warm_start_json = warm_start.map(|model| to_bytes(&model)).transpose()?.unwrap_or_default();
    // A job that is sent twice, since the answer was lost, is the same job.
    let request_id = format!("{:x}", process_number()?);
    let request = SubmitJobRequest {
        spec: Some((&spec).into()),
        data_set,
        warm_start_json,
        request_id,
        priority: arguments.priority,
        client: arguments.client.clone(),
    };
    let name = coordinator.submit(&request).await?.name;
    if !arguments.watch {
        line.finish();
        say(&format!("{name}\n"))?;
        return Ok(());
    }
    line.begin(&name, None);
    if !line.is_shown() {
        eprintln!("{name}");
    }
    let mut followed = Followed::on(line.clone());
    let watched = coordinator.watch(&name, true, |event| followed.show(event)).await;
    line.finish();
    watched?;
    coordinator.deliver(&name, arguments.out.as_deref(), arguments.output).await
}

/// Reads the source and puts its rows by Flight.
async fn put(coordinator: &Coordinator, spec: &SourceSpec, line: ProgressLine) -> Result<DataSetReceipt> {
    let source = FeatureSource::open(spec, &read_options(None)).await?;
    eprint!("{}", source.quality().map(log_quality::notes).unwrap_or_default());
    let schema = DataSetSchema::new(source.schema().into(), source.has_weight());
    let schema = schema.map_err(|error| anyhow!("`{}`: {error}", spec.path))?;
    // Why reading stopped, when it did: gRPC only tells the other side that the stream broke off.
    let failure: Arc<Mutex<Option<String>>> = Arc::default();
    let batches = rows_then_end(source, schema.clone(), line, failure.clone()).await?;
    let descriptor = FlightDescriptor::new_cmd(PutDataSet { has_weight: schema.has_weight }.encode_to_vec());
    let messages = encode(schema.arrow.clone(), Some(descriptor), batches);
    let messages = messages.take_while(|message| futures::future::ready(message.is_ok()));
    let messages = messages.filter_map(|message| futures::future::ready(message.ok()));
    let answer = client(coordinator.channel.clone()).do_put(messages).await;
    let why_reading_stopped = failure.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(error) = why_reading_stopped {
        return Err(anyhow!(error));
    }
    let mut results = answer.map_err(|status| coordinator.failed(&status))?.into_inner();
    let result = results.message().await.map_err(|status| coordinator.failed(&status))?;
    let result = result.ok_or_else(|| anyhow!("the coordinator gave no receipt for the rows"))?;
    Ok(DataSetReceipt::decode(result.app_metadata)?)
}

/// A batch in pieces of a block's rows, so that wide ones fit into a message.
fn slices<E>(batch: Result<RecordBatch, E>) -> Vec<Result<RecordBatch, E>> {
    let batch = match batch {
        Ok(batch) => batch,
        Err(error) => return vec![Err(error)],
    };
    let firsts = (0..batch.num_rows()).step_by(BLOCK_ROWS);
    firsts.map(|first| Ok(batch.slice(first, BLOCK_ROWS.min(batch.num_rows() - first)))).collect()
}

/// All rows of the source, then an empty batch with the end marker.
async fn rows_then_end(
    source: FeatureSource,
    schema: DataSetSchema,
    line: ProgressLine,
    failure: Arc<Mutex<Option<String>>>,
) -> Result<impl futures::Stream<Item = Result<(RecordBatch, Bytes), Status>> + Send + 'static> {
    let batches = source.batches().await?.flat_map(|batch| futures::stream::iter(slices(batch)));
    let state = (batches, source, Some(schema), 0u64);
    Ok(futures::stream::unfold(state, move |(mut batches, source, schema, n_rows)| {
        let (line, failure) = (line.clone(), failure.clone());
        async move {
            // The schema is taken away with the end marker: nothing follows it.
            let end_schema = schema.as_ref()?.arrow.clone();
            match batches.next().await {
                Some(Ok(batch)) => {
                    line.rows(batch.num_rows() as u64);
                    let n_rows = n_rows + batch.num_rows() as u64;
                    let batch = batch.with_schema(end_schema).map_err(|error| Status::internal(error.to_string()));
                    Some((batch.map(|batch| (batch, Bytes::new())), (batches, source, schema, n_rows)))
                }
                Some(Err(error)) => {
                    let message = source.read_error(error).to_string();
                    *failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(message.clone());
                    Some((Err(Status::aborted(message)), (batches, source, None, n_rows)))
                }
                None => {
                    let end = PutMetadata { end: Some(PutEnd { n_rows }) }.encode_to_vec();
                    let item = (RecordBatch::new_empty(end_schema), Bytes::from(end));
                    Some((Ok(item), (batches, source, None, n_rows)))
                }
            }
        }
    }))
}
