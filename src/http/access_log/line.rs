//! A line in the making.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use axum::http::{HeaderMap, HeaderName};
use tokio::time::Instant;
use tracing::info;

use super::{AccessLog, RequestHead, RequestSpan, RequestSpans, TARGET, TraceParent};
use crate::http::app::App;
use crate::http::auth::Grant;
use crate::http::client::Peer;
use crate::http::collection::Collection;
use crate::http::rep::reply::{CURSOR, MODE, REASON};
use crate::model::Cursor;
use crate::view::Answer;

/// A line in the making. It is written when it is dropped, so that a request whose client has gone has one too.
pub(in crate::http) struct Line {
    head: Arc<RequestHead>,
    /// Which requests are logged.
    logged: AccessLog,
    /// Who takes the request's span, if it is in a sampled trace.
    span: Option<(Arc<dyn RequestSpans>, TraceParent)>,
    address: Option<IpAddr>,
    /// The name of the client's token.
    pub(super) token: Option<String>,
    /// How many revisions the client's cursor was behind when it asked.
    pub(super) lag_revisions: Option<u64>,
    began: Instant,
    answered: Option<Answered>,
    /// The bytes of the body that were sent.
    pub(in crate::http) bytes: u64,
    /// Whether the whole answer was written.
    pub(in crate::http) is_complete: bool,
}

struct Answered {
    at: Instant,
    status: u16,
    mode: Option<String>,
    reason: Option<String>,
    cursor: Option<String>,
    /// The code of a gRPC call.
    grpc_code: Option<i32>,
}

impl Line {
    /// The line of a request that begins now, if it may be logged, or has a span.
    pub(in crate::http) fn begin(app: &App, head: Arc<RequestHead>, peer: &Peer) -> Option<Box<Self>> {
        let logged = app.config.access_log;
        let span = app.request_spans.clone().and_then(|spans| Some((spans, head.parent()?)));
        if logged == AccessLog::Off && span.is_none() {
            return None;
        }
        Some(Box::new(Self {
            head,
            logged,
            span,
            address: peer.address().map(|address| address.ip()),
            token: None,
            lag_revisions: None,
            began: Instant::now(),
            answered: None,
            bytes: 0,
            is_complete: false,
        }))
    }

    /// Sets whose token it is.
    pub(in crate::http) fn is_of(&mut self, grant: Option<&Grant>) {
        self.token = grant.and_then(Grant::name);
    }

    /// Sets the name of the client's token.
    #[cfg(feature = "etcd")]
    pub(in crate::http) fn is_of_token(&mut self, name: Option<String>) {
        self.token = name;
    }

    /// Sets the cursor that the client has.
    pub(in crate::http) fn asks_after(&mut self, cursor: Cursor, collection: &Collection) {
        self.lag_revisions = Some(lag_revisions(cursor, collection));
    }

    /// Sets the answer, which is written from now on.
    pub(in crate::http) fn is_answered(&mut self, status: u16, headers: &HeaderMap) {
        let text = |name: &HeaderName| Some(headers.get(name)?.to_str().ok()?.to_owned());
        let (mode, reason, cursor) = (text(&MODE), text(&REASON), text(&CURSOR));
        self.answered = Some(Answered { at: Instant::now(), status, mode, reason, cursor, grpc_code: None });
    }

    /// Sets the answer with updates, which is written from now on.
    pub(in crate::http) fn is_answered_with(&mut self, answer: &Answer) {
        self.bytes = answer.body.len();
        self.answered = Some(Answered {
            at: Instant::now(),
            status: 200,
            mode: Some(answer.mode.as_str().to_owned()),
            reason: Some(answer.reason.as_str().to_owned()),
            cursor: Some(answer.cursor.to_string()),
            grpc_code: None,
        });
    }

    /// Sets the answer to a gRPC call.
    #[cfg(feature = "etcd")]
    pub(in crate::http) fn is_answered_call(&mut self, code: i32) {
        self.answered = Some(Answered {
            at: Instant::now(),
            status: 200,
            mode: None,
            reason: None,
            cursor: None,
            grpc_code: Some(code),
        });
        self.is_complete = true;
    }

    /// Whether the request was refused, or failed.
    fn is_error(&self) -> bool {
        self.answered
            .as_ref()
            .is_none_or(|answered| answered.status >= 400 || answered.grpc_code.is_some_and(|code| code != 0))
    }
}

impl Line {
    /// Gives the request's span away.
    fn end_span(&self, spans: &dyn RequestSpans, parent: TraceParent) {
        let (now, ended, answered) = (Instant::now(), SystemTime::now(), self.answered.as_ref());
        // The clock of the system may be set meanwhile; the time that has passed is known.
        let at = |time: Instant| ended.checked_sub(now - time).unwrap_or(ended);
        spans.take(RequestSpan {
            parent,
            began: at(self.began),
            answered: answered.map(|answered| at(answered.at)),
            ended,
            method: &self.head.method,
            path: &self.head.target,
            protocol: self.head.protocol,
            status: answered.map(|answered| answered.status),
            mode: answered.and_then(|answered| answered.mode.as_deref()),
            cursor: answered.and_then(|answered| answered.cursor.as_deref()),
            lag_revisions: self.lag_revisions,
            bytes: self.bytes,
            address: self.address,
            token: self.token.as_deref(),
        });
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        if let Some((spans, parent)) = &self.span {
            self.end_span(&**spans, *parent);
        }
        let is_logged = match self.logged {
            AccessLog::Off => false,
            AccessLog::Errors => self.is_error(),
            AccessLog::All => true,
        };
        if !is_logged {
            return;
        }
        let RequestHead { method, target, protocol, client, request_id, traceparent } = &*self.head;
        let (answered, now) = (self.answered.as_ref(), Instant::now());
        let text = |text: Option<&'_ String>| text.cloned();
        let wait = answered.map_or(now, |answered| answered.at) - self.began;
        info!(
            target: TARGET,
            method = &**method,
            path = target,
            protocol,
            status = answered.map(|answered| answered.status),
            grpc_code = answered.and_then(|answered| answered.grpc_code),
            mode = answered.and_then(|answered| answered.mode.as_deref()),
            reason = answered.and_then(|answered| answered.reason.as_deref()),
            cursor = answered.and_then(|answered| answered.cursor.as_deref()),
            lag_revisions = self.lag_revisions,
            bytes = self.bytes,
            complete = self.is_complete,
            wait_ms = millis(wait),
            write_ms = answered.map(|answered| millis(now - answered.at)),
            address = self.address.map(tracing::field::display),
            token = text(self.token.as_ref()),
            client,
            request_id,
            traceparent,
            "request"
        );
    }
}

/// How many revisions the cursor is behind the newest state.
pub(super) fn lag_revisions(cursor: Cursor, collection: &Collection) -> u64 {
    let newest = collection.view.cache().current_breadcrumb().revision();
    newest.0.saturating_sub(cursor.revision.0)
}

/// Milliseconds with three digits after the point.
fn millis(time: Duration) -> f64 {
    time.as_micros() as f64 / 1000.0
}
