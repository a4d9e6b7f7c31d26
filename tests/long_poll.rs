//! Long polls: a `next` is answered when there is a change, and not before. Also every other end of a wait, and cursors that
//! cannot be continued.
#![allow(clippy::unwrap_used)]

mod support;

use std::time::{Duration, Instant};

use support::daemon::Daemon;
use support::http::{Got, Http, lines};
use support::mirror::{Coding, Media, Mirror, Step};
use support::record::Body;
use support::workload::{deleted, put};
use support::{A_WHILE, eventually, in_time};
use tokio::task::JoinHandle;

/// Sends a request that is expected to wait.
fn ask(http: &Http, path: &str) -> JoinHandle<Got> {
    let (http, path) = (http.clone(), path.to_owned());
    tokio::spawn(async move { http.get(&path).await })
}

/// Fails when a request is answered within a while.
async fn still_waits(what: &str, waiter: &mut JoinHandle<Got>) {
    if let Ok(got) = tokio::time::timeout(A_WHILE, waiter).await {
        let got = got.unwrap();
        panic!("{what} was answered: {} {}", got.status, String::from_utf8_lossy(&got.body));
    }
}

async fn answered(what: &str, waiter: JoinHandle<Got>) -> Got {
    in_time(what, waiter).await.unwrap()
}

fn body(got: &Got) -> Body {
    Body::read(got.need("content-type"), &got.plain())
}

/// The keys of an answer's records.
fn keys(got: &Got) -> Vec<String> {
    body(got).records.into_iter().map(|record| String::from_utf8(record.key).unwrap()).collect()
}

/// The path of `next` from a cursor.
fn next(cursor: &str, query: &str) -> String {
    format!("/v1/breadcrumbs/{cursor}/next{query}")
}

#[tokio::test]
async fn a_next_waits_and_is_then_answered_with_what_came() {
    let daemon = Daemon::push(&[]);
    let http = daemon.http();
    let start = http.post(&[put("a", "1")]).await;
    let mut waiter = ask(&http, &next(&start, "?wait=30s"));
    still_waits("a next with nothing after its cursor", &mut waiter).await;
    let written = http.post(&[put("b", "2"), put("a", "3")]).await;
    let got = answered("the waiter's answer", waiter).await.ok(200).standing();
    assert_eq!(got.cursor(), written);
    assert_eq!(got.need("crumbd-mode"), "delta", "one breadcrumb's updates");
    let mut seen = keys(&got);
    seen.sort();
    assert_eq!(seen, ["a", "b"]);
}

#[tokio::test]
async fn a_next_that_is_behind_is_answered_at_once_with_everything_up_to_now() {
    let daemon = Daemon::push(&[]);
    let http = daemon.http();
    let start = http.post(&[put("a", "1"), put("b", "1")]).await;
    let one = http.post(&[put("c", "1")]).await;
    let got = http.get(&next(&start, "?wait=0")).await.ok(200).standing();
    assert_eq!((got.cursor(), got.need("crumbd-mode")), (&*one, "delta"));
    http.post(&[put("c", "2")]).await;
    http.post(&[deleted("a")]).await;
    let last = http.post(&[put("c", "3")]).await;
    let got = http.get(&next(&start, "?wait=30s")).await.ok(200).standing();
    assert_eq!(
        (got.cursor(), got.need("crumbd-mode")),
        (&*last, "squash"),
        "several breadcrumbs in one answer"
    );
    let updates = body(&got).records;
    assert_eq!(updates.len(), 2, "the last value per key: {updates:?}");
    assert!(updates.iter().any(|u| u.key == b"a" && u.kind == "deleted"));
    assert!(updates.iter().any(|u| u.key == b"c" && u.kind == "new" && u.value.as_deref() == Some(b"3")));
}

#[tokio::test]
async fn a_wait_that_ends_first_is_a_204_with_a_cursor_to_go_on_from() {
    let daemon = Daemon::push(&[]);
    let http = daemon.http();
    let cursor = http.post(&[put("a", "1")]).await;
    for wait in ["0", "0s", "50ms"] {
        let got = http.get(&next(&cursor, &format!("?wait={wait}"))).await.ok(204).standing();
        assert!(got.body.is_empty());
        assert_eq!(got.cursor(), cursor, "nothing happened");
        assert_eq!(got.need("cache-control"), "no-store");
    }
    let began = Instant::now();
    http.get(&next(&cursor, "?wait=320ms")).await.ok(204);
    let least = Duration::from_millis(320 - 320 / 16);
    assert!(began.elapsed() >= least, "at most 1/16 is taken off, but it came after {:?}", began.elapsed());
}

#[tokio::test]
async fn every_unit_of_a_wait_is_understood_and_a_long_one_is_clamped_not_refused() {
    let daemon = Daemon::push(&[]);
    let http = daemon.http();
    let mut cursor = http.post(&[put("a", "0")]).await;
    for (n, wait) in ["20000ms", "29s", "2m", "10m", "48h"].iter().enumerate() {
        let mut waiter = ask(&http, &next(&cursor, &format!("?wait={wait}")));
        still_waits(wait, &mut waiter).await;
        cursor = http.post(&[put("a", &format!("{}", n + 1))]).await;
        assert_eq!(answered(wait, waiter).await.ok(200).cursor(), cursor);
    }
}

#[tokio::test]
async fn a_cursor_ahead_of_the_daemon_waits_and_is_never_answered_with_older_data() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("feed.ndjson");
    let feed = format!("file:{}", path.display());
    std::fs::write(&path, lines(&[put("a", "1"), put("b", "1")])).unwrap();
    let lagging = Daemon::serve(&["--feed", &feed]);
    let behind = Mirror::of(ready(&lagging).await, Media::Json, Coding::Identity).await;

    // The same file, longer: another replica of the same history, further on.
    append(&path, &lines(&[put("a", "2"), put("c", "1")]));
    let replica = Daemon::serve(&["--feed", &feed]);
    let ahead = Mirror::of(ready(&replica).await, Media::Json, Coding::Identity).await;
    assert_eq!(ahead.history, behind.history, "two daemons on one file share its history");
    assert!(ahead.revision > behind.revision);

    let http = lagging.http();
    for _ in 0..2 {
        let got = http.get(&next(&ahead.cursor, "?wait=0")).await.ok(204).standing();
        assert_eq!(got.cursor(), ahead.cursor, "a 204 never moves a client back");
    }
    let mut waiter = ask(&http, &next(&ahead.cursor, "?wait=30s"));
    still_waits("a cursor ahead", &mut waiter).await;
    let mut reader = ask(&http, &format!("/v1/breadcrumbs/{}", ahead.cursor));
    still_waits("a read at a cursor ahead", &mut reader).await;
    waiter.abort();
    reader.abort();
}

#[tokio::test]
async fn a_cursor_of_another_history_is_gone_and_is_told_where_to_begin() {
    let daemon = Daemon::push(&[]);
    let other = Daemon::push(&[]);
    let (http, elsewhere) = (daemon.http(), other.http());
    let written = http.post(&[put("a", "1")]).await;
    let foreign = elsewhere.post(&[put("a", "1")]).await;
    let paths = [
        next(&foreign, "?wait=30s"),
        next(&foreign, "?wait=0"),
        format!("/v1/breadcrumbs/{foreign}"),
        format!("/v1/breadcrumbs/{foreign}/diff/{written}"),
        format!("/v1/breadcrumbs/{written}/diff/{foreign}"),
        format!("/v1/kv/a?at={foreign}"),
        format!("/v1/kv?at={foreign}"),
        format!("/v1/kv/a?after={foreign}&wait=30s"),
    ];
    for path in paths {
        let gone = in_time(&path, http.get(&path)).await.problem(410);
        assert_eq!(gone["current"], *written, "{path}: {gone}");
    }
}

#[tokio::test]
async fn a_cursor_that_fell_out_of_the_window_is_gone_and_is_told_the_oldest() {
    let daemon = Daemon::push(&["--keep-count", "5"]);
    let http = daemon.http();
    let mut cursors = Vec::new();
    for n in 0..30 {
        cursors.push(http.post(&[put("a", &n.to_string())]).await);
    }
    let (first, last) = (&cursors[0], &cursors[29]);
    for path in [next(first, "?wait=30s"), format!("/v1/breadcrumbs/{first}"), format!("/v1/kv/a?at={first}")]
    {
        let gone = in_time(&path, http.get(&path)).await.problem(410);
        assert_eq!(gone["current"], **last, "{path}");
        let oldest = gone["oldest"].as_str().unwrap_or_else(|| panic!("{path}: no oldest: {gone}"));
        let place = cursors.iter().position(|c| c == oldest).expect("the oldest is a cursor that was given");
        assert!((20..29).contains(&place), "about five are kept, the oldest is number {place}");
        http.get(&format!("/v1/breadcrumbs/{oldest}")).await.ok(200).standing();
        let got = http.get(&next(oldest, "?wait=0")).await.ok(200).standing();
        assert_eq!(got.cursor(), last);
    }
    // What is kept and what is gone have one border.
    let mut kept = Vec::new();
    for cursor in &cursors {
        let there = http.get(&format!("/v1/breadcrumbs/{cursor}")).await;
        assert!(there.status == 200 || there.status == 410, "{}", there.status);
        let next = http.get(&next(cursor, "?wait=0")).await;
        let expected = if cursor == last { 204 } else { there.status };
        assert_eq!(next.status, expected, "a breadcrumb that is kept can be continued");
        kept.push(there.status == 200);
    }
    assert!(kept.is_sorted(), "{kept:?}");
}

#[tokio::test]
async fn a_change_of_status_alone_answers_with_no_updates() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("feed.ndjson");
    std::fs::write(&path, lines(&[put("a", "1")])).unwrap();
    let daemon = Daemon::serve(&["--feed", &format!("file:{}?follow=true", path.display())]);
    let mut mirror = Mirror::of(ready(&daemon).await, Media::Ndjson, Coding::Identity).await;
    assert_eq!(mirror.status, "in-sync");
    for status in ["resync-in-progress", "in-sync"] {
        append(&path, &lines(&[format!("{{\"type\":\"status\",\"status\":\"{status}\"}}")]));
        let step = in_time(status, mirror.next("30s")).await;
        assert_eq!(step, Step::Changes { updates: 0, mode: "delta".into() });
        assert_eq!(mirror.status, status);
        assert_eq!(mirror.state.len(), 1);
    }
}

#[tokio::test]
async fn a_waiter_that_goes_away_takes_nothing_with_it() {
    let daemon = Daemon::push(&[]);
    let http = daemon.http();
    let start = http.post(&[put("a", "1")]).await;
    for _ in 0..3 {
        let mut waiters: Vec<_> = (0..40).map(|_| ask(&http, &next(&start, "?wait=30s"))).collect();
        still_waits("the first of many", &mut waiters[0]).await;
        waiters.iter().for_each(JoinHandle::abort);
    }
    let mut stays = ask(&http, &next(&start, "?wait=30s"));
    still_waits("the one that stays", &mut stays).await;
    let written = http.post(&[put("a", "2")]).await;
    assert_eq!(answered("the one that stayed", stays).await.ok(200).cursor(), written);
    http.get("/livez").await.ok(200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_write_answers_five_hundred_waiters() {
    let daemon = Daemon::push(&[]);
    let http = daemon.http();
    let start = http.post(&[put("a", "1")]).await;
    let mut waiters: Vec<_> = (0..500).map(|_| ask(&http, &next(&start, "?wait=30s"))).collect();
    still_waits("the last of five hundred", waiters.last_mut().unwrap()).await;
    let written = http.post(&[put("a", "2")]).await;
    let mut bodies = Vec::new();
    for waiter in waiters {
        let got = answered("one of five hundred", waiter).await.ok(200);
        assert_eq!(got.cursor(), written);
        bodies.push(got.body);
    }
    bodies.dedup();
    assert_eq!(bodies.len(), 1, "all were told the same");
}

#[tokio::test]
async fn a_narrow_waiter_is_answered_for_its_prefix_only() {
    let daemon = Daemon::push(&[]);
    let http = daemon.http();
    let start = http.post(&[put("app/1", "1"), put("db/1", "1")]).await;
    let mut waiter = ask(&http, &next(&start, "?prefix=app%2F&wait=30s"));
    still_waits("a narrow next", &mut waiter).await;
    http.post(&[put("db/1", "2")]).await;
    http.put(b"app", "text/plain", b"not below app/").await;
    still_waits("a narrow next, with updates outside of its prefix", &mut waiter).await;
    let written = http.post(&[put("db/1", "3"), put("app/2", "1")]).await;
    let got = answered("the narrow next's answer", waiter).await.ok(200).standing();
    assert_eq!(got.cursor(), written);
    assert_eq!(keys(&got), ["app/2"]);
    assert_eq!(body(&got).header.from, Some(start), "`from` is the cursor that was asked for");
}

#[tokio::test]
async fn a_narrow_waiters_204_moves_it_on_so_that_it_never_falls_out_of_the_window() {
    let daemon = Daemon::push(&["--keep-count", "5"]);
    let http = daemon.http();
    http.post(&[put("app/1", "1")]).await;
    let mut mirror = Mirror::narrowed(http.clone(), Media::Json, Coding::Identity, Some(b"app/")).await;
    for n in 0..30 {
        let written = http.post(&[put("db/1", &n.to_string())]).await;
        assert_eq!(mirror.next("0").await, Step::Nothing);
        assert_eq!(mirror.cursor, written, "a 204 carries the newer cursor");
    }
    let written = http.post(&[put("app/2", "1")]).await;
    assert_eq!(mirror.next("5s").await, Step::Changes { updates: 1, mode: "delta".into() });
    assert_eq!(mirror.cursor, written);
    assert_eq!(mirror.state.len(), 2);

    // One that waits while the window moves past its cursor was promised an answer, and gets it.
    let mut waiter = ask(&http, &next(&written, "?prefix=app%2F&wait=30s"));
    still_waits("a narrow next", &mut waiter).await;
    for n in 0..30 {
        http.post(&[put("db/1", &(100 + n).to_string())]).await;
    }
    still_waits("a narrow next, with updates outside of its prefix", &mut waiter).await;
    http.post(&[deleted("app/1")]).await;
    assert_eq!(keys(&answered("the narrow waiter", waiter).await.ok(200)), ["app/1"]);
}

#[tokio::test]
async fn a_wait_on_one_key_is_answered_when_that_key_changes() {
    let daemon = Daemon::push(&[]);
    let http = daemon.http();
    let start = http.post(&[put("a", "1"), put("b", "1")]).await;
    http.get(&format!("/v1/kv/a?after={start}&wait=0")).await.ok(204).standing();
    let mut waiter = ask(&http, &format!("/v1/kv/a?after={start}&wait=30s"));
    still_waits("a wait on one key", &mut waiter).await;
    http.post(&[put("b", "2")]).await;
    still_waits("a wait on one key, with an update of another", &mut waiter).await;
    let written = http.post(&[put("a", "2")]).await;
    let got = answered("the wait on one key", waiter).await.ok(200).standing();
    assert_eq!((&*got.body, got.cursor()), (&b"2"[..], &*written));

    // From the older cursor it is answered at once, with the newest value.
    let last = http.post(&[put("a", "3")]).await;
    let got = http.get(&format!("/v1/kv/a?after={start}&wait=30s")).await.ok(200);
    assert_eq!(&*got.body, b"3");

    let mut waiter = ask(&http, &format!("/v1/kv/a?after={last}&wait=30s"));
    still_waits("a wait on one key", &mut waiter).await;
    let written = http.post(&[deleted("a")]).await;
    let got = answered("the wait on a key that is deleted", waiter).await;
    got.problem(404);
    assert_eq!(got.cursor(), written, "a deletion answers with the cursor in its headers");

    // And a key that is not there can be waited for.
    let mut waiter = ask(&http, &format!("/v1/kv/new?after={written}&wait=30s"));
    still_waits("a wait on a key that is not there", &mut waiter).await;
    http.post(&[put("b", "3")]).await;
    still_waits("a wait on a key that is not there, with an update of another", &mut waiter).await;
    http.put(b"new", "text/plain", b"here").await;
    assert_eq!(&*answered("the wait on a new key", waiter).await.ok(200).body, b"here");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sigterm_answers_every_waiter_and_the_daemon_exits_with_0() {
    let mut daemon = Daemon::push(&["--drain", "2s"]);
    let http = daemon.http();
    let start = http.post(&[put("a", "1")]).await;
    let mut waiters: Vec<_> = (0..50).map(|_| ask(&http, &next(&start, "?wait=4m"))).collect();
    waiters.extend((0..5).map(|_| ask(&http, &next(&start, "?wait=4m&prefix=x"))));
    waiters.extend((0..5).map(|_| ask(&http, &format!("/v1/kv/a?after={start}&wait=4m"))));
    for waiter in waiters.iter_mut().rev().take(2) {
        still_waits("a waiter before SIGTERM", waiter).await;
    }
    daemon.terminate();
    for waiter in waiters {
        let got = answered("a waiter's answer on SIGTERM", waiter).await;
        match got.status {
            204 => {
                let got = got.standing();
                assert_eq!((got.cursor(), got.need("crumbd-reason")), (&*start, "shutting-down"));
            }
            503 => {
                got.problem(503);
                got.need("retry-after");
            }
            other => panic!("{other} {}", String::from_utf8_lossy(&got.body)),
        }
    }
    let status = daemon.wait_exit();
    assert_eq!(status.code(), Some(0), "{}", daemon.log());
}

#[tokio::test]
async fn sigterm_ends_an_idle_daemon_with_0() {
    let mut daemon = Daemon::push(&[]);
    daemon.http().get("/livez").await.ok(200);
    daemon.terminate();
    assert_eq!(daemon.wait_exit().code(), Some(0), "{}", daemon.log());
}

/// The daemon's client, once it is ready.
async fn ready(daemon: &Daemon) -> Http {
    let http = daemon.http();
    eventually("readyz", || async { (http.get("/readyz").await.status == 200).then_some(()) }).await;
    http
}

fn append(path: &std::path::Path, text: &[u8]) {
    use std::io::Write as _;
    std::fs::OpenOptions::new().append(true).open(path).unwrap().write_all(text).unwrap();
}

#[tokio::test]
async fn who_waits_for_one_key_keeps_its_place_however_much_happens_to_others() {
    let daemon = Daemon::push(&["--keep-count", "4"]);
    let http = daemon.http();
    let start = http.post(&[put("a", "1"), put("a/below", "1")]).await;
    let mut changed = ask(&http, &format!("/v1/kv/a?after={start}&wait=30s"));
    still_waits("a wait on one key", &mut changed).await;
    for n in 0..50 {
        http.post(&[put("a/below", &n.to_string()), put("b", &n.to_string())]).await;
    }
    // The cursor that it asked with has left the window.
    http.get(&format!("/v1/kv/a?after={start}&wait=0")).await.problem(410);
    let last = http.post(&[put("a", "2")]).await;
    let got = answered("the wait on one key", changed).await.ok(200);
    assert_eq!((&got.body[..], got.cursor()), (&b"2"[..], &*last));
}
