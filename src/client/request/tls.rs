//! TLS towards a daemon: its authorities, the client certificate, and errors in plain words.

use std::error::Error;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::ring;
use rustls::{AlertDescription, CertificateError, InvalidMessage, RootCertStore};

use super::ClientError;
use crate::wire;

const AUTHORITY: &str = "authority";
const CERTIFICATE: &str = "client certificate";
const KEY: &str = "client key";

/// How to speak TLS with a daemon, for `https://` addresses.
#[derive(Clone, Debug, Default)]
pub struct ClientTls {
    /// The authority that signed the daemon's certificate (PEM); the system's if `None`.
    pub ca: Option<PathBuf>,
    /// The client certificate and its private key (PEM), for a daemon that wants one.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// What its settings are called, for errors.
    pub settings: TlsSettings,
}

/// The names of the settings of a [`ClientTls`].
#[derive(Clone, Copy, Debug)]
pub struct TlsSettings {
    /// That of the authority.
    pub ca: &'static str,
    /// Those of the client certificate and its key.
    pub identity: &'static str,
    /// The beginning of an address without TLS.
    pub without_tls: &'static str,
}

impl Default for TlsSettings {
    /// The flags of the commands.
    fn default() -> Self {
        Self { ca: "--ca-cert", identity: "--client-cert and --client-key", without_tls: "http://" }
    }
}

impl ClientTls {
    /// Whether nothing was set.
    pub fn is_default(&self) -> bool {
        self.ca.is_none() && self.identity.is_none()
    }

    /// The configuration of a connection. Over plain HTTP it is not used, and trusts nobody.
    ///
    /// # Errors
    /// [`ClientError::TlsFile`].
    pub fn config(&self, over_tls: bool) -> Result<rustls::ClientConfig, ClientError> {
        let roots = if over_tls { self.roots()? } else { RootCertStore::empty() };
        let unusable = |path: &Path, error: rustls::Error| unusable(CERTIFICATE, path, &error);
        let builder = rustls::ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| unusable(Path::new(""), error))?
            .with_root_certificates(roots);
        let mut config = match &self.identity {
            None => builder.with_no_client_auth(),
            Some((certificate, key)) => {
                let chain = wire::certificates(&read(CERTIFICATE, certificate)?);
                let chain = chain.map_err(|error| self::unusable(CERTIFICATE, certificate, &error))?;
                let private = wire::private_key(&read(KEY, key)?);
                let private = private.map_err(|error| self::unusable(KEY, key, &error))?;
                let built = builder.with_client_auth_cert(chain, private);
                built.map_err(|error| match error {
                    rustls::Error::InconsistentKeys(_) => {
                        let other =
                            format!("it does not belong to the certificate {}", certificate.display());
                        self::unusable(KEY, key, &other)
                    }
                    error => unusable(certificate, error),
                })?
            }
        };
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(config)
    }

    fn roots(&self) -> Result<RootCertStore, ClientError> {
        let mut roots = RootCertStore::empty();
        match &self.ca {
            Some(path) => {
                let all = wire::certificates(&read(AUTHORITY, path)?);
                for certificate in all.map_err(|error| unusable(AUTHORITY, path, &error))? {
                    roots.add(certificate).map_err(|error| unusable(AUTHORITY, path, &error))?;
                }
            }
            // Certificates that cannot be read are not trusted; the others may be enough.
            None => _ = roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs),
        }
        Ok(roots)
    }

    /// Why TLS failed, if it did.
    pub fn explain(&self, error: &(dyn Error + 'static)) -> Option<String> {
        let causes = std::iter::successors(Some(error), |&error| error.source());
        let error = causes.filter_map(inside).last()?;
        let advice = match error {
            rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer) => match &self.ca {
                Some(ca) => {
                    let setting = self.settings.ca;
                    format!("its certificate is not signed by the authority in {} ({setting})", ca.display())
                }
                None => format!(
                    "its certificate is not signed by an authority that this system trusts; name its authority \
                     with {}",
                    self.settings.ca
                ),
            },
            rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType) => {
                let without_tls = self.settings.without_tls;
                format!("it does not speak TLS; without TLS its address begins with {without_tls}")
            }
            rustls::Error::AlertReceived(alert) => match (&self.identity, alert) {
                (None, AlertDescription::CertificateRequired | AlertDescription::HandshakeFailure)
                | (Some(_), AlertDescription::UnknownCA | AlertDescription::DecryptError) => {
                    self.why_hung_up_on()
                }
                (Some((path, _)), AlertDescription::CertificateExpired) => {
                    format!("the client certificate {} has expired", path.display())
                }
                _ => error.to_string(),
            },
            error => error.to_string(),
        };
        Some(advice)
    }

    /// The usual reason for a daemon to end a connection right after the handshake.
    pub fn why_hung_up_on(&self) -> String {
        match &self.identity {
            None => format!("it wants a client certificate: {}", self.settings.identity),
            Some((path, _)) => {
                format!(
                    "it does not know the authority that signed the client certificate {}",
                    path.display()
                )
            }
        }
    }
}

/// The error of rustls inside an I/O error, which does not name it as its source.
fn inside<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a rustls::Error> {
    if let Some(error) = error.downcast_ref() {
        return Some(error);
    }
    inside(error.downcast_ref::<io::Error>()?.get_ref()?)
}

fn read(what: &'static str, path: &Path) -> Result<Vec<u8>, ClientError> {
    std::fs::read(path).map_err(|error| unusable(what, path, &error))
}

fn unusable(what: &'static str, path: &Path, reason: &impl ToString) -> ClientError {
    ClientError::TlsFile { what, path: path.to_owned(), reason: reason.to_string() }
}
