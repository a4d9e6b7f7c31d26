//! Replies: the status and headers of all answers.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use axum::http::header::{CACHE_CONTROL, CONNECTION, CONTENT_ENCODING, CONTENT_TYPE, ETAG, LINK, VARY};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::Response;
use bytes::Bytes;
use hyper::body::{self as http_body, Frame, SizeHint};
use percent_encoding::{NON_ALPHANUMERIC, percent_encode};

use crate::http::auth::access::EffectiveScope;
use crate::model::{CollectionName, Cursor, Sequence};
use crate::view::{self, Answer, Reason};
use crate::wire::{Coding, MediaType, Mode};

pub(in crate::http) const CURSOR: HeaderName = HeaderName::from_static("crumbd-cursor");
pub(in crate::http) const MODE: HeaderName = HeaderName::from_static("crumbd-mode");
pub(in crate::http) const REASON: HeaderName = HeaderName::from_static("crumbd-reason");
const REVISION: HeaderName = HeaderName::from_static("crumbd-revision");
const SEQUENCE: HeaderName = HeaderName::from_static("crumbd-sequence");
pub(in crate::http) const STATUS: HeaderName = HeaderName::from_static("crumbd-status");
pub(in crate::http) const AGE: HeaderName = HeaderName::from_static("crumbd-age");

/// The caching of an answer by clients and proxies.
#[derive(Clone, Copy)]
pub(in crate::http) enum Caching {
    /// Cacheable for ever: the address always means the same state.
    Immutable,
    /// Cacheable for seconds: a client that gets it a little later continues from its cursor and misses nothing.
    Seconds,
    /// Cacheable with revalidation (304).
    Revalidate,
    /// Not cacheable.
    Never,
}

impl Caching {
    /// The value of `Cache-Control`. Answers for a token are private, and a narrowed answer depends on rights that may
    /// change.
    fn as_str(self, guarded: bool, narrowed: bool) -> &'static str {
        match (self, guarded, narrowed) {
            (Self::Never, ..) => "no-store",
            (Self::Immutable, false, _) => "public, max-age=31536000, immutable",
            (Self::Seconds, false, _) => "public, max-age=2",
            (Self::Revalidate, false, _) => "no-cache",
            (Self::Immutable, true, false) => "private, max-age=31536000, immutable",
            (Self::Seconds, true, false) => "private, max-age=2",
            (Self::Revalidate, true, _) | (_, true, true) => "private, no-cache",
        }
    }
}

/// The source of an answer.
#[derive(Clone, Copy)]
pub(in crate::http) struct Source<'a> {
    /// The path under which a proxy serves the daemon.
    pub(in crate::http) base_path: &'a str,
    /// The collection's name; `None` for the default one.
    pub(in crate::http) collection: Option<&'a CollectionName>,
    /// The time since the upstream was last heard.
    pub(in crate::http) age: Duration,
    /// Whether the daemon requires tokens.
    pub(in crate::http) is_guarded: bool,
    /// Whether the answer depends on the origin of the page that asks.
    pub(in crate::http) by_origin: bool,
}

/// The values of an answer's `Crumbd-*` headers.
#[derive(Clone, Copy)]
pub(in crate::http) struct CrumbdHeaders<'a> {
    pub(in crate::http) cursor: Cursor,
    pub(in crate::http) sequence: Sequence,
    pub(in crate::http) mode: Mode,
    pub(in crate::http) reason: Reason,
    /// The scope, which the `next` link repeats.
    pub(in crate::http) scope: &'a EffectiveScope,
}

/// Inserts the headers that every 200, 204 and 304 has.
pub(in crate::http) fn insert_headers(
    source: Source<'_>,
    headers: &mut HeaderMap,
    values: CrumbdHeaders<'_>,
    caching: Caching,
) {
    let CrumbdHeaders { cursor, sequence, mode, reason, scope } = values;
    insert_text(headers, CURSOR, &cursor.to_string());
    headers.insert(MODE, HeaderValue::from_static(mode.as_str()));
    headers.insert(REASON, HeaderValue::from_static(reason.as_str()));
    headers.insert(REVISION, cursor.revision.0.into());
    headers.insert(SEQUENCE, sequence.0.into());
    headers.insert(STATUS, HeaderValue::from_static(cursor.status.as_str()));
    headers.insert(AGE, source.age.as_secs().into());
    let collection = source.collection.map_or_else(String::new, |name| format!("/c/{name}"));
    let base = source.base_path;
    let link = format!("<{base}/v1{collection}/breadcrumbs/{cursor}/next{}>; rel=\"next\"", query(scope));
    insert_text(headers, LINK, &link);
    let caching = caching.as_str(source.is_guarded, scope.is_narrowed());
    headers.insert(CACHE_CONTROL, HeaderValue::from_static(caching));
    if reason == Reason::ShuttingDown {
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
}

/// The query of the `next` link: the requested prefixes, and the fingerprint of the rights.
fn query(scope: &EffectiveScope) -> String {
    let prefixes = scope.asked().iter().filter(|prefix| !prefix.as_bytes().is_empty());
    let prefixes =
        prefixes.map(|prefix| format!("prefix={}", percent_encode(prefix.as_bytes(), NON_ALPHANUMERIC)));
    let rights = scope.fingerprint().map(|fingerprint| format!("rights={fingerprint:x}"));
    let parameters: Vec<String> = prefixes.chain(rights).collect();
    if parameters.is_empty() { String::new() } else { format!("?{}", parameters.join("&")) }
}

/// Inserts a header value. Cursors, ETags and links are visible ASCII and always valid.
pub(in crate::http) fn insert_text(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}

/// A response that either front can write.
pub(in crate::http) type Reply = axum::http::Response<view::Body>;

/// The reply as a response of axum. What it holds of a budget is among its extensions, until the body is written.
pub(in crate::http) fn into_response(reply: Reply) -> Response {
    let held = reply.body().held();
    let mut response = reply.map(|body| axum_body(&body));
    held.and_then(|held| response.extensions_mut().insert(held));
    response
}

/// The 200 of an answer.
pub(in crate::http) fn answer(
    source: Source<'_>,
    answer: Answer,
    scope: &EffectiveScope,
    caching: Caching,
) -> Reply {
    let Answer { cursor, sequence, mode, reason, .. } = answer;
    let values = CrumbdHeaders { cursor, sequence, mode, reason, scope };
    let etag = state_etag(cursor, scope, answer.format.media);
    let mut response = body(answer.body, answer.format.media.as_str());
    let headers = response.headers_mut();
    insert_headers(source, headers, values, caching);
    insert_text(headers, ETAG, &etag);
    vary(source, headers);
    if answer.format.coding != Coding::Identity {
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static(answer.format.coding.as_str()));
    }
    response
}

/// The body for axum, which sends its parts without copying.
fn axum_body(body: &view::Body) -> Body {
    match body.as_one() {
        Some(one) => Body::from(one.clone()),
        None => Body::new(Streamed { body: body.clone(), run: 0, sent: 0, left: body.len() }),
    }
}

/// The parts of a body, as frames.
struct Streamed {
    body: view::Body,
    /// The current run, and how many of its parts were sent.
    run: usize,
    sent: usize,
    /// Bytes that were not sent yet.
    left: u64,
}

impl http_body::Body for Streamed {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        while let Some(run) = self.body.run(self.run) {
            if let Some(part) = run.get(self.sent).cloned() {
                self.sent += 1;
                self.left -= part.len() as u64;
                return Poll::Ready(Some(Ok(Frame::data(part))));
            }
            (self.run, self.sent) = (self.run + 1, 0);
        }
        Poll::Ready(None)
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

pub(in crate::http) fn body(content: impl Into<view::Body>, media: &'static str) -> Reply {
    let mut response = Reply::new(content.into());
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(media));
    response
}

pub(in crate::http) fn vary(source: Source<'_>, headers: &mut HeaderMap) {
    let vary = match (source.is_guarded, source.by_origin) {
        (false, false) => "Accept, Accept-Encoding",
        (true, false) => "Accept, Accept-Encoding, Authorization",
        (false, true) => "Accept, Accept-Encoding, Origin",
        (true, true) => "Accept, Accept-Encoding, Authorization, Origin",
    };
    headers.insert(VARY, HeaderValue::from_static(vary));
}

/// The ETag of a state in a media type. It is weak, because replicas differ in sequence and timestamp. The readable part
/// of a state has another ETag than the whole.
pub(in crate::http) fn state_etag(cursor: Cursor, scope: &EffectiveScope, media: MediaType) -> String {
    let media = MediaType::ALL.iter().position(|known| *known == media).unwrap_or_default();
    match scope.fingerprint().filter(|_| scope.is_narrowed()) {
        Some(fingerprint) => format!("W/\"{cursor}~{media}~{fingerprint:x}\""),
        None => format!("W/\"{cursor}~{media}\""),
    }
}

fn empty(status: StatusCode) -> Reply {
    let mut response = Reply::new(view::Body::from(Bytes::new()));
    *response.status_mut() = status;
    response
}

/// The 304 for a client that has this representation.
pub(in crate::http) fn not_modified(
    source: Source<'_>,
    values: CrumbdHeaders<'_>,
    etag: &str,
    caching: Caching,
) -> Reply {
    let mut response = empty(StatusCode::NOT_MODIFIED);
    let headers = response.headers_mut();
    insert_headers(
        source,
        headers,
        CrumbdHeaders { mode: Mode::None, reason: Reason::NotModified, ..values },
        caching,
    );
    insert_text(headers, ETAG, etag);
    vary(source, headers);
    response
}

/// The 204 for a client without changes.
pub(in crate::http) fn no_content(
    source: Source<'_>,
    cursor: Cursor,
    sequence: Sequence,
    reason: Reason,
    scope: &EffectiveScope,
) -> Reply {
    let mut response = empty(StatusCode::NO_CONTENT);
    let values = CrumbdHeaders { cursor, sequence, mode: Mode::None, reason, scope };
    insert_headers(source, response.headers_mut(), values, Caching::Never);
    response
}

/// The response with `Cache-Control: no-store`.
pub(in crate::http) fn no_store(mut response: Response) -> Response {
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
