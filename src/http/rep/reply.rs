//! Answers as HTTP: one place decides status and headers.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use axum::http::header::{
    CACHE_CONTROL, CONNECTION, CONTENT_ENCODING, CONTENT_TYPE, ETAG, IF_NONE_MATCH, LINK, VARY,
};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::Response;
use bytes::Bytes;
use hyper::body::{self as http_body, Frame, SizeHint};
use percent_encoding::{NON_ALPHANUMERIC, percent_encode};

use crate::http::auth::access::EffectiveScope;
use crate::model::{Cursor, Sequence};
use crate::view::{self, Answer, Reason};
use crate::wire::{Coding, Mode};

const CURSOR: HeaderName = HeaderName::from_static("crumbd-cursor");
pub(in crate::http) const MODE: HeaderName = HeaderName::from_static("crumbd-mode");
pub(in crate::http) const REASON: HeaderName = HeaderName::from_static("crumbd-reason");
const REVISION: HeaderName = HeaderName::from_static("crumbd-revision");
const SEQUENCE: HeaderName = HeaderName::from_static("crumbd-sequence");
pub(in crate::http) const STATUS: HeaderName = HeaderName::from_static("crumbd-status");
pub(in crate::http) const AGE: HeaderName = HeaderName::from_static("crumbd-age");

/// How long an answer may be used again.
#[derive(Clone, Copy)]
pub(in crate::http) enum Caching {
    /// The address always means the same.
    Immutable,
    /// Good for a moment: it was made of kept breadcrumbs, and whoever gets it a little later goes
    /// on from its cursor and misses nothing.
    Seconds,
    /// Ask again each time (and get 304).
    Revalidate,
    /// Not at all.
    Never,
}

impl Caching {
    /// What is for the holder of a token is not for shared caches, and what is only a part of what was
    /// asked for may be another part tomorrow, under the same address.
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

/// What every answer says of where it comes from.
#[derive(Clone, Copy)]
pub(in crate::http) struct Source<'a> {
    /// The collection; none for the default one.
    pub(in crate::http) collection: Option<&'a str>,
    /// How long ago its upstream was heard.
    pub(in crate::http) age: Duration,
    /// Whether the daemon wants tokens.
    pub(in crate::http) is_guarded: bool,
}

/// Where a response leaves the client, and why.
#[derive(Clone, Copy)]
pub(in crate::http) struct Place<'a> {
    pub(in crate::http) cursor: Cursor,
    pub(in crate::http) sequence: Sequence,
    pub(in crate::http) mode: Mode,
    pub(in crate::http) reason: Reason,
    /// What it is about: the next link keeps it.
    pub(in crate::http) scope: &'a EffectiveScope,
}

/// The headers that every 200, 204 and 304 carries.
pub(in crate::http) fn place(
    source: Source<'_>,
    headers: &mut HeaderMap,
    place: Place<'_>,
    caching: Caching,
) {
    let Place { cursor, sequence, mode, reason, scope } = place;
    text(headers, CURSOR, &cursor.to_string());
    headers.insert(MODE, HeaderValue::from_static(mode.as_str()));
    headers.insert(REASON, HeaderValue::from_static(reason.as_str()));
    headers.insert(REVISION, cursor.revision.0.into());
    headers.insert(SEQUENCE, sequence.0.into());
    headers.insert(STATUS, HeaderValue::from_static(cursor.status.as_str()));
    headers.insert(AGE, source.age.as_secs().into());
    let base = source.collection.map_or_else(|| "/v1".to_owned(), |name| format!("/v1/c/{name}"));
    text(headers, LINK, &format!("<{base}/breadcrumbs/{cursor}/next{}>; rel=\"next\"", query(scope)));
    let caching = caching.as_str(source.is_guarded, scope.is_narrowed());
    headers.insert(CACHE_CONTROL, HeaderValue::from_static(caching));
    if reason == Reason::ShuttingDown {
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
}

/// The prefix that was asked for, and the rights that it was answered under.
fn query(scope: &EffectiveScope) -> String {
    let prefix =
        scope.asked().map(|prefix| format!("prefix={}", percent_encode(prefix.as_bytes(), NON_ALPHANUMERIC)));
    let rights = scope.fingerprint().map(|tag| format!("rights={tag:x}"));
    match (prefix, rights) {
        (None, None) => String::new(),
        (Some(one), None) | (None, Some(one)) => format!("?{one}"),
        (Some(prefix), Some(rights)) => format!("?{prefix}&{rights}"),
    }
}

/// Cursors, ETags and links are visible ASCII, so they always are header values.
pub(in crate::http) fn text(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}

/// An answer before it is known who writes it.
pub(in crate::http) type Reply = axum::http::Response<view::Body>;

/// Hands a reply to the framework.
pub(in crate::http) fn framed(reply: Reply) -> Response {
    reply.map(|body| stream(&body))
}

/// A body with everything that belongs to it; 304 when the client has it already.
pub(in crate::http) fn answer(
    source: Source<'_>,
    request: &HeaderMap,
    answer: Answer,
    scope: &EffectiveScope,
    caching: Caching,
) -> Reply {
    let Answer { cursor, sequence, mode, reason, .. } = answer;
    let at = Place { cursor, sequence, mode, reason, scope };
    let etag = state_etag(cursor, scope);
    if not_modified(request, &etag) {
        return unchanged(source, at, &etag, caching);
    }
    let mut response = body(answer.body, answer.format.media.as_str());
    let headers = response.headers_mut();
    place(source, headers, at, caching);
    text(headers, ETAG, &etag);
    vary(source, headers);
    if answer.format.coding != Coding::Identity {
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static(answer.format.coding.as_str()));
    }
    response
}

/// A body for the framework, which sends its parts as they are.
fn stream(body: &view::Body) -> Body {
    match (body.run(0), body.run(1)) {
        (Some([one]), None) => Body::from(one.clone()),
        _ => Body::new(Streamed { body: body.clone(), run: 0, sent: 0, left: body.len() }),
    }
}

/// Sends the parts of a body one by one.
struct Streamed {
    body: view::Body,
    /// The run that is being sent, and how many of its parts are.
    run: usize,
    sent: usize,
    /// Bytes.
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
    let vary =
        if source.is_guarded { "Accept, Accept-Encoding, Authorization" } else { "Accept, Accept-Encoding" };
    headers.insert(VARY, HeaderValue::from_static(vary));
}

/// Weak, because two daemons that serve the same state differ in sequence and timestamp. The same part
/// of a state has another tag than the whole, and than another part.
pub(in crate::http) fn state_etag(cursor: Cursor, scope: &EffectiveScope) -> String {
    match scope.fingerprint().filter(|_| scope.is_narrowed()) {
        Some(tag) => format!("W/\"{cursor}~{tag:x}\""),
        None => format!("W/\"{cursor}\""),
    }
}

fn empty(status: StatusCode) -> Reply {
    let mut response = Reply::new(view::Body::from(Bytes::new()));
    *response.status_mut() = status;
    response
}

/// 304: the client's representation is still the one.
pub(in crate::http) fn unchanged(source: Source<'_>, at: Place<'_>, etag: &str, caching: Caching) -> Reply {
    let mut response = empty(StatusCode::NOT_MODIFIED);
    let headers = response.headers_mut();
    place(source, headers, Place { mode: Mode::None, reason: Reason::NotModified, ..at }, caching);
    text(headers, ETAG, etag);
    vary(source, headers);
    response
}

/// 204: nothing for this client.
pub(in crate::http) fn nothing(
    source: Source<'_>,
    cursor: Cursor,
    sequence: Sequence,
    reason: Reason,
    scope: &EffectiveScope,
) -> Reply {
    let mut response = empty(StatusCode::NO_CONTENT);
    let at = Place { cursor, sequence, mode: Mode::None, reason, scope };
    place(source, response.headers_mut(), at, Caching::Never);
    response
}

/// The same, and nobody keeps it.
pub(in crate::http) fn no_store(mut response: Response) -> Response {
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// Whether `If-None-Match` names this ETag (RFC 9110, 13.1.2: weak comparison).
pub(in crate::http) fn not_modified(request: &HeaderMap, etag: &str) -> bool {
    let opaque = etag.trim_start_matches("W/");
    etags(request, &IF_NONE_MATCH).any(|tag| tag == "*" || tag.trim_start_matches("W/") == opaque)
}

/// The entity tags of a conditional header, quotes and weakness included.
pub(in crate::http) fn etags<'a>(
    request: &'a HeaderMap,
    name: &'a HeaderName,
) -> impl Iterator<Item = &'a str> {
    let values = request.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
    // No ETag of ours contains a comma.
    values.flat_map(|value| value.split(',')).map(str::trim).filter(|tag| !tag.is_empty())
}
