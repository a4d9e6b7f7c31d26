//! `etcd://HOST:PORT[,HOST:PORT…]/PREFIX` as a setting, and the credentials for it.

use std::env::VarError;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures_util::future::BoxFuture;
use percent_encoding::percent_decode_str;

use super::{EtcdAccess, EtcdFeed, EtcdTarget, Password};
use crate::feed::registry::{Kind, Storage};
use crate::feed::spec::ParsedFeed;
use crate::feed::url::{FeedUrl, host_and_port};
use crate::feed::{EtcdFlags, Feed, FeedConfig, FeedError, FeedSettings, PASSWORD_VARIABLE};
use crate::wire::{self, PemError};

pub(in crate::feed) const KIND: Kind = Kind {
    schemes: &["etcd", "etcds"],
    form: "etcd://HOST:PORT[,HOST:PORT…]/PREFIX",
    example: "etcd://127.0.0.1:2379/app/",
    summary: "the keys of an etcd cluster that begin with PREFIX; etcds:// over TLS",
    options: &[
        ("ca", "file (PEM) of the authority of the servers, instead of --etcd-ca"),
        ("cert", "file (PEM) of the client certificate, instead of --etcd-cert"),
        ("key", "file (PEM) of its private key, instead of --etcd-key"),
        ("user", "user name, instead of --etcd-user"),
        ("password_file", "file with the user's password, instead of --etcd-password-file"),
        ("write", "true: takes writes over HTTP, each of which is one transaction of etcd"),
    ],
    storage: Storage::Copy,
    strict_has_no_effect: Some("every value of etcd can be read"),
    parse,
};

/// An etcd prefix as it is configured.
#[derive(Debug)]
struct EtcdConfig {
    target: EtcdTarget,
    tls: bool,
    takes_writes: bool,
    /// The options in the URL.
    options: EtcdFlags,
}

/// An etcd password that cannot be read.
#[derive(Debug, thiserror::Error)]
enum PasswordError {
    #[error("etcd password file {}: {source}", path.display())]
    File { path: PathBuf, source: io::Error },
    #[error("an etcd user needs a password: --etcd-password-file or the variable {PASSWORD_VARIABLE}")]
    Missing,
    #[error("{PASSWORD_VARIABLE} is not UTF-8")]
    NotUtf8,
}

/// A certificate or key for etcd that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("etcd {role} {}: {reason}", path.display())]
struct EtcdFileError {
    role: Role,
    path: PathBuf,
    reason: PemFileError,
}

#[derive(Debug, Clone, Copy)]
enum Role {
    Authority,
    Certificate,
    Key,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Authority => "authority",
            Self::Certificate => "certificate",
            Self::Key => "key",
        })
    }
}

#[derive(Debug, thiserror::Error)]
enum PemFileError {
    #[error(transparent)]
    Unreadable(#[from] io::Error),
    #[error(transparent)]
    Pem(#[from] PemError),
}

fn parse(url: &mut FeedUrl<'_>) -> Result<Vec<ParsedFeed>, String> {
    let tls = url.scheme == "etcds";
    let target = target(url.rest)?;
    let takes_writes = url.take_bool("write")?;
    let mut path = |name| Ok::<_, String>(url.take(name)?.map(PathBuf::from));
    let (ca, cert, key, password_file) = (path("ca")?, path("cert")?, path("key")?, path("password_file")?);
    let options = EtcdFlags { ca, cert, key, user: url.take("user")?, password_file };
    match (&options.cert, &options.key) {
        (Some(_), None) => return Err("the option cert needs key, its private key".to_owned()),
        (None, Some(_)) => {
            return Err("the option key needs cert, the certificate that it belongs to".to_owned());
        }
        _ => {}
    }
    if options.password_file.is_some() && options.user.is_none() {
        return Err("the option password_file needs user, the user whose password it is".to_owned());
    }
    if !tls && (options.ca.is_some() || options.cert.is_some()) {
        return Err("the options ca, cert and key are for TLS only, which is etcds://".to_owned());
    }
    Ok(ParsedFeed::one(Arc::new(EtcdConfig { target, tls, takes_writes, options })))
}

fn target(rest: &str) -> Result<EtcdTarget, String> {
    let form = "an etcd feed looks like etcd://127.0.0.1:2379/PREFIX";
    let rest = rest.strip_prefix("//").ok_or(form)?;
    let (hosts, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    if hosts.contains('@') {
        return Err("credentials do not belong into an address: use the options user and password_file, or \
                    --etcd-user and --etcd-password-file"
            .to_owned());
    }
    let endpoints = hosts.split(',').map(|host| host_and_port(host, form)).collect::<Result<_, _>>()?;
    Ok(EtcdTarget { endpoints, prefix: percent_decode_str(prefix).collect() })
}

impl EtcdConfig {
    /// The credentials: what the URL does not say is as in the flags.
    fn access(&self, flags: &EtcdFlags) -> Result<EtcdAccess, PasswordError> {
        let own = &self.options;
        let identity = own.cert.clone().zip(own.key.clone());
        let user = match own.user.clone().or_else(|| flags.user.clone()) {
            Some(user) => {
                // A user of the URL does not have the password of another one.
                let file = if own.user.is_some() { &own.password_file } else { &flags.password_file };
                Some((user, password(file.as_deref())?))
            }
            None => None,
        };
        Ok(EtcdAccess {
            tls: self.tls,
            ca: own.ca.clone().or_else(|| flags.ca.clone()),
            identity: identity.or_else(|| flags.cert.clone().zip(flags.key.clone())),
            user,
        })
    }
}

fn password(file: Option<&Path>) -> Result<Password, PasswordError> {
    if let Some(path) = file {
        let read = Password::in_file(path.to_owned());
        return read.map_err(|source| PasswordError::File { path: path.to_owned(), source });
    }
    std::env::var(PASSWORD_VARIABLE).map(Password::of).map_err(|error| match error {
        VarError::NotPresent => PasswordError::Missing,
        VarError::NotUnicode(_) => PasswordError::NotUtf8,
    })
}

impl FeedConfig for EtcdConfig {
    /// The prefix, since endpoints come and go.
    fn identity(&self) -> String {
        format!("etcd:{}", self.target.prefix.escape_ascii())
    }

    fn takes_writes(&self) -> bool {
        self.takes_writes
    }

    fn check(&self, settings: &FeedSettings) -> Vec<FeedError> {
        let access = match self.access(&settings.etcd) {
            Ok(access) if self.tls => access,
            Ok(_) => return Vec::new(),
            Err(error) => return vec![FeedError::setting(error)],
        };
        let mut errors = Vec::new();
        let mut check = |role, path: &Path, parse: fn(&[u8]) -> Result<(), PemError>| {
            let parsed = match std::fs::read(path) {
                Ok(bytes) => parse(&bytes).map_err(PemFileError::from),
                Err(error) => Err(error.into()),
            };
            let error = parsed.err().map(|reason| EtcdFileError { role, path: path.to_owned(), reason });
            errors.extend(error.map(FeedError::setting));
        };
        if let Some(ca) = &access.ca {
            check(Role::Authority, ca, |bytes| wire::certificates(bytes).map(drop));
        }
        if let Some((certificate, key)) = &access.identity {
            check(Role::Certificate, certificate, |bytes| wire::certificates(bytes).map(drop));
            check(Role::Key, key, |bytes| wire::private_key(bytes).map(drop));
        }
        errors
    }

    fn open<'a>(&'a self, settings: &'a FeedSettings) -> BoxFuture<'a, Result<Box<dyn Feed>, FeedError>> {
        Box::pin(async {
            let access = self.access(&settings.etcd).map_err(FeedError::setting)?;
            let feed = EtcdFeed::new(self.target.clone(), access).with_writes(self.takes_writes);
            Ok(Box::new(feed) as Box<dyn Feed>)
        })
    }
}
