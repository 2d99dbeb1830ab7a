//! Certificates for encrypted connections, read from their files.

use crate::args::TlsArguments;
use anyhow::{Result, anyhow};
use shoal_wire::tls::Tls;
use std::path::Path;

/// None where connections are not encrypted.
pub(crate) fn load(arguments: &TlsArguments) -> Result<Option<Tls>> {
    let TlsArguments { tls_cert: Some(certificate), tls_key: Some(key), tls_ca: Some(authority) } = arguments else {
        return Ok(None);
    };
    let read = |option: &str, path: &Path| {
        std::fs::read(path).map_err(|error| anyhow!("{option}: {}: {error}", path.display()))
    };
    let (certificate, key, authority) =
        (read("--tls-cert", certificate)?, read("--tls-key", key)?, read("--tls-ca", authority)?);
    let tls = Tls::new(&certificate, &key, &authority);
    Ok(Some(tls.map_err(|error| anyhow!("--tls-cert, --tls-key, --tls-ca: {error}"))?))
}
