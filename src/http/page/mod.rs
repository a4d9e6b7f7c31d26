//! The web page: the daemon's status, its keys, and their changes.
//!
//! On a daemon with named collections it shows one of them, which the user chooses.
//!
//! It consists of three static files that need no token. They read the same endpoints as every client, with the token
//! that the user enters if the daemon requires one. They load nothing from elsewhere: the page works without internet
//! access, and the content security policy forbids anything else.

use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderValue, Uri};
use axum::response::{IntoResponse, Response};
use xxhash_rust::xxh3::xxh3_64;

use crate::http::rep::problem::Problem;
use crate::http::rep::query::Query;
use crate::http::rep::reply;

const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; \
    base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

pub(super) async fn page(uri: Uri) -> Result<Response, Problem> {
    file(&uri, "text/html; charset=utf-8", include_str!("page.html"))
}

pub(super) async fn style(uri: Uri) -> Result<Response, Problem> {
    file(&uri, "text/css; charset=utf-8", include_str!("page.css"))
}

pub(super) async fn script(uri: Uri) -> Result<Response, Problem> {
    file(&uri, "text/javascript; charset=utf-8", include_str!("page.js"))
}

fn file(uri: &Uri, media: &'static str, text: &'static str) -> Result<Response, Problem> {
    Query::parse(uri, &[])?;
    let etag = format!("\"{:016x}\"", xxh3_64(text.as_bytes()));
    let mut response = text.into_response();
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(media));
    // A new version of the daemon may have a new page.
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    reply::insert_text(headers, ETAG, &etag);
    Ok(response)
}
