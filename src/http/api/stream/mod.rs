//! `GET /v1/stream`: the state and then every change, in one endless response.
//!
//! The [view](crate::view::Stream) makes the events, [`framing`] their form on the wire. A stream is pulled: the next
//! event is made when the client has read the previous one. So a slow client gets fewer events, and nothing is queued
//! for it. A stream counts as a waiter, and its large events like other large bodies.

mod axum_body;
mod framing;
mod resume_point;
mod session;

use std::sync::Arc;

use axum::Extension;
use axum::http::header::{CACHE_CONTROL, RETRY_AFTER};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Uri};
use axum::response::Response;

use crate::http::access_log::{Line, Notes, RequestHead};
use crate::http::app::App;
use crate::http::auth::access::{Access, EffectiveScope, OverRate};
use crate::http::client::Peer;
use crate::http::client_table::ClientName;
use crate::http::collection::{Collection, Context};
use crate::http::rep::negotiate;
use crate::http::rep::problem::Problem;
use crate::http::rep::query::Query;
use crate::http::rep::reply::{self, Reply, into_response};
use crate::http::serve::connection_age::ConnectionAge;
use crate::model::CursorError;

pub(in crate::http) use framing::Framing;
use resume_point::ResumePoint;
pub(in crate::http) use session::{Interrupt, StreamSession, Timers};

/// The id of the last event, which an `EventSource` sends when it reconnects.
pub(in crate::http) const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// A request for a stream.
pub(in crate::http) struct StreamRequest {
    collection: Arc<Collection>,
    from: Option<ResumePoint>,
    /// Whether the last event's id is none of ours, so that the client has to discard its state.
    starts_over: bool,
    pub(in crate::http) scope: EffectiveScope,
    framing: Framing,
    /// The name that the client gives itself, if there is a table of clients.
    name: Option<ClientName>,
    /// What the access log says of it, if it is on. The framework's requests have their lines by themselves.
    pub(in crate::http) logged: Option<Arc<RequestHead>>,
}

impl StreamRequest {
    pub(in crate::http) fn parse(
        collection: &Arc<Collection>,
        uri: &Uri,
        headers: &HeaderMap,
        access: &Access,
        name: Option<ClientName>,
    ) -> Result<Self, Problem> {
        let mut query = Query::parse(uri, &["from", "prefix"])?;
        // A malformed `from` is an error even if the last event's id is used.
        let (from, scope) = (query.parsed::<ResumePoint>("from")?, access.scope(query.prefixes()?)?);
        let framing = negotiate::stream(headers)?;
        let (last, starts_over) = match last_event_id(headers) {
            Ok(last) => (last, false),
            // After an error an `EventSource` never comes back.
            Err(_) if framing.is_events() => (None, true),
            Err(error) => return Err(error),
        };
        let from = last.or(from).filter(|_| !starts_over);
        Ok(Self { collection: Arc::clone(collection), from, starts_over, scope, framing, name, logged: None })
    }

    /// The request's line in the access log, if that is on.
    pub(in crate::http) fn line(&self, app: &App, peer: &Peer) -> Option<Box<Line>> {
        let mut line = Line::begin(app, Arc::clone(self.logged.as_ref()?), peer)?;
        line.is_of(self.scope.grant());
        if let Some(from) = self.from {
            line.asks_after(from.cursor, &self.collection);
        }
        Some(line)
    }

    /// The reply to a stream that cannot be opened. After an error an `EventSource` would never come back, so it is given an
    /// event stream that ends at once and says when to come back.
    pub(in crate::http) fn refusal(&self, problem: Problem) -> Reply {
        let Some(seconds) = problem.retry_after().filter(|_| self.framing.is_events()) else {
            return problem.into_reply();
        };
        let text = format!("retry: {}\n: {}\n\n", seconds * 1000, problem.detail());
        let mut reply = reply::body(text.into_bytes(), self.framing.as_str());
        reply.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        reply.headers_mut().insert(RETRY_AFTER, seconds.into());
        reply
    }
}

pub(in crate::http) async fn stream(
    cx: Context,
    age: Option<Extension<ConnectionAge>>,
    notes: Option<Extension<Notes>>,
    over_rate: Option<Extension<OverRate>>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let request =
        StreamRequest::parse(&cx.collection, &uri, &headers, &cx.access, cx.app.client_name(&headers)?)?;
    drop((uri, headers));
    if let (Some(Extension(notes)), Some(from)) = (notes, &request.from) {
        notes.asks_after(from.cursor, &request.collection);
    }
    if let Some(Extension(OverRate(problem))) = over_rate {
        return Ok(into_response(request.refusal(problem)));
    }
    let session = match StreamSession::open(&cx.app, &cx.peer, cx.head, &request).await {
        Ok(session) => session,
        Err(problem) => return Ok(into_response(request.refusal(problem))),
    };
    let mut response = into_response(session.head());
    *response.body_mut() = axum_body::body(&cx.app, session, age.map(|Extension(age)| age));
    Ok(response)
}

/// The `Last-Event-ID` header. An empty one counts as none: an `EventSource` resets its id in this way.
fn last_event_id(headers: &HeaderMap) -> Result<Option<ResumePoint>, Problem> {
    let Some(value) = headers.get(LAST_EVENT_ID).filter(|value| !value.is_empty()) else { return Ok(None) };
    let text = String::from_utf8_lossy(value.as_bytes());
    let resume_point = text.parse().map_err(|error: CursorError| {
        Problem::bad_request(format!("header Last-Event-ID is {text:?}: {error}"))
    });
    resume_point.map(Some)
}
