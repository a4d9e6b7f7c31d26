//! `GET /v1/stream`: one long response, which begins with the state or a cursor and never says that it is over.
//!
//! Thin like every handler: what there is to tell is the [view's](crate::view::Stream) to find, how it looks on
//! the wire is [`framing`]'s. A stream is pulled: the next thing is asked for when the framework has room for it,
//! which it has as long as the client reads, so a client that reads slowly is told less often, and
//! nothing piles up for it. It is a waiter like a long poll, and its snapshot counts as a snapshot.

mod framework;
mod framing;
mod place;
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
use crate::http::rep::reply::framed;
use crate::http::serve::connection_age::Age;
use crate::model::CursorError;

pub(in crate::http) use framing::Framing;
use place::Place;
pub(in crate::http) use session::{Interrupt, Session, Timers};

/// The cursor that an `EventSource` has seen last: it sends that when it comes back.
pub(in crate::http) const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// A stream, as it is asked for.
pub(in crate::http) struct StreamRequest {
    collection: Arc<Collection>,
    from: Option<Place>,
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
        // Both are looked at: a malformed one is an error even where the other one counts.
        let (from, last) = (query.parsed::<Place>("from")?, last_event_id(headers)?);
        let scope = access.scope(query.prefix())?;
        let (collection, framing) = (Arc::clone(collection), negotiate::stream(headers)?);
        Ok(Self { collection, from: last.or(from), scope, framing })
    }
}

pub(in crate::http) async fn stream(
    cx: Context,
    Extension(access): Extension<Access>,
    age: Option<Extension<Age>>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let session =
        Session::open(&cx.app, &StreamRequest::parse(&cx.collection, &uri, &headers, &access)?).await?;
    let mut response = framed(session.head());
    *response.body_mut() = framework::body(&cx.app, session, age.map(|Extension(age)| age));
    Ok(response)
}

/// An empty one is none: that is how an `EventSource` is told to forget it.
fn last_event_id(headers: &HeaderMap) -> Result<Option<Place>, Problem> {
    let Some(value) = headers.get(LAST_EVENT_ID).filter(|value| !value.is_empty()) else { return Ok(None) };
    let text = String::from_utf8_lossy(value.as_bytes());
    let place = text.parse().map_err(|error: CursorError| {
        Problem::bad_request(format!("header Last-Event-ID is {text:?}: {error}"))
    });
    place.map(Some)
}
