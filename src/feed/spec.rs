//! The text after `--feed`.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use percent_encoding::percent_decode;

use super::EtcdTarget;

/// A feed as `--feed` names it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FeedSpec {
    /// `file:PATH[?follow=true]`: NDJSON records from a file.
    File {
        /// The file.
        path: PathBuf,
        /// Whether to read what is appended, and to notice truncation and replacement.
        follow: bool,
    },
    /// `etcd://HOST:PORT[,HOST:PORT…]/PREFIX`, or `etcds://` with TLS: the keys of an etcd cluster that begin
    /// with the prefix, which is everything after the first slash, percent-decoded.
    Etcd {
        /// The members and the prefix.
        target: EtcdTarget,
        /// Whether to speak TLS.
        tls: bool,
    },
    /// `stdin:`: NDJSON records from standard input.
    Stdin,
    /// `push:`: the writing half of the HTTP interface; this process is the datastore.
    Push,
}

/// Text that does not name a feed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("feed {text:?}: {reason}")]
pub struct SpecError {
    text: String,
    reason: String,
}

impl FeedSpec {
    /// The identity of the feed, however it is spelled: the prefix of an etcd feed, since endpoints come and go, and
    /// the canonical path of a file.
    pub fn identity(&self) -> String {
        match self {
            Self::File { path, .. } => {
                let place = path.canonicalize().or_else(|_| std::path::absolute(path));
                format!("file:{}", place.as_ref().unwrap_or(path).display())
            }
            Self::Etcd { target, .. } => format!("etcd:{}", target.prefix.escape_ascii()),
            Self::Stdin => "stdin:".to_owned(),
            Self::Push => "push:".to_owned(),
        }
    }
}

impl FromStr for FeedSpec {
    type Err = SpecError;

    fn from_str(text: &str) -> Result<Self, SpecError> {
        let error = |reason: String| SpecError { text: text.to_owned(), reason };
        match text.split_once(':') {
            Some(("push", "")) => Ok(Self::Push),
            Some(("stdin", "")) => Ok(Self::Stdin),
            Some(("push" | "stdin", rest)) => {
                Err(error(format!("nothing follows the colon, but there is {rest:?}")))
            }
            Some(("file", rest)) => parse_file(rest).map_err(error),
            Some((scheme @ ("etcd" | "etcds"), rest)) => {
                let target = parse_etcd(rest).map_err(error)?;
                Ok(Self::Etcd { target, tls: scheme == "etcds" })
            }
            _ => Err(error(
                "it is push:, stdin:, file:PATH[?follow=true] or etcd://HOST:PORT[,HOST:PORT…]/PREFIX"
                    .to_owned(),
            )),
        }
    }
}

fn parse_file(rest: &str) -> Result<FeedSpec, String> {
    let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
    if path.is_empty() {
        return Err("a file feed needs a path, as in file:feed.ndjson".to_owned());
    }
    let follow = match query {
        "" | "follow=false" => false,
        "follow=true" => true,
        other => return Err(format!("{other:?} is no option of a file feed: it has follow=true")),
    };
    let path = path.strip_prefix("//").map_or(path, |absolute| absolute);
    Ok(FeedSpec::File { path: PathBuf::from(path), follow })
}

fn parse_etcd(rest: &str) -> Result<EtcdTarget, String> {
    let form = "an etcd feed looks like etcd://127.0.0.1:2379/PREFIX";
    let rest = rest.strip_prefix("//").ok_or(form)?;
    let (hosts, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    if hosts.contains('@') {
        return Err(
            "credentials do not belong into an address: use --etcd-user and --etcd-password-file".to_owned()
        );
    }
    if prefix.contains('?') {
        return Err("an etcd feed has no options after a ?; in a prefix it is written %3F".to_owned());
    }
    let endpoint = |host: &str| match host.rsplit_once(':') {
        Some((name, _)) if let Some(odd) = name.chars().find(|&c| !is_of_a_host(c)) => {
            Err(format!("{odd:?} cannot be part of a host's name, as in {host:?}; {form}"))
        }
        Some((name, port)) if !name.is_empty() && port.parse::<u16>().is_ok() => Ok(host.to_owned()),
        _ => Err(format!("{host:?} is no HOST:PORT; {form}")),
    };
    let endpoints = hosts.split(',').map(endpoint).collect::<Result<_, _>>()?;
    Ok(EtcdTarget { endpoints, prefix: percent_decode(prefix.as_bytes()).collect() })
}

/// Whether the name or address of a host may have this character.
fn is_of_a_host(character: char) -> bool {
    character.is_ascii_alphanumeric() || matches!(character, '-' | '.' | '_' | ':' | '[' | ']')
}

impl fmt::Display for FeedSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path, follow: false } => write!(f, "file:{}", path.display()),
            Self::File { path, follow: true } => write!(f, "file:{}?follow=true", path.display()),
            Self::Etcd { target, tls } => {
                let scheme = if *tls { "etcds" } else { "etcd" };
                let prefix = String::from_utf8_lossy(&target.prefix);
                write!(f, "{scheme}://{}/{prefix}", target.endpoints.join(","))
            }
            Self::Stdin => f.write_str("stdin:"),
            Self::Push => f.write_str("push:"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_feed_is_one_of_those_there_are() {
        let file = |path: &str, follow| FeedSpec::File { path: path.into(), follow };
        assert_eq!("push:".parse(), Ok(FeedSpec::Push));
        assert_eq!("stdin:".parse(), Ok(FeedSpec::Stdin));
        assert_eq!("file:a/b.ndjson".parse(), Ok(file("a/b.ndjson", false)));
        assert_eq!("file:/a?follow=true".parse(), Ok(file("/a", true)));
        assert_eq!("file:///a".parse(), Ok(file("/a", false)));
        let etcd = |endpoints: &[&str], prefix: &str, tls| FeedSpec::Etcd {
            target: EtcdTarget {
                endpoints: endpoints.iter().map(|e| (*e).to_owned()).collect(),
                prefix: prefix.as_bytes().to_vec(),
            },
            tls,
        };
        assert_eq!("etcd://a:1,b:2/x/y".parse(), Ok(etcd(&["a:1", "b:2"], "x/y", false)));
        assert_eq!("etcds://a:1//registry/".parse(), Ok(etcd(&["a:1"], "/registry/", true)));
        assert_eq!("etcd://a:1".parse(), Ok(etcd(&["a:1"], "", false)));
        for bad in [
            "etcd:",
            "etcd://",
            "etcd://a/x",
            "etcd://u:p@a:1/x",
            "etcd://a:1/x?y=z",
            "etcd:// a:1/x",
            "etcd://a%20b:1/x",
            "",
            "push",
            "push:x",
            "file:",
            "file:a?tail=1",
            "http://x",
            "a.ndjson",
        ] {
            assert!(bad.parse::<FeedSpec>().is_err(), "{bad:?} was taken for a feed");
        }
    }
}
