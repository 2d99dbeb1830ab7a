//! Rows as clients put them.

use arrow::array::{ArrayRef, Float64Array, StringArray};
use arrow::record_batch::RecordBatch;
use arrow_flight::{FlightData, FlightDescriptor, utils::batches_to_flight_data};
use futures::StreamExt;
use prost::Message;
use shoal_wire::flight::{channel, client};
use shoal_wire::proto::{DataSetReceipt, PutDataSet, PutEnd, PutMetadata};
use std::sync::Arc;
use tonic::Status;

/// A batch of ids and two features.
pub(crate) fn batch(b: Vec<f64>) -> RecordBatch {
    let ids: StringArray = (0..b.len()).map(|row| Some(format!("c{row}"))).collect();
    let a: Float64Array = (0..b.len()).map(|row| (row % 7) as f64).collect();
    let columns: [(&str, ArrayRef); 3] =
        [("id", Arc::new(ids)), ("a", Arc::new(a)), ("b", Arc::new(Float64Array::from(b)))];
    RecordBatch::try_from_iter(columns).expect("columns of one length")
}

/// The Flight messages of a put; `n_rows` goes into the end marker of the last batch.
pub(crate) fn messages(batches: Vec<RecordBatch>, n_rows: Option<u64>) -> Vec<FlightData> {
    let schema = batches[0].schema();
    let mut messages = batches_to_flight_data(&schema, batches).expect("plain columns");
    messages[0].flight_descriptor = Some(FlightDescriptor::new_cmd(PutDataSet { has_weight: false }.encode_to_vec()));
    if let (Some(n_rows), Some(last)) = (n_rows, messages.last_mut()) {
        last.app_metadata = PutMetadata { end: Some(PutEnd { n_rows }) }.encode_to_vec().into();
    }
    messages
}

/// Puts rows as a client does.
pub(crate) async fn put(url: &str, messages: Vec<FlightData>) -> Result<DataSetReceipt, Status> {
    let mut client = client(channel(url, None)?);
    let mut results = client.do_put(futures::stream::iter(messages)).await?.into_inner();
    let result = results.next().await.ok_or_else(|| Status::internal("no receipt"))??;
    DataSetReceipt::decode(result.app_metadata).map_err(|error| Status::internal(error.to_string()))
}
