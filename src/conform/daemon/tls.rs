//! TLS of the scripted daemon, with a certificate for `localhost` and the loopback addresses.
//!
//! The private key is public, so the certificate proves nothing: it is for tests. The key of its authority was thrown away,
//! so nothing else can be signed with it. Both expire in 2130.

use std::sync::Arc;

use rustls::crypto::ring;
use tokio_rustls::TlsAcceptor;

use crate::wire;

/// The authority that the client is to trust (PEM).
pub(crate) const AUTHORITY: &str = include_str!("certificates/authority.pem");

const CERTIFICATE: &str = include_str!("certificates/localhost.pem");
const KEY: &str = include_str!("certificates/localhost.key.pem");

/// Makes the TLS side of a listener.
///
/// # Errors
/// The certificate cannot be used; it is part of the program, so that would be a fault of the program.
pub(crate) fn acceptor() -> Result<TlsAcceptor, Box<dyn std::error::Error + Send + Sync>> {
    let chain = wire::certificates(CERTIFICATE.as_bytes())?;
    let key = wire::private_key(KEY.as_bytes())?;
    let mut config = rustls::ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}
