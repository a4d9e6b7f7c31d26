//! `GET /v1/status`: the status of a collection and the daemon, for people.

use std::collections::BTreeMap;
use std::time::SystemTime;

use axum::http::Uri;
use axum::response::Response;
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Value, json};

use crate::feed::ActivityReport;
use crate::http::api::wrong::{self, Wrong};
use crate::http::auth::access::Access;
use crate::http::budget::LimitUse;
use crate::http::collection::{Collection, Context, Stored};
use crate::http::rep::problem::Problem;
use crate::http::rep::query::Query;
use crate::http::rep::reply::{self, no_store};
use crate::http::serve::reload::Reloadable;
use crate::model::CollectionName;
use crate::view::{RefusedKey, RefusedKeys};

/// The members that say something of keys which the client may not read: the part of the status, and the name there.
const HIDDEN: [(&str, &str); 12] = [
    // It may quote a record, with other keys.
    ("", "feed_last_error"),
    ("", "store"),
    ("", "count"),
    ("", "payload_bytes"),
    ("", "digest"),
    ("", "over_limit"),
    ("/kept", "bytes"),
    ("/ingest", "updates"),
    ("/ingest", "suppressed"),
    ("/ingest", "refused"),
    ("/ingest", "malformed"),
    ("/ingest", "swept"),
];

fn hide(status: &mut Value, part: &str, name: &str) {
    if let Some(members) = status.pointer_mut(part).and_then(Value::as_object_mut) {
        members.remove(name);
    }
}

/// The status as JSON, without what reveals something of keys that the client may not read.
pub(in crate::http) async fn status(cx: Context, uri: Uri) -> Result<Response, Problem> {
    Query::parse(&uri, &[])?;
    let Context { app, collection, access, .. } = &cx;
    let limits = app.budgets.limits();
    let cache = collection.view.cache();
    let (crumb, oldest) = (cache.current_breadcrumb(), cache.oldest_breadcrumb());
    let window = cache.window_usage();
    let (backlog, capacity) = cache.backlog();
    let stats = cache.stats();
    let streams = collection.view.stream_counts();
    let report = collection.upstream.activity();
    let known = (!crumb.is_provisional()).then(|| crumb.cursor());
    let monitors_all = app.may_monitor_all(&access.admission());
    let mut status = json!({
        "version": env!("CARGO_PKG_VERSION"),
        "collection": collection.name().map(CollectionName::as_str),
        "feed": collection.feed,
        "status": crumb.sync_status().as_str(),
        "ready": cache.was_in_sync() && !app.shutdown.has_begun(),
        "draining": app.shutdown.has_begun(),
        "unwell": collection.liveness.health.unwell().map(|unwell| json!({ "part": unwell.part, "why": unwell.why })),
        "feed_activity": activity(&report),
        "feed_last_error": report.last_error.as_ref().map(|(error, at)| json!({ "message": error, "at": time(*at) })),
        "feed_problem": collection.upstream.problem(),
        "upstream_heard_timestamp": collection.upstream.heard_at().map(time),
        "age_seconds": collection.upstream.age().as_secs_f64(),
        "uptime_seconds": app.started.elapsed().as_secs_f64(),
        "cursor": known.map(|cursor| cursor.to_string()),
        "history": known.map(|cursor| cursor.history.to_string()),
        "revision": crumb.revision().0,
        "sequence": crumb.sequence().0,
        "timestamp": time(crumb.timestamp()),
        "count": crumb.kvs().len(),
        "payload_bytes": crumb.kvs().payload_bytes(),
        "digest": crumb.kvs().digest().to_string(),
        "kept": {
            "breadcrumbs": window.breadcrumbs,
            "bytes": window.bytes,
            "oldest": known.map(|_| oldest.cursor().to_string()),
        },
        "waiters": app.budgets.waiters(),
        "waiters_limit": limits.max_waiters,
        "streams": {
            "open": streams.readers,
            "scopes": streams.selectors,
            "snapshots_made": streams.snapshots_made,
            "snapshots_shared": streams.snapshots,
        },
        "connections": app.budgets.connections(),
        "snapshot_bytes_in_flight": app.budgets.snapshot_bytes(),
        "snapshot_bytes_limit": limits.max_snapshot_bytes,
        "over_budget": app.budgets.refused().collect::<BTreeMap<_, _>>(),
        "ingest": {
            "backlog": backlog,
            "capacity": capacity,
            "updates": stats.updates.get(),
            "suppressed": stats.suppressed.get(),
            "refused": stats.refused.get(),
            "malformed": collection.upstream.malformed.get(),
            "breadcrumbs": stats.breadcrumbs.get(),
            "resyncs": stats.resyncs.get(),
            "swept": stats.swept.get(),
            "reconnects": collection.upstream.reconnects.get(),
        },
        "count_limit": cache.state_limits().0,
        "payload_bytes_limit": cache.state_limits().1,
        "over_limit": cache.refused_keys().lacking_room().collect::<Vec<_>>(),
        "refused": refused(&cache.refused_keys(), access),
        "store": store(collection),
        "limits": app.budgets.usage().map(|limit| limit_use(&limit, monitors_all)).collect::<Vec<_>>(),
        "files": app.files.iter().map(|files| file(&**files)).collect::<Vec<_>>(),
        "wrong": wrong::all(app, collection, access).iter().map(Wrong::json).collect::<Vec<_>>(),
    });
    if !access.may_monitor() {
        HIDDEN.iter().for_each(|(part, name)| hide(&mut status, part, name));
    }
    if !monitors_all {
        hide(&mut status, "", "snapshot_bytes_in_flight");
        hide(&mut status, "", "files");
    }
    // Strings and numbers always serialize.
    let mut body = serde_json::to_vec_pretty(&status).unwrap_or_default();
    body.push(b'\n');
    Ok(no_store(reply::into_response(reply::body(body, "application/json"))))
}

/// The reason for clients that may not read every key.
const UNEXPLAINED: &str =
    "it cannot be kept; a token that may read every key, or is for administration, is told why";

/// The refused keys. Only those that the client may read are named.
fn refused(refused: &RefusedKeys, access: &Access) -> Value {
    // Only the beginning of a long key is kept, so the client must be allowed to read that prefix.
    let readable = refused.named().iter().filter(|named| access.may_read(named.key.as_bytes()));
    // A reason may quote the line of a file, with other keys.
    let explains = access.may_monitor();
    let keys: Vec<Value> = readable.map(|named| refused_key(named, explains)).collect();
    match explains {
        true => json!({ "count": refused.len(), "exact": refused.is_exact(), "keys": keys }),
        // The number of the others is not the client's business.
        false => json!({ "count": keys.len(), "exact": false, "keys": keys }),
    }
}

/// The state directory; null without one.
fn store(collection: &Collection) -> Value {
    let Some(stored) = collection.stored else { return Value::Null };
    let state = collection.view.cache().stats().persistence();
    let failing = state.failing.map(|failing| {
        json!({ "message": failing.why, "since": time(failing.since), "last_timestamp": time(failing.last) })
    });
    json!({
        "keeps": stored.as_str(),
        "last_write_timestamp": state.last_write.map(time),
        "takes_writes": (stored == Stored::Writes).then_some(failing.is_none()),
        "failing": failing,
    })
}

fn limit_use(limit: &LimitUse, monitors_all: bool) -> Value {
    let used = limit.used.filter(|_| monitors_all || !limit.depends_on_keys);
    json!({
        "flag": limit.flag,
        "used": used,
        "limit": limit.max,
        "refused": limit.refused,
        "refusing": limit.is_refusing,
    })
}

/// Settings that are read again when their files change.
fn file(files: &dyn Reloadable) -> Value {
    let report = files.report();
    json!({
        "files": files.name(),
        "read_timestamp": time(report.read),
        "fault": report.fault.map(|(fault, since)| json!({ "message": fault, "since": time(since) })),
        "failures": report.failures,
        "expires_timestamp": files.expires().map(time),
    })
}

/// What the feed is doing.
fn activity(report: &ActivityReport) -> Value {
    let mut activity = json!({ "name": report.activity.as_str(), "since": time(report.since) });
    if let Some(page) = report.activity.page() {
        activity["page"] = page.into();
    }
    activity
}

/// A time as clients get it.
pub(super) fn time(at: SystemTime) -> String {
    humantime::format_rfc3339_millis(at).to_string()
}

fn refused_key(named: &RefusedKey, explains: bool) -> Value {
    let mut members = json!({
        "reason": if explains { &named.reason } else { UNEXPLAINED },
        "revision": named.revision.0,
        "since": time(named.since),
    });
    let key = named.key.as_bytes();
    match std::str::from_utf8(key) {
        Ok(text) => members["key"] = text.into(),
        Err(_) => members["key_base64"] = BASE64.encode(key).into(),
    }
    if key.len() < named.key_bytes {
        members["key_bytes"] = named.key_bytes.into();
    }
    members
}
