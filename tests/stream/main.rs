//! `GET /v1/stream`: a snapshot, then every change, across disconnections, for readers of any speed.
#![allow(clippy::unwrap_used)] // a test may unwrap

mod lifecycle;
mod metrics;
mod proxy;
mod reader;
mod resume;
mod rights;
mod slow_readers;
#[path = "../support/mod.rs"]
mod support;

use std::collections::HashMap;

use reader::{Copy, Item, Reader, Speech};
use support::daemon::Daemon;
use support::http::{Http, OVER_HTTP2};
use support::state::{State, assert_same, below};
use support::workload::{Workload, put};
use support::{A_WHILE, eventually, in_time};

const BOTH: [Speech; 2] = [Speech::Ndjson, Speech::Events];

/// Posts random batches; the state at each cursor that the daemon has answered with.
async fn write(http: &Http, work: &mut Workload, state: &mut State, batches: usize) -> Vec<(String, State)> {
    let mut written = Vec::new();
    for _ in 0..batches {
        let ops = work.batch(20);
        let records: Vec<String> = ops.iter().map(|op| op.record()).collect();
        let cursor = http.post(&records).await;
        ops.iter().for_each(|op| op.apply(state));
        written.push((cursor, state.clone()));
    }
    written
}

/// Follows a stream to a cursor, and gives what it was at each cursor on the way.
async fn states(mut reader: Reader, mut copy: Copy, last: String) -> (Vec<(String, State)>, Copy) {
    let mut seen = Vec::new();
    while reader.cursor.as_ref() != Some(&last) {
        let item = reader.next().await;
        copy.take(&item);
        // A heartbeat may come before the snapshot.
        seen.extend(reader.cursor.clone().map(|cursor| (cursor, copy.state.clone())));
    }
    (seen, copy)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_stream_has_the_models_state_at_every_cursor_it_is_given() {
    let daemon = Daemon::push(&["--heartbeat", "50ms"]);
    let http = daemon.http();
    let mut work = Workload::new(11, "", 40);
    let (mut state, mut model) = (State::new(), HashMap::new());
    let mut readers = Vec::new();
    // They join at any time, and all read to the end.
    for round in 0..6 {
        model.extend(write(&http, &mut work, &mut state, 60).await);
        for speech in BOTH {
            let prefix = ["", "app/", "app", "db/", "absent", ""][round];
            let query = if prefix.is_empty() { String::new() } else { format!("?prefix={prefix}") };
            readers.push((prefix, Reader::open(&daemon, speech, &query, &[]).await));
        }
    }
    model.extend(write(&http, &mut work, &mut state, 200).await);
    let last = http.post(&[put("the last", "1")]).await;
    state.insert(b"the last".to_vec(), b"1"[..].into());
    model.insert(last.clone(), state.clone());

    let mut deltas = 0;
    for (prefix, reader) in readers {
        let copy = if prefix.is_empty() { Copy::whole() } else { Copy::narrow() };
        let (seen, copy) = states(reader, copy, last.clone()).await;
        for (cursor, seen) in seen {
            let expected = &model[&cursor];
            assert_same(&format!("{prefix:?} at {cursor}"), &seen, &below(expected, prefix.as_bytes()));
        }
        assert_eq!((copy.snapshots, copy.resets), (1, 0), "{prefix:?}");
        deltas += copy.deltas;
    }
    // What a reader at rest has room for is its window, and not what the system buffers.
    let enough = if OVER_HTTP2 { 100 } else { 500 };
    assert!(deltas > enough, "breadcrumb by breadcrumb: {deltas}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_breadcrumb_of_many_changes_is_told_whole() {
    let daemon = Daemon::push(&[]);
    let http = daemon.http();
    http.post(&[put("a", "0")]).await;
    for speech in BOTH {
        let mut reader = Reader::open(&daemon, speech, "", &[]).await;
        let mut narrow = Reader::open(&daemon, speech, "?prefix=many/1", &[]).await;
        let (mut copy, mut narrow_copy) = (Copy::whole(), Copy::narrow());
        copy.take(&reader.news().await);
        narrow_copy.take(&narrow.news().await);
        let many: Vec<String> =
            (0..5000).map(|i| put(&format!("many/{i:04}"), &format!("\"{speech:?}\""))).collect();
        let cursor = http.post(&many).await;
        let Item::Updates(body) = reader.news().await else { panic!("no updates") };
        assert_eq!((body.records.len(), &body.header.cursor), (5000, &cursor));
        copy.take(&Item::Updates(body));
        narrow_copy.follow_to(&mut narrow, &cursor).await;
        assert_eq!((copy.state.len(), narrow_copy.state.len()), (5001, 1000));
        // And it goes on after it.
        let cursor = http.put(b"many/1", "application/json", format!("\"{speech:?}\"").as_bytes()).await;
        copy.follow_to(&mut reader, &cursor).await;
        narrow_copy.follow_to(&mut narrow, &cursor).await;
        assert_eq!((copy.snapshots, narrow_copy.snapshots), (1, 1));
        http.delete(b"many/1").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_change_of_status_is_told() {
    let mut daemon = Daemon::serve_stdin(&["--feed", "stdin:", "--heartbeat", "50ms"]);
    let status = |status: &str| format!("{{\"type\":\"status\",\"status\":\"{status}\"}}\n");
    daemon.feed(format!("{}\n{}", put("a/x", "1"), status("in-sync")).as_bytes());
    let http = daemon.http();
    eventually("readyz", || async { (http.get("/readyz").await.status == 200).then_some(()) }).await;
    let mut readers = Vec::new();
    for speech in BOTH {
        for (query, copy) in [("", Copy::whole()), ("?prefix=b/", Copy::narrow())] {
            let mut reader = Reader::open(&daemon, speech, query, &[]).await;
            let mut copy = copy;
            copy.take(&reader.news().await);
            assert_eq!(copy.status, "in-sync");
            readers.push((reader, copy));
        }
    }
    for wanted in ["resync-in-progress", "in-sync"] {
        daemon.feed(status(wanted).as_bytes());
        for (reader, copy) in &mut readers {
            let Item::Updates(body) = reader.news().await else { panic!("no updates") };
            assert_eq!((&*body.header.reason, body.records.len()), ("status", 0));
            copy.take(&Item::Updates(body));
            assert_eq!(copy.status, wanted);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_stream_says_can_be_fed_to_another_daemon() {
    let daemon = Daemon::push(&["--heartbeat", "20ms"]);
    let http = daemon.http();
    let (mut work, mut state) = (Workload::new(5, "", 20), State::new());
    write(&http, &mut work, &mut state, 20).await;
    let mut reader = Reader::open(&daemon, Speech::Ndjson, "", &[]).await;
    let mut narrow = Reader::open(&daemon, Speech::Ndjson, "?prefix=none", &[]).await;
    let mut copy = Copy::whole();
    copy.take(&reader.news().await);
    tokio::time::sleep(A_WHILE).await;
    let (last, _) = write(&http, &mut work, &mut state, 50).await.pop().unwrap();
    copy.follow_to(&mut reader, &last).await;
    while !matches!(narrow.next().await, Item::Beat { moved: true }) {}
    assert!(reader.text.contains("\n\n"), "heartbeats stand between");

    let dir = tempfile::tempdir().unwrap();
    for (text, digest) in [(&reader.text, Some(&copy)), (&narrow.text, None)] {
        let path = dir.path().join("stream.ndjson");
        std::fs::write(&path, text).unwrap();
        let other = Daemon::serve(&["--strict", "--feed", &format!("file:{}", path.display())]);
        let there = other.http();
        eventually("readyz", || async { (there.get("/readyz").await.status == 200).then_some(()) }).await;
        let (one, two) = (http.get("/v1/status").await.json(), there.get("/v1/status").await.json());
        match digest {
            Some(_) => assert_eq!(one["digest"], two["digest"]),
            None => assert_eq!(two["count"], 0),
        }
    }
}
