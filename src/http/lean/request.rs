//! Recognition of plain requests: long polls and streams that the lean front serves.

use std::cell::RefCell;
use std::sync::Arc;

use axum::http::header::{ACCEPT, ACCEPT_ENCODING, AUTHORIZATION};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Uri};
use memchr::memmem;

use crate::http::access_log::{REQUEST_ID, RequestHead, TRACEPARENT};
use crate::http::api::breadcrumbs::NextRequest;
use crate::http::api::stream::{LAST_EVENT_ID, StreamRequest};
use crate::http::app::App;
use crate::http::auth::Hosts;
use crate::http::auth::access::{Admission, bearer_token};
use crate::http::client_table::{CLIENT, ClientName, client_name};
use crate::http::collection::Collection;
use crate::http::rep::negotiate::{excludes_identity, format};
use crate::view::Format;

/// The prefixes of all long polls and streams. Any other request is recognised at its first different byte.
const STARTS: [&[u8]; 3] = [b"GET /v1/breadcrumbs/", b"GET /v1/stream", b"GET /v1/c/"];

/// The longest head of a plain request, in bytes.
const MAX_HEAD: usize = 4096;

/// The most headers of a plain request.
const MAX_HEADERS: usize = 32;

/// The kind of request that some bytes begin with.
pub(super) enum Recognised {
    /// A plain request, and its length in bytes.
    Plain(PlainRequest, usize),
    /// The beginning of what may be a plain request.
    Incomplete,
    /// Any other request.
    Other,
}

/// A plain request.
pub(super) enum PlainRequest {
    /// A long poll.
    Next(Arc<NextRequest>),
    /// A stream.
    Stream(Box<StreamRequest>),
}

thread_local! {
    /// The last plain long poll. After a breadcrumb, a fleet of equal clients sends the very same bytes.
    static LAST: RefCell<Option<LastRequest>> = const { RefCell::new(None) };
}

struct LastRequest {
    /// The app that parsed it; another one in this process may require tokens.
    app: u64,
    head: Vec<u8>,
    /// The index of the first header line.
    headers: usize,
    /// The request, which all waiters with the same head share.
    request: Arc<NextRequest>,
}

/// Recognises the request at the beginning of these bytes.
pub(super) fn recognise(bytes: &[u8], app: &App) -> Recognised {
    let lookup = Lookup {
        app: app.id,
        collection: |name: Option<&str>| app.collections.find(name).cloned(),
        admit: |token: Option<&str>| app.admit(token).ok(),
        hosts: &app.hosts,
        allows_origins: !app.origins.is_empty(),
        names: app.clients.is_some(),
        logs: app.records_requests(),
    };
    recognise_with(bytes, &lookup)
}

/// The collections, tokens and names of an app.
struct Lookup<'a, C, A> {
    app: u64,
    collection: C,
    admit: A,
    hosts: &'a Hosts,
    /// Whether pages of other origins may read. The framework answers those.
    allows_origins: bool,
    /// Whether clients are named.
    names: bool,
    /// Whether requests are logged.
    logs: bool,
}

fn recognise_with<C, A>(bytes: &[u8], lookup: &Lookup<'_, C, A>) -> Recognised
where
    C: Fn(Option<&str>) -> Option<Arc<Collection>>,
    A: Fn(Option<&str>) -> Option<Admission>,
{
    let begins = |start: &[u8]| bytes.iter().zip(start).all(|(byte, expected)| byte == expected);
    if !STARTS.into_iter().any(begins) {
        return Recognised::Other;
    }
    let same = |last: &LastRequest| last.by_head(bytes, lookup.app);
    if let Some(same) = LAST.with_borrow(|last| last.as_ref().and_then(same)) {
        return same;
    }
    match memmem::find(&bytes[..bytes.len().min(MAX_HEAD)], b"\r\n\r\n") {
        Some(end) => match parse_plain(&bytes[..end + 4], lookup) {
            Some(request) => Recognised::Plain(request, end + 4),
            None => Recognised::Other,
        },
        None if bytes.len() < MAX_HEAD && may_become_plain(bytes) => Recognised::Incomplete,
        None => Recognised::Other,
    }
}

impl LastRequest {
    /// The same request, if the bytes begin with the same head and the rights still hold.
    fn by_head(&self, bytes: &[u8], app: u64) -> Option<Recognised> {
        let same = self.app == app && bytes.starts_with(&self.head) && self.request.scope.is_granted();
        same.then(|| Recognised::Plain(PlainRequest::Next(Arc::clone(&self.request)), self.head.len()))
    }

    /// What the same header lines say, if the rights still hold.
    fn by_headers(&self, lines: &[u8], app: u64) -> Option<HeaderLines> {
        let same = self.app == app && self.head[self.headers..] == *lines && self.request.scope.is_granted();
        same.then(|| HeaderLines {
            format: self.request.format,
            admission: self.request.scope.admission(),
            name: self.request.name(),
            logged: self.request.logged.clone(),
        })
    }
}

/// What the header lines of a long poll say.
struct HeaderLines {
    format: Format,
    admission: Admission,
    /// The client's name.
    name: Option<ClientName>,
    /// The head for the access log; its target may be another one.
    logged: Option<Arc<RequestHead>>,
}

/// Whether this is the beginning of a valid head. An error is answered as soon as it is seen, before the head is
/// complete. A head that ends in bare line feeds is complete.
fn may_become_plain(begun: &[u8]) -> bool {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let parsed = httparse::Request::new(&mut headers).parse(begun);
    matches!(parsed, Ok(httparse::Status::Partial))
}

fn parse_plain<C, A>(head: &[u8], lookup: &Lookup<'_, C, A>) -> Option<PlainRequest>
where
    C: Fn(Option<&str>) -> Option<Arc<Collection>>,
    A: Fn(Option<&str>) -> Option<Admission>,
{
    let line_end = memchr::memchr(b'\n', head)? + 1;
    let (line, lines) = head.split_at(line_end);
    // The framework answers all errors.
    let (name, uri) = plain_target(line)?;
    let collection = (lookup.collection)(name)?;
    if uri.path() == "/stream" {
        let (headers, token) = plain_headers(head, lookup.hosts, lookup.allows_origins)?;
        let access = (lookup.admit)(token.as_deref())?.access_to(&collection).ok()?;
        let name = if lookup.names { client_name(&headers).ok()? } else { None };
        let mut request = StreamRequest::parse(&collection, &uri, &headers, &access, name).ok()?;
        request.logged = lookup.logs.then(|| logged_head(line, &headers));
        return Some(PlainRequest::Stream(Box::new(request)));
    }
    if !is_next(uri.path()) {
        return None;
    }
    let same = |last: &LastRequest| last.by_headers(lines, lookup.app);
    let HeaderLines { format, admission, name, logged } =
        match LAST.with_borrow(|last| last.as_ref().and_then(same)) {
            // Of the last request, only the target may differ.
            Some(known) => {
                let target = target(line).map(String::from_utf8_lossy);
                let of_this = |head: Arc<RequestHead>| Some(Arc::new(head.with_target(target.as_deref()?)));
                HeaderLines { logged: known.logged.and_then(of_this), ..known }
            }
            None => {
                let (headers, token) = plain_headers(head, lookup.hosts, lookup.allows_origins)?;
                // The framework encodes what is not encoded for others.
                if excludes_identity(&headers) {
                    return None;
                }
                let name = if lookup.names { client_name(&headers).ok()? } else { None };
                let logged = lookup.logs.then(|| logged_head(line, &headers));
                let (format, admission) = (format(&headers).ok()?, (lookup.admit)(token.as_deref())?);
                HeaderLines { format, admission, name, logged }
            }
        };
    let access = admission.access_to(&collection).ok()?;
    let mut request = NextRequest::parse(&collection, &uri, format, &access, name).ok()?;
    request.logged = logged;
    let request = Arc::new(request);
    let (head, app) = (head.to_vec(), lookup.app);
    LAST.set(Some(LastRequest { app, head, headers: line_end, request: Arc::clone(&request) }));
    Some(PlainRequest::Next(request))
}

/// The head of a request with this first line, for the access log.
fn logged_head(line: &[u8], headers: &HeaderMap) -> Arc<RequestHead> {
    Arc::new(RequestHead::new(
        "GET",
        &String::from_utf8_lossy(target(line).unwrap_or_default()),
        "HTTP/1.1",
        headers,
    ))
}

/// The target in a request line.
fn target(line: &[u8]) -> Option<&[u8]> {
    line.strip_prefix(b"GET ")?.strip_suffix(b" HTTP/1.1\r\n")
}

/// The collection in a request line and the path below its base, if every parser reads the line in the same way.
fn plain_target(line: &[u8]) -> Option<(Option<&str>, Uri)> {
    collection_target(target(line)?)
}

/// The collection in a target and the path below its base, if every parser reads the target in the same way.
fn collection_target(target: &[u8]) -> Option<(Option<&str>, Uri)> {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"/._~-?=&%+".contains(byte);
    let below = std::str::from_utf8(target).ok()?.strip_prefix("/v1")?;
    let (name, below) = match below.strip_prefix("/c/") {
        Some(named) => {
            let (name, _) = named.split_once('/')?;
            (Some(name), &named[name.len()..])
        }
        None => (None, below),
    };
    let uri: Uri = below.parse().ok()?;
    (target.iter().all(plain) && below.starts_with('/')).then_some((name, uri))
}

/// The headers that determine the answer, and the token, if the head is plain.
fn plain_headers(head: &[u8], hosts: &Hosts, allows_origins: bool) -> Option<(HeaderMap, Option<Box<str>>)> {
    // A proxy in front of the daemon may read bare line feeds differently.
    let bare = |at: usize| at == 0 || head[at - 1] != b'\r';
    if memchr::memchr_iter(b'\n', head).any(bare) {
        return None;
    }
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut request = httparse::Request::new(&mut headers);
    let whole = request.parse(head).is_ok_and(|parsed| parsed == httparse::Status::Complete(head.len()));
    if !whole || request.method != Some("GET") || request.version != Some(1) {
        return None;
    }
    let lines = request.headers.iter().map(|header| (header.name, header.value));
    let headers = relevant(lines, hosts, allows_origins)?;
    let token = token(&headers)?;
    Some((headers, token))
}

/// The token, if there is one; `None` if the framework has to answer the credentials.
fn token(headers: &HeaderMap) -> Option<Option<Box<str>>> {
    match headers.get(AUTHORIZATION) {
        Some(value) => Some(Some(bearer_token(value.to_str().ok()?)?.into())),
        None => Some(None),
    }
}

/// The plain long poll that a GET of HTTP/2 is, whose target and headers these are.
pub(in super::super) fn plain_next(target: &str, headers: &HeaderMap, app: &App) -> Option<NextRequest> {
    let (name, uri) = collection_target(target.as_bytes())?;
    let lines = || headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes()));
    let length = target.len() + lines().map(|(name, value)| name.len() + value.len()).sum::<usize>();
    if !is_next(uri.path()) || length > MAX_HEAD {
        return None;
    }
    let collection = app.collections.find(name)?;
    let headers = relevant(lines(), &app.hosts, !app.origins.is_empty())?;
    if excludes_identity(&headers) {
        return None;
    }
    let access = app.admit(token(&headers)?.as_deref()).ok()?.access_to(collection).ok()?;
    let name = app.client_name(&headers).ok()?;
    let mut request = NextRequest::parse(collection, &uri, format(&headers).ok()?, &access, name).ok()?;
    let logs = app.records_requests();
    request.logged = logs.then(|| Arc::new(RequestHead::new("GET", target, "HTTP/2", &headers)));
    Some(request)
}

/// Whether it is `/breadcrumbs/{cursor}/next` without escapes.
fn is_next(path: &str) -> bool {
    let cursor = path.strip_prefix("/breadcrumbs/").and_then(|rest| rest.strip_suffix("/next"));
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._~-".contains(&byte);
    cursor.is_some_and(|cursor| !cursor.is_empty() && cursor.bytes().all(plain))
}

/// The headers that determine the answer; `None` if another header makes the request not plain.
fn relevant<'h>(
    headers: impl Iterator<Item = (&'h str, &'h [u8])>,
    hosts: &Hosts,
    allows_origins: bool,
) -> Option<HeaderMap> {
    let mut relevant = HeaderMap::new();
    let mut host_lines = 0;
    for (header, value) in headers {
        let is = |name: &HeaderName| header.eq_ignore_ascii_case(name.as_str());
        let among = |names: &[&str]| names.iter().any(|name| header.eq_ignore_ascii_case(name));
        let not_plain = [
            "content-length",
            "transfer-encoding",
            "upgrade",
            "http2-settings",
            "expect",
            "te",
            "trailer",
            "if-match",
            "if-none-match",
            // The framework answers relays.
            "crumbd-relay",
        ];
        if among(&not_plain) || !value.iter().all(|byte| (b' '..=b'~').contains(byte)) {
            return None;
        }
        if among(&["connection"]) && !value.eq_ignore_ascii_case(b"keep-alive") {
            return None;
        }
        if among(&["host"]) {
            host_lines += 1;
            if !hosts.admit(std::str::from_utf8(value).ok()?) {
                return None;
            }
        }
        if allows_origins && among(&["origin"]) {
            return None;
        }
        if is(&AUTHORIZATION) && relevant.contains_key(AUTHORIZATION) {
            return None;
        }
        let kept = [ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, LAST_EVENT_ID, CLIENT, REQUEST_ID, TRACEPARENT];
        for name in kept.into_iter().filter(is) {
            relevant.append(name, HeaderValue::from_bytes(value).ok()?);
        }
    }
    (host_lines == 1).then_some(relevant)
}

/// Recognises a request to a daemon without tokens, with the default collection only.
#[cfg(test)]
fn recognise_open(bytes: &[u8]) -> Recognised {
    thread_local! {
        static COLLECTION: Arc<Collection> = Arc::new(Collection::empty());
    }
    let collection = |name: Option<&str>| COLLECTION.with(|only| name.is_none().then(|| Arc::clone(only)));
    let (hosts, admit) = (&Hosts::default(), |_: Option<&str>| Some(Admission::open()));
    recognise_with(
        bytes,
        &Lookup { app: 0, collection, admit, hosts, allows_origins: false, names: false, logs: false },
    )
}

#[cfg(test)]
mod model;

#[cfg(test)]
mod tests {
    use super::*;

    const CURSOR: &str = "5f0c11d29a3b4e77.1842.s9d03c1f2";

    /// Whether the text is a plain request; `None` if it is incomplete.
    fn is_plain(text: &str) -> Option<bool> {
        match recognise_open(text.replace("CURSOR", CURSOR).as_bytes()) {
            Recognised::Plain(..) => Some(true),
            Recognised::Other => Some(false),
            Recognised::Incomplete => None,
        }
    }

    #[test]
    fn plain_long_polls_are_recognised_and_nothing_else() {
        let start = "GET /v1/breadcrumbs/CURSOR/next HTTP/1.1\r\n";
        for plain in [
            format!("{start}Host: a\r\n\r\n"),
            format!("{start}host:a\r\nAccept: */*\r\nConnection: Keep-Alive\r\nX: y\r\n\r\n"),
            "GET /v1/breadcrumbs/CURSOR/next?wait=5s&prefix=a%2Fb HTTP/1.1\r\nHost: a\r\n\r\nGET /"
                .to_owned(),
        ] {
            assert_eq!(is_plain(&plain), Some(true), "{plain:?}");
        }
        for header in [
            "Content-Length: 0",
            "Transfer-Encoding: chunked",
            "Connection: close",
            "Connection: keep-alive, upgrade",
            "Expect: 100-continue",
            "Upgrade: h2c",
            "Host: b",
            "Accept: text/html",
            "Accept-Encoding: gzip, identity;q=0",
            "A: \u{e9}",
            "A : b",
            " folded",
            "A: b\nC: d",
        ] {
            let other = format!("{start}Host: a\r\n{header}\r\n\r\n");
            assert_eq!(is_plain(&other), Some(false), "{other:?}");
        }
        for line in [
            "GET /v1/breadcrumbs/CURSOR/next HTTP/1.0",
            "GET  /v1/breadcrumbs/CURSOR/next HTTP/1.1",
            "HEAD /v1/breadcrumbs/CURSOR/next HTTP/1.1",
            "GET /v1/breadcrumbs/CURSOR/next/ HTTP/1.1",
            "GET /v1/breadcrumbs//next HTTP/1.1",
            "GET /v1/breadcrumbs/nonsense/next HTTP/1.1",
            "GET /v1/breadcrumbs/CURSOR%2e/next HTTP/1.1",
            "GET /v1/breadcrumbs/CURSOR/next?wait=1 HTTP/1.1",
            "GET /v1/breadcrumbs/CURSOR/next?unknown=1 HTTP/1.1",
            "GET /v1/breadcrumbs/current HTTP/1.1",
            "GET /v1/breadcrumbs/CURSOR HTTP/1.1",
            "GET /v1/c/other/breadcrumbs/CURSOR/next HTTP/1.1",
            "GET /v1/c/breadcrumbs/CURSOR/next HTTP/1.1",
            "GET /v1breadcrumbs/CURSOR/next HTTP/1.1",
        ] {
            let other = format!("{line}\r\nHost: a\r\n\r\n");
            assert_eq!(is_plain(&other), Some(false), "{other:?}");
        }
        assert_eq!(is_plain(&format!("{start}\r\n")), Some(false), "no Host");
        for fault in ["Host: a\n\n", "Host: a\n\r\n", "A\0", "no colon\r\nA", " folded"] {
            assert_eq!(is_plain(&format!("{start}{fault}")), Some(false), "recognised at once: {fault:?}");
        }
        assert_eq!(is_plain("POST"), Some(false));
        assert_eq!(is_plain("\r\nGET"), Some(false));
        for begun in ["", "G", "GET /v1/breadcrumbs/", start] {
            assert_eq!(is_plain(begun), None, "{begun:?}");
        }
        let long = format!("{start}A: {}", "a".repeat(MAX_HEAD));
        assert_eq!(is_plain(&long), Some(false), "too long");
    }
}
