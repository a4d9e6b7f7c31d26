//! `--max-keys` and `--max-bytes`: the state never grows beyond them. What has no room is refused, named, and comes back when
//! there is room.
#![allow(clippy::unwrap_used)]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crumbd::cache::{Cache, CacheConfig};
use crumbd::ingest::{self, IngestBuffer};
use crumbd::model::{
    Batch, Committed, FeedEvent, Grouping, History, Refusal, ReplyTo, ResyncClaim, Revision, Update,
};
use proptest::prelude::*;
use serde_json::Value;
use support::daemon::Daemon;
use support::etcd::{Etcd, Keys, Op};
use support::eventually;
use support::followed::{current, status};
use support::http::{Got, Http, lines};
use support::state::{State, assert_same};
use support::workload::{deleted, put};

const MAX_KEYS: usize = 4;
const MAX_BYTES: u64 = 24;

/// A value by its length; `None` deletes the key.
type Change = Option<usize>;
/// The changes of one revision or write, each of another key.
type Changes = BTreeMap<u8, Change>;
/// Lengths of values by key.
type Model = BTreeMap<u8, usize>;

fn bytes(model: &Model) -> u64 {
    model.values().map(|length| *length as u64 + 1).sum()
}

fn update(key: u8, change: Change) -> Update {
    match change {
        Some(length) => Update::put([key], "x".repeat(length)),
        None => Update::delete([key]),
    }
}

/// Sets a key where there is room for it beside these sizes; else it is absent.
fn keep(kept: &mut Model, key: u8, length: usize, (more_keys, more_bytes): (usize, u64)) {
    let old = kept.remove(&key);
    let is_new = old.is_none();
    let has_keys = !is_new || kept.len() + more_keys < MAX_KEYS;
    let has_bytes =
        bytes(kept) + more_bytes + (length as u64) < MAX_BYTES || old.is_some_and(|old| length <= old);
    if has_keys && has_bytes {
        kept.insert(key, length);
    }
}

/// One revision of a feed: what makes room comes first.
fn apply(kept: &mut Model, changes: &Changes) {
    let shrinks = |kept: &Model, key: &u8, change: &Change| match change {
        None => true,
        Some(length) => kept.get(key).is_some_and(|old| length <= old),
    };
    let before = kept.clone();
    for (key, change) in changes.iter().filter(|(key, change)| shrinks(&before, key, change)) {
        match change {
            Some(length) => _ = kept.insert(*key, *length),
            None => _ = kept.remove(key),
        }
    }
    for (key, change) in changes.iter().filter(|(key, change)| !shrinks(&before, key, change)) {
        keep(kept, *key, change.unwrap_or_default(), (0, 0));
    }
}

/// Everything is read again: what is kept keeps its room until it was read.
fn reread(kept: &Model, upstream: &Model) -> Model {
    let (mut unread, mut fresh) = (kept.clone(), Model::new());
    for (key, length) in upstream {
        unread.remove(key);
        keep(&mut fresh, *key, *length, (unread.len(), bytes(&unread)));
    }
    fresh
}

fn limited() -> (Cache, tokio::task::JoinHandle<()>) {
    let config =
        CacheConfig { max_keys: Some(MAX_KEYS), max_bytes: Some(MAX_BYTES), ..CacheConfig::default() };
    let buffer = Arc::new(IngestBuffer::channel(64).unwrap());
    let (cache, task) = Cache::new(config, Some(History::derive(b"limited")), buffer);
    (cache, tokio::spawn(task.run()))
}

async fn write(cache: &Cache, updates: Vec<Update>, grouping: Grouping) -> Result<Committed, Refusal> {
    let (ack, answer) = ingest::reply_channel();
    let batch = Batch { ack: Some(ReplyTo::new(ack)), ..Batch::new(updates, grouping) };
    cache.send(FeedEvent::Updates(batch)).await.unwrap();
    answer.await.unwrap()
}

fn check(cache: &Cache, kept: &Model, upstream: &Model) {
    let crumb = cache.current_breadcrumb();
    let state: Model = crumb.kvs().iter().map(|entry| (entry.key()[0], entry.value().len())).collect();
    assert_eq!(&state, kept);
    assert!(state.len() <= MAX_KEYS && crumb.kvs().payload_bytes() <= MAX_BYTES);
    assert_eq!(crumb.kvs().payload_bytes(), bytes(kept));
    let refused = cache.refused_keys();
    let named: BTreeSet<u8> = refused.named().iter().map(|named| named.key.as_bytes()[0]).collect();
    let lacking: BTreeSet<u8> = upstream.keys().copied().filter(|key| !kept.contains_key(key)).collect();
    assert_eq!(named, lacking, "what is absent is named");
    assert_eq!(refused.lacking_room().next().is_some(), !lacking.is_empty());
    assert!(kept.iter().all(|(key, length)| upstream.get(key) == Some(length)), "what is there is right");
}

fn run<F: Future<Output = ()>>(test: F) {
    tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(test);
}

fn changes() -> impl Strategy<Value = Changes> {
    prop::collection::btree_map(b'a'..b'i', prop::option::weighted(0.7, 0..14_usize), 1..4)
}

proptest! {
    #[test]
    fn a_feed_never_fills_more_than_there_is_room_for(
        revisions in prop::collection::vec((changes(), any::<bool>()), 1..40)
    ) {
        run(async {
            let (cache, task) = limited();
            let (mut kept, mut upstream, mut revision) = (Model::new(), Model::new(), 0);
            for (changes, is_reread) in revisions {
                revision += 1;
                let updates = changes.iter().map(|(key, change)| update(*key, *change).at(revision)).collect();
                cache.on_updates(updates).await.unwrap();
                apply(&mut kept, &changes);
                for (key, change) in changes {
                    match change {
                        Some(length) => _ = upstream.insert(key, length),
                        None => _ = upstream.remove(&key),
                    }
                }
                write(&cache, Vec::new(), Grouping::Whole).await.unwrap();
                check(&cache, &kept, &upstream);
                if is_reread {
                    revision += 1;
                    let at = Some(Revision(revision));
                    let begin = FeedEvent::ResyncBegin { history: None, whole_at: at, lossy: false };
                    cache.send(begin).await.unwrap();
                    for (key, length) in &upstream {
                        let read = vec![update(*key, Some(*length)).at(1)];
                        cache.send(FeedEvent::Updates(Batch::new(read, Grouping::Whole))).await.unwrap();
                    }
                    let claim = ResyncClaim::default();
                    let end = FeedEvent::ResyncEnd { revision: at, claim, complete: true };
                    cache.send(end).await.unwrap();
                    write(&cache, Vec::new(), Grouping::Whole).await.unwrap();
                    let fresh = reread(&kept, &upstream);
                    let before = std::mem::replace(&mut kept, fresh);
                    check(&cache, &kept, &upstream);
                    assert!(before.keys().all(|key| kept.contains_key(key)), "what is kept keeps its room");
                }
            }
            cache.stop();
            task.await.unwrap();
        });
    }

    #[test]
    fn a_write_is_done_as_a_whole_or_refused_as_a_whole(
        writes in prop::collection::vec((changes(), prop::bool::weighted(0.2)), 1..40)
    ) {
        run(async {
            let (cache, task) = limited();
            let mut kept = Model::new();
            for (changes, replaces) in writes {
                let mut after = if replaces { Model::new() } else { kept.clone() };
                for (key, change) in &changes {
                    match change {
                        Some(length) => _ = after.insert(*key, *length),
                        None => _ = after.remove(key),
                    }
                }
                let has_room = after.len() <= MAX_KEYS && bytes(&after) <= MAX_BYTES;
                let updates = changes.iter().map(|(key, change)| update(*key, *change)).collect();
                let grouping = if replaces { Grouping::Replace } else { Grouping::Whole };
                match write(&cache, updates, grouping).await {
                    Ok(_) => {
                        assert!(has_room, "{after:?}");
                        kept = after;
                    }
                    Err(Refusal::NoRoom { .. }) => assert!(!has_room, "{after:?}"),
                    Err(other) => panic!("{other}"),
                }
                check(&cache, &kept, &kept);
            }
            cache.stop();
            task.await.unwrap();
        });
    }
}

#[test]
fn a_key_may_take_the_place_of_another_in_one_revision() {
    run(async {
        let (cache, task) = limited();
        for key in b'a'..b'e' {
            cache.on_updates(vec![update(key, Some(1)).at(u64::from(key))]).await.unwrap();
        }
        // The new one first, as etcd tells them.
        cache.on_updates(vec![update(b'z', Some(1)).at(200), update(b'a', None).at(200)]).await.unwrap();
        write(&cache, Vec::new(), Grouping::Whole).await.unwrap();
        let state = cache.current_breadcrumb();
        assert!(state.kvs().get(b"z").is_some() && cache.refused_keys().is_empty());
        cache.stop();
        task.await.unwrap();
    });
}

fn named(status: &Value) -> BTreeSet<String> {
    let keys = status["refused"]["keys"].as_array().unwrap();
    keys.iter().map(|key| key["key"].as_str().unwrap().to_owned()).collect()
}

fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

/// Waits until the daemon is in-sync with exactly these keys refused, for want of room.
async fn lacks(http: &Http, keys: &[&str], flags: &[&str]) -> Value {
    let wanted = set(keys);
    let lacks = || async {
        let status = status(http).await;
        let is_so = status["status"] == "in-sync"
            && named(&status) == wanted
            && status["over_limit"] == serde_json::json!(flags);
        is_so.then_some(status)
    };
    eventually(&format!("{keys:?} to be what has no room"), lacks).await
}

async fn sample(http: &Http, name: &str) -> f64 {
    let metrics = String::from_utf8(http.get("/metrics").await.ok(200).plain()).unwrap();
    let line = metrics.lines().find_map(|line| line.strip_prefix(&format!("{name} ")));
    line.unwrap_or_else(|| panic!("no {name}")).parse().unwrap()
}

async fn has_all_but(http: &Http, keys: &Keys, lacking: &[&str]) {
    let mut stored = keys.range(b"app/").await.state;
    lacking.iter().for_each(|key| assert!(stored.remove(key.as_bytes()).is_some()));
    assert_same("the state", &current(http).await, &stored);
}

/// The state after everything that follows a cursor, which has to be a continuation.
async fn followed(http: &Http, mut state: State, mut cursor: String) -> State {
    loop {
        let got = http.get(&format!("/v1/breadcrumbs/{cursor}/next?wait=0")).await;
        assert!([200, 204].contains(&got.status), "{got:?}");
        cursor = got.cursor().to_owned();
        if got.status == 204 {
            return state;
        }
        for record in got.json()["updates"].as_array().unwrap() {
            let key = record["key"].as_str().unwrap().as_bytes().to_vec();
            match record["type"].as_str().unwrap() {
                "deleted" => _ = state.remove(&key),
                _ => _ = state.insert(key, record["value"].to_string().into_bytes().into()),
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_of_etcd_without_room_are_named_and_come_back() {
    let etcd = Etcd::start().await;
    let keys = etcd.keys();
    for key in ["app/a", "app/b", "app/c"] {
        keys.put(key.as_bytes(), b"1").await;
    }
    let daemon = Daemon::serve(&["--feed", &etcd.feed("app/"), "--max-keys", "3"]);
    let http = daemon.http();
    let began = lacks(&http, &[], &[]).await;
    assert_eq!((&began["count_limit"], &began["payload_bytes_limit"]), (&3.into(), &Value::Null));
    let (state, cursor) = (current(&http).await, http.cursor().await);
    keys.put(b"app/d", b"1").await;
    let status = lacks(&http, &["app/d"], &["max-keys"]).await;
    let reason = status["refused"]["keys"][0]["reason"].as_str().unwrap().to_owned();
    assert_eq!(reason, "there is no room for it, because the collection has at most 3 keys (--max-keys)");
    assert_eq!(
        (sample(&http, "crumbd_over_limit").await, sample(&http, "crumbd_keys_limit").await),
        (1.0, 3.0)
    );
    daemon.logged("what happens", |log| log.contains("--max-keys allows").then_some(()));
    // What is there is kept up to date.
    keys.put(b"app/b", b"2").await;
    keys.put(b"app/d", b"2").await;
    eventually("the update", || async {
        (current(&http).await.get(&b"app/b"[..]).map(|value| &value[..]) == Some(b"2")).then_some(())
    })
    .await;
    has_all_but(&http, &keys, &["app/d"]).await;
    // Room, and nothing else happens in etcd.
    keys.delete(b"app/a").await;
    lacks(&http, &[], &[]).await;
    has_all_but(&http, &keys, &[]).await;
    assert_eq!(sample(&http, "crumbd_over_limit").await, 0.0);
    daemon.logged("the end of it", |log| log.contains("within the limits again").then_some(()));
    // Clients go on from their cursors.
    assert_same("a client", &followed(&http, state, cursor).await, &current(&http).await);
    // The watch goes on, too.
    for round in 0..5 {
        keys.put(b"app/c", round.to_string().as_bytes()).await;
    }
    keys.put(b"app/e", b"1").await;
    lacks(&http, &["app/e"], &["max-keys"]).await;
    has_all_but(&http, &keys, &["app/e"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_has_no_room_is_known_again_after_a_restart_and_the_history_goes_on() {
    let etcd = Etcd::start().await;
    let keys = etcd.keys();
    let dir = tempfile::tempdir().unwrap();
    let feed = etcd.feed("app/");
    let start = |limit: &'static str| {
        let dir = dir.path().to_str().unwrap();
        Daemon::serve(&["--feed", &feed, "--state-dir", dir, "--max-keys", limit])
    };
    let stop = |mut daemon: Daemon| {
        daemon.terminate();
        assert!(daemon.wait_exit().success());
    };
    // Not the first ones in the order in which etcd is read.
    for key in ["app/y", "app/z", "app/a", "app/b"] {
        keys.put(key.as_bytes(), b"1").await;
        if key == "app/z" {
            let daemon = start("2");
            lacks(&daemon.http(), &[], &[]).await;
            stop(daemon);
        }
    }
    let daemon = start("2");
    let before = lacks(&daemon.http(), &["app/a", "app/b"], &["max-keys"]).await;
    has_all_but(&daemon.http(), &keys, &["app/a", "app/b"]).await;
    stop(daemon);
    let daemon = start("2");
    let http = daemon.http();
    let after = lacks(&http, &["app/a", "app/b"], &["max-keys"]).await;
    assert_eq!((&before["cursor"], &before["digest"]), (&after["cursor"], &after["digest"]));
    keys.delete(b"app/z").await;
    lacks(&http, &["app/b"], &["max-keys"]).await;
    has_all_but(&http, &keys, &["app/b"]).await;
    stop(daemon);
    // More room after a restart.
    let daemon = start("10");
    lacks(&daemon.http(), &[], &[]).await;
    has_all_but(&daemon.http(), &keys, &[]).await;
    stop(daemon);
    // And less.
    let daemon = start("1");
    lacks(&daemon.http(), &["app/b", "app/y"], &["max-keys"]).await;
    has_all_but(&daemon.http(), &keys, &["app/b", "app/y"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bytes_are_limited_too_and_one_transaction_is_looked_at_as_a_whole() {
    let etcd = Etcd::start().await;
    let keys = etcd.keys();
    let daemon = Daemon::serve(&["--feed", &etcd.feed("app/"), "--max-bytes", "1000"]);
    let http = daemon.http();
    keys.put(b"app/a", &[b'a'; 400]).await;
    keys.put(b"app/b", &[b'b'; 400]).await;
    lacks(&http, &[], &[]).await;
    // A value that grows over it is absent: the old one would be wrong.
    keys.put(b"app/a", &[b'a'; 700]).await;
    lacks(&http, &["app/a"], &["max-bytes"]).await;
    has_all_but(&http, &keys, &["app/a"]).await;
    keys.put(b"app/b", b"small").await;
    lacks(&http, &[], &[]).await;
    has_all_but(&http, &keys, &[]).await;
    let swap = [Op::Put(b"app/c".to_vec(), vec![b'c'; 700]), Op::Delete(b"app/a".to_vec())];
    keys.txn(&swap).await;
    eventually("the transaction", || async {
        current(&http).await.contains_key(&b"app/c"[..]).then_some(())
    })
    .await;
    lacks(&http, &[], &[]).await;
    has_all_but(&http, &keys, &[]).await;
    assert_eq!(sample(&http, "crumbd_payload_bytes_limit").await, 1000.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_that_refuse_different_keys_do_not_take_each_others_cursors() {
    let etcd = Etcd::start().await;
    let keys = etcd.keys();
    let start = || Daemon::serve(&["--feed", &etcd.feed("app/"), "--max-keys", "2"]);
    keys.put(b"app/c", b"1").await;
    keys.put(b"app/d", b"1").await;
    let one = start();
    lacks(&one.http(), &[], &[]).await;
    keys.put(b"app/a", b"1").await;
    lacks(&one.http(), &["app/a"], &["max-keys"]).await;
    // It reads in the order of keys.
    let two = start();
    lacks(&two.http(), &["app/d"], &["max-keys"]).await;
    let revision = keys.put(b"app/c", b"2").await;
    let at = |http: Http| async move {
        eventually("the update", || async {
            let status = status(&http).await;
            (status["revision"] == revision).then_some(status)
        })
        .await
    };
    let earlier = one.http().cursor().await;
    let (first, second) = (at(one.http()).await, at(two.http()).await);
    assert_eq!((&first["history"], &first["revision"]), (&second["history"], &second["revision"]));
    assert_ne!((&first["digest"], &first["cursor"]), (&second["digest"], &second["cursor"]));
    for (cursor, other) in [(&first["cursor"], two.http()), (&second["cursor"], one.http())] {
        let path = format!("/v1/breadcrumbs/{}/next?wait=0", cursor.as_str().unwrap());
        other.get(&path).await.problem(410);
    }
    two.http().get(&format!("/v1/breadcrumbs/{earlier}/next?wait=10s")).await.problem(410);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_followed_file_is_read_again_when_there_is_room() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("feed.ndjson");
    std::fs::write(&path, lines(&["a", "b", "c"].map(|key| put(key, "1")))).unwrap();
    let append = |records: &[String]| {
        use std::io::Write as _;
        let mut file = std::fs::OpenOptions::new().append(true).open(&path).unwrap();
        file.write_all(&lines(records)).unwrap();
    };
    let feed = format!("file:{}?follow=true", path.display());
    let daemon = Daemon::serve(&["--feed", &feed, "--max-keys", "2"]);
    let http = daemon.http();
    lacks(&http, &["c"], &["max-keys"]).await;
    append(&[put("c", "2"), put("b", "2")]);
    append(&[deleted("a")]);
    lacks(&http, &[], &[]).await;
    let wanted: State = [("b", "2"), ("c", "2")]
        .map(|(key, value)| (key.as_bytes().to_vec(), value.as_bytes().into()))
        .into();
    assert_same("the state", &current(&http).await, &wanted);
    // More than there is room for at the end, too: it is not read again and again.
    append(&[put("d", "1"), put("e", "1")]);
    lacks(&http, &["d", "e"], &["max-keys"]).await;
    append(&[deleted("b")]);
    lacks(&http, &["e"], &["max-keys"]).await;
}

fn refused(got: &Got, flag: &str) {
    let problem = got.problem(507);
    assert_eq!(problem["type"], "urn:crumbd:problem:over-limit", "{problem}");
    assert!(problem["detail"].as_str().unwrap().contains(&format!("(--{flag})")), "{problem}");
}

#[tokio::test]
async fn writes_that_have_no_room_are_refused_as_a_whole_and_deletions_never() {
    let dir = tempfile::tempdir().unwrap();
    let start =
        |limits: &[&str]| Daemon::push(&[limits, &["--state-dir", dir.path().to_str().unwrap()]].concat());
    let mut daemon = start(&["--max-keys", "2", "--max-bytes", "1000"]);
    let http = daemon.http();
    let text = [("content-type", "text/plain")];
    let write = |key: &str, length: usize| {
        let (http, path) = (http.clone(), format!("/v1/kv/{key}"));
        async move { http.send("PUT", &path, &text, Some(vec![b'x'; length])).await }
    };
    write("a", 10).await.ok(200);
    write("b", 10).await.ok(200);
    let cursor = http.cursor().await;
    refused(&write("c", 10).await, "max-keys");
    refused(&write("b", 1000).await, "max-bytes");
    let post = |records: Vec<String>| {
        let http = http.clone();
        async move {
            let kind = [("content-type", "application/x-ndjson")];
            http.send("POST", "/v1/updates", &kind, Some(lines(&records))).await
        }
    };
    refused(&post(vec![put("b", "1"), put("c", "1")]).await, "max-keys");
    assert_eq!(http.cursor().await, cursor, "nothing was done");
    // What there is room for in the end, in any order.
    post(vec![put("c", "1"), deleted("a")]).await.ok(200);
    write("b", 900).await.ok(200);
    assert_eq!(sample(&http, "crumbd_over_limit").await, 0.0, "nothing is absent that was acknowledged");
    assert!(sample(&http, "crumbd_answers_total{status=\"507\",mode=\"\",reason=\"\"}").await >= 3.0);
    daemon.terminate();
    assert!(daemon.wait_exit().success());
    // A lower limit takes nothing away, and leaves only what makes it smaller.
    let daemon = start(&["--max-keys", "1", "--max-bytes", "100"]);
    let http = daemon.http();
    assert_eq!(current(&http).await.len(), 2);
    let write = |key: &str, length: usize| {
        let (http, path) = (http.clone(), format!("/v1/kv/{key}"));
        async move { http.send("PUT", &path, &text, Some(vec![b'x'; length])).await }
    };
    refused(&write("d", 1).await, "max-keys");
    refused(&write("b", 901).await, "max-bytes");
    write("b", 500).await.ok(200);
    http.send("DELETE", "/v1/kv/b", &[], None).await.ok(200);
    http.send("DELETE", "/v1/kv/c", &[], None).await.ok(200);
    write("d", 1).await.ok(200);
}
