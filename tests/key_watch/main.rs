//! Key watches from a cursor on, by `GET /v1/kv/{key}?after=` and as a library. Changes since the cursor are reported once a
//! key, deletions only to a watcher that could know the key. An empty value is a value.
#![allow(clippy::unwrap_used)]

#[path = "../support/mod.rs"]
mod support;

mod model;

use support::daemon::Daemon;
use support::http::{Got, Http};
use support::workload::{deleted, put};
use support::{A_WHILE, eventually, in_time};
use tokio::task::JoinHandle;

fn after(key: &str, cursor: &str, wait: &str) -> String {
    format!("/v1/kv/{key}?after={cursor}&wait={wait}")
}

/// A waiter that is known to wait.
async fn waiting(http: &Http, key: &str, cursor: &str) -> JoinHandle<Got> {
    let waiters = async || http.get("/v1/status").await.json()["waiters"].as_u64().unwrap();
    let before = waiters().await;
    let (asking, path) = (http.clone(), after(key, cursor, "30s"));
    let waiter = tokio::spawn(async move { asking.get(&path).await });
    eventually("the waiter", || async { (waiters().await == before + 1).then_some(()) }).await;
    waiter
}

async fn answered(waiter: JoinHandle<Got>) -> Got {
    in_time("the waiter's answer", waiter).await.unwrap()
}

#[tokio::test]
async fn many_changes_are_one_with_the_last_value_and_the_cursor_of_that() {
    let daemon = Daemon::push(&[]);
    let http = daemon.http();
    let start = http.post(&[put("a", "0")]).await;
    let mut last = start.clone();
    for n in 1..=20 {
        last = http.post(&[put("a", &n.to_string()), put("b", &n.to_string())]).await;
    }
    let got = http.get(&after("a", &start, "30s")).await.ok(200).standing();
    assert_eq!((&got.body[..], got.cursor()), (&b"20"[..], &*last));
    http.get(&after("a", got.cursor(), "0")).await.ok(204);
}

#[tokio::test]
async fn what_came_and_went_unseen_is_not_told_and_what_was_known_is_told_to_be_gone() {
    let daemon = Daemon::push(&[]);
    let http = daemon.http();
    let start = http.post(&[put("known", "1"), put("other", "1")]).await;
    http.post(&[put("new", "1")]).await;
    let seen = http.post(&[put("new", "2")]).await;
    http.post(&[deleted("new")]).await;
    let gone = http.post(&[deleted("known")]).await;

    let got = http.get(&after("new", &start, "0")).await.ok(204).standing();
    assert_eq!(got.cursor(), gone, "who did not know it has missed nothing, and stands at the newest");
    let got = http.get(&after("new", &seen, "0")).await;
    got.problem(404);
    assert_eq!(got.cursor(), gone);
    http.get(&after("known", &start, "0")).await.problem(404);

    // One who waits does not hear of what comes and goes at once, but of what comes.
    let waiter = waiting(&http, "new", &gone).await;
    http.post(&[put("new", "3"), deleted("new")]).await;
    tokio::time::sleep(A_WHILE).await;
    assert!(!waiter.is_finished());
    http.post(&[put("new", "4")]).await;
    assert_eq!(&answered(waiter).await.ok(200).body[..], b"4");
}

#[tokio::test]
async fn an_empty_value_is_a_value() {
    let daemon = Daemon::push(&[]);
    let http = daemon.http();
    let start = http.post(&[put("a", "1")]).await;
    let waiter = waiting(&http, "a", &start).await;
    let emptied = http.put(b"a", "text/plain", b"").await;
    let got = answered(waiter).await.ok(200);
    assert_eq!((&got.body[..], got.cursor()), (&b""[..], &*emptied));
    let waiter = waiting(&http, "a", &emptied).await;
    http.post(&[deleted("a")]).await;
    answered(waiter).await.problem(404);
}

#[tokio::test]
async fn a_deletion_by_a_resync_is_told_to_who_waits_and_who_comes_later() {
    let daemon = Daemon::push(&[]);
    let http = daemon.http();
    let start = http.post(&[put("a", "1"), put("b", "1"), put("c", "1")]).await;
    let goes = waiting(&http, "a", &start).await;
    let stays = waiting(&http, "b", &start).await;
    let absent = waiting(&http, "d", &start).await;
    let state =
        [r#"{"type":"snapshot"}"#.to_owned(), put("b", "1"), put("c", "2"), r#"{"type":"end"}"#.to_owned()];
    let replaced = http.post(&state).await;
    let got = answered(goes).await;
    got.problem(404);
    assert_eq!(got.cursor(), replaced);
    http.get(&after("a", &start, "0")).await.problem(404);
    http.get(&after("b", &start, "0")).await.ok(204);
    assert_eq!(&http.get(&after("c", &start, "0")).await.ok(200).body[..], b"2");
    tokio::time::sleep(A_WHILE).await;
    assert!(!stays.is_finished() && !absent.is_finished(), "nothing happened to these");
    http.post(&[put("b", "2"), put("d", "2")]).await;
    for waiter in [stays, absent] {
        assert_eq!(&answered(waiter).await.ok(200).body[..], b"2");
    }
}

#[tokio::test]
async fn a_waiter_is_not_sent_away_when_the_window_moves_past_it_in_one_leap() {
    let daemon = Daemon::push(&["--keep-count", "2"]);
    let http = daemon.http();
    let start = http.post(&[put("a", "1"), put("b", "1")]).await;
    let mut waiters = Vec::new();
    for _ in 0..20 {
        waiters.push(waiting(&http, "a", &start).await);
        waiters.push(waiting(&http, "b", &start).await);
    }
    // Whoever looks late finds neither the breadcrumb that woke it nor the one before.
    let writes = (0..20).map(|n| {
        let http = http.clone();
        tokio::spawn(async move { http.post(&[deleted("b"), put("a", &format!("\"{n}\""))]).await })
    });
    for write in writes.collect::<Vec<_>>() {
        write.await.unwrap();
    }
    for (number, waiter) in waiters.into_iter().enumerate() {
        let got = answered(waiter).await;
        assert_eq!(
            got.status,
            if number % 2 == 0 { 200 } else { 404 },
            "{}",
            String::from_utf8_lossy(&got.body)
        );
    }
}
