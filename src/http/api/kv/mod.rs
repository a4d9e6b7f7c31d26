//! `/v1/kv…`: one key, or a page of keys.

mod after;
pub(in crate::http) mod keys_after;

use std::time::Duration;

use axum::Extension;
use axum::http::header::{ETAG, X_CONTENT_TYPE_OPTIONS};
use axum::http::{HeaderMap, HeaderValue, Uri};
use axum::response::{IntoResponse, Response};
use tokio::time::Instant;

use self::after::{Unchanged, changed};
use crate::http::api::breadcrumbs::catch_up;
use crate::http::auth::access::{Access, EffectiveScope};
use crate::http::budget::{self, held};
use crate::http::collection::Context;
use crate::http::rep::negotiate::format;
use crate::http::rep::problem::Problem;
use crate::http::rep::query::{Query, path_key};
use crate::http::rep::reply::{self, Caching, Place, framed};
use crate::model::{Encoding, Entry, Key};
use crate::view::{KeyRead, Page, Reason};
use crate::wire::Mode;

/// Entries on a page when the client does not say, and at the most.
const DEFAULT_LIMIT: usize = 1000;
const MAX_LIMIT: usize = 100_000;

/// How long it may take to find out whether a key has changed already.
const LOOK: Duration = Duration::from_millis(100);

/// The raw bytes of one value: now, at a kept cursor, or as soon as it changes.
pub(in crate::http) async fn get(
    cx: Context,
    Extension(access): Extension<Access>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let key = path_key(&uri)?;
    access.read(&key)?;
    let mut query = Query::parse(&uri, &["at", "after", "wait"])?;
    let (at, after) = (query.cursor("at")?, query.cursor("after")?);
    let waits = query.has("wait");
    let deadline = query.wait()?.deadline();
    let read = match (at, after) {
        (Some(_), Some(_)) => return Err(Problem::bad_request("\"at\" and \"after\" exclude each other")),
        (_, None) if waits => {
            return Err(Problem::bad_request("\"wait\" needs \"after\", the cursor to wait from"));
        }
        (None, Some(after)) => {
            // Who finds no place to wait is answered with what there is already.
            let waiter = cx.app.budgets.waiter();
            let until = if waiter.is_ok() { deadline } else { deadline.min(Instant::now() + LOOK) };
            let next = async { Ok(changed(&cx, &key, after, until).await?) };
            let next = access.while_granted::<_, Problem>(next).await?;
            if let (Err(Unchanged { reason: Reason::Timeout, .. }), true, Err(full)) =
                (&next, until < deadline, waiter)
            {
                return Err(full);
            }
            match next {
                Ok(read) => read,
                Err(Unchanged { cursor, sequence, reason }) => {
                    return Ok(framed(reply::nothing(
                        cx.source(),
                        cursor,
                        sequence,
                        reason,
                        &EffectiveScope::open(None),
                    )));
                }
            }
        }
        (at, None) => {
            let read = async { Ok(cx.collection.view.key(&key, at, catch_up()).await?) };
            access.while_granted::<_, Problem>(read).await?
        }
    };
    let caching = if at.is_some() { Caching::Immutable } else { Caching::Revalidate };
    // A client that waited for a change wants the value, whatever it had before.
    let conditional = if after.is_some() { HeaderMap::new() } else { headers };
    Ok(value(&cx, &key, &conditional, read, caching))
}

fn value(cx: &Context, key: &Key, request: &HeaderMap, read: KeyRead, caching: Caching) -> Response {
    let (cursor, sequence) = (read.cursor, read.sequence);
    let place = Place {
        cursor,
        sequence,
        mode: Mode::Snapshot,
        reason: Reason::Read,
        scope: &EffectiveScope::open(None),
    };
    let Some(entry) = read.entry else {
        let mut response = Problem::not_found(format!("there is no key \"{key}\"")).into_response();
        reply::place(cx.source(), response.headers_mut(), place, Caching::Never);
        return response;
    };
    let etag = key_etag(&entry);
    if reply::not_modified(request, &etag) {
        return framed(reply::unchanged(cx.source(), place, &etag, caching));
    }
    let mut response = framed(reply::body(entry.value_bytes(), content_type(&entry)));
    let headers = response.headers_mut();
    reply::place(cx.source(), headers, place, caching);
    reply::text(headers, ETAG, &etag);
    reply::vary(cx.source(), headers);
    // The bytes are anybody's: a browser must not guess that they are a page.
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// A key's ETag is its revision.
pub(in crate::http) fn key_etag(entry: &Entry) -> String {
    format!("\"{}\"", entry.revision().unwrap_or_default())
}

fn content_type(entry: &Entry) -> &'static str {
    match entry.encoding() {
        Encoding::Json => "application/json",
        Encoding::Utf8 => "text/plain; charset=utf-8",
        Encoding::Base64 => "application/octet-stream",
    }
}

/// Entries in key order.
pub(in crate::http) async fn list(
    cx: Context,
    Extension(access): Extension<Access>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let mut query = Query::parse(&uri, &["prefix", "limit", "start_after", "at"])?;
    let at = query.cursor("at")?;
    let limit = query.number("limit")?.unwrap_or(DEFAULT_LIMIT);
    if limit == 0 {
        return Err(Problem::bad_request(format!(
            "query parameter \"limit\" is 0: it is 1 to {MAX_LIMIT}, and {DEFAULT_LIMIT} when left out"
        )));
    }
    let page = Page {
        keys: access.scope(query.prefix())?.keys().clone(),
        start_after: query.key("start_after"),
        limit: limit.min(MAX_LIMIT),
    };
    let format = format(&headers)?;
    let permit =
        cx.app.budgets.snapshot(budget::expected_page(&cx.collection.view.newest()?, page.limit)).await?;
    let answer = async { Ok(cx.collection.view.page(page, at, format, catch_up()).await?) };
    let answer = access.while_granted::<_, Problem>(answer).await?;
    let caching = if at.is_some() { Caching::Immutable } else { Caching::Revalidate };
    let permit = cx.app.budgets.fit(permit, answer.body.len()).await?;
    Ok(held(reply::answer(cx.source(), &HeaderMap::new(), answer, &access.scope(None)?, caching), permit))
}
