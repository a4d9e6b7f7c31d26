//! Refused values and keys: the key is absent on every replica, whatever each has seen before. The daemon names the keys and
//! the reasons.
#![allow(clippy::unwrap_used)]

mod support;

use std::collections::{BTreeMap, BTreeSet};

use fastrand::Rng;
use serde_json::Value;
use support::daemon::Daemon;
use support::etcd::{Etcd, Keys, Op};
use support::eventually;
use support::followed::{current, is, status};
use support::http::{Http, lines};
use support::state::{State, assert_same};
use support::tokens::TokenFile;
use support::workload::put;

/// The longest value of most daemons here, in bytes.
const LIMIT: usize = 64;

fn replica(etcd: &Etcd, more: &[&str]) -> Daemon {
    Daemon::serve(&[&["--feed", &etcd.feed("app/")], more].concat())
}

/// The refused keys that the status names, with the reasons.
fn named(status: &Value) -> BTreeMap<String, String> {
    let keys = status["refused"]["keys"].as_array().unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    keys.iter().map(|key| (text(&key["key"]), text(&key["reason"]))).collect()
}

fn names(status: &Value) -> BTreeSet<Vec<u8>> {
    named(status).into_keys().map(String::into_bytes).collect()
}

async fn ready(daemon: &Daemon) -> Http {
    let http = daemon.http();
    eventually("readyz", || async { (http.get("/readyz").await.status == 200).then_some(()) }).await;
    http
}

/// Everything below `app/` in etcd, and what of it is too large.
async fn upstream(keys: &Keys) -> (State, BTreeSet<Vec<u8>>) {
    let stored = keys.range(b"app/").await.state;
    let (good, refused): (State, State) = stored.into_iter().partition(|(_, value)| value.len() <= LIMIT);
    (good, refused.into_keys().collect())
}

/// One transaction: some keys small, large or gone, and one that is always set, to see when it has come.
fn transaction(rng: &mut Rng, round: usize) -> Vec<Op> {
    let mut ops = vec![Op::Put(b"app/round".to_vec(), round.to_string().into_bytes())];
    for key in 0..4 {
        let key = format!("app/{key}").into_bytes();
        let length = [3, LIMIT, LIMIT + 1, 40 * LIMIT][rng.usize(..4)];
        match rng.u8(..6) {
            0..3 => ops.push(Op::Put(key, vec![b'a' + rng.u8(..3); length])),
            3 => ops.push(Op::Delete(key)),
            _ => {}
        }
    }
    ops
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_that_saw_different_pasts_agree_and_continue_each_others_cursors() {
    const ROUNDS: usize = 40;
    let seed = std::env::var("CRUMBD_SEED").map_or(3, |seed| seed.parse().unwrap());
    let mut rng = Rng::with_seed(seed);
    let etcd = Etcd::start().await;
    let keys = etcd.keys();
    let limit = LIMIT.to_string();
    let mut replicas = Vec::new();
    let mut cursors: Vec<String> = Vec::new();
    let mut ever_refused = 0;
    for round in 0..ROUNDS {
        let revision = keys.txn(&transaction(&mut rng, round)).await;
        let newcomer = round % 10 == 0;
        if newcomer {
            replicas.push(replica(&etcd, &["--max-value-bytes", &limit]));
        }
        let (good, refused) = upstream(&keys).await;
        ever_refused += refused.len();
        let mut told = BTreeSet::new();
        for (number, daemon) in replicas.iter().enumerate() {
            let http = daemon.http();
            let status = eventually("the round", || async {
                let status = status(&http).await;
                (status["status"] == "in-sync" && status["revision"] == revision).then_some(status)
            })
            .await;
            assert_same(&format!("round {round}, replica {number}"), &current(&http).await, &good);
            assert_eq!(names(&status), refused, "round {round}, replica {number}");
            assert_eq!(status["refused"]["count"], refused.len());
            told.insert(status["cursor"].as_str().unwrap().to_owned());
        }
        assert_eq!(
            told.len(),
            1,
            "round {round}: history, revision and digest of all are the same: {told:?}"
        );
        cursors.extend(told);
        if newcomer {
            continues(&replicas.last().unwrap().http(), &cursors).await;
        }
    }
    assert!(ever_refused > ROUNDS / 2, "{ever_refused}");
    for daemon in &replicas {
        continues(&daemon.http(), &cursors).await;
    }
}

/// Every cursor leads to where the daemon is. One that lies before its start may first have to be found out about.
async fn continues(http: &Http, cursors: &[String]) {
    for cursor in cursors {
        let got = http.get(&format!("/v1/breadcrumbs/{cursor}/next?wait=10s")).await;
        let at_end = Some(cursor) == cursors.last();
        assert_eq!(got.status, if at_end { 204 } else { 200 }, "{cursor}: {:?}", got.json());
        if at_end {
            break;
        }
    }
}

#[tokio::test]
async fn a_key_that_is_too_long_is_named_by_its_beginning_and_let_go_when_it_is_deleted() {
    let etcd = Etcd::start().await;
    let long = format!("app/{}", "k".repeat(100_000)).into_bytes();
    etcd.keys().put(&long, b"1").await;
    let daemon = replica(&etcd, &[]);
    let http = daemon.http();
    let status = is(&http, "in-sync").await;
    let key = &status["refused"]["keys"][0];
    assert_eq!((&status["refused"]["count"], &status["count"]), (&1.into(), &0.into()), "{status}");
    assert_eq!(key["key_bytes"], long.len());
    let shown = key["key"].as_str().unwrap();
    assert!(shown.len() < 1000 && long.starts_with(shown.as_bytes()), "{shown}");
    etcd.keys().delete(&long).await;
    eventually("its end", || async {
        (support::followed::status(&http).await["refused"]["count"] == 0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn what_was_kept_follows_the_limits_of_the_next_start_in_both_directions() {
    let etcd = Etcd::start().await;
    let keys = etcd.keys();
    let dir = tempfile::tempdir().unwrap();
    let start = |limit: &'static str| {
        replica(&etcd, &["--state-dir", dir.path().to_str().unwrap(), "--max-value-bytes", limit])
    };
    keys.put(b"app/a", &[b'a'; 500]).await;
    keys.put(b"app/b", &[b'b'; 2000]).await;
    keys.put(b"app/c", b"c").await;
    // The same limit: what was refused is named again. A lower one refuses what was kept. A higher one reads what was
    // refused, although nothing has changed in etcd.
    let mut cursor = None;
    for (limit, refused) in
        [("1000", vec!["app/b"]), ("1000", vec!["app/b"]), ("100", vec!["app/a", "app/b"]), ("10000", vec![])]
    {
        let mut daemon = start(limit);
        let http = daemon.http();
        let refused: BTreeSet<_> = refused.into_iter().map(|key| key.as_bytes().to_vec()).collect();
        let status = eventually("what is refused", || async {
            let status = status(&http).await;
            (status["status"] == "in-sync" && names(&status) == refused).then_some(status)
        })
        .await;
        let mut good = keys.range(b"app/").await.state;
        good.retain(|key, _| !refused.contains(key));
        assert_eq!(status["count"], good.len(), "{limit}: {status}");
        assert_same(limit, &current(&http).await, &good);
        if limit == "1000"
            && let Some(cursor) = cursor.replace(status["cursor"].as_str().unwrap().to_owned())
        {
            let got = http.get(&format!("/v1/breadcrumbs/{cursor}/next?wait=0")).await;
            assert!([200, 204].contains(&got.status), "a cursor from before the restart: {}", got.status);
        }
        daemon.terminate();
        assert!(daemon.wait_exit().success());
    }
}

/// A feed file, and a daemon that follows it.
struct Fed {
    path: std::path::PathBuf,
    _dir: tempfile::TempDir,
}

impl Fed {
    fn with(records: &[String]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("feed.ndjson");
        std::fs::write(&path, lines(records)).unwrap();
        Self { path, _dir: dir }
    }

    fn append(&self, records: &[String]) {
        use std::io::Write as _;
        let mut file = std::fs::OpenOptions::new().append(true).open(&self.path).unwrap();
        file.write_all(&lines(records)).unwrap();
    }

    fn feed(&self) -> String {
        format!("file:{}?follow=true", self.path.display())
    }
}

fn text(length: usize) -> String {
    format!("\"{}\"", "x".repeat(length))
}

fn state(entries: &[(&str, &str)]) -> State {
    entries.iter().map(|(key, value)| (key.as_bytes().to_vec(), value.as_bytes().into())).collect()
}

#[tokio::test]
async fn a_record_that_cannot_be_read_deletes_the_key_that_it_names() {
    let bad = |key: &str, rest: &str| format!(r#"{{"type":"put","key":"{key}",{rest}}}"#);
    let fed = Fed::with(&["a", "b", "c", "d", "e", "f", "g"].map(|key| put(key, "1")));
    let daemon = Daemon::serve(&["--feed", &fed.feed(), "--max-value-bytes", "10"]);
    let http = ready(&daemon).await;
    fed.append(&[
        put("a", &text(20)),
        bad("b", r#""value":1,"ttl":-1"#),
        bad("c", r#""value":"%%%","encoding":"base64""#),
        bad("d", &format!(r#""value":2,"revision":{}"#, u64::MAX)),
        // Cut off in a line, with a fault before the key.
        r#"{"type":"deleted","key":"f""#.to_owned(),
        r#"{"value":tru,"type":"put","key":"g"}"#.to_owned(),
        // What names no key, or more than one, says nothing of any.
        r#"{"type":"put","value":2}"#.to_owned(),
        r#"{"type":"put","key":"e","key":"a","value":2}"#.to_owned(),
        put("last", "1"),
    ]);
    let status = eventually("the last line", || async {
        let status = status(&http).await;
        (status["count"] == 2).then_some(status)
    })
    .await;
    assert_same("the rest", &current(&http).await, &state(&[("e", "1"), ("last", "1")]));
    assert_eq!((&status["status"], &status["refused"]["exact"]), (&"in-sync".into(), &true.into()));
    let named = named(&status);
    assert_eq!(named.keys().collect::<Vec<_>>(), ["a", "b", "c", "d", "f", "g"]);
    assert_eq!(named["a"], "its value has 22 bytes, the limit is 10");
    assert!(named["b"].contains("line 9") && named["b"].contains("ttl"), "{}", named["b"]);
    let metrics = String::from_utf8(http.get("/metrics").await.ok(200).plain()).unwrap();
    assert!(metrics.contains("\ncrumbd_refused_keys 6"), "{metrics}");
    for key in ["a", "b", "c", "d"] {
        let line = format!("key \\\"{key}\\\"");
        daemon.logged(&line, |log| (log.contains("refused") && log.contains(&line)).then_some(()));
    }

    // Refused twice and good in the end; deleted; good.
    fed.append(&[
        put("a", &text(30)),
        put("a", &text(40)),
        put("a", "2"),
        support::workload::deleted("b"),
        put("c", "2"),
        put("last", "2"),
    ]);
    let status = eventually("the last line", || async {
        let status = support::followed::status(&http).await;
        (names(&status) == BTreeSet::from([b"d", b"f", b"g"].map(|key| key.to_vec()))).then_some(status)
    })
    .await;
    assert_eq!(status["refused"]["count"], 3);
    eventually("the state", || async {
        let wanted = state(&[("a", "2"), ("c", "2"), ("e", "1"), ("last", "2")]);
        (current(&http).await == wanted).then_some(())
    })
    .await;
    let told = daemon
        .log()
        .lines()
        .filter(|line| line.contains("refused, so") && line.contains("\\\"a\\\""))
        .count();
    assert_eq!(told, 1, "a key that is refused again is not told of again");
}

#[tokio::test]
async fn a_token_sees_the_names_of_the_refused_keys_that_it_may_read_and_no_others() {
    let fed = Fed::with(&[put("a/1", &text(20)), put("b/1", &text(20)), put("b/2", "1")]);
    let mut tokens = TokenFile::new();
    let (one, all) = (tokens.add(&["a/"], &[]), tokens.add(&[""], &[]));
    tokens.save();
    let daemon =
        Daemon::serve(&["--feed", &fed.feed(), "--max-value-bytes", "10", "--tokens", tokens.path()]);
    let http = ready(&daemon).await;
    let seen = |token: String| {
        let http = http.with_token(&token);
        async move { http.get("/v1/status").await.ok(200) }
    };
    let narrow = seen(one.text).await;
    assert_eq!(named(&narrow.json()).into_keys().collect::<Vec<_>>(), ["a/1"]);
    assert!(!String::from_utf8_lossy(&narrow.plain()).contains("b/1"));
    // The reason may quote a line with other keys.
    let reason = narrow.json()["refused"]["keys"][0]["reason"].as_str().unwrap().to_owned();
    assert!(reason.contains("administration"), "{reason}");
    assert_eq!(named(&seen(all.text).await.json()).into_keys().collect::<Vec<_>>(), ["a/1", "b/1"]);
}

#[tokio::test]
async fn under_strict_a_refused_value_ends_the_feed_and_says_which() {
    let fed = Fed::with(&[put("a", "1"), put("b", &text(20))]);
    let ended = Daemon::serve_and_end(&["--feed", &fed.feed(), "--max-value-bytes", "10", "--strict"]);
    assert!(!ended.status.success());
    assert!(ended.stderr.contains("line 2") && ended.stderr.contains("22 bytes"), "{}", ended.stderr);

    let etcd = Etcd::start().await;
    etcd.keys().put(b"app/a", &[b'a'; 20]).await;
    let feed = etcd.feed("app/");
    let ended = Daemon::serve_and_end(&["--feed", &feed, "--max-value-bytes", "10", "--strict"]);
    assert!(!ended.status.success());
    assert!(ended.stderr.contains("app/a") && ended.stderr.contains("20 bytes"), "{}", ended.stderr);
}
