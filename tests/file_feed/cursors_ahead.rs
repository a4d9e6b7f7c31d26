//! A cursor ahead of a file feed is gone at once, because no replica can be ahead.

use std::fs;

use super::support::daemon::Daemon;
use super::support::http::{Http, lines};
use super::support::workload::put;
use super::{Feed, mirror, ready};

fn ten() -> Vec<String> {
    (0..10).map(|n| put(&format!("k{n}"), "1")).collect()
}

/// The cursor with another revision.
fn at_revision(cursor: &str, revision: u64) -> String {
    let mut parts: Vec<&str> = cursor.split('.').collect();
    let revision = revision.to_string();
    parts[1] = &revision;
    parts.join(".")
}

/// Everything that takes a cursor says that this one is gone.
async fn is_gone(http: &Http, cursor: &str) {
    let now = http.cursor().await;
    for wait in ["0", "29s"] {
        http.get(&format!("/v1/breadcrumbs/{cursor}/next?wait={wait}")).await.problem(410);
        http.get(&format!("/v1/breadcrumbs/{cursor}/next?prefix=k1&wait={wait}")).await.problem(410);
        http.get(&format!("/v1/kv/k1?after={cursor}&wait={wait}")).await.problem(410);
    }
    http.get(&format!("/v1/breadcrumbs/{cursor}")).await.problem(410);
    http.get(&format!("/v1/breadcrumbs/{cursor}/diff/{now}")).await.problem(410);
    http.get(&format!("/v1/breadcrumbs/{now}/diff/{cursor}")).await.problem(410);
    http.get(&format!("/v1/kv/k1?at={cursor}")).await.problem(410);
    http.get(&format!("/v1/kv?at={cursor}")).await.problem(410);
}

#[tokio::test]
async fn ahead_of_a_file_that_lost_its_last_lines_while_the_daemon_was_down() {
    for (follow, keep) in [(false, false), (false, true), (true, false), (true, true)] {
        let feed = Feed::of(&ten());
        let kept = feed.dir.path().join("state");
        let name = if follow { feed.followed() } else { feed.once() };
        let keep_in = ["--state-dir", kept.to_str().unwrap(), "--state-interval", "20ms"];
        let args = [&["--feed", &*name][..], if keep { &keep_in[..] } else { &[] }].concat();
        let first = Daemon::serve(&args);
        let old = mirror(&first).await;
        assert_eq!(old.revision, 10);
        first.terminate();
        { first }.wait_exit();
        fs::write(&feed.path, lines(&ten()[..7])).unwrap();
        let second = Daemon::serve(&args);
        let http = ready(&second).await;
        super::becomes(&http, &super::expected(&ten()[..7])).await;
        is_gone(&http, &old.cursor).await;
    }
}

#[tokio::test]
async fn ahead_of_a_push_feed_and_of_standard_input() {
    let push = Daemon::push(&[]);
    let http = push.http();
    http.put(b"k1", "text/plain", b"1").await;
    let cursor = http.cursor().await;
    is_gone(&http, &at_revision(&cursor, 5)).await;

    let mut piped = Daemon::serve_stdin(&["--feed", "stdin:"]);
    piped.feed(&lines(&ten()));
    piped.end_of_feed();
    let http = ready(&piped).await;
    let cursor = http.cursor().await;
    is_gone(&http, &at_revision(&cursor, 15)).await;
}

#[tokio::test]
async fn a_stream_from_ahead_is_reset() {
    let feed = Feed::of(&ten());
    let daemon = Daemon::serve(&["--feed", &feed.followed()]);
    let http = ready(&daemon).await;
    let ahead = at_revision(&http.cursor().await, 12);
    let told = super::support::in_time("a reset", async {
        let url = format!("{}/v1/stream?from={ahead}", daemon.url());
        // Some provider has to be named, although nothing is said over TLS.
        _ = rustls::crypto::ring::default_provider().install_default();
        let mut answer = reqwest::get(url).await.unwrap();
        let mut told = Vec::new();
        while !String::from_utf8_lossy(&told).contains("\"end\"") {
            told.extend_from_slice(&answer.chunk().await.unwrap().expect("the stream goes on"));
        }
        String::from_utf8(told).unwrap()
    })
    .await;
    assert!(told.starts_with("{\"type\":\"reset\",\"reason\":\"cursor-gone\"}"), "{told}");
}
