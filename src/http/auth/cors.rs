//! Pages of other origins that may read (CORS, <https://fetch.spec.whatwg.org/#http-cors-protocol>).

use std::str::FromStr;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_METHOD, CACHE_CONTROL,
    ORIGIN, VARY,
};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use crate::http::app::App;
use crate::http::rep::problem::Problem;

/// The headers that a page may send.
const MAY_SEND: &str = "Authorization, Accept, If-None-Match, Last-Event-ID, Crumbd-Client, \
    Crumbd-Key, Crumbd-Start-After";

/// The headers of an answer that a page may read.
const MAY_READ: &str = "Crumbd-Age, Crumbd-Cursor, Crumbd-Mode, Crumbd-Reason, Crumbd-Revision, Crumbd-Rights, \
    Crumbd-Sequence, Crumbd-Status, ETag, Link, Retry-After, WWW-Authenticate";

/// How long a browser may remember the answer to a preflight, in seconds.
const MAX_AGE_S: &str = "600";

/// The origins whose pages may read. The default is none.
#[derive(Clone, Debug, Default)]
pub struct Origins(Arc<[String]>);

/// A text that is not an origin.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not an origin; expected one such as https://app.example or http://localhost:3000, or *")]
pub struct OriginError(String);

impl FromStr for Origins {
    type Err = OriginError;

    /// A list with commas; `*` is every origin.
    fn from_str(text: &str) -> Result<Self, OriginError> {
        let origin = |text: &str| origin(text.trim()).ok_or_else(|| OriginError(text.trim().to_owned()));
        text.split(',').map(origin).collect::<Result<Vec<_>, _>>().map(|all| Self(all.into()))
    }
}

/// The origin as browsers write it.
fn origin(text: &str) -> Option<String> {
    if text == "*" {
        return Some(text.to_owned());
    }
    let uri: Uri = text.parse().ok()?;
    let (scheme, authority) = (uri.scheme_str()?, uri.authority()?);
    let is_origin = uri.path_and_query().is_none_or(|path| path == "/") && !text.ends_with('/');
    let default_port = match scheme {
        "http" => 80,
        "https" => 443,
        _ => return None,
    };
    let host = authority.host().to_ascii_lowercase();
    if !is_origin || host.is_empty() || authority.as_str().contains('@') {
        return None;
    }
    match authority.port_u16().filter(|port| *port != default_port) {
        Some(port) => Some(format!("{scheme}://{host}:{port}")),
        None => Some(format!("{scheme}://{host}")),
    }
}

impl Origins {
    /// Whether pages of other origins may read at all.
    pub(in crate::http) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether the answer depends on the origin of the page.
    pub(in crate::http) fn differ(&self) -> bool {
        !self.is_empty() && !self.is_any()
    }

    fn is_any(&self) -> bool {
        self.0.iter().any(|origin| origin == "*")
    }

    /// Whether this is a request of a page that may read.
    #[cfg(feature = "etcd")]
    pub(in crate::http) fn allow(&self, headers: &HeaderMap) -> bool {
        headers.get(ORIGIN).is_some_and(|origin| self.allowed(origin).is_some())
    }

    /// The `Access-Control-Allow-Origin` for a page of this origin.
    fn allowed(&self, origin: &HeaderValue) -> Option<HeaderValue> {
        if self.is_any() {
            return Some(HeaderValue::from_static("*"));
        }
        self.0.iter().any(|allowed| allowed.as_bytes() == origin.as_bytes()).then(|| origin.clone())
    }
}

/// Answers preflights, which have no token, and lets pages of allowed origins read the answers.
pub(in crate::http) async fn apply(State(app): State<App>, request: Request, next: Next) -> Response {
    let Some(origin) = request.headers().get(ORIGIN).filter(|_| !app.origins.is_empty()).cloned() else {
        return next.run(request).await;
    };
    let allowed = app.origins.allowed(&origin);
    if request.method() == Method::OPTIONS && request.headers().contains_key(ACCESS_CONTROL_REQUEST_METHOD) {
        return preflight(allowed, &origin);
    }
    let mut response = next.run(request).await;
    if let Some(allowed) = allowed {
        let headers = response.headers_mut();
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, allowed);
        headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(MAY_READ));
    }
    response
}

fn preflight(allowed: Option<HeaderValue>, origin: &HeaderValue) -> Response {
    let Some(allowed) = allowed else {
        let origin = String::from_utf8_lossy(origin.as_bytes());
        let detail = format!("pages of {origin} may not read here (--allow-origin)");
        return Problem::forbidden("cross-origin", detail).into_response();
    };
    let mut headers = HeaderMap::new();
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, allowed);
    for (name, value) in [
        (ACCESS_CONTROL_ALLOW_METHODS, "GET, HEAD"),
        (ACCESS_CONTROL_ALLOW_HEADERS, MAY_SEND),
        (ACCESS_CONTROL_MAX_AGE, MAX_AGE_S),
        (CACHE_CONTROL, "no-store"),
        (VARY, "Origin"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    (StatusCode::NO_CONTENT, headers).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_are_written_as_browsers_write_them() {
        let origins: Result<Origins, _> =
            "https://App.example:443, http://localhost:3000,http://[::1]:8080".parse();
        let origins = origins.map(|origins| origins.0.to_vec());
        let expected = ["https://app.example", "http://localhost:3000", "http://[::1]:8080"];
        assert_eq!(origins, Ok(expected.map(str::to_owned).to_vec()));
        for bad in [
            "",
            "app.example",
            "https://",
            "https://a/",
            "https://a/b",
            "https://u@a",
            "ftp://a",
            "null",
            "https://a b",
        ] {
            assert!(bad.parse::<Origins>().is_err(), "{bad:?}");
        }
    }
}
