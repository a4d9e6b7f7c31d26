//! The address of a key.
//!
//! | where | for |
//! |---|---|
//! | `/v1/kv/{key}` | most keys |
//! | `/v1/kv?key=`, `/v1/kv?key_base64=` | any key: clients and proxies rewrite paths with `.` and `..`, but no queries |
//! | `/v1/kv` and the header `Crumbd-Key`, in base64 | a key that is too long for an address |

use axum::extract::Request;
use axum::http::header::{ALLOW, HeaderName};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::alphabet::URL_SAFE;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

use crate::http::rep::problem::Problem;
use crate::http::rep::query::{Query, path_key};
use crate::model::Key;

/// The key, in base64.
const KEY: HeaderName = HeaderName::from_static("crumbd-key");

/// The key after which a listing begins, in base64.
const START_AFTER: HeaderName = HeaderName::from_static("crumbd-start-after");

const BASE64: GeneralPurpose = GeneralPurpose::new(
    &URL_SAFE,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Whether a request to `/v1/kv` is for one key.
pub(in crate::http) fn names_key(uri: &Uri, headers: &HeaderMap) -> bool {
    let parameters = uri.query().unwrap_or("").split('&');
    let mut names = parameters.map(|parameter| parameter.split('=').next().unwrap_or(""));
    headers.contains_key(KEY) || names.any(|name| name == "key" || name == "key_base64")
}

/// Whether the key is in a header, so that caches, which compare addresses, must not keep the answer.
pub(in crate::http) fn is_in_header(headers: &HeaderMap) -> bool {
    [KEY, START_AFTER].iter().any(|name| headers.contains_key(name))
}

/// Refuses a write to the listing. Its 405 is the same as for an address that cannot be written at all.
pub(in crate::http) async fn refuse_writes_without_key(request: Request, next: Next) -> Response {
    let is_read = [Method::GET, Method::HEAD].contains(request.method());
    if is_read || names_key(request.uri(), request.headers()) {
        return next.run(request).await;
    }
    let detail = format!(
        "{} needs a key: write it as /v1/kv/KEY, as /v1/kv?key=KEY or as /v1/kv?key_base64=KEY",
        request.method()
    );
    let mut response =
        Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed", detail).into_response();
    response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET,HEAD"));
    response
}

/// The key of a request for one key, and its other parameters, of which only `known` are allowed.
pub(in crate::http) fn key_and_query<'a>(
    uri: &Uri,
    headers: &HeaderMap,
    known: &[&'a str],
) -> Result<(Key, Query), Problem> {
    if uri.path() != "/kv" {
        if headers.contains_key(KEY) {
            return Err(Problem::bad_request(format!(
                "the key is given twice: in the path and in the header {KEY}"
            )));
        }
        return Ok((path_key(uri)?, Query::parse(uri, known)?));
    }
    let known: Vec<&'a str> = ["key", "key_base64"].into_iter().chain(known.iter().copied()).collect();
    let mut query = Query::parse(uri, &known)?;
    let key = one_key(&mut query, headers, ["key", "key_base64"], &KEY)?;
    key.map(|key| (key, query)).ok_or_else(|| {
        Problem::bad_request(
            "the request names no key: write it as /v1/kv/KEY, or as /v1/kv?key=KEY or /v1/kv?key_base64=KEY",
        )
    })
}

/// The key after which a listing begins, if it has one.
pub(in crate::http) fn start_after(query: &mut Query, headers: &HeaderMap) -> Result<Option<Key>, Problem> {
    one_key(query, headers, ["start_after", "start_after_base64"], &START_AFTER)
}

/// The key in one of two parameters or a header.
fn one_key(
    query: &mut Query,
    headers: &HeaderMap,
    [plain, encoded]: [&'static str; 2],
    header: &HeaderName,
) -> Result<Option<Key>, Problem> {
    let in_query =
        query.key(encoded).map(|text| decode(text.as_bytes(), &format!("query parameter {encoded:?}")));
    let in_header = headers.get(header).map(|text| decode(text.as_bytes(), &format!("header {header}")));
    let mut given = query.key(plain).map(Ok).into_iter().chain(in_query).chain(in_header);
    match (given.next(), given.next()) {
        (Some(_), Some(_)) => Err(Problem::bad_request(format!(
            "the key is given twice: use one of the query parameters {plain:?} and {encoded:?} and the header {header}"
        ))),
        (key, _) => key.transpose(),
    }
}

/// Decodes base64 in the usual or the URL-safe alphabet, padded or not.
fn decode(text: &[u8], what: &str) -> Result<Key, Problem> {
    // In a query `+` is a space.
    let url_safe = |byte: &u8| match byte {
        b'+' | b' ' => b'-',
        b'/' => b'_',
        byte => *byte,
    };
    let url_safe: Vec<u8> = text.iter().map(url_safe).collect();
    BASE64
        .decode(url_safe)
        .map(Key::new)
        .map_err(|error| Problem::bad_request(format!("{what} is not base64: {error}")))
}
