//! How the daemon is: for people, for orchestrators, for load balancers.

use axum::Extension;
use axum::extract::State;
use axum::http::header::CACHE_CONTROL;
use axum::http::{HeaderValue, Uri};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use super::auth::access::Access;
use super::problem::Problem;
use super::query::Query;
use super::reply;
use super::routes::App;
use crate::model::SyncStatus;

/// Alive: the process answers.
pub(super) async fn livez(uri: Uri) -> Result<Response, Problem> {
    Query::parse(&uri, &[])?;
    Ok(plain("alive\n"))
}

/// Ready: the state was complete once, and the daemon is not going down.
pub(super) async fn readyz(State(app): State<App>, uri: Uri) -> Result<Response, Problem> {
    Query::parse(&uri, &[])?;
    if app.shutdown.has_begun() {
        return Err(Problem::unavailable("shutting-down", "the daemon is stopping"));
    }
    if !app.view.cache().was_in_sync() {
        let status = app.view.cache().current_breadcrumb().sync_status();
        let detail = format!("the feed has not been in-sync yet: it is {status}");
        return Err(Problem::unavailable("starting", detail));
    }
    Ok(plain(match app.view.cache().current_breadcrumb().sync_status() {
        SyncStatus::InSync => "ready\n",
        _ => "ready (stale)\n",
    }))
}

fn plain(text: &'static str) -> Response {
    no_store(text.into_response())
}

fn no_store(mut response: Response) -> Response {
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// Everything that there is to know at a glance, as JSON. What it says of the state as a whole is for
/// those who may read the whole.
pub(super) async fn status(
    State(app): State<App>,
    Extension(access): Extension<Access>,
    uri: Uri,
) -> Result<Response, Problem> {
    Query::parse(&uri, &[])?;
    let cache = app.view.cache();
    let (crumb, oldest) = (cache.current_breadcrumb(), cache.oldest_breadcrumb());
    let (kept, kept_bytes) = cache.kept();
    let (backlog, capacity) = cache.backlog();
    let stats = cache.stats();
    let known = (!crumb.is_provisional()).then(|| crumb.cursor());
    let mut status = json!({
        "version": env!("CARGO_PKG_VERSION"),
        "feed": app.config.feed,
        "status": crumb.sync_status().as_str(),
        "ready": cache.was_in_sync() && !app.shutdown.has_begun(),
        "draining": app.shutdown.has_begun(),
        "age_seconds": app.upstream.age().as_secs_f64(),
        "uptime_seconds": app.started.elapsed().as_secs_f64(),
        "cursor": known.map(|cursor| cursor.to_string()),
        "history": known.map(|cursor| cursor.history.to_string()),
        "revision": crumb.revision().0,
        "sequence": crumb.sequence().0,
        "timestamp": humantime::format_rfc3339_millis(crumb.timestamp()).to_string(),
        "count": crumb.kvs().len(),
        "payload_bytes": crumb.kvs().payload_bytes(),
        "digest": crumb.kvs().digest().to_string(),
        "kept": {
            "breadcrumbs": kept,
            "bytes": kept_bytes,
            "oldest": known.map(|_| oldest.cursor().to_string()),
        },
        "waiters": app.budgets.waiters(),
        "connections": app.budgets.connections(),
        "snapshot_bytes_in_flight": app.budgets.snapshot_bytes(),
        "ingest": {
            "backlog": backlog,
            "capacity": capacity,
            "updates": stats.updates.get(),
            "suppressed": stats.suppressed.get(),
            "refused": stats.refused.get(),
            "malformed": app.upstream.malformed.get(),
            "breadcrumbs": stats.breadcrumbs.get(),
            "resyncs": stats.resyncs.get(),
            "swept": stats.swept.get(),
            "reconnects": app.upstream.reconnects.get(),
        },
    });
    if !access.may_read_everything()
        && let Some(members) = status.as_object_mut()
    {
        members.retain(|name, _| !["count", "payload_bytes", "digest"].contains(&name.as_str()));
    }
    // Strings and numbers always serialize.
    let mut body = serde_json::to_vec_pretty(&status).unwrap_or_default();
    body.push(b'\n');
    Ok(no_store(reply::framed(reply::body(body, "application/json"))))
}
