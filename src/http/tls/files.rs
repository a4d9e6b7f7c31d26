//! The TLS settings of a server, loaded from certificate and key files. Errors name the file.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::CertificateDer;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{InconsistentKeys, RootCertStore};

use crate::http::serve::reload::read_regular;
use crate::http::tls::certificate::CertificateInfo;
use crate::http::tls::identity::AllowedClients;
use crate::wire::{self, PemError};

/// The ALPN protocols. The handshake fails for clients that offer others only.
const HTTP_1_1: &[u8] = b"http/1.1";
pub(super) const HTTP_2: &[u8] = b"h2";

/// The certificate files, and the required names of clients.
#[derive(Clone, Debug)]
pub struct TlsFiles {
    /// The server's certificate chain (PEM).
    pub certificate: PathBuf,
    /// The private key of the certificate (PEM).
    pub key: PathBuf,
    /// The authorities of client certificates (PEM). Without them clients need no certificate.
    pub client_ca: Option<PathBuf>,
    /// The required common name of clients. A client needs this or the URI; without both every certificate of the
    /// authority is accepted.
    pub client_common_name: Option<String>,
    /// The required URI among the subject's alternative names.
    pub client_uri: Option<String>,
}

/// Errors of the files.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// A file cannot be read.
    #[error("{what} {}: {source}", path.display())]
    Read {
        /// The purpose of the file.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// A file is not the expected PEM.
    #[error("{what} {}: {source}", path.display())]
    Pem {
        /// The purpose of the file.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// The error in it.
        source: PemError,
    },
    /// A certificate or key is invalid.
    #[error("{what} {}: {source}", path.display())]
    Unusable {
        /// The purpose of the file.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// The error of rustls.
        source: UnusableError,
    },
    /// The key belongs to another certificate.
    #[error("TLS key {} does not belong to the certificate {}", key.display(), certificate.display())]
    Mismatch {
        /// The key's file.
        key: PathBuf,
        /// The certificate's file.
        certificate: PathBuf,
    },
}

/// Errors of rustls with a certificate or key.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UnusableError {
    /// A certificate is refused.
    #[error(transparent)]
    Certificate(#[from] rustls::Error),
    /// The private key is refused; rustls has the reason as text only.
    #[error("{0}")]
    Key(String),
    /// The authorities of clients are refused.
    #[error(transparent)]
    Authorities(#[from] rustls::server::VerifierBuilderError),
}

/// The largest file, in bytes. A bundle of all public authorities has a quarter of a megabyte.
const MAX_FILE_BYTES: u64 = 16 << 20;

const CERTIFICATE: &str = "TLS certificate";
const KEY: &str = "TLS key";
const CLIENT_CA: &str = "TLS authority of clients";

/// The loaded settings of a server.
pub(super) struct Loaded {
    pub(super) config: Arc<rustls::ServerConfig>,
    pub(super) allowed: AllowedClients,
    /// The expiry of the server's certificate.
    pub(super) expires: Option<SystemTime>,
}

impl TlsFiles {
    /// The paths of the files.
    pub(super) fn paths(&self) -> impl Iterator<Item = &Path> {
        let two = [&self.certificate, &self.key].into_iter();
        two.chain(&self.client_ca).map(PathBuf::as_path)
    }

    /// Loads all files. May block.
    ///
    /// # Errors
    /// [`TlsError`].
    pub(super) fn load(&self) -> Result<Loaded, TlsError> {
        let provider = Arc::new(ring::default_provider());
        let chain = certificates(CERTIFICATE, &self.certificate)?;
        let key = wire::private_key(&read(KEY, &self.key)?).map_err(pem(KEY, &self.key))?;
        let expires = chain.first().and_then(|own| CertificateInfo::of(own)?.expires);
        let unusable = |error: rustls::Error| unusable(CERTIFICATE, &self.certificate, error);
        let builder = rustls::ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(unusable)?;
        let builder = match &self.client_ca {
            None => builder.with_no_client_auth(),
            Some(path) => builder.with_client_cert_verifier(verifier(path, provider)?),
        };
        let mut config = builder.with_single_cert(chain, key).map_err(|error| match error {
            rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
                TlsError::Mismatch { key: self.key.clone(), certificate: self.certificate.clone() }
            }
            // rustls reports an invalid key as a general error.
            rustls::Error::General(reason) => {
                let source = UnusableError::Key(reason);
                TlsError::Unusable { what: KEY, path: self.key.clone(), source }
            }
            error => unusable(error),
        })?;
        config.alpn_protocols = vec![HTTP_2.to_vec(), HTTP_1_1.to_vec()];
        // No session resumption: each connection is checked with the current files, no connection holds a ticket, and
        // no ticket would survive a restart.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        let (common_name, uri) = (self.client_common_name.clone(), self.client_uri.clone());
        let allowed = AllowedClients { common_name, uri };
        Ok(Loaded { config: Arc::new(config), allowed, expires })
    }
}

fn verifier(
    path: &Path,
    provider: Arc<CryptoProvider>,
) -> Result<Arc<dyn rustls::server::danger::ClientCertVerifier>, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(CLIENT_CA, path)? {
        roots.add(certificate).map_err(|error| unusable(CLIENT_CA, path, error))?;
    }
    let built = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
    built.map_err(|error| unusable(CLIENT_CA, path, error))
}

fn read(what: &'static str, path: &Path) -> Result<Vec<u8>, TlsError> {
    read_regular(path, MAX_FILE_BYTES).map_err(|source| TlsError::Read {
        what,
        path: path.to_owned(),
        source,
    })
}

fn certificates(what: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    wire::certificates(&read(what, path)?).map_err(pem(what, path))
}

fn pem(what: &'static str, path: &Path) -> impl FnOnce(PemError) -> TlsError {
    let path = path.to_owned();
    move |source| TlsError::Pem { what, path, source }
}

fn unusable(what: &'static str, path: &Path, source: impl Into<UnusableError>) -> TlsError {
    TlsError::Unusable { what, path: path.to_owned(), source: source.into() }
}
