//! `shoal coordinator` and `shoal worker`: sockets, signals and clocks for the services.

use crate::args::{CoordinatorArguments, WorkerArguments};
use crate::device;
use crate::environment::{memory_bytes, process_number, read_options, store_options};
use crate::tls;
use anyhow::{Result, anyhow};
use bytesize::ByteSize;
use shoal_coordination::{EtcdStore, FileStore, Store};
use shoal_coordinator::Config;
use shoal_storage::Storage;
use shoal_worker::WorkerIdentity;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::SystemTime;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tracing::info;

/// Where records are without etcd.
const RECORDS_FILE: &str = "records.redb";

/// Serves until Ctrl-C or SIGTERM.
pub(crate) async fn coordinator(arguments: &CoordinatorArguments) -> Result<()> {
    let tls = tls::load(&arguments.tls)?;
    // First: where another one listens no folder is made.
    let listener = listen(arguments.listen).await?;
    let storage = Storage::open(&arguments.data, &store_options()).map_err(|error| anyhow!("--data: {error}"))?;
    let store = store(arguments, &storage)?;
    let address = listener.local_addr()?;
    info!(%address, "coordinator listens");
    if let Some(path) = &arguments.address_file {
        std::fs::write(path, address.to_string()).map_err(|error| anyhow!("{}: {error}", path.display()))?;
    }
    let name = format!("{address} (process {})", std::process::id());
    let config = Config {
        clock: SystemTime::now,
        read_options: read_options(None),
        storage,
        store,
        running_jobs: arguments.running_jobs,
        jobs_per_client: arguments.jobs_per_client,
        tls,
        name,
    };
    shoal_coordinator::run(listener, config, shutdown()?).await?;
    info!("coordinator stopped");
    Ok(())
}

/// What keeps records and says who leads.
fn store(arguments: &CoordinatorArguments, storage: &Storage) -> Result<Arc<dyn Store>> {
    if !arguments.etcd.is_empty() {
        let store = EtcdStore::new(&arguments.etcd, &arguments.etcd_prefix);
        return Ok(Arc::new(store.map_err(|error| anyhow!("--etcd: {error}"))?));
    }
    let folder = arguments.records.as_deref().or(storage.folder());
    let folder =
        folder.ok_or_else(|| anyhow!("--data: a bucket keeps no records; --etcd or --records must say where"))?;
    std::fs::create_dir_all(folder).map_err(|error| anyhow!("--records {}: {error}", folder.display()))?;
    Ok(Arc::new(FileStore::open(&folder.join(RECORDS_FILE))?))
}

/// Serves until Ctrl-C or SIGTERM.
pub(crate) async fn worker(arguments: &WorkerArguments) -> Result<()> {
    let listener = listen(arguments.listen).await?;
    let local = listener.local_addr()?;
    let tls = tls::load(&arguments.tls)?;
    let scheme = if tls.is_some() { "https" } else { "http" };
    let address = match &arguments.advertise {
        Some(url) => url.clone(),
        None if local.ip().is_unspecified() => {
            return Err(anyhow!("--listen {local}: --advertise must tell the URL at which others reach this worker"));
        }
        None => format!("{scheme}://{local}"),
    };
    let machine = device::machine(arguments.compute.device, arguments.compute.threads)?;
    let memory_bytes = match arguments.memory {
        Some(ByteSize(0)) => return Err(anyhow!("--memory: a worker without memory holds nothing")),
        Some(memory) => memory.as_u64(),
        None => memory_bytes().ok_or_else(|| anyhow!("--memory: this system does not tell how much there is"))? / 5 * 4,
    };
    let identity = WorkerIdentity {
        address,
        device: machine.engine.name(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        memory_bytes,
        boot_id: process_number()?,
        tls,
    };
    info!(address = identity.address, device = identity.device, "worker listens");
    shoal_worker::run(listener, &arguments.coordinator, identity, machine, shutdown()?).await?;
    info!("worker stopped");
    Ok(())
}

async fn listen(address: SocketAddr) -> Result<TcpListener> {
    TcpListener::bind(address).await.map_err(|error| anyhow!("--listen {address}: {error}"))
}

/// Returns at the first Ctrl-C or SIGTERM.
fn shutdown() -> Result<impl Future<Output = ()>> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        info!("stopping");
    })
}
