//! What a line says of a request: known from its head.

use std::borrow::Cow;

use axum::http::{HeaderMap, HeaderName};

use super::TraceParent;
use crate::http::client_table::CLIENT;

/// The id that a client or a proxy gives a request.
pub(in crate::http) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The trace that a request belongs to (W3C Trace Context).
pub(in crate::http) const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// The most characters of a target that are logged.
const MAX_TARGET: usize = 1024;

/// The longest request id, trace and client's name that are logged, in bytes.
const MAX_HEADER: usize = 128;

/// The parameters whose values are logged. What somebody puts into another one by mistake may be a secret.
const LOGGED_PARAMETERS: [&str; 14] = [
    "after",
    "at",
    "collection",
    "for",
    "from",
    "key",
    "key_base64",
    "limit",
    "prefix",
    "rights",
    "start_after",
    "start_after_base64",
    "version",
    "wait",
];

/// The head of a request, as it is logged.
#[derive(Debug)]
pub(in crate::http) struct RequestHead {
    pub(super) method: Cow<'static, str>,
    pub(super) target: String,
    pub(super) protocol: &'static str,
    /// The name that the client gives itself.
    pub(super) client: Option<String>,
    pub(super) request_id: Option<String>,
    pub(super) traceparent: Option<String>,
}

impl RequestHead {
    pub(in crate::http) fn new(
        method: impl Into<Cow<'static, str>>,
        target: &str,
        protocol: &'static str,
        headers: &HeaderMap,
    ) -> Self {
        let text = |name: HeaderName| {
            let value = headers.get(name)?;
            let is_short = (1..=MAX_HEADER).contains(&value.len());
            value.to_str().ok().filter(|_| is_short).map(str::to_owned)
        };
        Self {
            method: method.into(),
            target: logged(target),
            protocol,
            client: text(CLIENT),
            request_id: text(REQUEST_ID),
            traceparent: text(TRACEPARENT),
        }
    }

    /// Its position in a sampled trace, if it has one.
    pub(super) fn parent(&self) -> Option<TraceParent> {
        TraceParent::sampled(self.traceparent.as_deref()?)
    }

    /// The head of the same client's request for another target.
    pub(in crate::http) fn with_target(&self, target: &str) -> Self {
        Self {
            method: self.method.clone(),
            target: logged(target),
            protocol: self.protocol,
            client: self.client.clone(),
            request_id: self.request_id.clone(),
            traceparent: self.traceparent.clone(),
        }
    }
}

/// The target without the values of unknown parameters.
fn logged(target: &str) -> String {
    let (path, query) = target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
    let mut logged: String = path.chars().take(MAX_TARGET).collect();
    for (index, parameter) in query.into_iter().flat_map(|query| query.split('&')).enumerate() {
        let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        let value = if value.is_empty() || LOGGED_PARAMETERS.contains(&name) { value } else { "…" };
        let is_cut = logged.len() + name.len() + value.len() > MAX_TARGET;
        logged.push(if index == 0 { '?' } else { '&' });
        if is_cut {
            logged.push('…');
            break;
        }
        logged.push_str(name);
        if parameter.contains('=') {
            logged.push('=');
            logged.push_str(value);
        }
    }
    logged
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_values_of_unknown_parameters_are_not_logged() {
        for (target, expected) in [
            ("/v1/kv/a", "/v1/kv/a"),
            ("/v1/kv?key=a%2Fb&at=5f0c.1.s9", "/v1/kv?key=a%2Fb&at=5f0c.1.s9"),
            ("/v1/stream?token=secret&prefix=a", "/v1/stream?token=…&prefix=a"),
            ("/v1/stream?secret", "/v1/stream?secret"),
            ("/v1/stream?a=&&b", "/v1/stream?a=&&b"),
            ("/?", "/?"),
        ] {
            assert_eq!(logged(target), expected);
        }
        let long = logged(&format!("/{}?prefix={}&wait=1s", "ä".repeat(5000), "b".repeat(5000)));
        assert!(long.len() < 4 * MAX_TARGET && long.ends_with("?…"), "{long}");
    }
}
