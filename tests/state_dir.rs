//! The state directory: acknowledged and served state survives the process.

#![allow(clippy::unwrap_used)]

mod support;

use std::fs;
use std::path::Path;

use support::daemon::Daemon;
use support::etcd::Etcd;
use support::mirror::{Coding, Media, Mirror};
use support::state::{State, assert_same};
use support::{eventually, in_time};

fn push(dir: &Path) -> Daemon {
    Daemon::push(&["--state-dir", dir.to_str().unwrap()])
}

async fn mirror(daemon: &Daemon) -> Mirror {
    Mirror::of(daemon.http(), Media::Ndjson, Coding::Identity).await
}

/// Eight writers at once; returns what they were told is kept.
async fn write(daemon: &Daemon, round: usize) -> State {
    let writers = (0..8).map(|writer| {
        let http = daemon.http();
        tokio::spawn(async move {
            let mut kept = Vec::new();
            for n in 0..40 {
                let (key, value) = (format!("k{writer}/{}", n % 15), format!("{round}.{n}"));
                if n % 7 == 3 {
                    http.delete(key.as_bytes()).await;
                    kept.push((key, None));
                } else {
                    http.put(key.as_bytes(), "text/plain", value.as_bytes()).await;
                    kept.push((key, Some(value)));
                }
            }
            kept
        })
    });
    let mut state = State::new();
    for writer in writers.collect::<Vec<_>>() {
        for (key, value) in in_time("the writes", writer).await.unwrap() {
            match value {
                Some(value) => _ = state.insert(key.into_bytes(), value.into_bytes().into()),
                None => _ = state.remove(key.as_bytes()),
            }
        }
    }
    state
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_acknowledged_write_survives_kill_9_and_old_cursors_go_on() {
    let dir = tempfile::tempdir().unwrap();
    let mut daemon = push(dir.path());
    let mut client = mirror(&daemon).await;
    for round in 0..4 {
        let expected = write(&daemon, round).await;
        let cursor = daemon.http().cursor().await;
        // Dropping a daemon is SIGKILL.
        drop(daemon);
        daemon = push(dir.path());
        client.move_to(daemon.http());
        client.follow_to(&cursor).await;
        assert_same("after the restart", &client.state, &expected);
        assert_same("and anew", &mirror(&daemon).await.state, &expected);
    }
    assert_eq!(client.seen.snapshots, 1, "one snapshot, over all restarts");
}

#[tokio::test]
async fn an_etag_is_the_same_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let daemon = push(dir.path());
    let http = daemon.http();
    for key in ["a", "b", "c", "a"] {
        http.put(key.as_bytes(), "text/plain", key.repeat(3).as_bytes()).await;
    }
    let before = http.get("/v1/kv/b").await.need("etag").to_owned();
    drop(daemon);
    let daemon = push(dir.path());
    assert_eq!(daemon.http().get("/v1/kv/b").await.need("etag"), before);
}

#[tokio::test]
async fn a_store_that_is_damaged_is_refused_and_left_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let daemon = push(dir.path());
    for n in 0..20 {
        daemon.http().put(format!("k{n}").as_bytes(), "text/plain", b"value").await;
    }
    drop(daemon);
    let database = dir.path().join("state.crumbd");
    let mut bytes = fs::read(&database).unwrap();
    // Old pages are in the file too: the newest is one of them.
    for at in memchr::memmem::find_iter(&bytes.clone(), b"value") {
        bytes[at] ^= 1;
    }
    fs::write(&database, &bytes).unwrap();
    let refused = refused(dir.path());
    assert!(refused.contains("state.crumbd is damaged"), "{refused}");
    assert!(fs::read(&database).unwrap() == bytes, "nothing was touched");
}

/// What a daemon says that does not start on this directory.
fn refused(dir: &Path) -> String {
    let ended = Daemon::serve_and_end(&["--feed", "push:", "--state-dir", dir.to_str().unwrap()]);
    assert!(!ended.status.success());
    ended.stderr
}

#[tokio::test]
async fn two_daemons_do_not_share_a_store() {
    let dir = tempfile::tempdir().unwrap();
    let _first = push(dir.path());
    let second = refused(dir.path());
    assert!(second.contains("another daemon uses it"), "{second}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_warm_start_serves_at_once_and_a_damaged_state_file_is_moved_aside() {
    let mut etcd = Etcd::start().await;
    let keys = etcd.keys();
    for n in 0..50 {
        keys.put(format!("app/{n}").as_bytes(), b"1").await;
    }
    let dir = tempfile::tempdir().unwrap();
    let feed = etcd.feed("app/");
    let start = || {
        let dir = dir.path().to_str().unwrap();
        Daemon::serve(&["--feed", &feed, "--state-dir", dir, "--state-interval", "50ms"])
    };
    let mut daemon = start();
    let served = |daemon: &Daemon, count: u64| {
        let http = daemon.http();
        async move {
            eventually("the state", || async {
                (http.get("/v1/status").await.json()["count"] == count).then_some(())
            })
            .await;
        }
    };
    served(&daemon, 50).await;
    let mut client = mirror(&daemon).await;
    keys.put(b"app/50", b"1").await;
    served(&daemon, 51).await;
    daemon.terminate();
    assert!(daemon.wait_exit().success());

    etcd.kill();
    let daemon = start();
    let got = daemon.http().get("/v1/breadcrumbs/current").await.ok(200);
    assert_ne!(got.need("crumbd-status"), "in-sync");
    assert_eq!(got.json()["count"], 51);
    daemon.http().get("/readyz").await.ok(200);
    etcd.restart().await;
    keys.put(b"app/51", b"1").await;
    client.move_to(daemon.http());
    served(&daemon, 52).await;
    let cursor = daemon.http().cursor().await;
    client.follow_to(&cursor).await;
    assert_eq!(client.seen.snapshots, 1, "the cursor from before the restart went on");
    drop(daemon);

    let database = dir.path().join("state.crumbd");
    let bytes = fs::read(&database).unwrap();
    fs::write(&database, &bytes[..bytes.len() / 3]).unwrap();
    let daemon = start();
    served(&daemon, 52).await;
    assert!(daemon.log().contains("damaged"), "{}", daemon.log());
    assert!(dir.path().join("state.damaged").exists());
}
