//! `GET /livez` and `GET /readyz`: how the daemon is, for orchestrators and load balancers.

use std::sync::Arc;

use axum::extract::State;
use axum::http::Uri;
use axum::response::{IntoResponse, Response};

use crate::http::app::App;
use crate::http::collection::Collection;
use crate::http::rep::problem::Problem;
use crate::http::rep::query::Query;
use crate::http::rep::reply::no_store;
use crate::model::SyncStatus;
use crate::value::{Unwell, Watcher};

/// Alive: the process answers, and every part of it gives signs of life.
pub(in crate::http) async fn livez(State(app): State<App>, uri: Uri) -> Result<Response, Problem> {
    Query::parse(&uri, &[])?;
    for collection in app.collections.iter() {
        if let Some(Unwell { part, why }) = collection.liveness.health.unwell() {
            return Err(Problem::unavailable("unwell", format!("{}{part}: {why}", of(collection))));
        }
    }
    Ok(plain("alive\n"))
}

/// Ready: the state of every collection was complete once, and the daemon is not going down. Says so at once, or with
/// `wait` as soon as it is. `collection` asks for one of them.
pub(in crate::http) async fn readyz(State(app): State<App>, uri: Uri) -> Result<Response, Problem> {
    let mut query = Query::parse(&uri, &["wait", "collection"])?;
    let asked: Vec<Arc<Collection>> = match query.parsed::<String>("collection")? {
        Some(name) => vec![app.collections.asked_for(Some(&name))?],
        None => app.collections.iter().cloned().collect(),
    };
    if !query.has("wait") {
        return ready(&app, &asked);
    }
    let deadline = query.wait()?.deadline();
    if let ready @ Ok(_) = ready(&app, &asked) {
        return ready;
    }
    let _waiter = app.budgets.waiter()?;
    for collection in &asked {
        // Before the first look: what changes after it is not missed.
        let mut in_sync = collection.liveness.status.watch().filter(|status| *status == SyncStatus::InSync);
        while collection_is_ready(collection).is_err() {
            tokio::select! {
                _ = in_sync.get() => {}
                _ = app.shutdown.begun() => return ready(&app, &asked),
                () = tokio::time::sleep_until(deadline) => return ready(&app, &asked),
            }
        }
    }
    ready(&app, &asked)
}

fn ready(app: &App, asked: &[Arc<Collection>]) -> Result<Response, Problem> {
    if app.shutdown.has_begun() {
        return Err(Problem::unavailable("shutting-down", "the daemon is stopping"));
    }
    let mut text = "ready\n";
    for collection in asked {
        if collection_is_ready(collection)? != SyncStatus::InSync {
            text = "ready (stale)\n";
        }
    }
    Ok(plain(text))
}

/// The status of a collection whose state was complete once.
fn collection_is_ready(collection: &Collection) -> Result<SyncStatus, Problem> {
    let cache = collection.view.cache();
    let status = cache.current_breadcrumb().sync_status();
    if cache.was_in_sync() {
        return Ok(status);
    }
    let detail = format!("the feed{} has not been in-sync yet: it is {status}", of_feed(collection));
    Err(Problem::unavailable("starting", detail))
}

/// The beginning of a sentence about a part of a collection.
fn of(collection: &Collection) -> String {
    collection.name().map(|name| format!("collection {name:?}, ")).unwrap_or_default()
}

fn of_feed(collection: &Collection) -> String {
    collection.name().map(|name| format!(" of collection {name:?}")).unwrap_or_default()
}

fn plain(text: &'static str) -> Response {
    no_store(text.into_response())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)] // a test may unwrap

    use std::sync::Arc;
    use std::time::Duration;

    use super::*;
    use crate::cache::{Cache, CacheConfig, IngestTask};
    use crate::feed::Upstream;
    use crate::http::serve::liveness;
    use crate::http::{AppConfig, Limits, Shutdown};
    use crate::ingest::IngestBuffer;
    use crate::model::{History, Update};
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
            max_body_bytes: 1,
            stall_timeout: Duration::from_secs(1),
            limits,
            heartbeat: Duration::MAX,
        };
        let collection = Collection::new("test:".to_owned(), view, upstream, None, feed_silence);
        let app = App::new([collection], Shutdown::default(), config);
        tokio::spawn(liveness::watch(default_of(&app), app.shutdown.clone()));
        (app, cache, ingest)
    }

    fn default_of(app: &App) -> Arc<Collection> {
        Arc::clone(app.collections.find(None).unwrap())
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
        assert!(fails(&app).await.unwrap().contains("ingest: it has not reported"));
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
            // Out of scope, but it tries.
            default_of(&app).upstream.reconnects.inc();
            assert_eq!(fails(&app).await, None);
        }
        tokio::time::sleep(Duration::from_secs(130)).await;
        assert!(fails(&app).await.unwrap().contains("feed: it has not reported"));
    }
}
