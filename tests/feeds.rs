//! Several feeds in one daemon: each is a collection of its own, and the failure of one is not that of another.
#![allow(clippy::unwrap_used)] // a test may unwrap

mod support;

use std::fs;
use std::path::Path;

use support::daemon::{self, Daemon};
use support::etcd::Etcd;
use support::eventually;
use support::http::{Got, Http};

fn text(got: &Got) -> String {
    String::from_utf8_lossy(&got.body).into_owned()
}

async fn status_of(http: &Http, base: &str) -> serde_json::Value {
    http.get(&format!("{base}/status")).await.ok(200).json()
}

async fn put(http: &Http, path: &str, value: &str) {
    let headers = [("content-type", "text/plain")];
    http.send("PUT", path, &headers, Some(value.as_bytes().to_vec())).await.ok(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn each_feed_has_its_own_state_store_and_history() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("routes.ndjson");
    fs::write(&file, "{\"type\":\"put\",\"key\":\"k\",\"value\":\"of the file\"}\n").unwrap();
    let routes = format!("routes=file:{}?follow=true", file.display());
    let state = dir.path().join("state");
    let args = [
        "--feed",
        "push:",
        "--feed",
        "agents=push:",
        "--feed",
        &routes,
        "--state-dir",
        state.to_str().unwrap(),
    ];
    let mut daemon = Daemon::serve(&args);
    let http = daemon.http();
    put(&http, "/v1/kv/k", "of the default").await;
    put(&http, "/v1/c/agents/kv/k", "of the agents").await;
    let mut cursors = Vec::new();
    for round in 0..2 {
        let http = daemon.http();
        assert_eq!(http.get("/readyz?wait=30s").await.status, 200);
        let mut histories = Vec::new();
        for (base, value) in [
            ("/v1", "of the default"),
            ("/v1/c/agents", "of the agents"),
            ("/v1/c/routes", "\"of the file\""),
        ] {
            assert_eq!(text(&http.get(&format!("{base}/kv/k")).await.ok(200)), value, "round {round}");
            let status = status_of(&http, base).await;
            histories.push(status["history"].as_str().unwrap().to_owned());
            let cursor = status["cursor"].as_str().unwrap().to_owned();
            if round == 0 {
                cursors.push((base, cursor));
            }
        }
        histories.sort_unstable();
        histories.dedup();
        assert_eq!(histories.len(), 3, "each has its own history");
        if round == 0 {
            let stored = |name: &str| state.join(name).join("state.crumbd").is_file();
            eventually("the copy of the file's state", || async {
                stored("collections/routes").then_some(())
            })
            .await;
            assert!(stored(".") && stored("collections/agents"));
            // SIGKILL.
            drop(daemon);
            daemon = Daemon::serve(&args);
        }
    }
    for (base, cursor) in cursors {
        let got = daemon.http().get(&format!("{base}/breadcrumbs/{cursor}/next?wait=0")).await;
        assert!(
            matches!(got.status, 200 | 204),
            "{base}: its cursor goes on after the restart, but {}",
            got.status
        );
    }
    let read_only = daemon.http().send("DELETE", "/v1/c/routes/kv/k", &[], None).await;
    assert!(read_only.status == 403 && text(&read_only).contains("routes.ndjson"), "{}", text(&read_only));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_feed_that_fails_leaves_the_others_alone_and_the_last_one_ends_the_daemon() {
    let dir = tempfile::tempdir().unwrap();
    let (one, other) = (dir.path().join("one.ndjson"), dir.path().join("other.ndjson"));
    for file in [&one, &other] {
        fs::write(file, "{\"type\":\"put\",\"key\":\"k\",\"value\":1}\n").unwrap();
    }
    let feed = |name: &str, path: &Path| format!("{name}=file:{}?follow=true", path.display());
    let args = ["--strict", "--feed", &feed("one", &one), "--feed", &feed("other", &other)];
    let mut daemon = Daemon::serve(&args);
    let http = daemon.http();
    assert_eq!(http.get("/readyz?wait=30s").await.status, 200);
    append(&one, "no record\n");
    eventually("the feed's end", || async {
        let status = status_of(&http, "/v1/c/one").await;
        (status["feed_activity"]["name"] == "failed" && status["status"] == "resync-in-progress")
            .then_some(())
    })
    .await;
    let status = status_of(&http, "/v1/c/one").await;
    let said = |member: &str| status.pointer(member).and_then(serde_json::Value::as_str).unwrap_or_default();
    let (error, problem) = (said("/feed_last_error/message"), said("/feed_problem"));
    assert!(error.contains("one.ndjson line 2") && error.contains("no record"), "{error}");
    // Every client may read this one, so it quotes nothing.
    assert!(problem.contains("before a restart") && !problem.contains("no record"), "{problem}");
    assert_eq!(text(&http.get("/v1/c/one/kv/k").await.ok(200)), "1", "the last state is served");
    append(&other, "{\"type\":\"put\",\"key\":\"k\",\"value\":2}\n");
    eventually("the other's change", || async {
        (text(&http.get("/v1/c/other/kv/k").await) == "2").then_some(())
    })
    .await;
    assert_eq!(status_of(&http, "/v1/c/other").await["status"], "in-sync");
    let metrics = text(&http.get("/metrics").await.ok(200));
    for line in [
        "crumbd_feed_activity{activity=\"failed\",collection=\"one\"} 1",
        "crumbd_feed_activity{activity=\"watching\",collection=\"other\"} 1",
    ] {
        assert!(metrics.contains(line), "{line} in {metrics}");
    }
    append(&other, "no record\n");
    assert_eq!(daemon.wait_exit().code(), Some(1));
    assert!(
        daemon.log().contains("\"collection\":\"other\""),
        "the log names the collection: {}",
        daemon.log()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_feed_that_fails_beside_one_that_has_ended_leaves_the_daemon_alone() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("bad.ndjson");
    fs::write(&file, "{\"type\":\"put\",\"key\":\"k\",\"value\":1}\nnonsense\n").unwrap();
    let daemon =
        Daemon::serve(&["--strict", "--feed", "push:", "--feed", &format!("bad=file:{}", file.display())]);
    let http = daemon.http();
    eventually("the feed's end", || async {
        (status_of(&http, "/v1/c/bad").await["feed_activity"]["name"] == "failed").then_some(())
    })
    .await;
    put(&http, "/v1/kv/k", "written after that").await;
    assert_eq!(http.get("/livez").await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn forty_stores_in_one_daemon_are_ready_and_take_writes() {
    let dir = tempfile::tempdir().unwrap();
    let feeds: Vec<String> = (0..40).map(|n| format!("c{n}=push:")).collect();
    let mut args: Vec<&str> = feeds.iter().flat_map(|feed| ["--feed", feed.as_str()]).collect();
    args.extend(["--state-dir", dir.path().to_str().unwrap()]);
    let daemon = Daemon::serve(&args);
    let http = daemon.http();
    assert_eq!(http.get("/readyz?wait=30s").await.status, 200);
    for n in 0..40 {
        put(&http, &format!("/v1/c/c{n}/kv/k"), "v").await;
    }
}

fn append(path: &Path, line: &str) {
    use std::io::Write as _;
    fs::OpenOptions::new().append(true).open(path).unwrap().write_all(line.as_bytes()).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_feed_does_is_told_while_its_upstream_is_away_and_once_it_is_there() {
    let etcd = Etcd::start().await;
    etcd.keys().put(b"app/k", b"v").await;
    // Nobody listens on port 1.
    let there = format!("there=etcd://{}/app/", etcd.endpoint());
    let daemon = Daemon::serve(&["--feed", "away=etcd://127.0.0.1:1/app/", "--feed", &there]);
    let http = daemon.http();
    assert_eq!(http.get("/readyz?collection=there&wait=30s").await.status, 200);
    // It is in-sync once it has listed everything, and watches then.
    let status = eventually("the watch", || async {
        let status = status_of(&http, "/v1/c/there").await;
        (status["feed_activity"]["name"] == "watching").then_some(status)
    })
    .await;
    assert!(status["feed_last_error"].is_null(), "{status}");
    let error = eventually("the error", || async {
        let status = status_of(&http, "/v1/c/away").await;
        status["feed_last_error"]["message"].as_str().map(str::to_owned)
    })
    .await;
    assert!(error.contains("127.0.0.1:1 is not reached"), "{error}");
    let unready = http.get("/readyz").await;
    assert!(unready.status == 503 && text(&unready).contains("\\\"away\\\""), "{}", text(&unready));
}

#[test]
fn the_feeds_are_listed_with_an_example_each() {
    let output = daemon::run(&["feeds"]);
    assert!(output.status.success());
    let listed = String::from_utf8(output.stdout).unwrap();
    for said in [
        "push:",
        "file:PATH[?follow=true]",
        "stdin:",
        "etcd://HOST:PORT",
        "password_file",
        "--feed 'etcd://127.0.0.1:2379/app/'",
    ] {
        assert!(listed.contains(said), "{said} in {listed}");
    }
}

#[test]
fn feeds_that_exclude_each_other_are_told_what_would_be_right() {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("crumbd.toml");
    fs::write(&config, "feed = [\"push:\", \"agents=push:\"]\nlisten = \"127.0.0.1:0\"\n").unwrap();
    let check = |args: &[&str]| {
        let output = daemon::run(&[&["serve", "--check", "--listen", "127.0.0.1:0"], args].concat());
        let said = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8(said).unwrap())
    };
    let (code, said) = check(&["--config", config.to_str().unwrap()]);
    assert!(code == Some(0) && said.contains("feeds push: agents=push:"), "{said}");
    let (code, said) = check(&["--feed", "crumbd://[::1]:7811,127.0.0.1:7811/"]);
    assert_eq!(code, Some(0), "{said}");
    for (args, expected) in [
        (&["--feed", "push:", "--feed", "stdin:"][..], "two feeds have no name"),
        (&["--feed", "a=push:", "--feed", "a=stdin:"], "two feeds are named a"),
        (&["--feed", "A=push:"], "\"A\" is not the name of a collection"),
        (&["--feed", "a=stdin:", "--feed", "b=stdin:"], "only one feed can be stdin:"),
        (&["--feed", "etcd://h:1/?what=1"], "is no option of this feed: it has ca, cert, key, user,"),
        (&["--feed", "nats://h"], "`crumbd feeds` explains them"),
        (&["--feed", "crumbd://[::1/"], "the bracket of \"[::1\" is not closed"),
        (&["--feed", "crumbd://[::1:7811/"], "the bracket of \"[::1:7811\" is not closed"),
        (&["--feed", "crumbd://::1]:7811/"], "brackets are for an IPv6 address"),
        (&["--feed", "crumbd://[localhost]:7811/"], "brackets are for an IPv6 address"),
        (&["--feed", "etcd://::1:2379/"], "an IPv6 address is written as [::1]:PORT"),
    ] {
        let (code, said) = check(args);
        assert!(code == Some(2) && said.contains(expected), "{args:?}: {said}");
    }
}
