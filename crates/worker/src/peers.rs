//! Other workers, which are asked in the place of the coordinator.

use shoal_clustering::{ClusteringError, Partial};
use shoal_domain::{Centroids, Merge};
use shoal_wire::convert::partials_from;
use shoal_wire::epoch::Stamp;
use shoal_wire::flight::channel;
use shoal_wire::limits::{MAX_MESSAGE_BYTES, QUESTION_TIMEOUT};
use shoal_wire::pace::Pace;
use shoal_wire::proto::shards_client::ShardsClient;
use shoal_wire::proto::{self, AssignMergedResponse, AssignRequest, AssignResponse, Peer};
use shoal_wire::status::one_line;
use shoal_wire::tls::Tls;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::time::{Instant, timeout};
use tonic::Status;
use tonic::transport::Channel;
use tracing::debug;

/// How long a connection is kept that nobody uses.
const KEPT: Duration = Duration::from_secs(600);

/// Connections to other workers.
pub(crate) struct Peers {
    tls: Option<Tls>,
    /// By address, with the time of their last use. Locked to look up or to change.
    channels: Mutex<HashMap<String, (Channel, Instant)>>,
}

impl Peers {
    pub(crate) fn new(tls: Option<Tls>) -> Self {
        Self { tls, channels: Mutex::default() }
    }

    fn channel(&self, address: &str) -> Result<Channel, Status> {
        let now = Instant::now();
        let mut channels = self.channels.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((channel, used)) = channels.get_mut(address) {
            *used = now;
            return Ok(channel.clone());
        }
        channels.retain(|_, (_, used)| now.duration_since(*used) < KEPT);
        let channel = channel(address, self.tls.as_ref())?;
        channels.insert(address.to_owned(), (channel.clone(), now));
        Ok(channel)
    }

    /// The answers of `others` to one pass, in their order. There is none from those that fail, or that are slow beside the
    /// rest, this worker included, whose own answer `pace` learns of: whoever asks for all of them knows better what to do.
    pub(crate) async fn assign(
        &self,
        sets: &[proto::Centroids],
        others: Vec<Peer>,
        stamp: &Stamp,
        pace: &Pace,
    ) -> Vec<Option<AssignResponse>> {
        let answers = others.into_iter().map(|Peer { address, run, n_blocks }| async move {
            let request = AssignRequest { run, sets: sets.to_vec() };
            let asked = async {
                let mut worker = ShardsClient::new(stamp.clone().on(self.channel(&address)?))
                    .max_decoding_message_size(MAX_MESSAGE_BYTES)
                    .max_encoding_message_size(MAX_MESSAGE_BYTES);
                worker.assign(request).await
            };
            let failure = tokio::select! {
                answer = timeout(QUESTION_TIMEOUT, asked) => match answer {
                    Ok(Ok(answer)) => {
                        pace.has_answered(n_blocks as usize);
                        return Some(answer.into_inner());
                    }
                    Ok(Err(status)) => one_line(&status),
                    Err(elapsed) => elapsed.to_string(),
                },
                () = pace.until_slow(n_blocks as usize) => "it is slow".to_owned(),
            };
            debug!(address, failure, "a worker's answer is missing from a merged one");
            None
        });
        futures::future::join_all(answers).await
    }
}

/// Puts this worker's partials and those of others together. An answer of another shape counts as none.
pub(crate) fn merged(
    own: Vec<Partial>,
    others: Vec<Option<AssignResponse>>,
    sets: &[Centroids],
) -> Result<AssignMergedResponse, ClusteringError> {
    let mut merged = own;
    let mut unanswered = Vec::new();
    for (place, answer) in (0..).zip(others) {
        match answer.map(|answer| partials_from(answer.partials, sets)) {
            Some(Ok(partials)) => merged.iter_mut().zip(partials).for_each(|(merged, more)| merged.merge(more)),
            Some(Err(_)) | None => unanswered.push(place),
        }
    }
    Ok(AssignMergedResponse { partials: merged.iter().map(Into::into).collect(), unanswered })
}
