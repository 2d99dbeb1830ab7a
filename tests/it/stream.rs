//! What a client of the protocol may do wrong, against a real coordinator and worker.

use crate::process::Fleet;
use crate::rows::{batch, messages, put};
use arrow::array::{ArrayRef, StringArray};
use arrow::record_batch::RecordBatch;
use arrow_flight::FlightData;
use prost::Message;
use shoal_domain::JobSpec;
use shoal_wire::epoch::Stamp;
use shoal_wire::flight::{channel, client};
use shoal_wire::proto::fleet_client::FleetClient;
use shoal_wire::proto::jobs_client::JobsClient;
use shoal_wire::proto::shards_client::ShardsClient;
use shoal_wire::proto::{
    DataSetReceipt, GetJobRequest, GetJobResultRequest, JobState, ListJobsRequest, ListWorkersRequest, ReleaseRequest,
    SubmitJobRequest, WatchJobRequest, job_event,
};
use std::sync::Arc;
use std::time::Duration;
use tonic::{Code, Status};

async fn refused(url: &str, messages: Vec<FlightData>, code: Code, parts: &[&str]) {
    let status = put(url, messages).await.expect_err("this stream must be refused");
    assert_eq!(status.code(), code, "{status}");
    for part in parts {
        assert!(status.message().contains(part), "`{part}` is not in: {}", status.message());
    }
}

#[tokio::test]
async fn streams_that_are_wrong_or_cut_short_are_refused_and_nothing_is_kept() {
    let mut fleet = Fleet::start(1);
    let url = fleet.url.clone();
    let good = || batch((0..3000).map(|row| f64::from(row % 11)).collect());

    refused(&url, messages(vec![good()], None), Code::DataLoss, &["cut short after 3000 rows"]).await;
    refused(&url, messages(vec![good()], Some(3001)), Code::DataLoss, &["3001 rows were sent and 3000"]).await;
    refused(&url, vec![], Code::InvalidArgument, &["empty"]).await;
    refused(&url, messages(vec![good()], Some(3000)).split_off(1), Code::InvalidArgument, &[]).await;

    let mut infinite: Vec<f64> = vec![1.0; 2000];
    infinite[1500] = f64::INFINITY;
    let parts = ["row 1501", "id c1500", "`b`", "inf"];
    refused(&url, messages(vec![batch(infinite)], Some(2000)), Code::InvalidArgument, &parts).await;

    let text: ArrayRef = Arc::new(StringArray::from(vec!["x", "y"]));
    let wrong = RecordBatch::try_from_iter([("id", text.clone()), ("a", text)]).expect("columns of one length");
    refused(&url, messages(vec![wrong], Some(2)), Code::InvalidArgument, &["`a`", "Utf8", "float64"]).await;

    let mut garbage = messages(vec![good()], Some(3000));
    garbage[0].data_header = vec![7; 81].into();
    refused(&url, garbage, Code::InvalidArgument, &[]).await;

    assert!(fleet.coordinator.is_alive() && fleet.workers[0].is_alive());
    let receipt = put(&url, messages(vec![good()], Some(3000))).await.expect("a good stream is taken");
    assert_eq!((receipt.n_rows, receipt.n_blocks), (3000, 3));
}

fn request(data_set: &str, n_clusters: u32, request_id: &str) -> SubmitJobRequest {
    let spec = format!(
        "{{\"source\":{{\"path\":\"\",\"id\":\"id\",\"features\":[\"a\",\"b\"]}},\"kmeans\":{{\"n_clusters\":{n_clusters}}},\"validate\":{{\"silhouette\":\"simplified\"}}}}"
    );
    let spec: JobSpec = serde_json::from_str(&spec).expect("a job");
    SubmitJobRequest {
        spec: Some((&spec).into()),
        data_set: data_set.to_owned(),
        warm_start_json: Vec::new(),
        request_id: request_id.to_owned(),
        ..Default::default()
    }
}

#[tokio::test]
async fn jobs_are_submitted_watched_and_paged_by_grpc() -> Result<(), Status> {
    let fleet = Fleet::start(2);
    let mut jobs = JobsClient::new(channel(&fleet.url, None)?);
    let rows = batch((0..3000).map(|row| f64::from(row % 11)).collect());
    let data_set = put(&fleet.url, messages(vec![rows], Some(3000))).await?.name;

    let job = jobs.submit_job(request(&data_set, 3, "once")).await?.into_inner();
    let same = jobs.submit_job(request(&data_set, 3, "once")).await?.into_inner();
    assert_eq!(job.name, same.name, "the same request is the same job");

    let watch = WatchJobRequest { name: job.name.clone(), after: 0 };
    let mut events = jobs.watch_job(watch).await?.into_inner();
    let (mut last, mut n_passes, mut last_state) = (None, 0, JobState::Unspecified);
    while let Some(event) = events.message().await? {
        assert!(last.is_none_or(|last| event.number == last + 1), "events are numbered without a gap");
        last = Some(event.number);
        match event.event.expect("an event") {
            job_event::Event::Pass(pass) => {
                n_passes += 1;
                assert!(pass.inertia >= 0.0 && pass.shift >= 0.0 && pass.n_iter >= 1);
            }
            job_event::Event::State(state) => last_state = JobState::try_from(state).expect("a known state"),
            _ => {}
        }
    }
    assert!(n_passes >= 2 && last_state == JobState::Succeeded);

    for n_clusters in [2, 4] {
        jobs.submit_job(request(&data_set, n_clusters, "")).await?;
    }
    let first = jobs.list_jobs(ListJobsRequest { page_size: 2, page_token: String::new() }).await?.into_inner();
    let page_token = first.next_page_token.clone();
    let second = jobs.list_jobs(ListJobsRequest { page_size: 2, page_token }).await?.into_inner();
    let names: Vec<String> = first.jobs.into_iter().chain(second.jobs).map(|job| job.name).collect();
    assert_eq!(names, ["jobs/3", "jobs/2", "jobs/1"]);
    assert!(second.next_page_token.is_empty());

    let bad = jobs.submit_job(request(&data_set, 0, "")).await.expect_err("no clusters");
    assert!(bad.code() == Code::InvalidArgument && bad.message().contains("kmeans.n_clusters"), "{bad}");
    let bad = jobs.submit_job(SubmitJobRequest { priority: 101, ..request(&data_set, 2, "") }).await;
    assert!(bad.expect_err("no such priority").message().contains("priority"));
    let unknown = jobs.submit_job(request("dataSets/77", 2, "")).await.expect_err("no such data set");
    assert!(unknown.code() == Code::NotFound && unknown.message().contains("dataSets/77"), "{unknown}");
    let unknown = jobs.get_job(GetJobRequest { name: "jobs/77".to_owned() }).await.expect_err("no such job");
    assert_eq!(unknown.code(), Code::NotFound);
    Ok(())
}

/// Health and reflection answer, as load balancers and grpcurl expect.
#[tokio::test]
async fn health_and_reflection_are_served() -> Result<(), Status> {
    use tonic_health::pb::health_client::HealthClient;
    use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus};
    use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
    use tonic_reflection::pb::v1::{ServerReflectionRequest, server_reflection_request::MessageRequest};
    let fleet = Fleet::start(0);
    let check = HealthCheckRequest { service: "shoal.v1.Jobs".to_owned() };
    let mut health = HealthClient::new(channel(&fleet.url, None)?);
    // It is healthy from the start and serves jobs once it leads.
    let serves = async {
        while health.check(check.clone()).await?.into_inner().status() != ServingStatus::Serving {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok::<_, Status>(())
    };
    tokio::time::timeout(Duration::from_secs(60), serves).await.expect("it comes to lead")?;
    let list = MessageRequest::ListServices(String::new());
    let question = ServerReflectionRequest { host: String::new(), message_request: Some(list) };
    let mut reflection = ServerReflectionClient::new(channel(&fleet.url, None)?);
    let answers = reflection.server_reflection_info(futures::stream::iter([question])).await?;
    let answer = format!("{:?}", answers.into_inner().message().await?);
    assert!(answer.contains("shoal.v1.Jobs") && answer.contains("shoal.v1.Fleet"), "{answer}");
    Ok(())
}

/// A worker dies while rows stream in: nothing of them is lost, since they are in storage too.
#[tokio::test]
async fn a_worker_that_dies_during_a_put_costs_no_rows() -> Result<(), Status> {
    const N_BATCHES: usize = 60;
    let mut fleet = Fleet::start(2);
    let rows = || batch((0..8192).map(|row| f64::from(row % 13)).collect());
    let n_rows = N_BATCHES as u64 * 8192;
    let mut sent = messages((0..N_BATCHES).map(|_| rows()).collect(), Some(n_rows));
    let rest = sent.split_off(5);
    let (sender, receiver) = tokio::sync::mpsc::channel(1);
    let mut flight = client(channel(&fleet.url, None)?);
    let put = tokio::spawn(async move {
        let results = flight.do_put(tokio_stream::wrappers::ReceiverStream::new(receiver)).await?;
        let result = results.into_inner().message().await?.ok_or_else(|| Status::internal("no receipt"))?;
        DataSetReceipt::decode(result.app_metadata).map_err(|error| Status::internal(error.to_string()))
    });
    for message in sent {
        sender.send(message).await.expect("the stream is open");
    }
    fleet.workers[1].kill();
    for message in rest {
        sender.send(message).await.expect("the stream goes on");
    }
    drop(sender);
    let receipt = put.await.expect("the task ends")?;
    assert_eq!(receipt.n_rows, n_rows);
    assert!(fleet.coordinator.log().contains("worker gone"), "{}", fleet.coordinator.log());

    let mut jobs = JobsClient::new(channel(&fleet.url, None)?);
    let job = jobs.submit_job(request(&receipt.name, 3, "")).await?.into_inner();
    let mut events = jobs.watch_job(WatchJobRequest { name: job.name.clone(), after: 0 }).await?.into_inner();
    while events.message().await?.is_some() {}
    let result = jobs.get_job_result(GetJobResultRequest { name: job.name }).await?.into_inner();
    let model: serde_json::Value = serde_json::from_slice(&result.model_json).expect("a model");
    assert_eq!(model["n_samples"], n_rows);
    Ok(())
}

#[tokio::test]
async fn a_worker_refuses_a_coordinator_that_was_replaced() {
    let fleet = Fleet::start(1);
    let fleet_channel = channel(&fleet.url, None).expect("a URL");
    let workers = FleetClient::new(fleet_channel).list_workers(ListWorkersRequest {}).await.expect("it leads");
    let worker = channel(&workers.into_inner().workers[0].address, None).expect("a URL");
    let release = async |epoch| {
        let mut shards = ShardsClient::new(Stamp::new(epoch).on(worker.clone()));
        shards.release(ReleaseRequest::default()).await
    };
    let status = release(0).await.expect_err("an epoch before that of the leader");
    assert!(status.code() == Code::FailedPrecondition && status.message().contains("is over"), "{status}");
    let status = ShardsClient::new(worker.clone()).release(ReleaseRequest::default()).await.expect_err("no epoch");
    assert!(status.code() == Code::InvalidArgument && status.message().contains("shoal-epoch"), "{status}");
    // A later one is another leader's; from then on the one before is over.
    release(1 << 20).await.expect("a later epoch");
    release(1 << 20).await.expect("the same");
    release((1 << 20) - 1).await.expect_err("an epoch before that of the leader");
}
