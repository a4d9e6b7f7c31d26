//! `crumbd://HOST:PORT[,HOST:PORT…]/` as a setting.

use std::path::PathBuf;
use std::sync::Arc;

use futures_util::future::BoxFuture;

use super::RelayFeed;
use crate::client::{Client, ClientError, ClientTls, TlsSettings};
use crate::feed::registry::{Kind, Storage};
use crate::feed::spec::ParsedFeed;
use crate::feed::url::{FeedUrl, host_and_port};
use crate::feed::{Feed, FeedConfig, FeedError, FeedSettings};
use crate::model::{CollectionName, CollectionNameError, Key};

pub(in crate::feed) const KIND: Kind = Kind {
    schemes: &["crumbd", "crumbds"],
    form: "crumbd://HOST:PORT[,HOST:PORT…]/",
    example: "crumbd://127.0.0.1:7811/",
    summary: "the state of another crumbd, with its history and revisions; crumbds:// over TLS",
    options: &[
        ("prefix", "only the keys that begin with this; they have a history of their own"),
        ("collection", "the collection to follow, instead of the default one"),
        ("write", "true: takes writes over HTTP, and passes them on to the other crumbd"),
        ("token_file", "file with a token of the other crumbd"),
        ("ca", "file (PEM) of the authority of the other crumbd"),
        ("cert", "file (PEM) of the client certificate"),
        ("key", "file (PEM) of its private key"),
    ],
    storage: Storage::Copy,
    strict_has_no_effect: Some("every value of another crumbd can be read"),
    parse,
};

/// The setting that names an authority, and those of a client certificate.
const SETTINGS: TlsSettings = TlsSettings { ca: "ca=", identity: "cert= and key=", without_tls: "crumbd://" };

/// What a relay follows.
#[derive(Clone, Debug)]
pub(super) struct RelayConfig {
    /// `HOST:PORT` of each, in any order.
    pub(super) hosts: Vec<String>,
    pub(super) over_tls: bool,
    pub(super) prefix: Option<Key>,
    pub(super) collection: Option<CollectionName>,
    pub(super) token_file: Option<PathBuf>,
    takes_writes: bool,
    tls: ClientTls,
}

/// The token file cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum TokenFileError {
    #[error("token file {} (token_file=): {source}", path.display())]
    Unreadable { path: PathBuf, source: std::io::Error },
    #[error("token file {} (token_file=) is empty: put the token into it, or leave token_file= out", path.display())]
    Empty { path: PathBuf },
}

fn parse(url: &mut FeedUrl<'_>) -> Result<Vec<ParsedFeed>, String> {
    let over_tls = url.scheme == "crumbds";
    let hosts = hosts(url.rest)?;
    let prefix = url.take("prefix")?.map(|prefix| Key::copy_from(prefix.as_bytes()));
    let collection = url.take("collection")?.map(|name| name.parse()).transpose();
    let collection = collection.map_err(|error: CollectionNameError| error.to_string())?;
    let takes_writes = url.take_bool("write")?;
    let mut path = |name| Ok::<_, String>(url.take(name)?.map(PathBuf::from));
    let (token_file, ca, cert, key) = (path("token_file")?, path("ca")?, path("cert")?, path("key")?);
    let identity = match (cert, key) {
        (Some(cert), Some(key)) => Some((cert, key)),
        (None, None) => None,
        (Some(_), None) => return Err("the option cert needs key, its private key".to_owned()),
        (None, Some(_)) => {
            return Err("the option key needs cert, the certificate that it belongs to".to_owned());
        }
    };
    if !over_tls && (ca.is_some() || identity.is_some()) {
        return Err("the options ca, cert and key are for TLS only, which is crumbds://".to_owned());
    }
    let tls = ClientTls { ca, identity, settings: SETTINGS };
    Ok(ParsedFeed::one(Arc::new(RelayConfig {
        hosts,
        over_tls,
        prefix,
        collection,
        token_file,
        takes_writes,
        tls,
    })))
}

fn hosts(rest: &str) -> Result<Vec<String>, String> {
    let form = "a crumbd feed looks like crumbd://127.0.0.1:7811/?prefix=PREFIX";
    let rest = rest.strip_prefix("//").ok_or(form)?;
    let (hosts, path) = rest.split_once('/').unwrap_or((rest, ""));
    if hosts.contains('@') {
        return Err("credentials do not belong into an address: put the token into a file and name it with \
                    token_file="
            .to_owned());
    }
    if !path.is_empty() {
        return Err(format!(
            "nothing follows the slash, but there is {path:?}; keys are chosen with prefix=, a collection with \
             collection="
        ));
    }
    hosts.split(',').map(|host| host_and_port(host, form)).collect()
}

impl RelayConfig {
    /// A client of each host, without a token.
    pub(super) fn clients(&self) -> Result<Vec<Client>, ClientError> {
        let scheme = if self.over_tls { "https" } else { "http" };
        let client = |host: &String| {
            let client = Client::over_tls(&format!("{scheme}://{host}"), self.tls.clone())?;
            Ok(match self.collection.clone() {
                Some(name) => client.in_collection(name),
                None => client,
            })
        };
        self.hosts.iter().map(client).collect()
    }

    /// The token, which may be another one than before.
    pub(super) fn token(&self) -> Result<Option<String>, TokenFileError> {
        let Some(path) = self.token_file.clone() else { return Ok(None) };
        match std::fs::read_to_string(&path) {
            Err(source) => Err(TokenFileError::Unreadable { path, source }),
            Ok(text) if text.trim_end().is_empty() => Err(TokenFileError::Empty { path }),
            Ok(text) => Ok(Some(text.trim_end_matches(['\n', '\r']).to_owned())),
        }
    }
}

impl FeedConfig for RelayConfig {
    /// What is followed, and not where, since hosts come and go.
    fn identity(&self) -> String {
        let collection = self.collection.as_ref().map_or("", CollectionName::as_str);
        let prefix = self.prefix.as_ref().map_or(&b""[..], Key::as_bytes);
        format!("crumbd:{collection}:{}", prefix.escape_ascii())
    }

    fn takes_writes(&self) -> bool {
        self.takes_writes
    }

    fn check(&self, _settings: &FeedSettings) -> Vec<FeedError> {
        let token = self.token().err().map(FeedError::setting);
        let clients = self.clients().err().map(FeedError::setting);
        token.into_iter().chain(clients).collect()
    }

    fn open<'a>(&'a self, _settings: &'a FeedSettings) -> BoxFuture<'a, Result<Box<dyn Feed>, FeedError>> {
        Box::pin(async {
            self.token().map_err(FeedError::setting)?;
            let clients = self.clients().map_err(FeedError::setting)?;
            Ok(Box::new(RelayFeed::new(self.clone(), clients)) as Box<dyn Feed>)
        })
    }
}
