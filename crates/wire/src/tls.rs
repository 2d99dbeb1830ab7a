//! Mutual TLS: whoever shows a certificate of the fleet's authority belongs to it, and nobody else is spoken to.

use crate::limits::HANDSHAKE_TIMEOUT;
use std::error::Error;
use std::fmt;
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint, Identity, Server, ServerTlsConfig};

/// What a process shows to its peers, and whom it trusts.
#[derive(Clone)]
pub struct Tls {
    identity: Identity,
    authority: Certificate,
}

/// Why certificates cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct TlsError(String);

impl Tls {
    /// From PEM: a certificate (and those between it and the authority's), its private key, and the authority's certificate.
    pub fn new(certificate: &[u8], key: &[u8], authority: &[u8]) -> Result<Self, TlsError> {
        let identity = Identity::from_pem(certificate, key);
        let tls = Self { identity, authority: Certificate::from_pem(authority) };
        // What cannot be used says so now, and not when the first peer comes.
        Endpoint::from_static("https://localhost").tls_config(tls.client()).map_err(|error| in_one_line(&error))?;
        Server::builder().tls_config(tls.server()).map_err(|error| in_one_line(&error))?;
        Ok(tls)
    }

    pub(crate) fn client(&self) -> ClientTlsConfig {
        let (identity, authority) = (self.identity.clone(), self.authority.clone());
        ClientTlsConfig::new().identity(identity).ca_certificate(authority).timeout(HANDSHAKE_TIMEOUT)
    }

    pub(crate) fn server(&self) -> ServerTlsConfig {
        let (identity, authority) = (self.identity.clone(), self.authority.clone());
        ServerTlsConfig::new().identity(identity).client_ca_root(authority).timeout(HANDSHAKE_TIMEOUT)
    }
}

impl fmt::Debug for Tls {
    /// The key stays out of logs.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Tls").finish_non_exhaustive()
    }
}

/// The innermost cause is what says something.
fn in_one_line(error: &tonic::transport::Error) -> TlsError {
    let mut cause: &dyn Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    TlsError(cause.to_string())
}
