//! `GET /v1/stream`: one long response, which begins with the state or a cursor and never says that it is over.
//!
//! Thin like every handler: what there is to tell is the [view's](crate::view::Stream) to find, how it looks on
//! the wire is [`framing`]'s. A stream is pulled: the next thing is asked for when the framework has room for it,
//! which it has as long as the client reads, so a client that reads slowly is told less often, and
//! nothing piles up for it. It is a waiter like a long poll, and its snapshot counts as a snapshot.

mod framing;
mod place;
mod sending;

use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Uri};
use axum::response::Response;

use super::age::Age;
use super::auth::access::Access;
use super::budget;
use super::negotiate;
use super::problem::Problem;
use super::query::Query;
use super::reply;
use super::routes::App;
use crate::model::CursorError;
use crate::view::ViewError;

pub(super) use framing::Framing;
use place::Place;
use sending::{Held, Sending};

/// The cursor that an `EventSource` has seen last: it sends that when it comes back.
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// Names the rights that all of the stream is told under: what stands behind the `~` of a place.
const RIGHTS: HeaderName = HeaderName::from_static("crumbd-rights");

/// Asks nginx not to hold back what has come.
const ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

pub(super) async fn stream(
    State(app): State<App>,
    Extension(access): Extension<Access>,
    age: Option<Extension<Age>>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let mut query = Query::parse(&uri, &["from", "prefix"])?;
    // Both are looked at: a malformed one is an error even where the other one counts.
    let (from, last) = (query.parsed::<Place>("from")?, last_event_id(&headers)?);
    let (from, reach) = (last.or(from), access.reach(query.prefix())?);
    let framing = negotiate::stream(&headers)?;
    let newest = app.view.newest()?;
    let waiter = app.budgets.stream()?;
    // Who will need a snapshot is refused while that can still be said with a status.
    let room = match from {
        Some(_) => None,
        None => Some(app.budgets.snapshot(budget::expected(&newest, reach.scope())).await?),
    };
    let status = newest.cursor().status.as_str();
    drop(newest);
    let mut stream = app.view.stream(reach.scope(), from.map(|from| from.cursor))?;
    if from.is_some_and(|from| from.rights.is_some_and(|rights| rights != reach.tag().unwrap_or(0))) {
        stream.start_over().map_err(|_| ViewError::Stopped)?;
    }
    let mut response = Response::new(Body::empty());
    let age = age.map(|Extension(age)| age);
    let head = response.headers_mut();
    head.insert(CONTENT_TYPE, HeaderValue::from_static(framing.as_str()));
    head.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    head.insert(ACCEL_BUFFERING, HeaderValue::from_static("no"));
    head.insert(reply::STATUS, HeaderValue::from_static(status));
    head.insert(reply::AGE, app.upstream.age().as_secs().into());
    if let Some(rights) = reach.tag() {
        reply::text(head, RIGHTS, &format!("{rights:x}"));
    }
    reply::vary(&app, head);
    *response.body_mut() = Sending::new(app, stream, reach, framing, Held { waiter, room, age }).into_body();
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
