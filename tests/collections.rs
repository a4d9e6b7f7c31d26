//! Several collections in one server: each whole of its own, under its own addresses, whichever front answers.
#![allow(clippy::unwrap_used)] // a test may unwrap

#[path = "support/mod.rs"]
mod support;

use std::sync::Arc;
use std::time::Duration;

use crumbd::cache::{Cache, CacheConfig};
use crumbd::feed::Upstream;
use crumbd::http::{App, AppConfig, Collection, Limits, Server, ServerConfig, Shutdown};
use crumbd::ingest::IngestBuffer;
use crumbd::model::{History, SyncStatus, Update};
use crumbd::view::{View, ViewConfig};
use support::http::{Got, Http};
use support::{eventually, in_time};

const A_MINUTE: Duration = Duration::from_secs(60);

fn collection() -> (Cache, Collection) {
    let buffer = Arc::new(IngestBuffer::channel(64).unwrap());
    let (cache, ingest) = Cache::new(CacheConfig::default(), Some(History::random()), buffer);
    tokio::spawn(ingest.run());
    let upstream = Arc::new(Upstream::local());
    let (view, fanout) = View::new(cache.reader(), Arc::clone(&upstream), &ViewConfig::default());
    tokio::spawn(fanout.run());
    (cache, Collection::new("test:".to_owned(), view, upstream, None, None))
}

/// A server of the default collection and one that is named `pods`.
async fn serve(lean_front: bool) -> (Http, [Cache; 2]) {
    let (first, default) = collection();
    let (second, named) = collection();
    let limits = Limits {
        max_connections: 100,
        max_waiters: 100,
        max_client_waiters: 100,
        max_snapshot_bytes: 1 << 20,
        max_client_snapshot_bytes: 1 << 20,
        max_client_upload_bytes: 1 << 20,
        max_upload_bytes: 1 << 20,
    };
    let config = AppConfig { max_body_bytes: 1 << 20, stall_timeout: A_MINUTE, limits, heartbeat: A_MINUTE };
    let app = App::new([default, named.named("pods")], Shutdown::default(), config);
    let server = Server::bind(ServerConfig {
        listen: ([127, 0, 0, 1], 0).into(),
        header_timeout: A_MINUTE,
        idle_timeout: A_MINUTE,
        stall_timeout: A_MINUTE,
        max_connection_age: None,
        lean_front,
    })
    .unwrap();
    let http = Http::new(&format!("http://{}", server.address()));
    tokio::spawn(server.run(app));
    (http, [first, second])
}

async fn current(http: &Http, base: &str) -> (Got, String) {
    let got = http.get(&format!("{base}/breadcrumbs/current")).await.ok(200);
    let cursor = got.headers["crumbd-cursor"].to_str().unwrap().to_owned();
    (got, cursor)
}

fn text(got: &Got) -> String {
    String::from_utf8_lossy(&got.body).into_owned()
}

fn link(got: &Got) -> &str {
    got.headers["link"].to_str().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_collection_has_its_own_state_history_and_waiters() {
    for lean_front in [true, false] {
        let (http, [first, second]) = serve(lean_front).await;
        first.on_updates(vec![Update::put("shared", "of the first")]).await.unwrap();
        second.on_updates(vec![Update::put("shared", "of the second")]).await.unwrap();
        for cache in [&first, &second] {
            cache.on_status_updated(SyncStatus::InSync).await.unwrap();
        }
        let mut cursors = Vec::new();
        for (base, value) in [("/v1", "of the first"), ("/v1/c/pods", "of the second")] {
            eventually("the value", || async {
                let got = http.get(&format!("{base}/kv/shared")).await;
                (got.body == value.as_bytes()).then_some(())
            })
            .await;
            let (got, cursor) = current(&http, base).await;
            assert_eq!(link(&got), format!("<{base}/breadcrumbs/{cursor}/next>; rel=\"next\""));
            cursors.push(cursor);
        }
        assert_ne!(cursors[0].split('.').next(), cursors[1].split('.').next(), "histories of their own");

        // A cursor of the one is of another history to the other.
        let foreign = http.get(&format!("/v1/c/pods/breadcrumbs/{}/next?wait=0", cursors[0])).await;
        assert_eq!(foreign.status, 410);

        // A change of the one wakes nobody who waits at the other.
        let waits = |base: &str, cursor: &str, wait: &str| {
            let (http, path) = (http.clone(), format!("{base}/breadcrumbs/{cursor}/next?wait={wait}"));
            tokio::spawn(async move { http.get(&path).await })
        };
        let (waiting, quiet) = (waits("/v1/c/pods", &cursors[1], "30s"), waits("/v1", &cursors[0], "1s"));
        eventually("both to wait", || async {
            (http.get("/v1/status").await.json()["waiters"] == 2).then_some(())
        })
        .await;
        second.on_updates(vec![Update::put("more", "1")]).await.unwrap();
        let woken = in_time("the waiter", waiting).await.unwrap().ok(200);
        assert!(link(&woken).starts_with("</v1/c/pods/breadcrumbs/"), "{}", link(&woken));
        assert_eq!(in_time("the other", quiet).await.unwrap().status, 204);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn readiness_is_of_all_collections_or_of_one_and_unknown_names_are_told_the_known_ones() {
    let (http, [first, second]) = serve(true).await;
    first.on_status_updated(SyncStatus::InSync).await.unwrap();
    let unready = http.get("/readyz?wait=100ms").await;
    assert_eq!(unready.status, 503);
    assert!(text(&unready).contains("pods"), "it names the collection: {}", text(&unready));
    assert_eq!(http.get("/readyz?collection=pods").await.status, 503);
    second.on_status_updated(SyncStatus::InSync).await.unwrap();
    assert_eq!(http.get("/readyz?wait=30s").await.status, 200);
    assert_eq!(http.get("/readyz?collection=pods&wait=30s").await.status, 200);
    for path in ["/readyz?collection=nodes", "/v1/c/nodes/breadcrumbs/current", "/v1/c/nodes/stream"] {
        let got = http.get(path).await;
        assert_eq!(got.status, 404, "{path}");
        assert!(text(&got).contains("nodes") && text(&got).contains("pods"), "{path}: {}", text(&got));
    }
    let metrics = text(&http.get("/metrics").await.ok(200));
    for line in ["crumbd_sequence ", "crumbd_sequence{collection=\"pods\"} ", "crumbd_ready 1"] {
        assert!(metrics.contains(&format!("\n{line}")), "{line} in {metrics}");
    }
}
