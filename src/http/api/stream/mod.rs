//! `GET /v1/stream`: the state and then every change, in one endless response.
//!
//! The [view](crate::view::Stream) makes the events, [`framing`] their form on the wire. A stream is pulled: the next
//! event is made when the client has read the previous one. So a slow client gets fewer events, and nothing is queued
//! for it. A stream counts as a waiter, and its snapshot as a snapshot.

mod axum_body;
mod framing;
mod resume_point;
mod session;

use std::sync::Arc;

use axum::Extension;
use axum::http::{HeaderMap, HeaderName, Uri};
use axum::response::Response;

use crate::http::auth::access::{Access, EffectiveScope};
use crate::http::collection::{Collection, Context};
use crate::http::rep::negotiate;
use crate::http::rep::problem::Problem;
use crate::http::rep::query::Query;
use crate::http::rep::reply::into_response;
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
    pub(in crate::http) scope: EffectiveScope,
    framing: Framing,
}

impl StreamRequest {
    pub(in crate::http) fn parse(
        collection: &Arc<Collection>,
        uri: &Uri,
        headers: &HeaderMap,
        access: &Access,
    ) -> Result<Self, Problem> {
        let mut query = Query::parse(uri, &["from", "prefix"])?;
        // Both are parsed: a malformed one is an error even if the other one is used.
        let (from, last) = (query.parsed::<ResumePoint>("from")?, last_event_id(headers)?);
        let scope = access.scope(query.prefix())?;
        let (collection, framing) = (Arc::clone(collection), negotiate::stream(headers)?);
        Ok(Self { collection, from: last.or(from), scope, framing })
    }
}

pub(in crate::http) async fn stream(
    cx: Context,
    Extension(access): Extension<Access>,
    age: Option<Extension<ConnectionAge>>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let session =
        StreamSession::open(&cx.app, &StreamRequest::parse(&cx.collection, &uri, &headers, &access)?).await?;
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
