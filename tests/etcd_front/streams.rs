//! Streams of watches: several watches, their ends, and what they cost each other.

use std::collections::BTreeMap;

use bytes::Bytes;
use tonic::Code;

use crate::client::{Client, Watches};
use crate::etcd::kv::{PutRequest, RangeRequest};
use crate::etcd::watch::{WatchCancelRequest, WatchCreateRequest, WatchRequestUnion, WatchResponse};
use crate::servers::{Front, client_of};
use crate::support::etcd::Etcd;

fn of_key(key: &str, start_revision: i64) -> WatchCreateRequest {
    WatchCreateRequest { key: key.to_owned().into(), start_revision, ..WatchCreateRequest::default() }
}

fn of_prefix(prefix: &str, end: &str) -> WatchCreateRequest {
    WatchCreateRequest { range_end: end.to_owned().into(), ..of_key(prefix, 0) }
}

async fn put(client: &Client, key: &str, value: &str) -> i64 {
    let (key, value) = (key.to_owned().into(), value.to_owned().into());
    let put = client.put(PutRequest { key, value, ..PutRequest::default() }).await.unwrap();
    put.header.unwrap().revision
}

/// The next response with events: the watch, and its keys.
async fn told(watches: &mut Watches) -> (i64, Vec<Bytes>) {
    let response = watches.next().await.unwrap();
    assert!(!response.events.is_empty(), "{response:?}");
    let keys = response.events.iter().map(|event| event.kv.as_ref().unwrap().key.clone());
    (response.watch_id, keys.collect())
}

async fn created(watches: &mut Watches) -> WatchResponse {
    let response = watches.next().await.unwrap();
    assert!(response.created, "{response:?}");
    response
}

#[tokio::test(flavor = "multi_thread")]
async fn watches_of_one_stream_are_told_of_their_own_keys_until_they_are_cancelled() {
    let etcd = Etcd::start().await;
    let theirs = client_of(&etcd);
    let front = Front::start(&format!("etcd://{}/", etcd.endpoint()), &[]);
    let ours = front.ready().await;
    // The same requests to both, and the same answers.
    let mut answers = Vec::new();
    for client in [&theirs, &ours] {
        let mut seen = Vec::new();
        let mut watches = client.watch(of_key("a", 0)).await.unwrap();
        watches.create(of_prefix("b/", "b0"));
        watches.create(WatchCreateRequest { watch_id: 7, ..of_key("c", 0) });
        watches.create(WatchCreateRequest { watch_id: 7, ..of_key("d", 0) });
        watches.create(of_prefix("x", "a"));
        for _ in 0..5 {
            let response = watches.next().await.unwrap();
            seen.push((response.watch_id, response.created, response.canceled, response.cancel_reason));
        }
        answers.push(seen);
        watches.send(WatchRequestUnion::Cancel(WatchCancelRequest { watch_id: 0 }));
        let cancelled = watches.next().await.unwrap();
        assert_eq!((cancelled.watch_id, cancelled.canceled), (0, true));
        // There is none any more, so nobody answers.
        watches.send(WatchRequestUnion::Cancel(WatchCancelRequest { watch_id: 0 }));
        for key in ["a", "b/1", "c", "b/2", "e"] {
            put(&theirs, key, "1").await;
        }
        // Each in order; what is told at once, and which watch is told first, is the server's to choose.
        let mut by_watch = BTreeMap::<i64, Vec<Bytes>>::new();
        while by_watch.values().map(Vec::len).sum::<usize>() < 3 {
            let (watch, keys) = told(&mut watches).await;
            by_watch.entry(watch).or_default().extend(keys);
        }
        assert_eq!(by_watch[&1], ["b/1", "b/2"]);
        assert_eq!(by_watch[&7], ["c"]);
    }
    assert_eq!(answers[1], answers[0], "crumbd, then etcd");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_of_revisions_that_are_not_kept_ends_as_compacted_and_says_where_to_begin() {
    let etcd = Etcd::start().await;
    let theirs = client_of(&etcd);
    let front = Front::start(&format!("etcd://{}/", etcd.endpoint()), &["--keep-count", "10"]);
    let ours = front.ready().await;
    let mut last = 0;
    for value in 0..50 {
        last = put(&theirs, "a", &value.to_string()).await;
        // A linearizable read waits for the write: so each is a breadcrumb, however slow the machine is.
        ours.range(RangeRequest { key: "a".to_owned().into(), ..RangeRequest::default() }).await.unwrap();
    }
    let mut idle = ours.watch(of_key("idle", 0)).await.unwrap();
    created(&mut idle).await;
    let mut old = ours.watch(of_key("a", 2)).await.unwrap();
    created(&mut old).await;
    let ended = old.next().await.unwrap();
    assert!(ended.canceled && ended.events.is_empty(), "{ended:?}");
    assert!((3..=last + 1).contains(&ended.compact_revision), "{ended:?}");
    // From there on nothing is missing.
    let mut from_there = ours.watch(of_key("a", ended.compact_revision)).await.unwrap();
    created(&mut from_there).await;
    let mut revisions = Vec::new();
    let mut told_up_to = async |newest: i64| {
        while revisions.last().is_none_or(|told| *told < newest) && ended.compact_revision <= newest {
            let response = from_there.next().await.unwrap();
            assert!(!response.canceled, "{response:?}");
            revisions.extend(response.events.iter().map(|event| event.kv.as_ref().unwrap().mod_revision));
        }
    };
    // Another write may push the oldest one out of what is kept, so the watch is told what there is first.
    told_up_to(last).await;
    let new = put(&theirs, "a", "new").await;
    told_up_to(new).await;
    assert_eq!(revisions, (ended.compact_revision..=new).collect::<Vec<_>>());
    // A watch that was told everything is not behind, however much has changed elsewhere.
    for value in 0..50 {
        put(&theirs, "a", &value.to_string()).await;
    }
    put(&theirs, "idle", "1").await;
    assert_eq!(told(&mut idle).await.1, [Bytes::from_static(b"idle")]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_from_beyond_the_store_ends_and_one_from_the_next_revision_waits() {
    let etcd = Etcd::start().await;
    for feed in ["push:".to_owned(), format!("etcd://{}/?write=true", etcd.endpoint())] {
        let front = Front::start(&feed, &[]);
        let client = front.ready().await;
        let newest = put(&client, "k", "1").await;
        // Its client has seen a revision that this store has not: it was replaced.
        let mut watches = client.watch(of_key("k", newest + 2)).await.unwrap();
        created(&mut watches).await;
        let end = watches.next().await.unwrap();
        assert_eq!((end.canceled, end.compact_revision), (true, newest + 1), "{end:?}");
        watches.create(of_key("k", newest + 1));
        created(&mut watches).await;
        put(&client, "k", "2").await;
        assert_eq!(told(&mut watches).await.1, [Bytes::from_static(b"k")]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_end_with_a_code_after_which_clients_try_again_when_the_daemon_drains() {
    let front = Front::start("push:", &[]);
    let ours = front.ready().await;
    let mut watches = ours.watch(of_key("a", 0)).await.unwrap();
    created(&mut watches).await;
    front.daemon.terminate();
    let ended = watches.next().await.unwrap_err();
    assert_eq!(ended.code(), Code::Unavailable, "{ended:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_is_not_read_holds_up_no_other() {
    let front = Front::start("push:", &[]);
    let ours = front.ready().await;
    let mut slow = ours.watch(of_prefix("\0", "\0")).await.unwrap();
    created(&mut slow).await;
    let mut fast = ours.watch(of_prefix("\0", "\0")).await.unwrap();
    created(&mut fast).await;
    let http = front.daemon.http();
    let value = "x".repeat(64 << 10);
    // More than any buffer on the way holds.
    for n in 0..100 {
        http.put(format!("k/{n}").as_bytes(), "application/octet-stream", value.as_bytes()).await;
        assert_eq!(told(&mut fast).await.1.len(), 1);
    }
    let mut count = 0;
    while count < 100 {
        count += told(&mut slow).await.1.len();
    }
}
