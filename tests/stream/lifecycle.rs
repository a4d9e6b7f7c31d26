//! Heartbeats, refusals, budgets, and the end of a stream.

use serde_json::Value;

use super::support::in_time;
use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_stream_beats() {
    let daemon = Daemon::push(&["--heartbeat", "50ms"]);
    for speech in BOTH {
        for query in ["", "?prefix=a"] {
            let mut reader = Reader::open(&daemon, speech, query, &[]).await;
            assert!(matches!(reader.news().await, Item::Snapshot(_)));
            for _ in 0..3 {
                assert!(matches!(reader.next().await, Item::Beat { moved: false }), "{speech:?}");
            }
        }
    }
}

/// Otherwise a reader of a quiet prefix would fall out of the window while it listens.
#[tokio::test(flavor = "multi_thread")]
async fn a_reader_of_a_prefix_hears_nothing_of_others_but_learns_newer_cursors() {
    let daemon = Daemon::push(&["--heartbeat", "50ms", "--keep-count", "100"]);
    let http = daemon.http();
    for speech in BOTH {
        // Of its own, or it might be given a snapshot that the other one's reader has left.
        let query = format!("?prefix=quiet/{speech:?}/");
        let mut reader = Reader::open(&daemon, speech, &query, &[]).await;
        assert!(matches!(reader.news().await, Item::Snapshot(_)));
        for round in 0..4 {
            let mut cursor = String::new();
            for i in 0..80 {
                cursor = http.post(&[put("loud", &format!("\"{speech:?} {round} {i}\""))]).await;
            }
            in_time("the newest cursor", async {
                while reader.cursor.as_ref() != Some(&cursor) {
                    let item = reader.next().await;
                    assert!(matches!(item, Item::Beat { .. }), "from outside: {item:?}");
                }
            })
            .await;
        }
        // It is good to go on from.
        let id = reader.cursor.clone().unwrap();
        drop(reader);
        let mut reader = Reader::open(&daemon, speech, &query, &[("last-event-id", id.as_str())]).await;
        let cursor = http.post(&[put(&format!("quiet/{speech:?}/1"), "1")]).await;
        let Item::Updates(body) = reader.news().await else { panic!("no updates") };
        assert_eq!((body.records.len(), body.header.cursor), (1, cursor));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_understood_or_served_is_refused() {
    let daemon = Daemon::push(&[]);
    for (query, headers, status) in [
        ("?form=1", &[][..], 400),
        ("?from=nonsense", &[], 400),
        ("?from=", &[], 400),
        ("", &[("last-event-id", "nonsense")], 400),
        ("", &[("accept", "application/json")], 406),
        ("", &[("accept", "application/vnd.crumbd.v1+bincode")], 406),
        ("", &[("accept-encoding", "zstd, identity;q=0")], 406),
        ("", &[("accept", "*/*"), ("accept-encoding", "zstd, gzip")], 200),
    ] {
        let reader = Reader::ask(&daemon, query, headers).await;
        assert_eq!(reader.status, status, "{query} {headers:?}: {}", reader.head);
        let kind = if status == 200 { "application/x-ndjson" } else { "application/problem+json" };
        assert!(reader.head.contains(&format!("content-type: {kind}\r\n")), "{}", reader.head);
        // A stream has no coding; a refusal has one for a client that accepts nothing else.
        let excludes_identity = headers.iter().any(|(_, value)| value.contains("identity;q=0"));
        assert_eq!(reader.head.contains("content-encoding"), excludes_identity, "{}", reader.head);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_is_a_waiter_and_its_snapshot_counts_until_it_is_written() {
    let daemon = Daemon::push(&["--max-waiters", "3", "--stall-timeout", "5m"]);
    let http = daemon.http();
    let large: Vec<String> =
        (0..400).map(|i| put(&format!("{i}"), &format!("\"{}\"", "x".repeat(50_000)))).collect();
    http.post(&large).await;
    let in_flight = |status: &Value| status["snapshot_bytes_in_flight"].as_u64().unwrap();
    let mut readers = Vec::new();
    for speech in [Speech::Ndjson, Speech::Events, Speech::Events] {
        readers.push(Reader::open(&daemon, speech, "", &[]).await);
    }
    let fourth = Reader::ask(&daemon, "", &[]).await;
    assert_eq!(fourth.status, 503, "{}", fourth.head);
    assert!(fourth.head.contains("retry-after: "), "{}", fourth.head);
    // Twenty megabytes, which nobody has taken yet. All three share them.
    eventually("room to be taken", || async {
        let status = http.get("/v1/status").await.json();
        (status["waiters"] == 3 && (20_000_000..40_000_000).contains(&in_flight(&status))).then_some(())
    })
    .await;
    for reader in &mut readers {
        let Item::Snapshot(body) = reader.news().await else { panic!("no snapshot") };
        assert_eq!(body.records.len(), 400);
    }
    let free = || async { (in_flight(&http.get("/v1/status").await.json()) == 0).then_some(()) };
    eventually("room to be given back while the streams go on", free).await;
    readers.pop();
    eventually("a waiter's place to be free", || async {
        (Reader::ask(&daemon, "", &[]).await.status == 200).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_ends_every_stream_between_two_bodies_and_the_daemon_exits_with_0() {
    let mut daemon = Daemon::push(&["--drain", "10s"]);
    let http = daemon.http();
    let mut readers = Vec::new();
    for i in 0..20 {
        let query = if i % 3 == 0 { "?prefix=a" } else { "" };
        let mut reader = Reader::open(&daemon, BOTH[i % 2], query, &[]).await;
        assert!(matches!(reader.news().await, Item::Snapshot(_)));
        readers.push(reader);
    }
    let cursor = http.post(&[put("a", "1")]).await;
    daemon.terminate();
    for reader in &mut readers {
        in_time("the stream's end", async { while reader.try_next().await.is_some() {} }).await;
        assert!(reader.ended, "cut off instead of ended");
        assert_eq!(reader.cursor.as_ref(), Some(&cursor), "what had happened was told");
    }
    assert!(daemon.wait_exit().success());
}
