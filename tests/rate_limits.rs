//! Rate limits: `--wake-rate`, `--min-interval`, and a shutdown that answers every waiter.
#![allow(clippy::unwrap_used)]

mod support;

use std::collections::BTreeSet;

use support::daemon::Daemon;
use support::http::{Got, Http};
use support::workload::put;
use support::{eventually, in_time};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

fn ask(http: &Http, path: &str) -> JoinHandle<Got> {
    let (http, path) = (http.clone(), path.to_owned());
    tokio::spawn(async move { http.get(&path).await })
}

async fn waiters(http: &Http) -> u64 {
    http.get("/v1/status").await.ok(200).json()["waiters"].as_u64().unwrap()
}

async fn until_waiters(http: &Http, what: &str, fit: impl Fn(u64) -> bool) {
    eventually(what, || async { fit(waiters(http).await).then_some(()) }).await;
}

fn sequence(got: &Got) -> u64 {
    got.need("crumbd-sequence").parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wake_that_is_spread_reaches_everybody() {
    for front in ["on", "off"] {
        let daemon = Daemon::push(&["--wake-rate", "150", "--lean-front", front]);
        let http = daemon.http();
        let start = http.post(&[put("a", "1")]).await;
        let path = format!("/v1/breadcrumbs/{start}/next?wait=60s");
        let all: Vec<_> = (0..300)
            .map(|n| ask(&http, &if n % 3 == 0 { format!("{path}&prefix=a") } else { path.clone() }))
            .collect();
        until_waiters(&http, "all wait", |waiters| waiters == 300).await;
        let first = http.post(&[put("a", "2")]).await;
        until_waiters(&http, "some are answered and some are not", |waiters| 0 < waiters && waiters < 300)
            .await;
        let second = http.post(&[put("a", "3")]).await;
        for waiter in all {
            let got = in_time("a waiter", waiter).await.unwrap().ok(200);
            assert!([&first, &second].contains(&&got.cursor().to_owned()), "whatever was newest then");
        }
        until_waiters(&http, "nobody waits", |waiters| waiters == 0).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_comes_within_the_interval_is_gathered_and_the_first_after_a_pause_is_not_held_back() {
    let daemon = Daemon::push(&["--min-interval", "2s"]);
    let http = daemon.http();
    let start = http.put(b"a", "text/plain", b"1").await;

    // A pause by the daemon's own clock; at most a sixteenth is taken off a wait.
    http.get(&format!("/v1/breadcrumbs/{start}/next?wait=2500ms")).await.ok(204);
    let clock = ask(&http, &format!("/v1/kv/b?after={start}&wait=1500ms"));
    until_waiters(&http, "the clock runs", |waiters| waiters == 1).await;
    let before = http.put(b"a", "text/plain", b"2").await;
    assert!(!clock.is_finished(), "the first write after a pause was held back");
    in_time("the clock", clock).await.unwrap().ok(204);

    let written = sequence(&http.get(&format!("/v1/breadcrumbs/{before}")).await.ok(200));
    let writes: Vec<_> = (0..50)
        .map(|n| {
            let http = http.clone();
            tokio::spawn(async move { http.put(format!("key/{n}").as_bytes(), "text/plain", b"x").await })
        })
        .collect();
    let mut cursors = BTreeSet::new();
    for write in writes {
        cursors.insert(in_time("a write", write).await.unwrap());
    }
    let now = sequence(&http.get("/v1/breadcrumbs/current").await.ok(200));
    assert!(now - written <= 5, "{} breadcrumbs for fifty writes at a time", now - written);
    assert!(cursors.len() <= 5, "{cursors:?}");
    let got = http.get("/v1/kv?prefix=key%2F&limit=100").await.ok(200);
    assert_eq!(got.json()["entries"].as_array().unwrap().len(), 50, "gathered, not lost");
}

/// A connection of which every byte is seen.
async fn raw(daemon: &Daemon, bytes: &str) -> TcpStream {
    let mut stream = TcpStream::connect(daemon.url().strip_prefix("http://").unwrap()).await.unwrap();
    stream.write_all(bytes.as_bytes()).await.unwrap();
    stream
}

/// Everything that comes until the daemon closes the connection.
async fn rest(stream: &mut TcpStream) -> String {
    let mut text = String::new();
    in_time("the connection to be closed", stream.read_to_string(&mut text)).await.unwrap();
    text
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sigterm_answers_every_lean_waiter_and_closes_who_is_idle() {
    let mut daemon = Daemon::push(&["--drain", "3s"]);
    let http = daemon.http();
    let start = http.post(&[put("a", "1")]).await;
    let get = |query: &str| format!("GET /v1/breadcrumbs/{start}/next?{query} HTTP/1.1\r\nHost: a\r\n\r\n");
    let mut waiting = Vec::new();
    for n in 0..200 {
        waiting.push(raw(&daemon, &get(if n % 4 == 0 { "wait=4m&prefix=a" } else { "wait=4m" })).await);
    }
    // One that sent more behind it: it is told that this was the last answer, and asks elsewhere.
    waiting.push(raw(&daemon, &get("wait=4m").repeat(2)).await);
    let mut idle = vec![raw(&daemon, "").await];
    for request in [get("wait=0"), "GET /livez HTTP/1.1\r\nHost: a\r\n\r\n".to_owned()] {
        let mut stream = raw(&daemon, &request).await;
        let mut answer = [0; 4096];
        assert!(in_time("an answer", stream.read(&mut answer)).await.unwrap() > 0);
        idle.push(stream);
    }
    until_waiters(&http, "all wait", |waiters| waiters == 201).await;
    daemon.terminate();
    for stream in &mut waiting {
        let text = rest(stream).await;
        assert!(text.starts_with("HTTP/1.1 204 "), "{text:?}");
        for line in ["crumbd-reason: shutting-down\r\n", "connection: close\r\n"] {
            assert!(text.contains(line), "{line:?} is not in {text:?}");
        }
        assert!(text.contains(&format!("crumbd-cursor: {start}\r\n")), "{text:?}");
        assert_eq!(text.matches("HTTP/1.1").count(), 1, "one answer, and the connection is closed: {text:?}");
    }
    for stream in &mut idle {
        assert_eq!(rest(stream).await, "", "who asked for nothing is told nothing");
    }
    assert_eq!(daemon.wait_exit().code(), Some(0), "{}", daemon.log());
    assert!(!daemon.log().contains("drain window is over"), "nobody had to be cut:\n{}", daemon.log());
}
