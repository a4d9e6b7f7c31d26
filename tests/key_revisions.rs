//! A key's revision: its ETag on `/v1/kv/{key}`, a member of its record everywhere else. It is the same for every kind of
//! request, also when a key was changed and set back, within one revision or over
//! several that became one breadcrumb.
#![allow(clippy::unwrap_used)]

mod support;

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::Write as _;

use fastrand::Rng;
use serde_json::Value;
use support::daemon::Daemon;
use support::eventually;
use support::http::{Http, lines};
use support::workload::{deleted, put};

/// When each key was set.
type Revisions = BTreeMap<String, u64>;

const KEYS: [&str; 3] = ["a", "b", "c"];

fn revision_of(record: &Value) -> u64 {
    record["revision"].as_u64().unwrap_or_else(|| panic!("no revision: {record}"))
}

fn entries(body: &Value) -> Revisions {
    let entry = |record: &Value| (record["key"].as_str().unwrap().to_owned(), revision_of(record));
    body["entries"].as_array().unwrap().iter().map(entry).collect()
}

/// What the updates of a body make of these revisions.
fn updated(mut before: Revisions, body: &Value) -> Revisions {
    for record in body["updates"].as_array().unwrap() {
        let key = record["key"].as_str().unwrap().to_owned();
        match record["type"].as_str().unwrap() {
            "deleted" => assert!(before.remove(&key).is_some(), "{record} of {before:?}"),
            kind => {
                assert_eq!(before.insert(key, revision_of(record)).is_some(), kind == "updated", "{record}")
            }
        }
    }
    before
}

/// A daemon, and where its readers have been: each cursor with the revisions that a snapshot told there.
struct Readers {
    http: Http,
    been: Vec<(String, Revisions)>,
}

impl Readers {
    async fn of(http: Http) -> Readers {
        let mut readers = Readers { http, been: Vec::new() };
        readers.look().await;
        readers
    }

    async fn json(&self, path: &str) -> Value {
        self.http.get(path).await.ok(200).json()
    }

    /// Asks in every way there is.
    async fn look(&mut self) {
        let got = self.http.get("/v1/breadcrumbs/current").await.ok(200);
        let (cursor, told) = (got.cursor().to_owned(), entries(&got.json()));
        for key in KEYS {
            let got = self.http.get(&format!("/v1/kv/{key}")).await;
            let etag = (got.status == 200)
                .then(|| got.need("etag").trim_matches('"').split_once('.').unwrap().1.parse().unwrap());
            assert_eq!(etag, told.get(key).copied(), "the ETag of {key} at {cursor}, and the snapshot");
        }
        assert_eq!(entries(&self.json("/v1/kv").await), told, "the list at {cursor}, and the snapshot");
        assert_eq!(
            entries(&self.json(&format!("/v1/breadcrumbs/{cursor}")).await),
            told,
            "kept, and current"
        );
        for (been, before) in self.been.iter().filter(|(been, _)| *been != cursor) {
            let next = self.json(&format!("/v1/breadcrumbs/{been}/next?wait=0")).await;
            assert_eq!(updated(before.clone(), &next), told, "followed from {been} to {cursor}: {next}");
            let diff = self.json(&format!("/v1/breadcrumbs/{been}/diff/{cursor}")).await;
            assert_eq!(updated(before.clone(), &diff), told, "the way from {been} to {cursor}: {diff}");
            let back = self.json(&format!("/v1/breadcrumbs/{cursor}/diff/{been}")).await;
            assert_eq!(updated(told.clone(), &back), *before, "the way from {cursor} back to {been}: {back}");
        }
        if self.been.last().is_none_or(|(been, _)| *been != cursor) {
            self.been.push((cursor, told));
        }
        if self.been.len() > 6 {
            self.been.remove(0);
        }
    }
}

fn record(rng: &mut Rng) -> String {
    let key = *rng.choice(&KEYS).unwrap();
    if rng.u8(..4) == 0 { deleted(key) } else { put(key, &rng.u8(..2).to_string()) }
}

#[tokio::test]
async fn a_key_that_one_revision_changes_and_sets_back_keeps_its_revision_for_everyone() {
    let daemon = Daemon::push(&[]);
    let http = daemon.http();
    http.post(&[put("a", "1"), put("b", "1")]).await;
    let mut readers = Readers::of(http.clone()).await;
    let before = readers.been[0].1.clone();

    http.post(&[put("a", "2"), put("c", "1"), put("a", "1"), deleted("b"), put("b", "1")]).await;
    readers.look().await;
    let (cursor, after) = readers.been[1].clone();
    assert_eq!((after["a"], after["b"]), (before["a"], before["b"]), "nothing happened to them");
    assert!(after["c"] > before["a"]);

    let body = lines(&[put("a", "2"), put("d", "1"), deleted("d"), put("a", "1")]);
    let got = http.send("POST", "/v1/updates", &[("content-type", "application/x-ndjson")], Some(body)).await;
    assert_eq!(got.clone().ok(200).json()["changed"], 0, "a write that takes back all that it does");
    assert_eq!(got.cursor(), cursor, "makes no breadcrumb");
    readers.look().await;
    http.post(&[put("d", "1")]).await;
    readers.look().await;
    assert_eq!(readers.been[2].1["d"], after["c"] + 1, "and takes no revision");
}

#[tokio::test]
async fn whatever_is_posted_every_reader_is_told_the_same_revisions() {
    let mut rng = Rng::with_seed(11);
    let daemon = Daemon::push(&[]);
    let http = daemon.http();
    let mut readers = Readers::of(http.clone()).await;
    for _ in 0..80 {
        let records: Vec<String> = (0..rng.usize(1..7)).map(|_| record(&mut rng)).collect();
        http.post(&records).await;
        readers.look().await;
    }
}

#[tokio::test]
async fn revisions_that_become_one_breadcrumb_are_told_to_every_reader_too() {
    let mut rng = Rng::with_seed(12);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("feed.ndjson");
    fs::write(&path, lines(&[put("a", "1"), put("b", "1")])).unwrap();
    let daemon = Daemon::serve(&["--feed", &format!("file:{}?follow=true", path.display())]);
    let http = daemon.http();
    eventually("readyz", || async { (http.get("/readyz").await.status == 200).then_some(()) }).await;
    let mut readers = Readers::of(http.clone()).await;
    let mut revision = 10;
    for round in 0..40 {
        let mut records = Vec::new();
        for _ in 0..rng.usize(1..9) {
            revision += rng.u64(..2);
            let claim = format!(",\"revision\":{revision}}}");
            records.push(record(&mut rng).strip_suffix('}').unwrap().to_owned() + &claim);
        }
        revision += 1;
        records.push(format!(
            "{{\"type\":\"put\",\"key\":\"round\",\"value\":{round},\"revision\":{revision}}}"
        ));
        // One write, so that the daemon is likely to read all of it at once.
        OpenOptions::new().append(true).open(&path).unwrap().write_all(&lines(&records)).unwrap();
        eventually("the last line is applied", || async {
            (http.get("/v1/kv/round").await.body == round.to_string().as_bytes()).then_some(())
        })
        .await;
        readers.look().await;
    }
}

#[tokio::test]
async fn a_revision_that_was_told_is_told_again_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let kept = ["--state-dir", dir.path().to_str().unwrap(), "--min-interval", "300ms"];
    let daemon = Daemon::push(&kept);
    let http = daemon.http();
    let keys: Vec<String> = (0..12).map(|key| format!("key{key}")).collect();
    http.post(&keys.iter().map(|key| put(key, "1")).collect::<Vec<_>>()).await;
    // Writers at the same time share a breadcrumb, and with it the entry of the log. Of two that set a key, about
    // every second time the one who sets it back is the later one.
    let writes = keys.iter().flat_map(|key| [b"2", b"1"].map(|value| (http.clone(), key.clone(), value)));
    let writes = writes.map(|(http, key, value)| {
        tokio::spawn(async move { http.put(key.as_bytes(), "application/json", value).await })
    });
    for write in writes.collect::<Vec<_>>() {
        write.await.unwrap();
    }
    let told = entries(&http.get("/v1/kv").await.ok(200).json());
    drop(daemon);
    let daemon = Daemon::push(&kept);
    assert_eq!(entries(&daemon.http().get("/v1/kv").await.ok(200).json()), told);
}
