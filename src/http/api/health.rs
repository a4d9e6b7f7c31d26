//! How the daemon is: for people, for orchestrators, for load balancers.

use axum::Extension;
use axum::extract::State;
use axum::http::header::CACHE_CONTROL;
use axum::http::{HeaderValue, Uri};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Value, json};

use crate::cache::{RefusedKey, RefusedKeys};
use crate::http::auth::access::Access;
use crate::http::rep::problem::Problem;
use crate::http::rep::query::Query;
use crate::http::rep::reply;
use crate::http::router::App;
use crate::model::SyncStatus;
use crate::value::{Unwell, Watcher};

/// Alive: the process answers, and every part of it gives signs of life.
pub(in crate::http) async fn livez(State(app): State<App>, uri: Uri) -> Result<Response, Problem> {
    Query::parse(&uri, &[])?;
    match app.liveness.health.unwell() {
        None => Ok(plain("alive\n")),
        Some(Unwell { part, why }) => Err(Problem::unavailable("unwell", format!("{part}: {why}"))),
    }
}

/// Ready: the state was complete once, and the daemon is not going down. Says so at once, or with `wait`
/// as soon as it is.
pub(in crate::http) async fn readyz(State(app): State<App>, uri: Uri) -> Result<Response, Problem> {
    let mut query = Query::parse(&uri, &["wait"])?;
    if !query.has("wait") {
        return ready(&app);
    }
    let deadline = query.wait()?.deadline();
    if let ready @ Ok(_) = ready(&app) {
        return ready;
    }
    let _waiter = app.budgets.waiter()?;
    // Before the first look: what changes after it is not missed.
    let mut in_sync = app.liveness.status.watch().filter(|status| *status == SyncStatus::InSync);
    loop {
        let answer = ready(&app);
        if answer.is_ok() || app.shutdown.has_begun() {
            return answer;
        }
        tokio::select! {
            _ = in_sync.get() => {}
            _ = app.shutdown.begun() => {}
            () = tokio::time::sleep_until(deadline) => return answer,
        }
    }
}

fn ready(app: &App) -> Result<Response, Problem> {
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
pub(in crate::http) async fn status(
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
    let streams = app.view.stream_counts();
    let known = (!crumb.is_provisional()).then(|| crumb.cursor());
    let mut status = json!({
        "version": env!("CARGO_PKG_VERSION"),
        "feed": app.config.feed,
        "status": crumb.sync_status().as_str(),
        "ready": cache.was_in_sync() && !app.shutdown.has_begun(),
        "draining": app.shutdown.has_begun(),
        "unwell": app.liveness.health.unwell().map(|unwell| json!({ "part": unwell.part, "why": unwell.why })),
        "feed_problem": app.upstream.problem(),
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
        "streams": {
            "open": streams.readers,
            "scopes": streams.selectors,
            "snapshots_made": streams.snapshots_made,
            "snapshots_shared": streams.snapshots,
        },
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
        "refused": refused(&cache.refused_keys(), &access),
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

/// The keys that are absent because what the upstream has for them was refused; named are those that the client may read.
fn refused(refused: &RefusedKeys, access: &Access) -> Value {
    // Of a long key only the beginning is kept; then a right to less than that beginning's keys is none to it.
    let readable = refused.named().iter().filter(|named| access.may_read(named.key.as_bytes()));
    json!({
        "count": refused.len(),
        "exact": refused.is_exact(),
        "keys": readable.map(shown).collect::<Vec<_>>(),
    })
}

fn shown(named: &RefusedKey) -> Value {
    let mut shown = json!({
        "reason": named.reason,
        "revision": named.revision.0,
        "since": humantime::format_rfc3339_millis(named.since).to_string(),
    });
    let key = named.key.as_bytes();
    match std::str::from_utf8(key) {
        Ok(text) => shown["key"] = text.into(),
        Err(_) => shown["key_base64"] = BASE64.encode(key).into(),
    }
    if key.len() < named.key_bytes {
        shown["key_bytes"] = named.key_bytes.into();
    }
    shown
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)] // a test may unwrap

    use std::sync::Arc;
    use std::time::Duration;

    use super::*;
    use crate::cache::{Cache, CacheConfig, IngestTask};
    use crate::http::serve::liveness;
    use crate::http::{AppConfig, Limits, Shutdown};
    use crate::ingest::IngestBuffer;
    use crate::model::{History, Update, Upstream};
    use crate::view::{View, ViewConfig};

    /// A daemon whose parts are in the test's hands.
    fn daemon(feed_silence: Option<Duration>) -> (App, Cache, IngestTask) {
        let buffer = Arc::new(IngestBuffer::channel(64).unwrap());
        let (cache, ingest) = Cache::new(CacheConfig::default(), Some(History::random()), buffer);
        let upstream = Arc::new(Upstream::remote());
        let (view, fanout) = View::new(cache.reader(), Arc::clone(&upstream), &ViewConfig::default());
        tokio::spawn(fanout.run());
        let limits =
            Limits { max_connections: 1, max_waiters: 1, max_snapshot_bytes: 1, max_upload_bytes: 1 };
        let config = AppConfig {
            feed: "test:".to_owned(),
            max_body_bytes: 1,
            stall_timeout: Duration::from_secs(1),
            limits,
            feed_silence,
            heartbeat: Duration::MAX,
        };
        let app = App::new(view, upstream, None, Shutdown::default(), config);
        tokio::spawn(liveness::watch(app.clone()));
        (app, cache, ingest)
    }

    async fn fails(app: &App) -> Option<String> {
        let answer = livez(State(app.clone()), Uri::from_static("/livez")).await;
        answer.err().map(|problem| format!("{problem:?}"))
    }

    #[tokio::test(start_paused = true)]
    async fn livez_names_the_ingest_task_that_takes_nothing_and_takes_it_back() {
        let (app, cache, ingest) = daemon(None);
        tokio::time::sleep(Duration::from_secs(600)).await;
        assert_eq!(fails(&app).await, None, "there is nothing to be done");
        cache.on_updates(vec![Update::put("a", "1")]).await.unwrap();
        tokio::time::sleep(Duration::from_secs(30)).await;
        assert_eq!(fails(&app).await, None);
        tokio::time::sleep(Duration::from_secs(40)).await;
        assert!(fails(&app).await.unwrap().contains("ingest: it has not said"));
        tokio::spawn(ingest.run());
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert_eq!(fails(&app).await, None);
    }

    #[tokio::test(start_paused = true)]
    async fn livez_says_at_once_that_the_ingest_task_has_ended() {
        let (app, _, ingest) = daemon(None);
        tokio::time::sleep(Duration::from_secs(2)).await;
        drop(ingest);
        tokio::time::sleep(Duration::from_millis(1)).await;
        assert!(fails(&app).await.unwrap().contains("ingest: it has ended"));
    }

    #[tokio::test(start_paused = true)]
    async fn livez_names_the_feed_that_moves_no_more_where_it_must_not_be_silent() {
        let (app, _, ingest) = daemon(Some(Duration::from_secs(120)));
        tokio::spawn(ingest.run());
        for _ in 0..10 {
            tokio::time::sleep(Duration::from_secs(60)).await;
            // Out of reach, but it tries.
            app.upstream.reconnects.add(1);
            assert_eq!(fails(&app).await, None);
        }
        tokio::time::sleep(Duration::from_secs(130)).await;
        assert!(fails(&app).await.unwrap().contains("feed: it has not said"));
    }
}
