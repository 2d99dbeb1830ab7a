//! Whole fleets in this process, many at a time, to which more happens than to real ones in the same time.
//!
//! Coordinators and workers run on a runtime each, which is dropped to kill them: sockets close, nothing says goodbye. All else
//! is real: protocol, storage, records, heartbeats. A schedule is drawn from its seed, which a failure names.

use crate::proxy::Proxy;
use crate::rows::{batch, messages, put};
use shoal_behavior::ReadOptions;
use shoal_clustering::Machine;
use shoal_clustering::cpu::CpuDevice;
use shoal_coordination::FileStore;
use shoal_coordinator::Config;
use shoal_cuda::CudaDevice;
use shoal_domain::JobSpec;
use shoal_emulator::EmulatedGpu;
use shoal_stats::RandomStream;
use shoal_storage::Storage;
use shoal_wire::flight::channel;
use shoal_wire::proto::fleet_client::FleetClient;
use shoal_wire::proto::jobs_client::JobsClient;
use shoal_wire::proto::{GetJobRequest, GetJobResultRequest, JobState, ListWorkersRequest, SubmitJobRequest};
use shoal_worker::{WorkerError, WorkerIdentity};
use std::future::{Future, pending};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Runtime};
use tokio::time::sleep;
use tonic::Status;

/// Fleets at a time: they mostly wait.
const AT_ONCE: usize = 8;
/// No job of these takes so long, whatever happens to it.
const PATIENCE: Duration = Duration::from_secs(90);
const PAUSE: Duration = Duration::from_millis(20);

/// A process, but for having one of its own.
pub(crate) struct Node(Option<Runtime>);

impl Node {
    fn start(work: impl Future<Output = ()> + Send + 'static) -> Self {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
        runtime.spawn(work);
        Self(Some(runtime))
    }

    fn coordinator(folder: &Path, address: SocketAddr) -> Self {
        let folder = folder.to_owned();
        Self::start(async move {
            // What was killed a moment ago may hold its port and its records still.
            let (listener, store) = loop {
                match (TcpListener::bind(address).await, FileStore::open(&folder.join("records.redb"))) {
                    (Ok(listener), Ok(store)) => break (listener, store),
                    _ => sleep(PAUSE).await,
                }
            };
            let storage = Storage::open(folder.to_str().expect("a plain path"), &[]).expect("the folder is writable");
            let config = Config {
                clock: SystemTime::now,
                read_options: ReadOptions::default(),
                storage,
                store: Arc::new(store),
                running_jobs: 2,
                jobs_per_client: 100,
                tls: None,
                name: address.to_string(),
            };
            shoal_coordinator::run(listener, config, pending())
                .await
                .expect("the coordinator serves until it is killed");
        })
    }

    fn worker(url: &str, boot_id: u64) -> Self {
        let work = work_on(Machine::of_cpu(CpuDevice::new(1).expect("a thread")), url, boot_id, None);
        Self::start(async { work.await.expect("it works until it is killed") })
    }

    /// Does nothing for a while.
    fn stand_still(&self, pause: Duration) {
        let runtime = self.0.as_ref().expect("it lives");
        runtime.spawn(async move { std::thread::sleep(pause) });
    }
}

/// A worker on some machine, which may be reached through a proxy.
fn work_on(
    machine: Machine,
    url: &str,
    boot_id: u64,
    proxy: Option<&Proxy>,
) -> impl Future<Output = Result<(), WorkerError>> + use<> {
    let urls = [url.to_owned()];
    let (listens_at, address) = match proxy {
        Some(proxy) => (proxy.target.clone(), Some(format!("http://{}", proxy.address))),
        None => ("127.0.0.1:0".to_owned(), None),
    };
    async move {
        let listener = TcpListener::bind(&listens_at).await.expect("a free port");
        let own_address = format!("http://{}", listener.local_addr().expect("it is bound"));
        let identity = WorkerIdentity {
            address: address.unwrap_or(own_address),
            device: machine.engine.name(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            boot_id,
            tls: None,
            memory_bytes: 64 << 20,
        };
        shoal_worker::run(listener, &urls, identity, machine, pending()).await
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

async fn again<T>(mut attempt: impl AsyncFnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(done) = attempt().await {
            return done;
        }
        assert!(began.elapsed() < PATIENCE, "nothing comes of it");
        sleep(PAUSE).await;
    }
}

pub(crate) struct Fleet {
    coordinator: Node,
    pub(crate) workers: Vec<Node>,
    address: SocketAddr,
    pub(crate) url: String,
    n_started: u64,
    folder: TempDir,
}

impl Fleet {
    pub(crate) async fn start(n_workers: usize) -> Self {
        let free = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = free.local_addr().expect("it is bound");
        drop(free);
        let folder = tempfile::tempdir().expect("a temporary folder");
        let coordinator = Node::coordinator(folder.path(), address);
        let url = format!("http://{address}");
        let mut fleet = Self { coordinator, workers: Vec::new(), address, url, n_started: 0, folder };
        for _ in 0..n_workers {
            fleet.add_worker();
        }
        fleet.has_workers(n_workers).await;
        fleet
    }

    pub(crate) async fn has_workers(&self, n_workers: usize) {
        let mut members = FleetClient::new(channel(&self.url, None).expect("a URL"));
        again(async || {
            let workers = members.list_workers(ListWorkersRequest {}).await.ok()?.into_inner().workers;
            (workers.len() == n_workers).then_some(())
        })
        .await;
    }

    pub(crate) fn add_worker(&mut self) {
        self.n_started += 1;
        self.workers.push(Node::worker(&self.url, self.n_started));
    }

    /// One that is reached through a proxy.
    pub(crate) fn add_worker_behind(&mut self, proxy: &Proxy) {
        self.n_started += 1;
        let machine = Machine::of_cpu(CpuDevice::new(1).expect("a thread"));
        let work = work_on(machine, &self.url, self.n_started, Some(proxy));
        self.workers.push(Node::start(async { work.await.expect("it works until it is killed") }));
    }

    fn replace_coordinator(&mut self) {
        // The old one goes first, when the new one is put in its place.
        self.coordinator = Node(None);
        self.coordinator = Node::coordinator(self.folder.path(), self.address);
    }

    fn jobs(&self) -> JobsClient<tonic::transport::Channel> {
        JobsClient::new(channel(&self.url, None).expect("a URL"))
    }

    pub(crate) async fn submit(&self, data_set: &str, request_id: &str) -> String {
        let spec = r#"{"source": {"path": "", "id": "id", "features": ["a", "b"]},
            "kmeans": {"n_clusters": 6, "n_init": 60, "tol": 0, "seed": 3}, "validate": {"silhouette": "simplified"}}"#;
        let spec: JobSpec = serde_json::from_str(spec).expect("a job");
        let request = SubmitJobRequest {
            spec: Some((&spec).into()),
            data_set: data_set.to_owned(),
            request_id: request_id.to_owned(),
            ..Default::default()
        };
        again(async || self.jobs().submit_job(request.clone()).await.ok()).await.into_inner().name
    }

    /// Whether a job has ended; a coordinator that is not there is asked later.
    pub(crate) async fn has_ended(&self, name: &str) -> bool {
        match self.jobs().get_job(GetJobRequest { name: name.to_owned() }).await {
            Ok(job) => {
                let job = job.into_inner();
                assert!(!matches!(job.state(), JobState::Failed | JobState::Cancelled), "{name}: {}", job.error);
                job.state() == JobState::Succeeded
            }
            Err(status) => {
                assert_ne!(status.code(), tonic::Code::NotFound, "{name} is lost: {status}");
                false
            }
        }
    }

    /// The model of a job, once it has ended.
    pub(crate) async fn model(&self, name: &str) -> Vec<u8> {
        again(async || self.has_ended(name).await.then_some(())).await;
        let request = GetJobResultRequest { name: name.to_owned() };
        again(async || self.jobs().get_job_result(request.clone()).await.ok()).await.into_inner().model_json
    }
}

/// Seven blocks.
async fn put_rows(url: &str) -> Result<String, Status> {
    put_many_rows(url, 7_000).await
}

pub(crate) async fn put_many_rows(url: &str, n_rows: u32) -> Result<String, Status> {
    let values = (0..n_rows).map(|row| f64::from(row.wrapping_mul(2_654_435_761) >> 16) / 1000.0).collect();
    Ok(put(url, messages(vec![batch(values)], Some(n_rows.into()))).await?.name)
}

/// What happens in one schedule; returns how much of it while the job ran.
async fn schedule(seed: u64, expected: &[u8]) -> u64 {
    let stream = RandomStream { seed, stream: 1 };
    let mut draws = 0u64..;
    let mut draw = |n: u64| (stream.uniform(draws.next().expect("there is no end")) * n as f64) as u64;
    let mut fleet = Fleet::start(3).await;
    let data_set = put_rows(&fleet.url).await.expect("the rows are taken");
    let job = fleet.submit(&data_set, "disturbed").await;
    let mut n_blows = 0;
    for _ in 0..1 + draw(6) {
        sleep(Duration::from_millis(draw(120))).await;
        if fleet.has_ended(&job).await {
            break;
        }
        n_blows += 1;
        let worker = draw(fleet.workers.len() as u64) as usize;
        match draw(6) {
            0 | 1 => {
                drop(fleet.workers.remove(worker));
                fleet.add_worker();
            }
            2 if fleet.workers.len() > 1 => drop(fleet.workers.remove(worker)),
            3 => fleet.add_worker(),
            4 => fleet.workers[worker].stand_still(Duration::from_millis(50 + draw(3_000))),
            _ => fleet.replace_coordinator(),
        }
    }
    assert!(fleet.model(&job).await == expected, "the model differs");
    let again = fleet.submit(&data_set, "undisturbed").await;
    assert!(fleet.model(&again).await == expected, "the model of the next job differs");
    n_blows
}

pub(crate) fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().expect("a runtime")
}

/// The model that nothing happens to.
async fn undisturbed() -> Vec<u8> {
    let fleet = Fleet::start(1).await;
    let data_set = put_rows(&fleet.url).await.expect("the rows are taken");
    let job = fleet.submit(&data_set, "alone").await;
    fleet.model(&job).await
}

/// A worker whose GPU fails ends, and others have its blocks.
#[test]
fn a_gpu_that_fails_takes_its_worker_with_it_and_nothing_else() {
    let disturbed = async {
        let fleet = Fleet::start(1).await;
        let cpu = CpuDevice::new(1).expect("a thread");
        // It takes rows, and breaks when it is first asked about them; later, others might have answered in its place by then.
        let gpu = Arc::new(EmulatedGpu::new(64 << 20, 200 << 10).breaking_after(1));
        let machine = Machine { engine: Arc::new(CudaDevice::new(gpu, cpu.clone())), cpu };
        let (ended, has_ended) = tokio::sync::oneshot::channel();
        let work = work_on(machine, &fleet.url, 2, None);
        let _broken = Node::start(async { drop(ended.send(work.await)) });
        fleet.has_workers(2).await;
        let data_set = put_rows(&fleet.url).await.expect("the rows are taken");
        let job = fleet.submit(&data_set, "on two workers").await;
        let model = fleet.model(&job).await;
        let ended = tokio::time::timeout(PATIENCE, has_ended).await.expect("the worker ends by itself");
        let failed = ended.expect("it says how").expect_err("it has failed");
        assert!(failed.to_string().starts_with("the device has failed: the GPU failed to "), "{failed}");
        fleet.has_workers(1).await;
        let again = fleet.submit(&data_set, "on one worker").await;
        assert!(fleet.model(&again).await == model, "the model of the next job differs");
        model
    };
    assert!(runtime().block_on(disturbed) == runtime().block_on(undisturbed()), "the model differs");
}

/// As many schedules as `SHOAL_SCHEDULES` says, from the seed `SHOAL_SCHEDULES_SEED` on.
#[test]
fn whatever_happens_the_model_is_the_same() {
    let number = |name: &str, default: u64| std::env::var(name).map_or(default, |text| text.parse().expect("a number"));
    let (first, n_schedules) = (number("SHOAL_SCHEDULES_SEED", 1), number("SHOAL_SCHEDULES", 24));
    let expected = runtime().block_on(undisturbed());
    let (next, n_blows) = (AtomicU64::new(first), AtomicU64::new(0));
    let work = || {
        while let Some(seed) = Some(next.fetch_add(1, Ordering::Relaxed)).filter(|seed| *seed < first + n_schedules) {
            let run = std::panic::AssertUnwindSafe(|| runtime().block_on(schedule(seed, &expected)));
            match std::panic::catch_unwind(run) {
                Ok(n) => _ = n_blows.fetch_add(n, Ordering::Relaxed),
                Err(panic) => {
                    eprintln!("schedule {seed} fails");
                    std::panic::resume_unwind(panic);
                }
            }
        }
    };
    std::thread::scope(|scope| (0..AT_ONCE).for_each(|_| _ = scope.spawn(work)));
    let n_blows = n_blows.into_inner();
    println!("{n_schedules} schedules from {first}, {n_blows} blows");
    assert!(n_blows >= n_schedules, "the jobs were over before much happened: {n_blows} blows");
}
