//! Bodies for clients that exclude identity: `Accept-Encoding: gzip, identity;q=0`.
//!
//! The view leaves small bodies uncompressed, and key values, the status and errors have no coding at all. For these few
//! clients every such body is encoded here, once a request. A longer one is 406: each request would hold its own copy.

use axum::body::{Body, HttpBody as _, to_bytes};
use axum::extract::Request;
use axum::http::header::{CONTENT_ENCODING, CONTENT_LENGTH};
use axum::http::{HeaderValue, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;

use crate::http::rep::negotiate;
use crate::http::rep::problem::Problem;
use crate::wire::Coding;

/// The longest body that is encoded for one request, in bytes.
const LONGEST: u64 = 64 * 1024;

/// Answers the request, in a coding if the client excludes identity.
pub(in crate::http) async fn encode_answer(request: Request, next: Next) -> Response {
    if !negotiate::excludes_identity(request.headers()) {
        return next.run(request).await;
    }
    // Where everything is excluded, there is nothing better than identity for an error, and no other answer.
    let coding = negotiate::coding(request.headers()).ok();
    let response = next.run(request).await;
    // A body of unknown length is that of a stream, which is not answered to such a client.
    let bytes = response.body().size_hint().exact().unwrap_or_default();
    let is_uncoded = bytes > 0 && !response.headers().contains_key(CONTENT_ENCODING);
    match coding {
        _ if !is_uncoded => response,
        None if response.status().is_success() => Problem::not_acceptable(
            "the Accept-Encoding header allows none of the codings here: gzip, zstd, identity",
        )
        .into_response(),
        None => response,
        Some(coding) if bytes <= LONGEST => encoded(response, coding).await,
        Some(_) => Problem::not_acceptable(format!(
            "the Accept-Encoding header excludes identity, the only coding here of a body of more than {LONGEST} bytes"
        ))
        .into_response(),
    }
}

async fn encoded(response: Response, coding: Coding) -> Response {
    let (mut parts, body) = response.into_parts();
    let internal = |error: &dyn std::error::Error| {
        Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", error.to_string()).into_response()
    };
    let plain = match to_bytes(body, usize::MAX).await {
        Ok(plain) => plain,
        Err(error) => return internal(&error),
    };
    let body = match tokio::task::spawn_blocking(move || coding.encode(&plain)).await {
        Ok(Ok(body)) => Bytes::from(body),
        Ok(Err(error)) => return internal(&error),
        Err(error) => return internal(&error),
    };
    parts.headers.remove(CONTENT_LENGTH);
    parts.headers.insert(CONTENT_ENCODING, HeaderValue::from_static(coding.as_str()));
    Response::from_parts(parts, Body::from(body))
}
