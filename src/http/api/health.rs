//! `GET /livez` and `GET /readyz`, for orchestrators and load balancers.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::Uri;
use axum::response::{IntoResponse, Response};

use crate::http::app::App;
use crate::http::budget::HeadBytes;
use crate::http::client::Peer;
use crate::http::collection::{Collection, Stored};
use crate::http::rep::problem::Problem;
use crate::http::rep::query::Query;
use crate::http::rep::reply::no_store;
use crate::model::{KeySelector, SyncStatus};
use crate::value::Watcher;

/// How long a daemon is not ready for writes after one that its store could not keep.
const REFUSES_WRITES: Duration = Duration::from_secs(30);

/// How often it is checked whether writes are possible.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// What a daemon has to be ready for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Purpose {
    Reads,
    Writes,
}

/// Alive: every part of the daemon makes progress.
pub(in crate::http) async fn livez(State(app): State<App>, uri: Uri) -> Result<Response, Problem> {
    Query::parse(&uri, &[])?;
    match app.unwell() {
        Some(unwell) => Err(Problem::unavailable("unwell", unwell)),
        None => Ok(plain("alive\n")),
    }
}

/// Ready: every collection has been in sync, and the daemon is not shutting down. With `wait` the answer comes as soon as
/// it is ready. `collection` selects one collection. With `for=writes` writes are possible, too.
pub(in crate::http) async fn readyz(
    State(app): State<App>,
    peer: Peer,
    head: HeadBytes,
    uri: Uri,
) -> Result<Response, Problem> {
    let mut query = Query::parse(&uri, &["wait", "collection", "for"])?;
    let purpose = match query.parsed::<String>("for")?.as_deref() {
        None | Some("reads") => Purpose::Reads,
        Some("writes") => Purpose::Writes,
        Some(_) => return Err(Problem::bad_request("the query parameter \"for\" is reads or writes")),
    };
    let selected: Vec<Arc<Collection>> = match query.parsed::<String>("collection")? {
        Some(name) => vec![app.collections.find_or_404(Some(&name))?],
        None => app.collections.iter().cloned().collect(),
    };
    if !query.has("wait") {
        return ready(&app, &selected, purpose);
    }
    let deadline = query.wait()?.deadline();
    drop((query, uri));
    if let ready @ Ok(_) = ready(&app, &selected, purpose) {
        return ready;
    }
    // Without a token a client is counted by its address.
    let client = peer.client();
    let waiter = app.budgets.waiter(&**client, &KeySelector::ALL, head);
    let _waiter = waiter.map_err(|full| app.budgets.no_place(full, client))?;
    for collection in &selected {
        // Subscribed before the first check, so that no change is missed.
        let mut in_sync = collection.liveness.status.watch().filter(|status| *status == SyncStatus::InSync);
        while not_ready(collection).is_some() || no_writes(collection, purpose).is_some() {
            tokio::select! {
                _ = in_sync.get(), if not_ready(collection).is_some() => {}
                () = tokio::time::sleep(CHECK_INTERVAL), if not_ready(collection).is_none() => {}
                _ = app.shutdown.begun() => return ready(&app, &selected, purpose),
                () = tokio::time::sleep_until(deadline) => return ready(&app, &selected, purpose),
            }
        }
    }
    ready(&app, &selected, purpose)
}

fn ready(app: &App, selected: &[Arc<Collection>], purpose: Purpose) -> Result<Response, Problem> {
    if app.shutdown.has_begun() {
        return Err(Problem::unavailable("shutting-down", "the daemon is shutting down"));
    }
    let not_ready: Vec<String> = selected.iter().filter_map(|one| not_ready(one)).collect();
    if !not_ready.is_empty() {
        return Err(Problem::unavailable("starting", not_ready.join("; ")));
    }
    if let Some((kind, why)) = selected.iter().find_map(|one| no_writes(one, purpose)) {
        return Err(Problem::unavailable(kind, why));
    }
    let in_sync =
        |one: &Arc<Collection>| one.view.cache().current_breadcrumb().sync_status() == SyncStatus::InSync;
    Ok(plain(if selected.iter().all(in_sync) { "ready\n" } else { "ready (stale)\n" }))
}

/// The reason why a collection is not ready.
fn not_ready(collection: &Collection) -> Option<String> {
    let cache = collection.view.cache();
    if cache.was_in_sync() {
        return None;
    }
    let (of_feed, status) = (of_feed(collection), cache.current_breadcrumb().sync_status());
    Some(format!("the feed{of_feed} has not been in-sync yet; its status is {status}"))
}

/// The reason why a collection is not ready for writes, if it is asked for that: its kind, and a sentence. Reading goes on
/// meanwhile. Nobody but a write finds out whether the store works again, so after a while writes are let through.
fn no_writes(collection: &Collection, purpose: Purpose) -> Option<(&'static str, String)> {
    if purpose == Purpose::Reads {
        return None;
    }
    let of_feed = of_feed(collection);
    if collection.writer.is_none() {
        return Some(("read-only", format!("the feed{of_feed} takes no writes")));
    }
    let failing = collection.view.cache().stats().persistence().failing?;
    let lately = failing.last.elapsed().is_ok_and(|age| age < REFUSES_WRITES);
    let is_store = collection.stored == Some(Stored::Writes);
    let why = failing.why;
    (is_store && lately)
        .then(|| ("not-kept", format!("writes{of_feed} are refused, for the store cannot be written: {why}")))
}

fn of_feed(collection: &Collection) -> String {
    collection.name().map(|name| format!(" of collection \"{name}\"")).unwrap_or_default()
}

fn plain(text: &'static str) -> Response {
    no_store(text.into_response())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)] // a test may unwrap

    use std::sync::Arc;

    use super::*;
    use crate::cache::{Cache, CacheConfig, IngestTask};
    use crate::feed::Upstream;
    use crate::http::serve::liveness;
    use crate::http::{AppConfig, Shutdown};
    use crate::ingest::IngestBuffer;
    use crate::model::{History, Update};
    use crate::view::{View, ViewConfig};

    /// A daemon whose ingest task does not run yet.
    fn daemon(feed_silence: Option<Duration>) -> (App, Cache, IngestTask) {
        let buffer = Arc::new(IngestBuffer::channel(64).unwrap());
        let (cache, ingest) = Cache::new(CacheConfig::default(), Some(History::random()), buffer);
        let upstream = Arc::new(Upstream::remote());
        let (view, fanout) = View::new(cache.reader(), Arc::clone(&upstream), &ViewConfig::default());
        tokio::spawn(fanout.run());
        let collection = Collection::new("test:".to_owned(), view, upstream, None, feed_silence);
        let app = App::new([collection], Shutdown::default(), AppConfig::smallest());
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
    async fn livez_names_an_ingest_task_without_progress_until_it_goes_on() {
        let (app, cache, ingest) = daemon(None);
        tokio::time::sleep(Duration::from_secs(600)).await;
        assert_eq!(fails(&app).await, None, "the buffer is empty");
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
    async fn livez_reports_at_once_that_the_ingest_task_has_stopped() {
        let (app, _, ingest) = daemon(None);
        tokio::time::sleep(Duration::from_secs(2)).await;
        drop(ingest);
        tokio::time::sleep(Duration::from_millis(1)).await;
        assert!(fails(&app).await.unwrap().contains("ingest: it has stopped"));
    }

    #[tokio::test(start_paused = true)]
    async fn livez_names_a_feed_without_progress_that_must_not_be_silent() {
        let (app, _, ingest) = daemon(Some(Duration::from_secs(120)));
        tokio::spawn(ingest.run());
        for _ in 0..10 {
            tokio::time::sleep(Duration::from_secs(60)).await;
            // Its upstream is unreachable, but it retries.
            default_of(&app).upstream.reconnects.inc();
            assert_eq!(fails(&app).await, None);
        }
        tokio::time::sleep(Duration::from_secs(130)).await;
        assert!(fails(&app).await.unwrap().contains("feed: it has not reported"));
    }
}
