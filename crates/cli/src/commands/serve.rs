//! `shoal coordinator` and `shoal worker`: sockets, signals and clocks for the services.

use crate::args::{CoordinatorArguments, WorkerArguments};
use crate::device;
use crate::environment::store_options;
use anyhow::{Result, anyhow};
use shoal_coordinator::Config;
use shoal_storage::Storage;
use shoal_worker::WorkerIdentity;
use std::net::SocketAddr;
use std::time::{SystemTime, UNIX_EPOCH};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tracing::info;

/// Serves until Ctrl-C or SIGTERM.
pub(crate) async fn coordinator(arguments: &CoordinatorArguments) -> Result<()> {
    let storage = Storage::open(&arguments.data, &store_options()).map_err(|error| anyhow!("--data: {error}"))?;
    let listener = listen(arguments.listen).await?;
    let address = listener.local_addr()?;
    info!(%address, "coordinator listens");
    if let Some(path) = &arguments.address_file {
        std::fs::write(path, address.to_string()).map_err(|error| anyhow!("{}: {error}", path.display()))?;
    }
    let config = Config { clock: SystemTime::now, store_options: store_options(), storage };
    shoal_coordinator::run(listener, config, shutdown()?).await?;
    info!("coordinator stopped");
    Ok(())
}

/// Serves until Ctrl-C or SIGTERM.
pub(crate) async fn worker(arguments: &WorkerArguments) -> Result<()> {
    let listener = listen(arguments.listen).await?;
    let local = listener.local_addr()?;
    let address = match &arguments.advertise {
        Some(url) => url.clone(),
        None if local.ip().is_unspecified() => {
            return Err(anyhow!("--listen {local}: --advertise must tell the URL at which others reach this worker"));
        }
        None => format!("http://{local}"),
    };
    let machine = device::machine(arguments.device, arguments.threads)?;
    let identity = WorkerIdentity {
        address,
        device: machine.engine.name(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        boot_id: boot_id()?,
    };
    info!(address = identity.address, device = identity.device, "worker listens");
    shoal_worker::run(listener, &arguments.coordinator, identity, machine, shutdown()?).await?;
    info!("worker stopped");
    Ok(())
}

async fn listen(address: SocketAddr) -> Result<TcpListener> {
    TcpListener::bind(address).await.map_err(|error| anyhow!("--listen {address}: {error}"))
}

/// Tells this process from an earlier one at the same address.
fn boot_id() -> Result<u64> {
    let nanoseconds = SystemTime::now().duration_since(UNIX_EPOCH)?.as_nanos() as u64;
    Ok(nanoseconds ^ u64::from(std::process::id()).rotate_left(32))
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
