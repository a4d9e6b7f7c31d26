//! Writes to the feed of a collection.

use axum::extract::Request;
use axum::http::header::{CONTENT_TYPE, ETAG, HeaderName, IF_MATCH, IF_NONE_MATCH};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use bytes::Bytes;

use super::posted_records;
use crate::feed::{WriteRequest, Writer};
use crate::http::api::kv::key_etag;
use crate::http::auth::access::{Access, EffectiveScope};
use crate::http::auth::origin;
use crate::http::collection::{Collection, Context};
use crate::http::rep::conditions::{self, etags, refuse};
use crate::http::rep::key_address::key_and_query;
use crate::http::rep::problem::Problem;
use crate::http::rep::query::Query;
use crate::http::rep::relay;
use crate::http::rep::reply::{self, Caching, CrumbdHeaders, into_response};
use crate::http::rep::request_body::{self, BodyError};
use crate::model::{
    Change, Committed, Condition, Entry, Grouping, History, Key, KeySelector, MAX_KEY_BYTES, Revision, Update,
};
use crate::view::Reason;
use crate::wire::{self, Mode};

/// A permitted write of one key: all that `PUT` and `DELETE` say before the body.
struct KeyWrite<'a> {
    writer: &'a dyn Writer,
    key: Key,
    conditions: Vec<Condition>,
    path: Vec<String>,
}

impl<'a> KeyWrite<'a> {
    fn parse(cx: &'a Context, request: &Request) -> Result<Self, Problem> {
        let writer = writable(&cx.collection, request)?;
        let key = checked_key(request)?;
        cx.access.require_write(key.as_bytes())?;
        if request.uri().path() == "/kv/" {
            return Err(Problem::bad_request(
                "the path names the empty key, which is also what many clients make of the keys . and ..; write \
                 /v1/kv?key= for the empty key, and /v1/kv?key=. for that one",
            ));
        }
        let conditions = conditions(request.headers(), &key, &cx.access, history(cx))?;
        Ok(Self { writer, key, conditions, path: relay::path_of_write(request.headers())? })
    }
}

pub(in crate::http) async fn put(cx: Context, request: Request) -> Result<Response, BodyError> {
    let KeyWrite { writer, key, conditions, path } = KeyWrite::parse(&cx, &request)?;
    let kind = content_type(request.headers());
    let received = request_body::read(&cx.app, cx.client(), request).await?;
    let body = &received.bytes;
    let value = match kind.as_deref() {
        Some("application/json") => {
            let text = as_text(body)?;
            wire::compact_json(text).map_err(|error| {
                Problem::bad_request(format!("the Content-Type is application/json, but the body is {error}"))
            })?
        }
        Some(kind) if kind.starts_with("text/") => as_text(body)?.as_bytes().to_vec(),
        _ => body.to_vec(),
    };
    let update = Entry::new(key.as_bytes(), &value, None).into();
    let committed = writer.write(of_one_key(&cx, &key, update, conditions, path)).await;
    let committed = committed.map_err(Problem::from)?;
    let may_know = cx.access.may_read(key.as_bytes());
    let revision = committed.revision.or_else(|| revision_of(&cx, &key, &value)).filter(|_| may_know);
    Ok(written(&cx, committed, revision, may_know))
}

pub(in crate::http) async fn delete(cx: Context, request: Request) -> Result<Response, Problem> {
    let KeyWrite { writer, key, conditions, path } = KeyWrite::parse(&cx, &request)?;
    let may_know = cx.access.may_read(key.as_bytes());
    let update = Update { change: Change::Delete(key.clone()), revision: None };
    let committed = writer.write(of_one_key(&cx, &key, update, conditions, path)).await?;
    Ok(written(&cx, committed, None, may_know))
}

pub(in crate::http) async fn post(cx: Context, request: Request) -> Result<Response, BodyError> {
    let writer = writable(&cx.collection, &request)?;
    Query::parse(request.uri(), &[])?;
    cx.access.require_some_write()?;
    refuse(
        request.headers(),
        &conditions::ALL,
        "a POST takes no condition; write one key with PUT or DELETE",
    )?;
    let path = relay::path_of_write(request.headers())?;
    let received = request_body::read(&cx.app, cx.client(), request).await?;
    let is_large = received.bytes.len() >= LARGE_BODY;
    let _permit = if is_large { cx.app.budgets.large_write().await } else { None };
    let body = received.bytes.clone();
    let (updates, grouping) = if is_large { posted_on_blocking_thread(body).await? } else { posted(&body)? };
    if grouping == Grouping::Replace {
        cx.access.require_full_write()?;
    }
    updates.iter().try_for_each(|update| cx.access.require_write(update.change.key()))?;
    let may_know = updates.iter().all(|update| cx.access.may_read(update.change.key()));
    let write = WriteRequest { path, ..WriteRequest::new(updates, grouping) };
    let committed = writer.write(write).await.map_err(Problem::from)?;
    Ok(written(&cx, committed, None, may_know))
}

/// Bodies from this size on are parsed on a blocking thread; a large one takes a second.
const LARGE_BODY: usize = 256 << 10;

fn posted(body: &Bytes) -> Result<(Vec<Update>, Grouping), Problem> {
    posted_records::parse(as_text(body)?)
}

async fn posted_on_blocking_thread(body: Bytes) -> Result<(Vec<Update>, Grouping), Problem> {
    let parsed = tokio::task::spawn_blocking(move || posted(&body)).await;
    parsed.map_err(|error| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", error.to_string()))?
}

/// A write of one key.
fn of_one_key(
    cx: &Context,
    key: &Key,
    update: Update,
    conditions: Vec<Condition>,
    path: Vec<String>,
) -> WriteRequest {
    let newest = || cx.collection.view.cache().current_breadcrumb();
    let seen = if conditions.is_empty() { None } else { newest().kvs().get(key.as_bytes()).cloned() };
    WriteRequest { conditions, seen, path, ..WriteRequest::new(vec![update], Grouping::Whole) }
}

fn writable<'a>(collection: &'a Collection, request: &Request) -> Result<&'a dyn Writer, Problem> {
    origin::refuse_cross_origin(request.headers())?;
    collection.writer.as_deref().ok_or_else(|| {
        let detail = format!(
            "this daemon is read-only: its state comes from the feed {}; writes over HTTP are for a push: feed, and for an \
             etcd:// or crumbd:// feed with the option write=true",
            collection.feed
        );
        Problem::new(StatusCode::FORBIDDEN, "read-only", detail)
    })
}

fn checked_key(request: &Request) -> Result<Key, Problem> {
    let (key, _) = key_and_query(request.uri(), request.headers(), &[])?;
    match key.as_bytes().len() {
        ..=MAX_KEY_BYTES => Ok(key),
        bytes => {
            Err(Problem::too_large(format!("the key is {bytes} bytes long; the limit is {MAX_KEY_BYTES}")))
        }
    }
}

fn as_text(body: &Bytes) -> Result<&str, Problem> {
    let utf8 = std::str::from_utf8(body);
    utf8.map_err(|error| Problem::bad_request(format!("the request body is not UTF-8: {error}")))
}

fn content_type(headers: &HeaderMap) -> Option<String> {
    let text = headers.get(CONTENT_TYPE)?.to_str().ok()?;
    Some(text.split(';').next().unwrap_or("").trim().to_ascii_lowercase())
}

/// The conditions in `If-Match` and `If-None-Match` on the key's ETag. A weak or malformed tag matches nothing. The
/// outcome reveals something of the key, so the client must be allowed to read it.
fn conditions(
    headers: &HeaderMap,
    key: &Key,
    access: &Access,
    history: History,
) -> Result<Vec<Condition>, Problem> {
    let why = "a write sets a whole value, and its conditions are If-Match and If-None-Match with an ETag";
    refuse(headers, &conditions::NOT_FOR_KEYS, why)?;
    if headers.contains_key(IF_MATCH) || headers.contains_key(IF_NONE_MATCH) {
        access.require_read(key)?;
    }
    // If-None-Match compares weakly (RFC 9110, 13.1.2): a proxy that compresses weakens ETags.
    let listed = |name: &HeaderName, weak: &str| {
        headers.contains_key(name).then(|| {
            let tags: Vec<&str> = etags(headers, name).collect();
            let strong = tags.iter().map(|tag| tag.strip_prefix(weak).unwrap_or(tag));
            let revisions = strong.filter_map(|tag| revision_of_etag(tag, history)).collect::<Vec<_>>();
            (tags.contains(&"*"), revisions)
        })
    };
    let key = || key.clone();
    let matching = listed(&IF_MATCH, "").map(|(any, revisions)| match any {
        true => Condition::Exists(key()),
        false => Condition::AtOneOf(key(), revisions),
    });
    let none_matching = listed(&IF_NONE_MATCH, "W/").map(|(any, revisions)| match any {
        true => Condition::Absent(key()),
        false => Condition::AtNoneOf(key(), revisions),
    });
    Ok(matching.into_iter().chain(none_matching).collect())
}

/// The revision in a key's ETag of this history.
fn revision_of_etag(tag: &str, history: History) -> Option<Revision> {
    let (of, revision) = tag.strip_prefix('"')?.strip_suffix('"')?.split_once('.')?;
    let revision = revision.parse().ok().map(Revision)?;
    // Each ETag has one form.
    (of.parse() == Ok(history) && tag == key_etag(history, revision)).then_some(revision)
}

/// The revision of a key that has this value already. If another writer has changed it meanwhile, it has none that the
/// client may know of: a condition on it would overwrite what the client has not seen.
fn revision_of(cx: &Context, key: &Key, value: &[u8]) -> Option<Revision> {
    let newest = cx.collection.view.cache().current_breadcrumb();
    newest.kvs().get(key.as_bytes()).filter(|entry| entry.value() == value)?.revision()
}

fn history(cx: &Context) -> History {
    cx.collection.view.cache().current_breadcrumb().kvs().history()
}

/// The answer to a write, once its breadcrumb exists. The number of changes reveals something of the previous state, so
/// it is left out for clients that may not read the keys.
fn written(cx: &Context, committed: Committed, key_revision: Option<Revision>, may_know: bool) -> Response {
    let cursor = committed.cursor;
    let mut body = serde_json::json!({ "cursor": cursor.to_string(), "revision": cursor.revision.0 });
    if may_know {
        body["changed"] = committed.changed.into();
    }
    let mut response = into_response(reply::body(Bytes::from(format!("{body}\n")), "application/json"));
    let sequence = cx.collection.view.sequence_at(cursor);
    let scope = EffectiveScope::open(KeySelector::ALL);
    let values = CrumbdHeaders { cursor, sequence, mode: Mode::None, reason: Reason::Written, scope: &scope };
    let headers = response.headers_mut();
    reply::insert_headers(cx.source(), headers, values, Caching::Never);
    if let Some(revision) = key_revision {
        reply::insert_text(headers, ETAG, &key_etag(cursor.history, revision));
    }
    response
}
