//! A coordinator and workers, each under GNU time.

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(30);

/// Server processes, in the order in which they were started: the coordinator first.
pub struct Fleet {
    servers: Vec<(String, Child, PathBuf)>,
    /// The coordinator.
    pub url: String,
}

impl Fleet {
    /// Starts a coordinator and workers of one thread each, and waits until all have joined.
    pub fn start(program: &Path, folder: &Path, n_workers: usize) -> Result<Self> {
        let address_file = folder.join("address");
        let mut fleet = Self { servers: Vec::new(), url: String::new() };
        let address = address_file.to_str().context("a path is not text")?;
        let data = folder.join("data");
        let data = data.to_str().context("a path is not text")?;
        fleet.spawn(
            program,
            folder,
            "coordinator",
            &["coordinator", "--listen", "127.0.0.1:0", "--address-file", address, "--data", data],
        )?;
        wait("the coordinator", || std::fs::read_to_string(&address_file).is_ok_and(|address| !address.is_empty()))?;
        fleet.url = format!("http://{}", std::fs::read_to_string(&address_file)?);
        for worker in 0..n_workers {
            let url = fleet.url.clone();
            fleet.spawn(
                program,
                folder,
                &format!("worker {worker}"),
                &["worker", "--coordinator", &url, "--threads", "1"],
            )?;
            let log = fleet.servers[worker + 1].2.clone();
            wait("a worker", || std::fs::read_to_string(&log).is_ok_and(|log| log.contains("joined the fleet")))?;
        }
        Ok(fleet)
    }

    fn spawn(&mut self, program: &Path, folder: &Path, name: &str, arguments: &[&str]) -> Result<()> {
        let log = folder.join(format!("{}.log", name.replace(' ', "-")));
        let mut command = Command::new("/usr/bin/time");
        command.arg("-v").arg(program).args(arguments).stdout(Stdio::null()).stderr(File::create(&log)?);
        self.servers.push((name.to_owned(), command.spawn()?, log));
        Ok(())
    }

    /// The coordinator's process.
    pub fn coordinator(&self) -> Result<u32> {
        let (_, watched, _) = self.servers.first().context("there is no coordinator")?;
        children_of(watched.id())?.trim().parse().context("GNU time has no child")
    }

    /// Ends all processes and returns their peak memory in bytes.
    pub fn stop(mut self) -> Result<Value> {
        let mut peaks = json!({});
        for (name, mut server, log) in std::mem::take(&mut self.servers).into_iter().rev() {
            terminate_child_of(server.id())?;
            server.wait()?;
            peaks[name] = json!(peak_bytes(&std::fs::read_to_string(&log)?)?);
        }
        Ok(peaks)
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        for (_, server, _) in &mut self.servers {
            // After a failure; they may have ended by themselves.
            let _ = terminate_child_of(server.id());
        }
    }
}

/// Ends the process that GNU time watches.
fn terminate_child_of(pid: u32) -> Result<()> {
    let ended = Command::new("kill").arg("-TERM").args(children_of(pid)?.split_whitespace()).status()?;
    if ended.success() { Ok(()) } else { bail!("the process could not be ended") }
}

fn children_of(pid: u32) -> Result<String> {
    Ok(std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"))?)
}

fn wait(what: &str, mut is_up: impl FnMut() -> bool) -> Result<()> {
    let began = Instant::now();
    while !is_up() {
        if began.elapsed() > PATIENCE {
            bail!("{what} is not up after {PATIENCE:?}");
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

/// The peak that GNU time has printed, in bytes.
pub fn peak_bytes(told: &str) -> Result<u64> {
    let line = told.lines().find(|line| line.contains("Maximum resident set size"));
    let kilobytes = line.and_then(|line| line.rsplit(' ').next()).context("GNU time has printed no peak")?;
    Ok(kilobytes.parse::<u64>()? * 1024)
}
