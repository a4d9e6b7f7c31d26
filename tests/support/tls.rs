//! Certificates for one test, made with `openssl`, and connections that use them.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::daemon::Daemon;

/// An authority, and the directory of what it has signed.
pub struct Authority {
    dir: tempfile::TempDir,
    /// Its certificate.
    pub ca: String,
}

/// A certificate and its key.
#[derive(Clone, Debug)]
pub struct Identity {
    pub cert: String,
    pub key: String,
}

impl Authority {
    pub fn new(name: &str) -> Authority {
        let dir = tempfile::tempdir().unwrap();
        let subject = format!("/CN={name}");
        let made = ["req", "-x509", "-subj", &subject, "-days", "3650", "-keyout", "ca-key", "-out", "ca"];
        openssl(dir.path(), &[&made[..], &["-nodes", "-newkey", KEY[0]], &KEY[1..]].concat());
        let ca = dir.path().join("ca").to_str().unwrap().to_owned();
        Authority { dir, ca }
    }

    /// Its certificate, for whoever is to trust it.
    pub fn certificate(&self) -> CertificateDer<'static> {
        CertificateDer::from_pem_file(&self.ca).unwrap()
    }

    /// A certificate for 127.0.0.1 and localhost.
    pub fn server(&self) -> Identity {
        self.server_for("365")
    }

    /// The same, for so many days.
    pub fn server_for(&self, days: &str) -> Identity {
        self.sign("/CN=crumbd", LOCAL, days, &KEY)
    }

    /// The same with a key of this kind, in the words of `openssl req -newkey`.
    pub fn server_with(&self, kind: &str) -> Identity {
        self.sign("/CN=crumbd", LOCAL, "365", &kind.split(' ').collect::<Vec<_>>())
    }

    /// A certificate of a client with this common name and this URI.
    pub fn client(&self, common_name: Option<&str>, uri: Option<&str>) -> Identity {
        let subject = common_name.map_or("/O=crumbs".to_owned(), |name| format!("/O=crumbs/CN={name}"));
        let names = uri.map_or("DNS:a.client".to_owned(), |uri| format!("DNS:a.client,URI:{uri}"));
        self.sign(&subject, &names, "365", &KEY)
    }

    fn sign(&self, subject: &str, names: &str, days: &str, kind: &[&str]) -> Identity {
        let dir = tempfile::tempdir_in(self.dir.path()).unwrap().keep();
        std::fs::write(dir.join("names"), format!("subjectAltName={names}\n")).unwrap();
        let request = ["req", "-subj", subject, "-keyout", "key", "-out", "request", "-nodes", "-newkey"];
        openssl(&dir, &[&request[..], kind].concat());
        let signed =
            ["x509", "-req", "-in", "request", "-CA", "../ca", "-CAkey", "../ca-key", "-CAcreateserial"];
        openssl(&dir, &[&signed[..], &["-days", days, "-extfile", "names", "-out", "cert"]].concat());
        let file = |name: &str| dir.join(name).to_str().unwrap().to_owned();
        Identity { cert: file("cert"), key: file("key") }
    }
}

const KEY: [&str; 3] = ["ec", "-pkeyopt", "ec_paramgen_curve:P-256"];
const LOCAL: &str = "IP:127.0.0.1,DNS:localhost";

fn openssl(dir: &Path, arguments: &[&str]) {
    let done = Command::new("openssl").args(arguments).current_dir(dir).output();
    let done = done.unwrap_or_else(|error| panic!("openssl ({error}): apt-get install openssl"));
    assert!(done.status.success(), "openssl {arguments:?}: {}", String::from_utf8_lossy(&done.stderr));
}

impl Identity {
    /// The flags of a daemon that has this certificate.
    pub fn served(&self) -> [&str; 4] {
        ["--tls-cert", &self.cert, "--tls-key", &self.key]
    }

    /// The flags of a client that shows this certificate.
    pub fn shown(&self) -> [&str; 4] {
        ["--client-cert", &self.cert, "--client-key", &self.key]
    }

    /// A copy in a directory of its own, whose files a test exchanges.
    pub fn copied(&self) -> (tempfile::TempDir, Identity) {
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
        let copy = Identity { cert: file("cert"), key: file("key") };
        self.replace(&copy);
        (dir, copy)
    }

    /// Puts this certificate and key in the place of others, each file at once.
    pub fn replace(&self, others: &Identity) {
        for (new, old) in [(&self.cert, &others.cert), (&self.key, &others.key)] {
            let aside = PathBuf::from(format!("{old}.new"));
            std::fs::copy(new, &aside).unwrap();
            std::fs::rename(aside, old).unwrap();
        }
    }
}

/// How a client that trusts these authorities and shows this certificate speaks TLS.
pub fn client_config(authorities: &[&str], identity: Option<&Identity>) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    for authority in authorities {
        roots.add(CertificateDer::from_pem_file(authority).unwrap()).unwrap();
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder =
        ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let builder = builder.with_root_certificates(roots);
    match identity {
        None => builder.with_no_client_auth(),
        Some(Identity { cert, key }) => {
            let chain = vec![CertificateDer::from_pem_file(cert).unwrap()];
            builder.with_client_auth_cert(chain, PrivateKeyDer::from_pem_file(key).unwrap()).unwrap()
        }
    }
}

/// A connection to the daemon with the handshake done, as far as the client is concerned.
pub async fn connect(daemon: &Daemon, config: ClientConfig) -> std::io::Result<TlsStream<TcpStream>> {
    let stream = TcpStream::connect(daemon.address()).await?;
    stream.set_nodelay(true)?;
    let name = ServerName::try_from("127.0.0.1").unwrap();
    TlsConnector::from(Arc::new(config)).connect(name, stream).await
}
