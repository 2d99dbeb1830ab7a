//! Real processes of the program under test: started, waited for, killed.

use crate::proxy::Proxy;
use std::fs::File;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// How long a process may take to come up or go down before the test fails; a hundred times what it needs.
const PATIENCE: Duration = Duration::from_secs(60);

/// The repository, where the program is started, so that job files name data as a user would.
pub(crate) fn repository() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}

/// The program with some arguments.
pub(crate) fn shoal(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_shoal"));
    command.args(arguments).current_dir(repository()).env_remove("SHOAL_COORDINATOR").env_remove("SHOAL_ETCD");
    command
}

/// Runs the program to its end.
pub(crate) fn run(arguments: &[&str]) -> Output {
    shoal(arguments).output().expect("the program starts")
}

/// Runs the program, which must succeed, and returns what it printed.
pub(crate) fn succeed(arguments: &[&str]) -> String {
    let output = run(arguments);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "shoal {arguments:?} failed: {error}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Runs the program, which must fail with exit status 1 and one line, and returns the line.
pub(crate) fn fail(arguments: &[&str]) -> String {
    let output = run(arguments);
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "shoal {arguments:?} should have failed: {error}");
    let lines: Vec<&str> = error.lines().filter(|line| line.starts_with("error: ")).collect();
    assert!(lines.len() == 1 && error.trim_end().ends_with(lines[0]), "not one line: {error}");
    assert!(output.stdout.is_empty(), "a failed command prints nothing on stdout");
    lines[0].to_owned()
}

/// A server process that ends with its value.
pub(crate) struct Server {
    child: Child,
    log: PathBuf,
}

impl Server {
    pub(crate) fn start(arguments: &[&str], log: PathBuf) -> Self {
        Self::spawn(shoal(arguments), log)
    }

    fn spawn(mut program: Command, log: PathBuf) -> Self {
        let mut file = File::create(&log).expect("the folder of the logs exists");
        let mut child = program.stderr(Stdio::piped()).stdout(Stdio::null()).spawn().expect("the program starts");
        let mut stderr = child.stderr.take().expect("it is piped");
        // Not by the program itself: what happens to its files must not happen to its log.
        std::thread::spawn(move || std::io::copy(&mut stderr, &mut file));
        Self { child, log }
    }

    /// What it has logged so far.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Waits until it has logged some words.
    pub(crate) fn logs(&self, words: &str) {
        let logged = wait_for(|| self.log().contains(words).then_some(()));
        logged.unwrap_or_else(|| panic!("never logged `{words}`: {}", self.log()));
    }

    /// Kills it without warning.
    pub(crate) fn kill(&mut self) {
        self.child.kill().expect("the process is ours");
        self.child.wait().expect("the process is ours");
    }

    /// Lets it write no byte to any file, as if its disk were full, or write again.
    pub(crate) fn fill_disk(&self, is_full: bool) {
        let limit = if is_full { "--fsize=0:unlimited" } else { "--fsize=unlimited" };
        let set = Command::new("prlimit").args(["--pid", &self.child.id().to_string(), limit]).status();
        assert!(set.expect("util-linux has prlimit").success());
    }

    /// Asks it to end (SIGTERM) and returns whether it ended with status 0.
    pub(crate) fn terminate(&mut self) -> bool {
        self.signal("-TERM");
        self.end()
    }

    /// Stops it without its knowledge (SIGSTOP), until it may go on.
    pub(crate) fn stand_still(&self) {
        self.signal("-STOP");
        until_stopped(self.child.id());
    }

    /// Lets it go on (SIGCONT).
    pub(crate) fn go_on(&self) {
        self.signal("-CONT");
    }

    fn signal(&self, signal: &str) {
        let sent = Command::new("kill").args([signal, &self.child.id().to_string()]).status().expect("kill exists");
        assert!(sent.success(), "the process is gone: {}", self.log());
    }

    /// Waits until it has ended by itself, and returns whether with status 0.
    pub(crate) fn end(&mut self) -> bool {
        let child = &mut self.child;
        let ended = wait_for(|| child.try_wait().expect("the process is ours"));
        ended.unwrap_or_else(|| panic!("it has not ended: {}", self.log())).success()
    }

    /// Whether it has ended by itself.
    pub(crate) fn has_ended(&mut self) -> bool {
        !self.is_alive()
    }

    /// Whether it still runs.
    pub(crate) fn is_alive(&mut self) -> bool {
        self.child.try_wait().expect("the process is ours").is_none()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Coordinators and workers on loopback.
pub(crate) struct Fleet {
    pub(crate) coordinator: Server,
    /// Coordinators that wait to lead.
    pub(crate) standbys: Vec<Server>,
    pub(crate) workers: Vec<Server>,
    /// Where all coordinators are.
    pub(crate) url: String,
    pub(crate) folder: TempDir,
    /// What every process is told besides: its certificates.
    tls: Vec<String>,
    n_started: usize,
}

impl Fleet {
    /// Starts a coordinator and waits until all workers have joined.
    pub(crate) fn start(n_workers: usize) -> Self {
        Self::start_with(&[], n_workers)
    }

    /// The same with more arguments for the coordinator.
    pub(crate) fn start_with(more: &[&str], n_workers: usize) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let (coordinator, address) = coordinator(folder.path(), "127.0.0.1:0", "coordinator.log", more);
        Self::with_workers(coordinator, Vec::new(), format!("http://{address}"), folder, Vec::new(), n_workers)
    }

    /// The same, whose processes all have these arguments with their certificates.
    pub(crate) fn start_encrypted(tls: &[&str], n_workers: usize) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let (coordinator, address) = coordinator(folder.path(), "127.0.0.1:0", "coordinator.log", tls);
        let tls = tls.iter().map(|argument| (*argument).to_owned()).collect();
        Self::with_workers(coordinator, Vec::new(), format!("https://{address}"), folder, tls, n_workers)
    }

    /// Starts a coordinator that leads and another one that waits, with their records in etcd, and workers.
    pub(crate) fn start_with_standby(etcd_url: &str, n_workers: usize) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let start = |log| coordinator(folder.path(), "127.0.0.1:0", log, &["--etcd", etcd_url]);
        let (leader, address) = start("coordinator.log");
        leader.logs("this coordinator leads");
        let (standby, standby_address) = start("standby.log");
        standby.logs("another coordinator leads");
        let url = format!("http://{address},http://{standby_address}");
        Self::with_workers(leader, vec![standby], url, folder, Vec::new(), n_workers)
    }

    fn with_workers(
        coordinator: Server,
        standbys: Vec<Server>,
        url: String,
        folder: TempDir,
        tls: Vec<String>,
        n_workers: usize,
    ) -> Self {
        let mut fleet = Self { coordinator, standbys, workers: Vec::new(), url, folder, tls, n_started: 0 };
        for _ in 0..n_workers {
            fleet.add_worker();
        }
        fleet
    }

    /// Kills the coordinator and starts another one in its place.
    pub(crate) fn replace_coordinator(&mut self) {
        self.coordinator.kill();
        let address = self.url.trim_start_matches("http://").to_owned();
        self.n_started += 1;
        let log = format!("coordinator{}.log", self.n_started);
        self.coordinator = coordinator(self.folder.path(), &address, &log, &[]).0;
    }

    /// What all coordinators have logged that there were.
    pub(crate) fn log(&self) -> String {
        let files = std::fs::read_dir(self.folder.path()).expect("the folder is there").flatten();
        let logs = files.filter(|file| file.file_name().to_string_lossy().starts_with("coordinator"));
        logs.filter_map(|file| std::fs::read_to_string(file.path()).ok()).collect()
    }

    /// Starts a client command against this fleet, without waiting for it.
    pub(crate) fn client(&self, arguments: &[&str]) -> Server {
        Server::start(&self.of_client(arguments), self.folder.path().join("client.log"))
    }

    /// Arguments of a client of this fleet.
    fn of_client<'a>(&'a self, arguments: &[&'a str]) -> Vec<&'a str> {
        [arguments, &["--coordinator", &self.url], &self.tls()].concat()
    }

    fn tls(&self) -> Vec<&str> {
        self.tls.iter().map(String::as_str).collect()
    }

    /// Starts one more worker and waits until it has joined.
    pub(crate) fn add_worker(&mut self) {
        self.add_worker_with(&[]);
    }

    /// Starts one more worker, which others reach through a proxy.
    pub(crate) fn add_worker_behind(&mut self, proxy: &Proxy) {
        let scheme = if self.tls.is_empty() { "http" } else { "https" };
        self.add_worker_with(&["--listen", &proxy.target, "--advertise", &format!("{scheme}://{}", proxy.address)]);
    }

    /// Starts one more worker with more arguments.
    pub(crate) fn add_worker_with(&mut self, more: &[&str]) {
        let log = self.folder.path().join(format!("worker{}.log", self.n_started));
        self.n_started += 1;
        let arguments = ["worker", "--coordinator", &self.url, "--threads", "1"];
        let worker = Server::start(&[&arguments, more, &self.tls()].concat(), log);
        worker.logs("joined the fleet");
        self.workers.push(worker);
    }

    /// Runs a client command against this fleet, which must succeed.
    pub(crate) fn succeed(&self, arguments: &[&str]) -> String {
        succeed(&self.of_client(arguments))
    }

    /// Runs a client command against this fleet, which must fail, and returns its line.
    pub(crate) fn fail(&self, arguments: &[&str]) -> String {
        fail(&self.of_client(arguments))
    }
}

/// Starts a coordinator, whose data lie in the folder, and returns it with its address once it listens.
fn coordinator(folder: &Path, listen: &str, log: &str, more: &[&str]) -> (Server, String) {
    let address_file = folder.join(format!("{log}.address"));
    // That of an earlier one, which may not be there.
    let _ = std::fs::remove_file(&address_file);
    let data = folder.join("data");
    let [address, data] = [&address_file, &data].map(|path| path.to_str().expect("a plain path"));
    let arguments = ["coordinator", "--listen", listen, "--address-file", address, "--data", data];
    // A limit on its files is to be an error for it, as a full disk is, and no signal.
    let mut program = Command::new("sh");
    program.args(["-c", "trap '' XFSZ; exec \"$0\" \"$@\""]).arg(shoal(&[]).get_program()).args(arguments).args(more);
    program.current_dir(repository());
    let server = Server::spawn(program, folder.join(log));
    let address = wait_for(|| std::fs::read_to_string(&address_file).ok().filter(|address| !address.is_empty()));
    let address = address.unwrap_or_else(|| panic!("the coordinator is not up: {}", server.log()));
    (server, address)
}

/// Waits until all threads of a process that was told to stop have: on a busy machine some go on for a while.
pub(crate) fn until_stopped(pid: u32) {
    let is_stopped = |thread: std::io::Result<std::fs::DirEntry>| {
        let stat = std::fs::read_to_string(thread.ok()?.path().join("stat")).ok()?;
        // The state comes after the program's name in brackets, which may hold anything.
        Some(stat.rsplit_once(") ")?.1.starts_with('T'))
    };
    let all_are = || {
        let mut threads = std::fs::read_dir(format!("/proc/{pid}/task")).ok()?;
        threads.all(|thread| is_stopped(thread) == Some(true)).then_some(())
    };
    wait_for(all_are).expect("a process that is told to stop does");
}

/// An address that was free a moment ago.
pub(crate) fn free_address() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has free ports");
    listener.local_addr().expect("it is bound").to_string()
}

/// Waits until there is something, for at most [`PATIENCE`].
pub(crate) fn wait_for<T>(mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let began = Instant::now();
    while began.elapsed() < PATIENCE {
        if let Some(found) = look() {
            return Some(found);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    None
}
