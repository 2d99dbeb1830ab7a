//! `shoal workers`: who belongs to the fleet.

use crate::args::{CoordinatorUrl, Format};
use crate::client::Coordinator;
use crate::say::say;
use crate::table::aligned_left;
use anyhow::Result;
use bytesize::ByteSize;
use serde_json::{Value, json};
use shoal_wire::proto::fleet_client::FleetClient;
use shoal_wire::proto::{ListWorkersRequest, Worker};

/// Lists the workers that are alive.
pub(crate) async fn workers(coordinator: &CoordinatorUrl, output: Format) -> Result<()> {
    let coordinator = Coordinator::find(coordinator).await?;
    let listed = FleetClient::new(coordinator.channel.clone()).list_workers(ListWorkersRequest {}).await;
    let workers = listed.map_err(|status| coordinator.failed(&status))?.into_inner().workers;
    match output {
        Format::Json => {
            let documents: Vec<Value> = workers.iter().map(document).collect();
            say(&format!("{}\n", serde_json::to_string_pretty(&documents)?))
        }
        Format::Table => {
            let mut rows = vec![["address", "device", "memory for rows", "version"].map(str::to_owned).to_vec()];
            rows.extend(workers.into_iter().map(|worker| {
                vec![worker.address, worker.device, ByteSize(worker.memory_bytes).to_string(), worker.version]
            }));
            let mut text = String::new();
            aligned_left(&mut text, &rows);
            say(&text)
        }
    }
}

fn document(worker: &Worker) -> Value {
    json!({
        "address": worker.address,
        "device": worker.device,
        "memory_bytes": worker.memory_bytes,
        "version": worker.version,
    })
}
