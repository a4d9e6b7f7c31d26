//! What a relay is told beside each answer: where the data come from, how old they are, and where to begin.
//!
//! A relay names itself in `Crumbd-Relay`. Ordinary requests do not have that header, and cost nothing here.

use std::time::Duration;

use axum::extract::{FromRequestParts, Request, State};
use axum::http::header::CACHE_CONTROL;
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use axum::middleware::Next;
use axum::response::Response;

use super::problem::Problem;
use super::reply::insert_text;
use crate::http::app::App;
use crate::http::collection::{Collection, Context};
use crate::model::{Cursor, Revision, Sighting};

/// The header of a relay's request.
pub(in crate::http) const RELAY: HeaderName = HeaderName::from_static("crumbd-relay");
/// With `Crumbd-Relay`: that the relay reads the steps of breadcrumbs. `past` asks for those that lead to a kept one.
pub(in crate::http) const STEPS: HeaderName = HeaderName::from_static("crumbd-relay-steps");
/// The ids of the daemons that the data come through, this one first.
const PATH: HeaderName = HeaderName::from_static("crumbd-path");
/// The newest cursor when the request came.
const NEWEST: HeaderName = HeaderName::from_static("crumbd-newest");
/// With the status: a kept cursor at which a relay without a state begins.
const BEGIN: HeaderName = HeaderName::from_static("crumbd-begin");
/// The revision that the datastore itself last said it is at, and how many milliseconds ago it was asked.
const UPSTREAM: HeaderName = HeaderName::from_static("crumbd-upstream");
/// The age in milliseconds.
const AGE_MS: HeaderName = HeaderName::from_static("crumbd-age-ms");

/// The most bytes of changes that a relay without a state reads after the state at which it begins.
const MAX_REPLAYED_BYTES: usize = 32 << 20;

/// The most relays that pass a write on.
const MAX_RELAYS: usize = 16;

/// The longest id of a daemon.
const MAX_ID_BYTES: usize = 64;

/// Whether a relay asks for the steps that lead to a kept breadcrumb.
pub(in crate::http) fn asks_for_past(headers: &HeaderMap) -> bool {
    headers.contains_key(RELAY) && headers.get(STEPS).is_some_and(|value| value == "past")
}

/// The ids of the relays that have passed a write on, each of which has added its own to `Crumbd-Relay`.
pub(in crate::http) fn path_of_write(headers: &HeaderMap) -> Result<Vec<String>, Problem> {
    let Some(value) = headers.get(RELAY) else { return Ok(Vec::new()) };
    let ids = value.to_str().unwrap_or_default().split(',').map(|id| id.trim().to_owned());
    let ids: Vec<String> = ids.take(MAX_RELAYS + 1).collect();
    if ids.len() > MAX_RELAYS || ids.iter().any(|id| id.is_empty() || id.len() > MAX_ID_BYTES) {
        let detail = format!("Crumbd-Relay of a write is a list of at most {MAX_RELAYS} ids of relays");
        return Err(Problem::bad_request(detail));
    }
    Ok(ids)
}

/// Adds to an answer for a relay what the relay must know, also where the answer is an error.
pub(in crate::http) async fn inform(State(app): State<App>, request: Request, next: Next) -> Response {
    if !request.headers().contains_key(RELAY) {
        return next.run(request).await;
    }
    let is_status = request.uri().path().ends_with("/status");
    let (mut parts, body) = request.into_parts();
    let collection = Context::from_request_parts(&mut parts, &app).await.map(|cx| cx.collection);
    // Before the answer is made: it leads at least there, unless it says less than was asked for.
    let newest = collection.as_ref().ok().and_then(|collection| newest(collection));
    let mut response = next.run(Request::from_parts(parts, body)).await;
    if let Ok(collection) = collection {
        insert(response.headers_mut(), &collection, newest);
        if is_status && newest.is_some() {
            let begin = collection.view.cache().early_breadcrumb(MAX_REPLAYED_BYTES).cursor();
            insert_text(response.headers_mut(), BEGIN, &begin.to_string());
        }
    }
    response
}

fn newest(collection: &Collection) -> Option<Cursor> {
    let newest = collection.view.cache().current_breadcrumb();
    (!newest.is_provisional()).then(|| newest.cursor())
}

/// How far the datastore is, and how long ago it was asked. Cursors beyond belong to a state that it has lost.
fn datastore(collection: &Collection) -> Option<(Revision, Duration)> {
    if collection.upstream.nothing_is_ahead() {
        return newest(collection).map(|newest| (newest.revision, Duration::ZERO));
    }
    let Sighting { revision, asked } = (*collection.upstream.sightings().borrow())?;
    Some((revision, asked.elapsed()))
}

fn insert(headers: &mut HeaderMap, collection: &Collection, newest: Option<Cursor>) {
    insert_text(headers, PATH, &collection.upstream.path().join(","));
    insert_text(headers, AGE_MS, &collection.upstream.age().as_millis().to_string());
    if let Some(newest) = newest {
        insert_text(headers, NEWEST, &newest.to_string());
    }
    if let Some((revision, asked_before)) = datastore(collection) {
        insert_text(headers, UPSTREAM, &format!("{revision} {}", asked_before.as_millis() + 1));
    }
    // Other clients would not understand it, and what they get does not serve a relay.
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
}
