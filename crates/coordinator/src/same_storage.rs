//! All coordinators of a fleet keep their data in one place. One that was given another place would lead, and know nothing of
//! the rows and results that the records tell of.

use crate::config::Config;
use crate::error::FleetError;
use shoal_coordination::{Leader, Write};
use std::time::UNIX_EPOCH;

/// The document in storage, and the key in the store, that have the same name for the place.
const DOCUMENT: &str = "fleet";
const KEY: &str = "storage";

/// Compares the names; a place or a store that has none is given that of the other, or both a new one.
pub(crate) async fn check_storage(config: &Config, leader: &Leader) -> Result<(), FleetError> {
    let found = config.storage.read(DOCUMENT).await?.map(|name| name.to_vec());
    let recorded = leader.store().get(KEY).await?.map(|entry| entry.value);
    match (found, recorded) {
        (Some(found), Some(recorded)) if found == recorded => Ok(()),
        (_, Some(_)) => Err(FleetError::OtherStorage { location: config.storage.location().to_owned() }),
        (Some(found), None) => record(leader, found).await,
        (None, None) => {
            let now = (config.clock)().duration_since(UNIX_EPOCH).unwrap_or_default();
            let text = format!("{} {} {}", config.name, leader.epoch(), now.as_nanos());
            let name = blake3::hash(text.as_bytes()).to_hex().to_string().into_bytes();
            // In this order: what is broken off in between is taken up above.
            config.storage.write(DOCUMENT, name.clone()).await?;
            record(leader, name).await
        }
    }
}

async fn record(leader: &Leader, name: Vec<u8>) -> Result<(), FleetError> {
    Ok(leader.write(&[Write::Put { key: KEY.to_owned(), value: name, lease: None }]).await?)
}
