//! The command line.

use crate::device::DeviceChoice;
use bytesize::ByteSize;
use clap::{Args, Parser, Subcommand, ValueEnum};
use std::net::SocketAddr;
use std::path::PathBuf;

/// Distributed customer segmentation: events in, validated segments out.
///
/// Exit status: 0 when the command did what it was asked, 1 when it could not (one line on stderr says why), 2 when the
/// command line was wrong. SHOAL_LOG sets what is logged to stderr, for instance `SHOAL_LOG=debug`.
#[derive(Debug, Parser)]
#[command(name = "shoal", version)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a job in this process, with no server.
    Run(RunArguments),
    /// Make the features of a job alone: from events to one row a customer.
    Features(FeaturesArguments),
    /// What customers do one after the other: transitions, drop-off, flows and funnels, of all and of each segment.
    Journeys(JourneysArguments),
    /// Make a log of events that never happened, and the truth about it: to try things, and to measure.
    Generate(GenerateArguments),
    /// Compare numbers of clusters: fit and validate each of a range in this process, in one go.
    Sweep(SweepArguments),
    /// Print the JSON Schema of the job file.
    Schema,
    /// Start a coordinator: it owns jobs, and spreads their rows over workers.
    Coordinator(CoordinatorArguments),
    /// Start a worker: it holds rows and answers for them.
    Worker(WorkerArguments),
    /// Send a job to a coordinator.
    Submit(SubmitArguments),
    /// Look at the jobs of a coordinator, cancel one or delete one.
    #[command(subcommand)]
    Jobs(JobsCommand),
    /// List the workers that are alive.
    Workers {
        #[command(flatten)]
        coordinator: CoordinatorUrl,
        /// What is printed.
        #[arg(short, long, value_enum, default_value_t = Format::Table)]
        output: Format,
    },
    /// Write the labels of a finished job to stdout, as Parquet.
    Labels(LabelsArguments),
}

#[derive(Debug, Args)]
pub(crate) struct RunArguments {
    /// The job file (YAML; `shoal schema` describes it).
    pub(crate) job: PathBuf,
    /// Folder for model.json, labels.parquet and report.json; made when it does not exist.
    #[arg(long, default_value = "out")]
    pub(crate) out: PathBuf,
    /// What is printed.
    #[arg(short, long, value_enum, default_value_t = Format::Table)]
    pub(crate) output: Format,
    #[command(flatten)]
    pub(crate) compute: ComputeArguments,
}

#[derive(Debug, Args)]
pub(crate) struct FeaturesArguments {
    /// The job file, as for `run`; all but its source may be missing. Without source.features, all that its events allow are made.
    pub(crate) job: PathBuf,
    /// Folder for features.parquet, quality.json, and quarantine.parquet where rows say too little; made when it does not exist.
    #[arg(long, default_value = "out")]
    pub(crate) out: PathBuf,
    /// How much queries may hold before they go on in temporary files; by default four fifths of what the machine or its control group
    /// has.
    #[arg(long)]
    pub(crate) memory: Option<ByteSize>,
    /// Also writes identities.parquet: whose each cookie is, and how sure that is.
    #[arg(long)]
    pub(crate) identities: bool,
    /// Prints how the query engine would bring customers together, the last step first, and writes nothing.
    #[arg(long)]
    pub(crate) explain: bool,
    /// What is printed.
    #[arg(short, long, value_enum, default_value_t = Format::Table)]
    pub(crate) output: Format,
}

#[derive(Debug, Args)]
pub(crate) struct JourneysArguments {
    /// The job file; its source.events says what the states are (`state`, or else `kind`).
    pub(crate) job: PathBuf,
    /// The state that visits should come to: adds the probability of that from each state, and what is lost where.
    #[arg(long, value_name = "STATE")]
    pub(crate) target: Option<String>,
    /// Steps of a funnel in their order.
    #[arg(long, value_name = "STATE,..", value_delimiter = ',')]
    pub(crate) funnel: Vec<String>,
    /// How many steps of a visit are counted by their place, at most 100.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u64).range(0..=100))]
    pub(crate) places: u64,
    /// labels.parquet of a run: counts each segment by itself too.
    #[arg(long)]
    pub(crate) labels: Option<PathBuf>,
    /// Folder for journeys.json, journeys.graphml and journeys_graph.json; made when it does not exist.
    #[arg(long, default_value = "out")]
    pub(crate) out: PathBuf,
    /// How much queries may hold before they go on in temporary files; by default four fifths of what the machine or its control group
    /// has.
    #[arg(long)]
    pub(crate) memory: Option<ByteSize>,
    /// What is printed.
    #[arg(short, long, value_enum, default_value_t = Format::Table)]
    pub(crate) output: Format,
}

#[derive(Debug, Args)]
pub(crate) struct GenerateArguments {
    /// How many people.
    #[arg(long, default_value_t = 10_000)]
    pub(crate) customers: u64,
    /// The first day.
    #[arg(long, default_value = "2025-01-01", value_name = "YYYY-MM-DD")]
    pub(crate) start: String,
    /// How many days.
    #[arg(long, default_value_t = 365)]
    pub(crate) days: u32,
    /// Seed of every random choice: the same seed, the same bytes.
    #[arg(long, default_value_t = 0)]
    pub(crate) seed: u64,
    /// Multiplies how often everybody visits and buys.
    #[arg(long, default_value_t = 1.0)]
    pub(crate) activity: f64,
    /// Everybody is logged in all the time, so that every event has its customer.
    #[arg(long)]
    pub(crate) always_logged_in: bool,
    /// Nothing goes wrong: no repetitions, bots, wrong clocks, gaps.
    #[arg(long)]
    pub(crate) clean: bool,
    /// Folder for events, truth/events and truth/customers; made when it does not exist.
    #[arg(long, default_value = "generated")]
    pub(crate) out: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct SweepArguments {
    /// The job file, as for `run`; its kmeans.n_clusters does not matter here.
    pub(crate) job: PathBuf,
    /// The fewest clusters.
    #[arg(long, default_value_t = 2, value_name = "CLUSTERS")]
    pub(crate) from: usize,
    /// The most clusters.
    #[arg(long, default_value_t = 10, value_name = "CLUSTERS")]
    pub(crate) to: usize,
    /// Folder for sweep.json; made when it does not exist.
    #[arg(long, default_value = "out")]
    pub(crate) out: PathBuf,
    /// What is printed.
    #[arg(short, long, value_enum, default_value_t = Format::Table)]
    pub(crate) output: Format,
    #[command(flatten)]
    pub(crate) compute: ComputeArguments,
}

#[derive(Debug, Args)]
pub(crate) struct ComputeArguments {
    /// Threads that compute; 0 means one a core. The result does not depend on it.
    #[arg(long, default_value_t = 0, value_parser = threads)]
    pub(crate) threads: usize,
    /// What computes: auto (the first GPU if there is one, which refuses a job that it cannot do), cpu, cuda or cuda:N.
    #[arg(long, default_value = "auto", value_name = "DEVICE")]
    pub(crate) device: DeviceChoice,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// A table to read.
    Table,
    /// One JSON document.
    Json,
}

#[derive(Debug, Args)]
pub(crate) struct CoordinatorArguments {
    /// Address to listen on; port 0 takes a free one, which the log names.
    #[arg(long, default_value = "127.0.0.1:7077")]
    pub(crate) listen: SocketAddr,
    /// Where data sets and results are kept: a folder, which is made when it does not exist, or a bucket (s3://, gs://, az://).
    #[arg(long, default_value = "shoal-data")]
    pub(crate) data: String,
    /// Servers of an etcd cluster, which keeps the records of jobs and says which of several coordinators leads; all of
    /// them have the same --data. Without it there is one coordinator, and records are in a file of its own.
    #[arg(long, env = "SHOAL_ETCD", value_name = "URL,..", value_delimiter = ',')]
    pub(crate) etcd: Vec<String>,
    /// What comes before every key in etcd.
    #[arg(long, default_value = "/shoal/", requires = "etcd")]
    pub(crate) etcd_prefix: String,
    /// Without --etcd: the folder of the records, when it is not that of --data.
    #[arg(long, conflicts_with = "etcd", value_name = "FOLDER")]
    pub(crate) records: Option<PathBuf>,
    /// Jobs that run at the same time. Each holds a prepared copy of its rows on the workers.
    #[arg(long, default_value_t = 2, value_parser = at_least_one)]
    pub(crate) running_jobs: usize,
    /// Jobs of one client that may wait or run at the same time; more are refused.
    #[arg(long, default_value_t = 100, value_parser = at_least_one)]
    pub(crate) jobs_per_client: usize,
    /// Write the address that was taken to this file, once it accepts connections.
    #[arg(long)]
    pub(crate) address_file: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) tls: TlsArguments,
}

/// For encrypted connections between clients, coordinators and workers. All of them show a certificate, and none speaks to
/// a peer whose certificate is not of the same authority.
#[derive(Debug, Args)]
pub(crate) struct TlsArguments {
    /// This process's certificate (PEM), with the name or address by which others reach it; URLs are then https://HOST:PORT.
    #[arg(long, env = "SHOAL_TLS_CERT", value_name = "FILE", requires_all = ["tls_key", "tls_ca"])]
    pub(crate) tls_cert: Option<PathBuf>,
    /// The certificate's private key (PEM).
    #[arg(long, env = "SHOAL_TLS_KEY", value_name = "FILE", requires = "tls_cert")]
    pub(crate) tls_key: Option<PathBuf>,
    /// The certificate of the authority whose certificates are taken (PEM).
    #[arg(long, env = "SHOAL_TLS_CA", value_name = "FILE", requires = "tls_cert")]
    pub(crate) tls_ca: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct WorkerArguments {
    /// The coordinator, for instance http://127.0.0.1:7077, or all of them.
    #[arg(long, env = "SHOAL_COORDINATOR", value_name = "URL,..", value_delimiter = ',', required = true)]
    pub(crate) coordinator: Vec<String>,
    /// Address to listen on; port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:0")]
    pub(crate) listen: SocketAddr,
    /// The URL at which the coordinator reaches this worker, when it is not http://LISTEN (https:// with certificates).
    #[arg(long)]
    pub(crate) advertise: Option<String>,
    /// What rows may take in memory, for instance 24GiB; more is refused. By default four fifths of what this machine, or the
    /// control group, has.
    #[arg(long)]
    pub(crate) memory: Option<ByteSize>,
    #[command(flatten)]
    pub(crate) compute: ComputeArguments,
    #[command(flatten)]
    pub(crate) tls: TlsArguments,
}

#[derive(Debug, Args)]
pub(crate) struct CoordinatorUrl {
    /// The coordinator, or all of them: the one that leads is found.
    #[arg(
        long,
        env = "SHOAL_COORDINATOR",
        value_name = "URL,..",
        value_delimiter = ',',
        default_value = "http://127.0.0.1:7077"
    )]
    pub(crate) coordinator: Vec<String>,
    #[command(flatten)]
    pub(crate) tls: TlsArguments,
}

#[derive(Debug, Args)]
pub(crate) struct SubmitArguments {
    /// The job file.
    pub(crate) job: PathBuf,
    #[command(flatten)]
    pub(crate) coordinator: CoordinatorUrl,
    /// Who reads source.path: this client, which sends the rows, or the coordinator from its own disk or the URL.
    #[arg(long, value_enum, default_value_t = Reader::Client)]
    pub(crate) read_on: Reader,
    /// From -100 to 100: a job of a higher priority runs before all of lower ones that wait.
    #[arg(long, default_value_t = 0, allow_negative_numbers = true, value_parser = clap::value_parser!(i32).range(-100..=100))]
    pub(crate) priority: i32,
    /// Who submits. Clients take turns, and each may have so many jobs at a time as the coordinator allows.
    #[arg(long, env = "SHOAL_CLIENT", default_value = "")]
    pub(crate) client: String,
    /// Wait for the end, show every pass, then print the report.
    #[arg(long)]
    pub(crate) watch: bool,
    /// With --watch: folder for model.json, labels.parquet and report.json.
    #[arg(long, requires = "watch")]
    pub(crate) out: Option<PathBuf>,
    /// With --watch: how the report is printed.
    #[arg(short, long, value_enum, default_value_t = Format::Table)]
    pub(crate) output: Format,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Reader {
    /// This process.
    Client,
    /// The coordinator.
    Coordinator,
}

#[derive(Debug, Subcommand)]
pub(crate) enum JobsCommand {
    /// List jobs, the newest first.
    List {
        #[command(flatten)]
        coordinator: CoordinatorUrl,
        /// What is printed.
        #[arg(short, long, value_enum, default_value_t = Format::Table)]
        output: Format,
    },
    /// Show one job, with its report once it is done.
    Get(JobArguments),
    /// Follow one job to its end.
    Watch(JobArguments),
    /// Cancel one job.
    Cancel(JobArguments),
    /// Delete one job that has ended, with its results, and its rows where no other job has read them.
    Delete {
        /// The job's name.
        job: String,
        #[command(flatten)]
        coordinator: CoordinatorUrl,
    },
}

#[derive(Debug, Args)]
pub(crate) struct JobArguments {
    /// The job's name, as `submit` and `jobs list` print it.
    pub(crate) job: String,
    #[command(flatten)]
    pub(crate) coordinator: CoordinatorUrl,
    /// What is printed.
    #[arg(short, long, value_enum, default_value_t = Format::Table)]
    pub(crate) output: Format,
}

#[derive(Debug, Args)]
pub(crate) struct LabelsArguments {
    /// The job's name.
    pub(crate) job: String,
    #[command(flatten)]
    pub(crate) coordinator: CoordinatorUrl,
}

/// Threads that a core may be given: some more than one do no harm, and hundreds stand in each other's way.
const THREADS_PER_CORE_MAX: usize = 32;

fn at_least_one(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) => Err("must be at least 1".to_owned()),
        Ok(number) => Ok(number),
        Err(error) => Err(error.to_string()),
    }
}

/// A number of threads that this machine can use.
fn threads(text: &str) -> Result<usize, String> {
    let number: usize = text.parse().map_err(|error| format!("{error}"))?;
    let n_cores = std::thread::available_parallelism().map_or(1, usize::from);
    let max = THREADS_PER_CORE_MAX * n_cores;
    if number <= max { Ok(number) } else { Err(format!("at most {max} on the {n_cores} cores of this machine")) }
}
