//! A full disk, or a state directory that cannot be used. Reads are served as usual, the log names the problem, and saving
//! goes on when it works again. A push feed refuses writes meanwhile, because it must keep what it acknowledges.
//!
//! The disk is full by a limit of the process on the size of its files (`RLIMIT_FSIZE`), which needs no privileges; and
//! permissions mean nothing to root, so a directory that cannot be written is a file in its place.

#![allow(clippy::unwrap_used)]

mod support;

use std::fs;
use std::io::Write;
use std::path::Path;

use support::daemon::Daemon;
use support::eventually;
use support::http::Http;

/// Fifty of them do not fit into what the "disk" has room for.
fn value(seed: usize) -> String {
    let mut random = fastrand::Rng::with_seed(seed as u64);
    (0..20_000).map(|_| random.alphanumeric()).collect()
}

const ROOM_KIB: usize = 400;
const KEYS: usize = 50;

/// Appends records `from` to before `to` to a feed file.
fn append(feed: &Path, from: usize, to: usize) {
    let mut file = fs::OpenOptions::new().create(true).append(true).open(feed).unwrap();
    for n in from..to {
        writeln!(file, r#"{{"type":"put","key":"k{n}","value":"{}"}}"#, value(n)).unwrap();
    }
}

async fn serves(http: &Http, count: usize) {
    eventually("the state", || async {
        (http.get("/v1/status").await.ok(200).json()["count"] == count).then_some(())
    })
    .await;
    http.get("/readyz?wait=10s").await.ok(200);
    assert_eq!(http.get("/v1/breadcrumbs/current").await.ok(200).json()["count"], count);
}

fn complains(daemon: &Daemon) {
    let complaint = "the state could not be saved:";
    daemon.logged(complaint, |line| (line.contains("WARN") && line.contains(complaint)).then_some(()));
}

#[tokio::test]
async fn a_full_disk_stops_the_saving_and_not_the_serving_and_room_mends_it() {
    let dir = tempfile::tempdir().unwrap();
    let (feed, state) = (dir.path().join("feed"), dir.path().join("state"));
    append(&feed, 0, 3);
    let spec = format!("file:{}?follow=true", feed.display());
    let arguments = ["--feed", &spec, "--state-dir", state.to_str().unwrap(), "--state-interval", "20ms"];
    let mut daemon = Daemon::serve_on_a_full_disk(ROOM_KIB, &arguments);
    let http = daemon.http();
    serves(&http, 3).await;
    daemon.logged("the first save", |line| line.contains("state saved in").then_some(()));
    append(&feed, 3, KEYS);
    serves(&http, KEYS).await;
    complains(&daemon);
    // It goes on following, and what was saved last is still there and whole.
    append(&feed, KEYS, KEYS + 1);
    serves(&http, KEYS + 1).await;
    assert!(fs::metadata(state.join("state.crumbd")).unwrap().len() < (ROOM_KIB << 10) as u64);
    let complaints = daemon.log().lines().filter(|line| line.contains("could not be saved")).count();
    assert!(complaints <= 2, "said once, not at every try: {}", daemon.log());

    daemon.make_room();
    daemon.logged("that it can be saved", |line| line.contains("can be saved again").then_some(()));
    daemon.terminate();
    assert!(daemon.wait_exit().success());
    let again = Daemon::serve(&arguments);
    let found = again.logged("the kept state", |line| {
        line.contains("state of the last run restored").then(|| line.to_owned())
    });
    assert!(found.contains(&format!("\"keys\":{}", KEYS + 1)), "{found}");
}

#[tokio::test]
async fn a_directory_that_is_none_stops_the_saving_and_not_the_serving_and_is_made_anew() {
    let dir = tempfile::tempdir().unwrap();
    let (feed, state) = (dir.path().join("feed"), dir.path().join("state"));
    append(&feed, 0, 3);
    fs::write(&state, "in the way").unwrap();
    let spec = format!("file:{}?follow=true", feed.display());
    let arguments = ["--feed", &spec, "--state-dir", state.to_str().unwrap(), "--state-interval", "20ms"];
    let daemon = Daemon::serve(&arguments);
    serves(&daemon.http(), 3).await;
    complains(&daemon);
    append(&feed, 3, 5);
    serves(&daemon.http(), 5).await;
    // Nothing more happens in the feed, and yet it is tried again.
    fs::remove_file(&state).unwrap();
    daemon.logged("that it can be saved", |line| line.contains("can be saved again").then_some(()));
    assert!(state.join("state.crumbd").exists());
}

#[tokio::test]
async fn a_push_feed_with_a_full_disk_refuses_writes_and_loses_none_that_it_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    let arguments = ["--feed", "push:", "--state-dir", dir.path().to_str().unwrap()];
    let daemon = Daemon::serve_on_a_full_disk(ROOM_KIB, &arguments);
    let http = daemon.http();
    let mut acknowledged = 0;
    let put = |n: usize| {
        let (http, path) = (http.clone(), format!("/v1/kv/k{n}"));
        async move {
            let headers = [("content-type", "text/plain")];
            http.send("PUT", &path, &headers, Some(value(n).into_bytes())).await
        }
    };
    let refused = loop {
        let got = put(acknowledged).await;
        if got.status == 503 {
            break got;
        }
        got.written();
        acknowledged += 1;
        assert!(acknowledged < KEYS, "more was acknowledged than there is room for");
    };
    assert!(acknowledged > 5, "there was room for some");
    refused.need("retry-after");
    let problem = refused.problem(503);
    assert_eq!(problem["type"], "urn:crumbd:problem:not-kept");
    assert!(problem["detail"].as_str().unwrap().contains("could not be persisted"), "{problem}");
    daemon.logged("the refusal", |line| line.contains("writes are refused").then_some(()));
    // Reading goes on, of exactly what was acknowledged; and the next write is refused as well.
    serves(&http, acknowledged).await;
    http.get(&format!("/v1/kv/k{acknowledged}")).await.problem(404);
    put(acknowledged).await.problem(503);
    // SIGKILL, and a start on the same full disk.
    drop(daemon);
    let daemon = Daemon::serve_on_a_full_disk(ROOM_KIB, &arguments);
    let again = daemon.http();
    serves(&again, acknowledged).await;
    for n in 0..acknowledged {
        assert_eq!(again.get(&format!("/v1/kv/k{n}")).await.ok(200).body, value(n).into_bytes());
    }
    let large =
        again.send("PUT", "/v1/kv/large", &[("content-type", "text/plain")], Some(value(0).into_bytes()));
    large.await.problem(503);
    daemon.make_room();
    // Without a restart.
    again.put(b"large", "text/plain", value(0).as_bytes()).await;
    assert_eq!(daemon.log().matches("writes are refused").count(), 1, "said once: {}", daemon.log());
    drop(daemon);
    let daemon = Daemon::serve(&arguments);
    serves(&daemon.http(), acknowledged + 1).await;
}

#[test]
fn a_push_feed_whose_directory_cannot_be_had_does_not_start() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    fs::write(&state, "in the way").unwrap();
    let ended = Daemon::serve_and_end(&["--feed", "push:", "--state-dir", state.to_str().unwrap()]);
    assert!(!ended.status.success());
    assert!(ended.stderr.contains(state.to_str().unwrap()), "{}", ended.stderr);
    assert_eq!(fs::read(&state).unwrap(), b"in the way");
}
