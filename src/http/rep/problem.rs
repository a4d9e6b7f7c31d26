//! Errors as `application/problem+json` (RFC 9457).

use axum::body::Body;
use axum::http::header::{CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use crate::feed::WriteError;
use crate::http::refusals::Refused;
use crate::http::rep::reply::{Reply, into_response};
use crate::model::{Cursor, Refusal};
use crate::view::ViewError;

const PROBLEM_JSON: HeaderValue = HeaderValue::from_static("application/problem+json");

/// The range of `Retry-After`, in seconds. It is random, so that clients do not all retry at the same moment.
const RETRY_AFTER_S: std::ops::RangeInclusive<u64> = 1..=3;

/// An error for the client. Boxed to keep the results of handlers small.
#[derive(Clone, Debug)]
pub(in crate::http) struct Problem(Box<Details>);

#[derive(Clone, Debug, Serialize)]
struct Details {
    /// The kind of problem, for programs.
    #[serde(rename = "type")]
    kind: String,
    title: &'static str,
    status: u16,
    detail: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    current: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    oldest: Option<String>,
    /// Seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after: Option<u64>,
}

impl Problem {
    pub(in crate::http) fn new(status: StatusCode, kind: &str, detail: impl Into<String>) -> Self {
        Self(Box::new(Details {
            kind: format!("urn:crumbd:problem:{kind}"),
            title: status.canonical_reason().unwrap_or("Error"),
            status: status.as_u16(),
            detail: detail.into(),
            current: None,
            oldest: None,
            retry_after: None,
        }))
    }

    pub(in crate::http) fn bad_request(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "malformed", detail)
    }

    pub(in crate::http) fn unauthorized(kind: &str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, kind, detail)
    }

    pub(in crate::http) fn forbidden(kind: &str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, kind, detail)
    }

    /// The 410 for a client whose state was read with other rights.
    pub(in crate::http) fn rights_changed() -> Self {
        let detail = "the read rights of this token have changed since this link was issued; start again from \
            GET …/breadcrumbs/current";
        Self::new(StatusCode::GONE, "rights-changed", detail)
    }

    pub(in crate::http) fn not_found(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not-found", detail)
    }

    pub(in crate::http) fn not_acceptable(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_ACCEPTABLE, "not-acceptable", detail)
    }

    pub(in crate::http) fn too_large(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "too-large", detail)
    }

    pub(in crate::http) fn unavailable(kind: &str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, kind, detail).retry_later()
    }

    /// The 503 of a request over a budget.
    pub(in crate::http) fn over_budget(detail: String, retry_after_s: u64) -> Self {
        let mut problem = Self::new(StatusCode::SERVICE_UNAVAILABLE, "over-budget", detail);
        problem.0.retry_after = Some(retry_after_s);
        problem
    }

    /// The 429 of a request over its client's rate.
    pub(in crate::http) fn rate_limited(detail: String, retry_after_s: u64) -> Self {
        let mut problem = Self::new(StatusCode::TOO_MANY_REQUESTS, "rate-limited", detail);
        problem.0.retry_after = Some(retry_after_s);
        problem
    }

    fn retry_later(mut self) -> Self {
        self.0.retry_after = Some(fastrand::u64(RETRY_AFTER_S));
        self
    }

    /// The time after which the client may try again, in seconds.
    pub(in crate::http) fn retry_after(&self) -> Option<u64> {
        self.0.retry_after
    }

    /// The status of the answer.
    #[cfg(feature = "etcd")]
    pub(in crate::http) fn status(&self) -> u16 {
        self.0.status
    }

    /// What is wrong, as a sentence.
    pub(in crate::http) fn detail(&self) -> &str {
        &self.0.detail
    }

    fn cursors(mut self, current: Cursor, oldest: Option<Cursor>) -> Self {
        self.0.current = Some(current.to_string());
        self.0.oldest = oldest.map(|cursor| cursor.to_string());
        self
    }
}

impl From<ViewError> for Problem {
    fn from(error: ViewError) -> Self {
        let detail = error.to_string();
        match error {
            ViewError::Gone { current, oldest, .. } => {
                Self::new(StatusCode::GONE, "cursor-gone", detail).cursors(current, Some(oldest))
            }
            ViewError::Ahead { current, .. } => Self::unavailable("behind", detail).cursors(current, None),
            ViewError::Starting => Self::unavailable("starting", detail),
            ViewError::Stopped => Self::unavailable("shutting-down", detail),
            ViewError::OverBudget(full) => Self::over_budget(detail, full.retry_after_s),
            _ => Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", detail),
        }
    }
}

impl Problem {
    /// The refusal of another daemon. A client tries again later where that daemon says so.
    fn passed_on(status: u16, kind: &str, detail: String) -> Self {
        let status = StatusCode::from_u16(status).ok().filter(|status| status.as_u16() >= 400);
        let (status, kind) = match status {
            Some(status) if !kind.is_empty() => (status, kind),
            Some(status) => (status, "upstream-refuses"),
            None => (StatusCode::SERVICE_UNAVAILABLE, "not-done"),
        };
        let problem = Self::new(status, kind, detail);
        let is_later = matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE);
        if is_later { problem.retry_later() } else { problem }
    }
}

impl From<WriteError> for Problem {
    fn from(error: WriteError) -> Self {
        let detail = error.to_string();
        match error {
            WriteError::Full { .. } => {
                Self::new(StatusCode::TOO_MANY_REQUESTS, "buffer-full", detail).retry_later()
            }
            WriteError::Refused(Refusal::ConditionFailed { .. }) => {
                Self::new(StatusCode::PRECONDITION_FAILED, "condition-failed", detail)
            }
            WriteError::Refused(Refusal::NotPersisted { .. }) => Self::unavailable("not-kept", detail),
            WriteError::Refused(Refusal::Unsettled { .. }) | WriteError::Unsettled { .. } => {
                Self::unavailable("unsettled", detail)
            }
            WriteError::Refused(Refusal::NoRoom { .. }) => {
                Self::new(StatusCode::INSUFFICIENT_STORAGE, "over-limit", detail)
            }
            WriteError::Refused(_) | WriteError::TooLarge(_) => Self::too_large(detail),
            WriteError::NotDone { .. } => Self::unavailable("not-done", detail),
            WriteError::NotYetRead { .. } => Self::unavailable("not-yet-read", detail),
            WriteError::Forbidden { .. } => Self::forbidden("upstream-forbids", detail),
            WriteError::Passed { status, kind, detail } => Self::passed_on(status, &kind, detail),
            WriteError::Unsupported { .. } => Self::bad_request(detail),
            _ => Self::unavailable("shutting-down", detail),
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        into_response(self.into_reply())
    }
}

impl Problem {
    pub(in crate::http) fn into_reply(self) -> Reply {
        let status = StatusCode::from_u16(self.0.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        // Strings and numbers always serialize.
        let mut body = serde_json::to_vec(&self.0).unwrap_or_default();
        body.push(b'\n');
        let mut response = Reply::new(body.into());
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, PROBLEM_JSON);
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"crumbd\""));
        }
        if let Some(seconds) = self.0.retry_after {
            headers.insert(RETRY_AFTER, seconds.into());
        }
        let Details { kind, .. } = *self.0;
        response.extensions_mut().insert(Refused(kind.rsplit(':').next().unwrap_or_default().to_owned()));
        response
    }
}

/// The 405; the router adds the `Allow` header.
pub(in crate::http) async fn method_not_allowed(method: Method) -> Problem {
    let detail =
        format!("this address does not support {method}; the Allow header lists the methods it supports");
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed", detail)
}

/// Adds a problem body to the errors of the framework. Their headers stay.
pub(in crate::http) async fn fill_empty_errors(response: Response) -> Response {
    let status = response.status();
    let is_error = status.is_client_error() || status.is_server_error();
    if !is_error || response.headers().get(CONTENT_TYPE) == Some(&PROBLEM_JSON) {
        return response;
    }
    let detail = status.canonical_reason().unwrap_or("the request failed");
    let (parts, _) = response.into_parts();
    let (explained, body) = Problem::new(status, "refused", detail).into_response().into_parts();
    let mut response = Response::from_parts(parts, Body::new(body));
    response.headers_mut().remove(CONTENT_LENGTH);
    response.headers_mut().extend(explained.headers);
    response
}
