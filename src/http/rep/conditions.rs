//! Conditional reads (RFC 9110, section 13): a condition that is stated is honoured.

use axum::body::Body;
use axum::extract::Request;
use axum::http::header::{
    CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, HeaderName, IF_MATCH, IF_NONE_MATCH,
    IF_UNMODIFIED_SINCE,
};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use crate::http::rep::problem::Problem;
use crate::http::rep::reply::{MODE, REASON};
use crate::view::Reason;
use crate::wire::Mode;

/// Turns the 200 of a read into a 412 if `If-Match` does not have its ETag, and into a 304 if `If-None-Match` has it. An
/// answer without an ETag matches only `*`.
pub(in crate::http) async fn honour(request: Request, next: Next) -> Response {
    let is_read = [Method::GET, Method::HEAD].contains(request.method());
    let conditions = request.headers();
    if !is_read || ![IF_MATCH, IF_NONE_MATCH].iter().any(|name| conditions.contains_key(name)) {
        return next.run(request).await;
    }
    let conditions = conditions.clone();
    let response = next.run(request).await;
    if response.status() != StatusCode::OK {
        return response;
    }
    let etag = response.headers().get(ETAG).and_then(|etag| etag.to_str().ok()).unwrap_or("").to_owned();
    if conditions.contains_key(IF_MATCH) && !if_match_has(&conditions, &etag) {
        let detail = match &*etag {
            "" => "this answer has no ETag, so If-Match cannot hold".to_owned(),
            etag => format!("the ETag is {etag}, which If-Match does not have (a weak one matches only *)"),
        };
        return Problem::new(StatusCode::PRECONDITION_FAILED, "condition-failed", detail).into_response();
    }
    if !etag.is_empty() && if_none_match_has(&conditions, &etag) {
        return not_modified(response);
    }
    response
}

fn not_modified(mut response: Response) -> Response {
    *response.status_mut() = StatusCode::NOT_MODIFIED;
    *response.body_mut() = Body::empty();
    let headers = response.headers_mut();
    [CONTENT_TYPE, CONTENT_LENGTH, CONTENT_ENCODING].iter().for_each(|name| _ = headers.remove(name));
    // Only answers that tell a state have them.
    if headers.contains_key(MODE) {
        headers.insert(MODE, HeaderValue::from_static(Mode::None.as_str()));
        headers.insert(REASON, HeaderValue::from_static(Reason::NotModified.as_str()));
    }
    response
}

/// Whether `If-Match` names this ETag (RFC 9110, 13.1.1: strong comparison).
fn if_match_has(request: &HeaderMap, etag: &str) -> bool {
    etags(request, &IF_MATCH).any(|tag| tag == "*" || (tag == etag && !tag.starts_with("W/")))
}

/// Whether `If-None-Match` names this ETag (RFC 9110, 13.1.2: weak comparison).
pub(in crate::http) fn if_none_match_has(request: &HeaderMap, etag: &str) -> bool {
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

/// Refuses a write with a header that it cannot honour.
pub(in crate::http) fn refuse(request: &HeaderMap, names: &[HeaderName], why: &str) -> Result<(), Problem> {
    match names.iter().find(|name| request.contains_key(*name)) {
        Some(name) => Err(Problem::bad_request(format!("header {name}: {why}; nothing was written"))),
        None => Ok(()),
    }
}

/// What no write of a key takes.
pub(in crate::http) const NOT_FOR_KEYS: [HeaderName; 2] = [IF_UNMODIFIED_SINCE, CONTENT_RANGE];

/// All conditions that a write may state.
pub(in crate::http) const ALL: [HeaderName; 3] = [IF_MATCH, IF_NONE_MATCH, IF_UNMODIFIED_SINCE];
