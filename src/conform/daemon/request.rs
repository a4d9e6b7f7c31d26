//! A request, as the scripted daemon reads and records it.

use std::time::{Duration, Instant};

use percent_encoding::percent_decode;

use super::shape::plain;

/// What a request asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    /// The whole state: `current`, or a stream without a cursor.
    State,
    /// What comes after a cursor: `{cursor}/next`, or a stream with a cursor.
    Follow,
    /// Anything else.
    Other,
}

/// The endpoint.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Endpoint {
    Current,
    Next(String),
    Stream,
    Unknown,
}

/// A request and what became of it.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) at: Instant,
    /// The number of the replica, from 0.
    pub(crate) replica: usize,
    /// The number of the connection at this replica.
    pub(crate) connection: u64,
    pub(crate) method: String,
    pub(crate) target: String,
    pub(crate) kind: Kind,
    /// The cursor, without the rights that may be behind it.
    pub(crate) cursor: Option<String>,
    /// What was answered, and when.
    pub(crate) answer: Option<(Instant, String)>,
    pub(super) endpoint: Endpoint,
    pub(super) headers: Vec<(String, Vec<u8>)>,
    pub(super) query: Vec<(String, Vec<u8>)>,
    /// The rights that the client names.
    pub(super) rights: Option<String>,
}

impl Request {
    /// Takes the head apart.
    pub(super) fn new(
        replica: usize,
        base: &str,
        method: &str,
        target: &str,
        headers: Vec<(String, Vec<u8>)>,
    ) -> Self {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let query = parse_query(query);
        let find = |name: &str| query.iter().find(|(n, _)| n == name).map(|(_, v)| v.clone());
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        let below = path.strip_prefix(base).and_then(|path| path.strip_prefix("/v1/"));
        let endpoint = match below {
            Some("breadcrumbs/current") => Endpoint::Current,
            Some("stream") => Endpoint::Stream,
            Some(below) => below
                .strip_prefix("breadcrumbs/")
                .and_then(|rest| rest.strip_suffix("/next"))
                .filter(|cursor| !cursor.contains('/'))
                .map_or(Endpoint::Unknown, |cursor| Endpoint::Next(plain(cursor).to_owned())),
            None => Endpoint::Unknown,
        };
        let header = |name: &str| headers.iter().find(|(n, _)| n == name).map(|(_, v)| text(v.clone()));
        let (cursor, mut rights) = match &endpoint {
            Endpoint::Next(cursor) => (Some(cursor.clone()), None),
            Endpoint::Stream => {
                let from = header("last-event-id").filter(|id| !id.is_empty());
                let from = from.or_else(|| find("from").map(text));
                match from.as_deref().map(|from| plain(from).split_once('~').unwrap_or((plain(from), ""))) {
                    None => (None, None),
                    Some((cursor, "")) => (Some(cursor.to_owned()), None),
                    Some((cursor, rights)) => (Some(cursor.to_owned()), Some(rights.to_owned())),
                }
            }
            _ => (None, None),
        };
        rights = rights.or_else(|| find("rights").map(text));
        let kind = match (&endpoint, &cursor) {
            (Endpoint::Current, _) | (Endpoint::Stream, None) => Kind::State,
            (Endpoint::Next(_) | Endpoint::Stream, _) => Kind::Follow,
            (Endpoint::Unknown, _) => Kind::Other,
        };
        Self {
            at: Instant::now(),
            replica,
            connection: 0,
            method: method.to_owned(),
            target: target.to_owned(),
            kind,
            cursor,
            answer: None,
            endpoint,
            headers,
            query,
            rights,
        }
    }

    /// The values of all headers with this name, with commas between.
    pub(crate) fn header(&self, name: &str) -> Option<String> {
        let all = self.headers.iter().filter(|(n, _)| n == name);
        let all: Vec<_> = all.map(|(_, value)| String::from_utf8_lossy(value)).collect();
        (!all.is_empty()).then(|| all.join(","))
    }

    /// The first value of this query parameter.
    pub(crate) fn parameter(&self, name: &str) -> Option<&[u8]> {
        self.query.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_slice())
    }

    /// How long the client wants to wait: 29 s when it does not say it, and `None` when it cannot be read.
    pub(super) fn wait(&self) -> Option<Duration> {
        match self.parameter("wait") {
            None => Some(Duration::from_secs(29)),
            Some(text) => parse_duration(std::str::from_utf8(text).ok()?),
        }
    }

    /// Whether this is a request for a stream.
    pub(crate) fn is_stream(&self) -> bool {
        self.endpoint == Endpoint::Stream
    }

    /// The address as a link is compared: the path, and the parameters but `wait`, sorted.
    pub(super) fn link(&self) -> Link {
        let path = self.target.split('?').next().unwrap_or_default().to_owned();
        let mut query: Vec<_> = self.query.iter().filter(|(name, _)| name != "wait").cloned().collect();
        query.sort();
        (path, query)
    }
}

/// A link without its spelling.
pub(super) type Link = (String, Vec<(String, Vec<u8>)>);

/// The link of an address.
pub(super) fn link_of(target: &str) -> Link {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let mut query = parse_query(query);
    query.sort();
    (path.to_owned(), query)
}

fn parse_query(query: &str) -> Vec<(String, Vec<u8>)> {
    let decode = |text: &str| percent_decode(text.replace('+', " ").as_bytes()).collect::<Vec<u8>>();
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    let pair = |pair: &str| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (String::from_utf8_lossy(&decode(name)).into_owned(), decode(value))
    };
    pairs.map(pair).collect()
}

fn parse_duration(text: &str) -> Option<Duration> {
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: f64 = number.parse().ok()?;
    let seconds = match unit {
        "ms" => number / 1000.0,
        "s" => number,
        "m" => number * 60.0,
        "" if number == 0.0 => 0.0,
        _ => return None,
    };
    Duration::try_from_secs_f64(seconds).ok()
}
