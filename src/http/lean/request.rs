//! Which requests are plain long polls, or plain requests for a stream.

use std::cell::RefCell;
use std::sync::Arc;

use axum::http::header::{ACCEPT, ACCEPT_ENCODING, AUTHORIZATION};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Uri};
use memchr::memmem;

use crate::http::api::breadcrumbs::NextRequest;
use crate::http::api::stream::{LAST_EVENT_ID, StreamRequest};
use crate::http::app::App;
use crate::http::auth::access::{Access, token_of};
use crate::http::collection::Collection;
use crate::http::rep::negotiate::format;
use crate::view::Format;

/// Every long poll and every stream begins with one of these; what does not is known to be neither at its first wrong byte.
const STARTS: [&[u8]; 3] = [b"GET /v1/breadcrumbs/", b"GET /v1/stream", b"GET /v1/c/"];

/// A longer head is not plain.
const MAX_HEAD: usize = 4096;

/// More headers are not plain.
const MAX_HEADERS: usize = 32;

/// What the bytes at the beginning of a request are.
pub(super) enum Recognised {
    /// A plain request, and how many bytes it took.
    Plain(PlainRequest, usize),
    /// It may become one.
    Incomplete,
    /// Anything else.
    Other,
}

/// A request for this front.
pub(super) enum PlainRequest {
    /// A long poll.
    Next(Arc<NextRequest>),
    /// A stream.
    Stream(Box<StreamRequest>),
}

thread_local! {
    /// The last plain long poll. When a breadcrumb has gone out to a fleet of clients of one make, the
    /// very same bytes come back from each of them.
    static LAST: RefCell<Option<Last>> = const { RefCell::new(None) };
}

struct Last {
    /// Whose request it was: another daemon in this process may want tokens.
    app: u64,
    head: Vec<u8>,
    /// Where the header lines begin.
    headers: usize,
    /// Shared with all who ask the same: a waiter holds a reference.
    request: Arc<NextRequest>,
}

/// Looks at the beginning of a request.
pub(super) fn recognise(bytes: &[u8], app: &App) -> Recognised {
    let served = Served {
        app: app.number,
        collection: |name: Option<&str>| app.collections.find(name).cloned(),
        admit: |token: Option<&str>| app.admit(token).ok(),
    };
    recognise_with(bytes, &served)
}

/// What has to be known of a daemon to recognise its requests.
struct Served<C, A> {
    app: u64,
    collection: C,
    admit: A,
}

fn recognise_with<C, A>(bytes: &[u8], served: &Served<C, A>) -> Recognised
where
    C: Fn(Option<&str>) -> Option<Arc<Collection>>,
    A: Fn(Option<&str>) -> Option<Access>,
{
    let begins = |start: &[u8]| bytes.iter().zip(start).all(|(byte, expected)| byte == expected);
    if !STARTS.into_iter().any(begins) {
        return Recognised::Other;
    }
    if let Some(again) = LAST.with_borrow(|last| last.as_ref().and_then(|last| last.again(bytes, served.app)))
    {
        return again;
    }
    match memmem::find(&bytes[..bytes.len().min(MAX_HEAD)], b"\r\n\r\n") {
        Some(end) => match plain(&bytes[..end + 4], served) {
            Some(request) => Recognised::Plain(request, end + 4),
            None => Recognised::Other,
        },
        None if bytes.len() < MAX_HEAD && may_become_plain(bytes) => Recognised::Incomplete,
        None => Recognised::Other,
    }
}

impl Last {
    fn again(&self, bytes: &[u8], app: u64) -> Option<Recognised> {
        let same = self.app == app && bytes.starts_with(&self.head) && self.request.scope.is_granted();
        same.then(|| Recognised::Plain(PlainRequest::Next(Arc::clone(&self.request)), self.head.len()))
    }

    /// What the same header lines ask for, and who asks, as long as that has not changed.
    fn by_headers(&self, lines: &[u8], app: u64) -> Option<(Format, Access)> {
        let same = self.app == app && self.head[self.headers..] == *lines && self.request.scope.is_granted();
        same.then(|| (self.request.format, self.request.scope.access()))
    }
}

/// Whether this is the beginning of a head and nothing else: a fault is answered when it is seen, not
/// when the head is whole, and a head that ended in bare line feeds is whole.
fn may_become_plain(begun: &[u8]) -> bool {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let parsed = httparse::Request::new(&mut headers).parse(begun);
    matches!(parsed, Ok(httparse::Status::Partial))
}

fn plain<C, A>(head: &[u8], served: &Served<C, A>) -> Option<PlainRequest>
where
    C: Fn(Option<&str>) -> Option<Arc<Collection>>,
    A: Fn(Option<&str>) -> Option<Access>,
{
    let line_end = memchr::memchr(b'\n', head)? + 1;
    let (line, lines) = head.split_at(line_end);
    // Whatever is wrong with it is explained by the framework, in the same words as any other.
    let (name, uri) = plain_target(line)?;
    let collection = (served.collection)(name)?;
    if uri.path() == "/stream" {
        let (headers, token) = plain_headers(head)?;
        let access = (served.admit)(token.as_deref())?;
        let request = StreamRequest::parse(&collection, &uri, &headers, &access).ok()?;
        return Some(PlainRequest::Stream(Box::new(request)));
    }
    if !is_next(uri.path()) {
        return None;
    }
    let same = |last: &Last| last.by_headers(lines, served.app);
    let (format, access) = match LAST.with_borrow(|last| last.as_ref().and_then(same)) {
        Some(known) => known,
        None => {
            let (headers, token) = plain_headers(head)?;
            // Who is not let in is told so by the framework.
            (format(&headers).ok()?, (served.admit)(token.as_deref())?)
        }
    };
    let request = Arc::new(NextRequest::parse(&collection, &uri, format, &access).ok()?);
    let (head, app) = (head.to_vec(), served.app);
    LAST.set(Some(Last { app, head, headers: line_end, request: Arc::clone(&request) }));
    Some(PlainRequest::Next(request))
}

/// The collection that a request line names, and the address below its base, if nobody can think differently of them.
fn plain_target(line: &[u8]) -> Option<(Option<&str>, Uri)> {
    let target = line.strip_prefix(b"GET ")?.strip_suffix(b" HTTP/1.1\r\n")?;
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"/._~-?=&%+".contains(byte);
    let below = std::str::from_utf8(target).ok()?.strip_prefix("/v1")?;
    let (name, below) = match below.strip_prefix("/c/") {
        Some(named) => {
            let (name, _) = named.split_once('/').filter(|(name, _)| !name.contains(['%', '?', '.']))?;
            (Some(name), &named[name.len()..])
        }
        None => (None, below),
    };
    let uri: Uri = below.parse().ok()?;
    (target.iter().all(plain) && below.starts_with('/')).then_some((name, uri))
}

/// The headers that decide the answer, and the token, if there is nothing but a plain request in the whole head.
fn plain_headers(head: &[u8]) -> Option<(HeaderMap, Option<Box<str>>)> {
    // A line that ends otherwise may be read otherwise by whoever stands before us.
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
    let headers = wanted(request.headers)?;
    let token = match headers.get(AUTHORIZATION) {
        // Other credentials are none here, and the framework has the words for it.
        Some(value) => Some(token_of(value.to_str().ok()?)?.into()),
        None => None,
    };
    Some((headers, token))
}

/// `/breadcrumbs/{cursor}/next`, nothing escaped.
fn is_next(path: &str) -> bool {
    let cursor = path.strip_prefix("/breadcrumbs/").and_then(|rest| rest.strip_suffix("/next"));
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._~-".contains(&byte);
    cursor.is_some_and(|cursor| !cursor.is_empty() && cursor.bytes().all(plain))
}

/// The headers that decide the answer; none when there is one that makes it more than a plain request.
fn wanted(headers: &[httparse::Header<'_>]) -> Option<HeaderMap> {
    let mut wanted = HeaderMap::new();
    let mut hosts = 0;
    for header in headers {
        let is = |name: &HeaderName| header.name.eq_ignore_ascii_case(name.as_str());
        let among = |names: &[&str]| names.iter().any(|name| header.name.eq_ignore_ascii_case(name));
        let more_than_plain =
            ["content-length", "transfer-encoding", "upgrade", "http2-settings", "expect", "te", "trailer"];
        if among(&more_than_plain) || !header.value.iter().all(|byte| (b' '..=b'~').contains(byte)) {
            return None;
        }
        if among(&["connection"]) && !header.value.eq_ignore_ascii_case(b"keep-alive") {
            return None;
        }
        hosts += usize::from(among(&["host"]));
        if is(&AUTHORIZATION) && wanted.contains_key(AUTHORIZATION) {
            return None;
        }
        for name in [ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, LAST_EVENT_ID].into_iter().filter(is) {
            wanted.append(name, HeaderValue::from_bytes(header.value).ok()?);
        }
    }
    (hosts == 1).then_some(wanted)
}

/// As a daemon without tokens recognises it, whose one collection has no name.
#[cfg(test)]
fn recognise_open(bytes: &[u8]) -> Recognised {
    thread_local! {
        static COLLECTION: Arc<Collection> = Arc::new(Collection::of_nothing());
    }
    let collection = |name: Option<&str>| COLLECTION.with(|there| name.is_none().then(|| Arc::clone(there)));
    recognise_with(bytes, &Served { app: 0, collection, admit: |_: Option<&str>| Some(Access::open()) })
}

#[cfg(test)]
mod model;

#[cfg(test)]
mod tests {
    use super::*;

    const CURSOR: &str = "5f0c11d29a3b4e77.1842.s9d03c1f2";

    fn is_taken(text: &str) -> Option<bool> {
        match recognise_open(text.replace("CURSOR", CURSOR).as_bytes()) {
            Recognised::Plain(..) => Some(true),
            Recognised::Other => Some(false),
            Recognised::Incomplete => None,
        }
    }

    #[test]
    fn plain_long_polls_are_taken_and_nothing_else() {
        let start = "GET /v1/breadcrumbs/CURSOR/next HTTP/1.1\r\n";
        for taken in [
            format!("{start}Host: a\r\n\r\n"),
            format!("{start}host:a\r\nAccept: */*\r\nConnection: Keep-Alive\r\nX: y\r\n\r\n"),
            "GET /v1/breadcrumbs/CURSOR/next?wait=5s&prefix=a%2Fb HTTP/1.1\r\nHost: a\r\n\r\nGET /"
                .to_owned(),
        ] {
            assert_eq!(is_taken(&taken), Some(true), "{taken:?}");
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
            "A: \u{e9}",
            "A : b",
            " folded",
            "A: b\nC: d",
        ] {
            let other = format!("{start}Host: a\r\n{header}\r\n\r\n");
            assert_eq!(is_taken(&other), Some(false), "{other:?}");
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
            assert_eq!(is_taken(&other), Some(false), "{other:?}");
        }
        assert_eq!(is_taken(&format!("{start}\r\n")), Some(false), "no Host");
        for fault in ["Host: a\n\n", "Host: a\n\r\n", "A\0", "no colon\r\nA", " folded"] {
            assert_eq!(is_taken(&format!("{start}{fault}")), Some(false), "known at once: {fault:?}");
        }
        assert_eq!(is_taken("POST"), Some(false));
        assert_eq!(is_taken("\r\nGET"), Some(false));
        for begun in ["", "G", "GET /v1/breadcrumbs/", start] {
            assert_eq!(is_taken(begun), None, "{begun:?}");
        }
        let long = format!("{start}A: {}", "a".repeat(MAX_HEAD));
        assert_eq!(is_taken(&long), Some(false), "too long");
    }
}
