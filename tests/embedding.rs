//! crumbd as a library: the examples, a feed of another program, routes beside the daemon's, a daemon that is stopped
//! and started again in one process.
#![allow(clippy::unwrap_used)]

#[allow(dead_code)]
#[path = "../examples/custom_feed.rs"]
mod custom_feed;
#[allow(dead_code)]
#[path = "../examples/embed.rs"]
mod embed;
mod support;

use std::time::Duration;

use crumbd::client::{Client, Follower, Mirror};
use crumbd::daemon::{Daemon, DaemonError};
use crumbd::feed::{BoxFuture, Feed, FeedError, Sink, Warm};
use crumbd::model::{History, SyncStatus, Update};
use tokio::sync::oneshot;

use support::http::Http;
use support::in_time;

const ANY_PORT: ([u8; 4], u16) = ([127, 0, 0, 1], 0);

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_in_the_same_program_sees_every_breadcrumb() {
    let lines = in_time("the lines", embed::run()).await.unwrap();
    assert_eq!(lines.last().map(String::as_str), Some("3 keys, in-sync"), "{lines:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_feed_of_another_program_is_served_beside_its_routes() {
    for lean_front in [true, false] {
        let builder = custom_feed::daemon().listen(ANY_PORT.into());
        let daemon = builder.configure(|config| config.server.lean_front = lean_front).start().await.unwrap();
        let base = format!("http://{}", daemon.address());
        let mirror = Mirror::start(Follower::builder(&base).unwrap().start());
        in_time("in-sync", mirror.synced()).await.unwrap();
        let keys: Vec<_> = mirror.snapshot().iter().map(|entry| entry.to_key().to_string()).collect();
        assert_eq!(keys, ["load/15m", "load/1m", "load/5m"]);

        let http = Http::new(&base);
        let get = async |path: &str| {
            let got = http.get(path).await;
            (got.status, String::from_utf8(got.body).unwrap())
        };
        assert_eq!(get("/hello").await, (200, "hello from a route of one's own\n".to_owned()));
        assert!(get("/v1/status").await.1.contains("load:"));
        assert!(get("/nothing").await.1.contains("there is no such endpoint"));
        // In the same process the cache can be read directly.
        assert_eq!(daemon.reader(None).unwrap().current_breadcrumb().kvs().len(), 3);
        drop(mirror);
        let stopped = daemon.run_until(std::future::ready(()), Duration::from_millis(100));
        in_time("the end", stopped).await.unwrap();
    }
}

/// Counts up from what it knows, and ends when it is told.
struct Counter {
    fails: Option<oneshot::Receiver<()>>,
}

impl Feed for Counter {
    fn history(&self) -> Option<History> {
        Some(History::derive(b"a counter"))
    }

    fn run(self: Box<Self>, sink: Sink, warm: Option<Warm>) -> BoxFuture<'static, Result<(), FeedError>> {
        Box::pin(async move {
            let first = warm.map_or(1, |warm| warm.revision.0 + 1);
            let update = Update::put("count", first.to_string().into_bytes());
            sink.updates(vec![update]).await?;
            sink.status(SyncStatus::InSync).await?;
            match self.fails {
                Some(fails) => {
                    _ = fails.await;
                    Err(FeedError::other("the counter is broken"))
                }
                None => std::future::pending().await,
            }
        })
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_state_directory_keeps_the_state_of_such_a_feed_and_its_error_ends_the_daemon() {
    let dir = tempfile::tempdir().unwrap();
    let build = |fails| {
        let feed = Counter { fails };
        Daemon::builder().feed("counter:", feed).listen(ANY_PORT.into()).state_dir(&dir.path().join("state"))
    };
    let daemon = build(None).start().await.unwrap();
    let base = format!("http://{}", daemon.address());
    let mut follower = Follower::builder(&base).unwrap().start();
    in_time("one", async {
        while follower.next_change().await.unwrap().header.status != Some(SyncStatus::InSync) {}
    })
    .await;
    let kept = follower.state().clone();
    drop(follower);
    in_time("the end", daemon.run_until(std::future::ready(()), Duration::from_millis(50))).await.unwrap();

    let (fail, fails) = oneshot::channel();
    let mut daemon = build(Some(fails)).start().await.unwrap();
    // The cursor of the process before is continued.
    let client = Client::new(&format!("http://{}", daemon.address())).unwrap();
    let mut follower = Follower::of(client).resume(kept).start();
    let changed = in_time("two", follower.next_change()).await.unwrap();
    assert!(!changed.snapshot, "{changed:?}");
    assert_eq!(follower.state().get(b"count").map(|entry| entry.value()), Some(&b"2"[..]));

    drop(fail);
    let failure = in_time("the failure", daemon.failed()).await;
    assert!(matches!(&failure, DaemonError::Feed(FeedError::Other(_))), "{failure:?}");
    assert_eq!(failure.to_string(), "the counter is broken");
    drop(follower);
    in_time("the end", async {
        daemon.drain(Duration::from_millis(50)).await.unwrap();
        daemon.stop().await.unwrap();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_feed_it_is_its_own_datastore() {
    let daemon = Daemon::builder().listen(ANY_PORT.into()).start().await.unwrap();
    let client = Client::new(&format!("http://{}", daemon.address())).unwrap();
    client.put(&"a".into(), b"1".to_vec(), "text/plain").await.unwrap();
    assert_eq!(client.get(&"a".into(), None).await.unwrap(), b"1");
    let error = Daemon::builder().feed_url("etc://x/").start().await.err().unwrap();
    assert!(error.to_string().contains("etc"), "{error}");
}
