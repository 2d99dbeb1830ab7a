//! Arrow Flight, as both ends use it: servers, clients, encoding, decoding.

use crate::limits::{
    CONNECT_TIMEOUT, CONNECTION_WINDOW_BYTES, DRAIN_TIMEOUT, KEEPALIVE_INTERVAL, KEEPALIVE_TIMEOUT, MAX_MESSAGE_BYTES,
    SHUTDOWN_TIMEOUT, STREAM_IDLE_TIMEOUT, STREAM_WINDOW_BYTES,
};
use crate::tls::Tls;
use arrow::datatypes::SchemaRef;
use arrow::ipc::writer::IpcWriteOptions;
use arrow::record_batch::RecordBatch;
use arrow_flight::decode::FlightDataDecoder;
use arrow_flight::encode::FlightDataEncoderBuilder;
use arrow_flight::error::FlightError;
use arrow_flight::flight_service_client::FlightServiceClient;
use arrow_flight::{FlightData, FlightDescriptor};
use bytes::Bytes;
use futures::{Stream, StreamExt, TryStreamExt};
use std::panic::AssertUnwindSafe;
use tokio::net::TcpListener;
use tonic::body::Body;
use tonic::client::GrpcService;
use tonic::codegen::{self, StdError};
use tonic::transport::server::{Router, TcpIncoming};
use tonic::transport::{Channel, Endpoint, Server};
use tonic::{Code, Status};

pub use arrow_flight::decode::{DecodedFlightData, DecodedPayload};

/// A connection to a peer that is made when it is first used and made again when it broke. With certificates it is encrypted,
/// and peers that have none of the same authority are not spoken to.
pub fn channel(url: &str, tls: Option<&Tls>) -> Result<Channel, Status> {
    let invalid = |reason: String| Status::invalid_argument(format!("`{url}` {reason}"));
    let is_encrypted = url.starts_with("https://");
    match tls {
        _ if !is_encrypted && !url.starts_with("http://") => {
            return Err(invalid("is not a URL; write http://HOST:PORT".to_owned()));
        }
        None if is_encrypted => {
            return Err(invalid("needs certificates: --tls-cert, --tls-key and --tls-ca".to_owned()));
        }
        Some(_) if !is_encrypted => {
            return Err(invalid("is not encrypted, and there are certificates; write https://HOST:PORT".to_owned()));
        }
        _ => {}
    }
    let endpoint = Endpoint::from_shared(url.to_owned()).map_err(|error| invalid(format!("is not a URL: {error}")))?;
    let endpoint = match tls {
        Some(tls) => endpoint.tls_config(tls.client()).map_err(|error| invalid(error.to_string()))?,
        None => endpoint,
    };
    Ok(endpoint
        .connect_timeout(CONNECT_TIMEOUT)
        .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT)
        .keep_alive_while_idle(true)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .connect_lazy())
}

/// A Flight client of a peer, with our limits.
pub fn client<C>(channel: C) -> FlightServiceClient<C>
where
    C: GrpcService<Body>,
    C::Error: Into<StdError>,
    C::ResponseBody: codegen::Body<Data = Bytes> + Send + 'static,
    <C::ResponseBody as codegen::Body>::Error: Into<StdError> + Send,
{
    FlightServiceClient::new(channel)
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES)
}

/// A gRPC server with our windows and keepalive. With certificates only those are answered that have one of the same authority.
pub fn server(tls: Option<&Tls>) -> Result<Server, tonic::transport::Error> {
    let server = Server::builder()
        .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES);
    match tls {
        Some(tls) => server.tls_config(tls.server()),
        None => Ok(server),
    }
}

/// Serves until `shutdown`, and then for as long as calls need to end, but no longer than [`SHUTDOWN_TIMEOUT`]: a client
/// that keeps a stream open must not keep a server alive.
pub async fn serve_until(
    router: Router,
    listener: TcpListener,
    shutdown: impl Future<Output = ()>,
) -> Result<(), tonic::transport::Error> {
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let serving = router.serve_with_incoming_shutdown(incoming(listener), async {
        // A sender that is gone means the same.
        let _ = stopped.await;
    });
    let deadline = async {
        shutdown.await;
        // The server may have failed already; then nobody listens.
        let _ = stop.send(());
        tokio::time::sleep(SHUTDOWN_TIMEOUT).await;
    };
    tokio::select! {
        served = serving => served,
        () = deadline => Ok(()),
    }
}

/// The connections of a listener. Without nodelay every small answer waits 40 ms for an acknowledgement.
fn incoming(listener: TcpListener) -> TcpIncoming {
    TcpIncoming::from(listener).with_nodelay(Some(true))
}

/// Record batches as Flight messages, each batch in one message so that its metadata stays with it.
pub fn encode(
    schema: SchemaRef,
    descriptor: Option<FlightDescriptor>,
    batches: impl Stream<Item = Result<(RecordBatch, Bytes), Status>> + Send + 'static,
) -> impl Stream<Item = Result<FlightData, FlightError>> + Send {
    let messages = batches.map(move |item| item.map_err(FlightError::from));
    let mut descriptor = descriptor;
    let schema_message = futures::stream::once(async move {
        let mut encoder = FlightDataEncoderBuilder::new().with_schema(schema).with_flight_descriptor(descriptor.take());
        encoder = encoder.with_options(IpcWriteOptions::default());
        let mut stream = encoder.build(futures::stream::empty());
        stream.next().await.unwrap_or_else(|| Err(FlightError::protocol("no schema was encoded")))
    });
    schema_message.chain(messages.map_ok(move |(batch, metadata)| message_of(&batch, metadata)).map(flatten))
}

fn flatten(message: Result<Result<FlightData, FlightError>, FlightError>) -> Result<FlightData, FlightError> {
    message.and_then(|message| message)
}

fn message_of(batch: &RecordBatch, metadata: Bytes) -> Result<FlightData, FlightError> {
    let mut flights = arrow_flight::utils::batches_to_flight_data(&batch.schema(), vec![batch.clone()])?;
    // The first message is the schema, which was sent already.
    let message = flights.pop().filter(|_| flights.len() == 1);
    let message = message.ok_or_else(|| FlightError::protocol("a batch with dictionaries cannot be sent"))?;
    Ok(message.with_app_metadata(metadata))
}

/// A stream of messages that may be malformed, cut short or stand still.
///
/// The Arrow decoder panics on some malformed schemas; a panic here ends this stream with an error instead of the
/// connection and everything else on it.
pub struct Incoming {
    decoder: FlightDataDecoder,
}

impl Incoming {
    /// Decodes a request's or a response's messages.
    pub fn new(messages: impl Stream<Item = Result<FlightData, Status>> + Send + 'static) -> Self {
        Self { decoder: FlightDataDecoder::new(messages.map_err(FlightError::from)) }
    }

    /// The next message; none at the end of the stream.
    pub async fn next(&mut self) -> Result<Option<DecodedFlightData>, Status> {
        let next = AssertUnwindSafe(self.decoder.next());
        let waited = tokio::time::timeout(STREAM_IDLE_TIMEOUT, futures::FutureExt::catch_unwind(next)).await;
        let decoded = waited
            .map_err(|_| Status::deadline_exceeded(format!("no data for {} s", STREAM_IDLE_TIMEOUT.as_secs())))?
            .map_err(|_| Status::invalid_argument("the stream is not valid Arrow Flight data"))?;
        decoded.transpose().map_err(status_of)
    }

    /// Reads what is left and throws it away, for a moment.
    pub async fn drain(&mut self) {
        // Whatever goes wrong here has no consequence: the stream has failed already.
        let rest = async { while matches!(self.next().await, Ok(Some(_))) {} };
        let _ = tokio::time::timeout(DRAIN_TIMEOUT, rest).await;
    }
}

/// A Flight error as a status; what the peer did wrong is its argument.
pub fn status_of(error: FlightError) -> Status {
    match error {
        FlightError::Tonic(status) => *status,
        other => Status::new(Code::InvalidArgument, other.to_string()),
    }
}
