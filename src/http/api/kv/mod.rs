//! `/v1/kv…`: one key, or a page of keys.

pub(in crate::http) mod keys_after;
mod wait_for_change;

use std::time::Duration;

use axum::http::header::{ETAG, X_CONTENT_TYPE_OPTIONS};
use axum::http::{HeaderMap, HeaderValue, Uri};
use axum::response::{IntoResponse, Response};
use tokio::time::Instant;

use self::wait_for_change::{Unchanged, wait_for_change};
use crate::http::api::breadcrumbs::catch_up_deadline;
use crate::http::auth::access::EffectiveScope;
use crate::http::collection::Context;
use crate::http::rep::key_address::{is_in_header, key_and_query, names_key, start_after};
use crate::http::rep::negotiate::format;
use crate::http::rep::problem::Problem;
use crate::http::rep::query::Query;
use crate::http::rep::reply::{self, Caching, CrumbdHeaders, into_response};
use crate::model::{Cursor, Encoding, Entry, History, Key, KeySelector, Revision};
use crate::view::{KeyRead, Page, Reason};
use crate::wire::Mode;

/// The entries on a page without `limit=`.
const DEFAULT_LIMIT: usize = 1000;

/// The most entries on a page.
const MAX_LIMIT: usize = 100_000;

/// The time limit for a request over the budget of waiters. It is enough to find out whether the key has changed already.
const NO_WAIT: Duration = Duration::from_millis(100);

/// The bytes of a value: now, at a kept cursor, or as soon as it changes.
pub(in crate::http) async fn get(cx: Context, uri: Uri, headers: HeaderMap) -> Result<Response, Problem> {
    let (key, mut query) = key_and_query(&uri, &headers, &["at", "after", "wait"])?;
    cx.access.require_read(&key)?;
    let (at, after) = (query.cursor("at")?, query.cursor("after")?);
    let waits = query.has("wait");
    let deadline = query.wait()?.deadline();
    let caching = caching(at, &headers);
    drop((query, uri, headers));
    let read = match (at, after) {
        (Some(_), Some(_)) => {
            return Err(Problem::bad_request("query parameters \"at\" and \"after\" exclude each other"));
        }
        (_, None) if waits => {
            let detail = "query parameter \"wait\" needs \"after\", the cursor from which to wait";
            return Err(Problem::bad_request(detail));
        }
        (None, Some(after)) => {
            let (client, one) = (cx.client(), KeySelector::key(key.clone()));
            let waiter = cx.app.budgets.stream(&**client, &one, cx.head);
            let until = if waiter.is_ok() { deadline } else { deadline.min(Instant::now() + NO_WAIT) };
            let next = async { Ok(wait_for_change(&cx, &key, after, until).await?) };
            let next = cx.access.while_granted::<_, Problem>(next).await?;
            if let (Err(Unchanged { reason: Reason::Timeout, .. }), true, Err(full)) =
                (&next, until < deadline, waiter)
            {
                return Err(cx.app.budgets.no_place(full, client));
            }
            match next {
                Ok(read) => read,
                Err(Unchanged { cursor, sequence, reason }) => {
                    return Ok(into_response(reply::no_content(
                        cx.source(),
                        cursor,
                        sequence,
                        reason,
                        &EffectiveScope::open(KeySelector::ALL),
                    )));
                }
            }
        }
        (at, None) => {
            let read = async { Ok(cx.collection.view.key(&key, at, catch_up_deadline()).await?) };
            cx.access.while_granted::<_, Problem>(read).await?
        }
    };
    value(&cx, &key, read, caching).await
}

fn caching(at: Option<Cursor>, headers: &HeaderMap) -> Caching {
    match at {
        _ if is_in_header(headers) => Caching::Never,
        Some(_) => Caching::Immutable,
        None => Caching::Revalidate,
    }
}

async fn value(cx: &Context, key: &Key, read: KeyRead, caching: Caching) -> Result<Response, Problem> {
    let (cursor, sequence) = (read.cursor, read.sequence);
    let values = CrumbdHeaders {
        cursor,
        sequence,
        mode: Mode::Snapshot,
        reason: Reason::Read,
        scope: &EffectiveScope::open(KeySelector::ALL),
    };
    let Some(entry) = read.entry else {
        let mut response = Problem::not_found(format!("there is no key \"{key}\"")).into_response();
        reply::insert_headers(cx.source(), response.headers_mut(), values, Caching::Never);
        return Ok(response);
    };
    let account = cx.client().account();
    let body = cx.collection.view.value_body(cursor.history, &entry, account).await?;
    let mut response = into_response(reply::body(body, content_type(&entry)));
    let headers = response.headers_mut();
    reply::insert_headers(cx.source(), headers, values, caching);
    reply::insert_text(headers, ETAG, &key_etag(cursor.history, entry.revision().unwrap_or_default()));
    reply::vary(cx.source(), headers);
    // Any client may have written the bytes: a browser must not guess that they are a page.
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    Ok(response)
}

/// A key's ETag: its history and revision.
pub(in crate::http) fn key_etag(history: History, revision: Revision) -> String {
    format!("\"{history}.{revision}\"")
}

fn content_type(entry: &Entry) -> &'static str {
    match entry.encoding() {
        Encoding::Json => "application/json",
        Encoding::Utf8 => "text/plain; charset=utf-8",
        Encoding::Base64 => "application/octet-stream",
    }
}

/// The key that the request names; without one, entries in key order.
pub(in crate::http) async fn list_or_get(
    cx: Context,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    match names_key(&uri, &headers) {
        true => get(cx, uri, headers).await,
        false => list(cx, uri, headers).await,
    }
}

/// Entries in key order.
async fn list(cx: Context, uri: Uri, headers: HeaderMap) -> Result<Response, Problem> {
    let mut query = Query::parse(&uri, &["prefix", "limit", "start_after", "start_after_base64", "at"])?;
    let at = query.cursor("at")?;
    let limit = query.number("limit")?.unwrap_or(DEFAULT_LIMIT);
    if limit == 0 {
        return Err(Problem::bad_request(format!(
            "query parameter \"limit\" is 0: expected 1 to {MAX_LIMIT}; the default is {DEFAULT_LIMIT}"
        )));
    }
    let scope = cx.access.scope(query.prefixes()?)?;
    let page = Page {
        keys: scope.keys().clone(),
        start_after: start_after(&mut query, &headers)?,
        limit: limit.min(MAX_LIMIT),
    };
    let format = format(&headers)?;
    let account = cx.client().account();
    let answer = async { Ok(cx.collection.view.page(page, at, format, account, catch_up_deadline()).await?) };
    let answer = cx.access.while_granted::<_, Problem>(answer).await?;
    let caching = caching(at, &headers);
    Ok(into_response(reply::answer(cx.source(), answer, &scope, caching)))
}
