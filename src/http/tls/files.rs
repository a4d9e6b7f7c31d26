//! Certificates and keys from files to what a handshake needs, or a sentence that says which file is at fault.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::CertificateDer;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{InconsistentKeys, RootCertStore};

use crate::http::tls::certificate::Facts;
use crate::http::tls::identity::Wanted;
use crate::wire::{self, PemError};

/// What is spoken inside; an HTTP/2 client that insists is told so in the handshake.
const HTTP_1_1: &[u8] = b"http/1.1";

/// Where certificates are, and who is let in.
#[derive(Clone, Debug)]
pub struct TlsFiles {
    /// The server's certificate and those that lead to its authority (PEM).
    pub certificate: PathBuf,
    /// The private key of the certificate (PEM).
    pub key: PathBuf,
    /// The authorities of clients (PEM); clients need no certificate when there are none.
    pub client_ca: Option<PathBuf>,
    /// The common name that lets a client in. One of this and the URI is enough; without both every certificate
    /// of the authority does.
    pub client_common_name: Option<String>,
    /// The URI among the subject's alternative names that lets a client in.
    pub client_uri: Option<String>,
}

/// Why the files cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// A file cannot be read.
    #[error("{what} {}: {source}", path.display())]
    Read {
        /// What the file is for.
        what: &'static str,
        /// Which file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// A file does not hold what it should.
    #[error("{what} {}: {source}", path.display())]
    Pem {
        /// What the file is for.
        what: &'static str,
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        source: PemError,
    },
    /// A certificate or key makes no sense.
    #[error("{what} {}: {reason}", path.display())]
    Unusable {
        /// What the file is for.
        what: &'static str,
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The key is another certificate's.
    #[error("TLS key {} does not belong to the certificate {}", key.display(), certificate.display())]
    Mismatch {
        /// The key's file.
        key: PathBuf,
        /// The certificate's file.
        certificate: PathBuf,
    },
}

const CERTIFICATE: &str = "TLS certificate";
const KEY: &str = "TLS key";
const CLIENT_CA: &str = "TLS authority of clients";

/// What a handshake needs.
pub(super) struct Loaded {
    pub(super) config: Arc<rustls::ServerConfig>,
    pub(super) wanted: Wanted,
    /// When the server's own certificate is no good any more.
    pub(super) expires: Option<SystemTime>,
}

impl TlsFiles {
    /// The files, so that one can see whether they have changed.
    pub(super) fn paths(&self) -> impl Iterator<Item = &Path> {
        let two = [&self.certificate, &self.key].into_iter();
        two.chain(&self.client_ca).map(PathBuf::as_path)
    }

    /// Reads all of them. May block.
    ///
    /// # Errors
    /// [`TlsError`].
    pub(super) fn load(&self) -> Result<Loaded, TlsError> {
        let provider = Arc::new(ring::default_provider());
        let chain = certificates(CERTIFICATE, &self.certificate)?;
        let key = wire::private_key(&read(KEY, &self.key)?).map_err(pem(KEY, &self.key))?;
        let expires = chain.first().and_then(|own| Facts::of(own)?.expires);
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
            // rustls cannot tell whose fault it is; of a key it only has words.
            rustls::Error::General(reason) => {
                TlsError::Unusable { what: KEY, path: self.key.clone(), reason }
            }
            error => unusable(error),
        })?;
        config.alpn_protocols = vec![HTTP_1_1.to_vec()];
        // Sessions are not resumed. Each connection is judged by the files of its time, none holds a ticket, and of
        // thousands of clients that come back after a restart none could use one.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        let wanted = Wanted { common_name: self.client_common_name.clone(), uri: self.client_uri.clone() };
        Ok(Loaded { config: Arc::new(config), wanted, expires })
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
    std::fs::read(path).map_err(|source| TlsError::Read { what, path: path.to_owned(), source })
}

fn certificates(what: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    wire::certificates(&read(what, path)?).map_err(pem(what, path))
}

fn pem(what: &'static str, path: &Path) -> impl FnOnce(PemError) -> TlsError {
    let path = path.to_owned();
    move |source| TlsError::Pem { what, path, source }
}

fn unusable(what: &'static str, path: &Path, error: impl std::fmt::Display) -> TlsError {
    TlsError::Unusable { what, path: path.to_owned(), reason: error.to_string() }
}
