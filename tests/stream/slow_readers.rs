//! Many readers, slow readers, and their cost.

use std::fs;

use super::support::in_time;
use super::*;

/// Who writes at the same time.
const WRITERS: usize = 8;

/// Memory of the process that is its own and in use, in bytes.
fn resident(daemon: &Daemon) -> usize {
    let status = fs::read_to_string(format!("/proc/{}/status", daemon.pid())).unwrap();
    let line = status.lines().find(|line| line.starts_with("RssAnon:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() * 1024
}

/// So many updates of 2 KB over 20 keys.
async fn write_much(http: &Http, updates: usize) {
    let writer = |writer: usize| {
        let http = http.clone();
        async move {
            for i in 0..updates / WRITERS {
                let value = format!("\"{writer} {i} {}\"", "x".repeat(2000));
                http.put(format!("k/{}", i % 20).as_bytes(), "application/json", value.as_bytes()).await;
            }
        }
    };
    let writers: Vec<_> = (0..WRITERS).map(|i| tokio::spawn(writer(i))).collect();
    for writer in writers {
        writer.await.unwrap();
    }
}

/// What 20 readers at rest would have to be sent, were it all kept for them, is 400 MB.
#[tokio::test(flavor = "multi_thread")]
async fn slow_readers_are_squashed_and_cost_no_memory() {
    let daemon = Daemon::push(&["--stall-timeout", "5m", "--keep-bytes", "128MiB"]);
    let http = daemon.http();
    http.put(b"k/first", "application/json", b"1").await;
    let mut readers = Vec::new();
    for i in 0..20 {
        let query = if i % 4 < 2 { "" } else { "?prefix=k/" };
        let mut reader = Reader::open(&daemon, BOTH[i % 2], query, &[]).await;
        let mut copy = if query.is_empty() { Copy::whole() } else { Copy::narrow() };
        copy.take(&reader.news().await);
        readers.push((reader, copy));
    }
    let before = resident(&daemon);
    write_much(&http, 10_000).await;
    let grown = resident(&daemon).saturating_sub(before);
    assert!(grown < 120 << 20, "the kept window is about 40 MB of it: {grown}");

    let cursor = http.put(b"k/last", "application/json", b"1").await;
    let mut whole = None;
    for (mut reader, mut copy) in readers {
        let began = reader.bytes;
        in_time("a slow reader to catch up", copy.follow_to(&mut reader, &cursor)).await;
        let read = reader.bytes - began;
        assert!(read < 10 << 20, "{read} bytes instead of 20 MB");
        assert!(copy.squashes > 0 && copy.snapshots == 1 && copy.resets == 0, "{} deltas", copy.deltas);
        let whole: &State = whole.get_or_insert_with(|| copy.state.clone());
        assert_same("a slow reader", &copy.state, whole);
    }
}

/// Whoever falls out of the window while it rests is told, and given the state.
#[tokio::test(flavor = "multi_thread")]
async fn a_slow_reader_beyond_the_window_is_given_the_state_anew() {
    let daemon = Daemon::push(&["--stall-timeout", "5m", "--keep-count", "64"]);
    let http = daemon.http();
    for speech in BOTH {
        let mut reader = Reader::open(&daemon, speech, "", &[]).await;
        let mut copy = Copy::whole();
        copy.take(&reader.news().await);
        write_much(&http, 6_000).await;
        let cursor = http.put(b"k/last", "application/json", format!("\"{speech:?}\"").as_bytes()).await;
        let began = reader.bytes;
        copy.follow_to(&mut reader, &cursor).await;
        assert!(reader.bytes - began < 9 << 20, "{} bytes instead of 12 MB", reader.bytes - began);
        assert!(copy.resets > 0, "{} deltas, {} squashes", copy.deltas, copy.squashes);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_readers_of_a_prefix_share_one_snapshot() {
    let daemon = Daemon::push(&[]);
    let http = daemon.http();
    let filled: Vec<String> = (0..2000).map(|i| put(&format!("k/{i}"), "1")).collect();
    http.post(&filled).await;
    let opened: Vec<_> = (0..200).map(|i| Reader::open(&daemon, BOTH[i % 2], "?prefix=k/1", &[])).collect();
    let mut readers = futures_util::future::join_all(opened).await;
    for reader in &mut readers {
        let Item::Snapshot(body) = reader.news().await else { panic!("no snapshot") };
        assert_eq!(body.records.len(), 1111);
    }
    let streams = http.get("/v1/status").await.json()["streams"].clone();
    assert_eq!(streams["open"], 200, "{streams}");
    assert_eq!((&streams["scopes"], &streams["snapshots_made"]), (&1.into(), &1.into()), "{streams}");

    let cursor = http.put(b"k/1", "application/json", b"2").await;
    for reader in &mut readers {
        let Item::Updates(body) = reader.news().await else { panic!("no updates") };
        assert_eq!((body.records.len(), &body.header.cursor), (1, &cursor));
    }
    drop(readers);
    eventually("everything to be let go", || async {
        let status = http.get("/v1/status").await.json();
        let streams = &status["streams"];
        let left = [&streams["open"], &streams["scopes"], &streams["snapshots_shared"], &status["waiters"]];
        left.iter().all(|left| **left == 0).then_some(())
    })
    .await;
}
