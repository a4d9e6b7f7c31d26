//! Every record that a daemon writes can be read by a daemon: a dump is a feed, a snapshot is a backup, and the output of
//! `follow` can be replayed.
#![allow(clippy::unwrap_used)]

mod support;

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::Stdio;
use std::sync::{Arc, Mutex};

use support::daemon::{Daemon, command, run};
use support::eventually;
use support::http::{Http, lines};
use support::mirror::{Coding, Media, Mirror, apply, entries};
use support::record::{Body, Record, kind_of};
use support::state::{State, assert_same, digest, hex};
use support::workload::{Op, Workload, deleted, put};

/// Fills a daemon with a nasty state, over several revisions and with deletions; gives the state.
async fn fill(http: &Http, seed: u64) -> State {
    let mut workload = Workload::new(seed, "", 200);
    let mut model = State::new();
    for _ in 0..60 {
        let batch = workload.batch(40);
        batch.iter().for_each(|op| op.apply(&mut model));
        http.post(&batch.iter().map(Op::record).collect::<Vec<_>>()).await;
    }
    assert!(model.len() > 100);
    model
}

/// Serves a file and waits until it has been read whole; gives the daemon and what a mirror sees in it.
async fn served(path: &Path) -> (Daemon, Mirror) {
    let daemon = Daemon::serve(&["--feed", &format!("file:{}", path.display())]);
    let http = daemon.http();
    eventually("the file to be read", || async { (http.get("/readyz").await.status == 200).then_some(()) })
        .await;
    let mirror = Mirror::of(http, Media::Json, Coding::Gzip).await;
    (daemon, mirror)
}

#[tokio::test]
async fn a_dump_served_as_a_feed_is_the_same_state() {
    let daemon = Daemon::push(&[]);
    let model = fill(&daemon.http(), 11).await;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("dump.ndjson");

    let dump = run(&["dump", "--url", daemon.url()]);
    assert!(dump.status.success(), "{}", String::from_utf8_lossy(&dump.stderr));
    std::fs::write(&path, &dump.stdout).unwrap();
    let (copy, mirror) = served(&path).await;
    assert_same("the copy", &mirror.state, &model);
    assert_eq!(mirror.status, "in-sync");
    let original = Mirror::of(daemon.http(), Media::Json, Coding::Identity).await;
    assert_eq!(mirror.revision, original.revision, "a snapshot is one revision, its header's");

    // A dump of the copy is a dump of the state: the same entries, the same count and digest.
    let again = run(&["dump", "--url", copy.url()]);
    let [first, second] = [&dump.stdout, &again.stdout].map(|dump| {
        let mut bodies = Body::sequence(std::str::from_utf8(dump).unwrap());
        assert_eq!(bodies.len(), 1, "a dump is one snapshot, from its header to its `end`");
        bodies.remove(0)
    });
    assert_same("a dump of the copy", &entries(&second), &entries(&first));
    assert_eq!(first.header.count, Some(model.len() as u64));
    assert_eq!(first.header.digest, Some(hex(digest(&model))));
    assert_eq!((first.header.count, first.header.digest), (second.header.count, second.header.digest));
}

#[tokio::test]
async fn a_snapshot_and_the_breadcrumbs_after_it_served_as_a_feed_are_the_state_after_them() {
    let daemon = Daemon::push(&[]);
    let http = daemon.http();
    let mut model = fill(&http, 12).await;
    let ndjson = [("accept", "application/x-ndjson")];
    let snapshot = http.get_with("/v1/breadcrumbs/current", &ndjson).await.ok(200);
    let mut saved = snapshot.body.clone();
    let mut cursor = snapshot.cursor().to_owned();
    let mut workload = Workload::new(13, "", 200);
    for n in 0..20 {
        let batch = workload.batch(30);
        batch.iter().for_each(|op| op.apply(&mut model));
        http.post(&batch.iter().map(Op::record).collect::<Vec<_>>()).await;
        if n % 3 == 2 {
            let got = http.get_with(&format!("/v1/breadcrumbs/{cursor}/next"), &ndjson).await.ok(200);
            saved.extend_from_slice(&got.body);
            cursor = got.cursor().to_owned();
        }
    }
    let rest = http.get_with(&format!("/v1/breadcrumbs/{cursor}/next?wait=0"), &ndjson).await;
    saved.extend_from_slice(&rest.body);

    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("saved.ndjson");
    std::fs::write(&path, &saved).unwrap();
    let (_copy, mirror) = served(&path).await;
    assert_same("the copy", &mirror.state, &model);
}

#[tokio::test]
async fn what_follow_prints_can_be_replayed() {
    let daemon = Daemon::push(&[]);
    let http = daemon.http();
    let mut model = fill(&http, 14).await;

    let mut child = command()
        .args(["follow", "--all", "--url", daemon.url()])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let printed: Arc<Mutex<Vec<String>>> = Arc::default();
    let stdout = BufReader::new(child.stdout.take().unwrap());
    let writer = printed.clone();
    std::thread::spawn(move || {
        for line in stdout.lines() {
            let Ok(line) = line else { break };
            writer.lock().unwrap().push(line);
        }
    });
    // Reads what was printed as updates of an empty map, whatever frames stand around them.
    let replay = || {
        let mut state = State::new();
        for line in printed.lock().unwrap().iter() {
            match &*kind_of(line) {
                "snapshot" => state.clear(),
                "breadcrumb" | "end" | "status" => {}
                _ => drop(apply(&mut state, 0, &[Record::read(line)])),
            }
        }
        state
    };
    let reached = async |model: &State| {
        eventually("what follow prints to be the state", || async { (replay() == *model).then_some(()) })
            .await;
    };
    reached(&model).await;
    let mut workload = Workload::new(15, "", 200);
    for _ in 0..20 {
        let batch = workload.batch(10);
        batch.iter().for_each(|op| op.apply(&mut model));
        http.post(&batch.iter().map(Op::record).collect::<Vec<_>>()).await;
    }
    reached(&model).await;
    child.kill().unwrap();
    child.wait().unwrap();

    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("followed.ndjson");
    std::fs::write(&path, lines(&printed.lock().unwrap())).unwrap();
    let (_copy, mirror) = served(&path).await;
    assert_same("the copy", &mirror.state, &model);
}

#[tokio::test]
async fn records_of_every_type_can_be_posted() {
    let daemon = Daemon::push(&[]);
    let http = daemon.http();
    http.post(&[put("a", "1"), put("b", "1"), put("c", "1")]).await;
    let body = lines(&[
        r#"{"type":"new","key":"d","value":{"x":1},"revision":7}"#,
        r#"{"type":"updated","key":"a","value":2,"revision":8}"#,
        r#"{"type":"put","key":"e","value":"text","encoding":"utf8","ttl":3600}"#,
        r#"{"type":"deleted","key":"b","revision":9}"#,
        r#"{"type":"delete","key":"c"}"#,
        r#"{"type":"put","key_base64":"/w==","value":"/w==","encoding":"base64"}"#,
    ]);
    let headers = [("content-type", "application/x-ndjson")];
    let cursor = http.send("POST", "/v1/updates", &headers, Some(body)).await.written();
    let mirror = Mirror::of(http, Media::Json, Coding::Identity).await;
    let expected: [(&[u8], &[u8]); 4] =
        [(b"a", b"2"), (b"d", b"{\"x\":1}"), (b"e", b"text"), (b"\xff", b"\xff")];
    let expected: State = expected.into_iter().map(|(k, v)| (k.to_vec(), v.into())).collect();
    assert_eq!(mirror.cursor, cursor);
    assert_same("the state", &mirror.state, &expected);
}

#[tokio::test]
async fn a_snapshot_that_is_posted_replaces_the_state() {
    let daemon = Daemon::push(&[]);
    let http = daemon.http();
    let model = fill(&http, 17).await;
    let dump = run(&["dump", "--url", daemon.url()]).stdout;

    let other = Daemon::push(&[]);
    let http = other.http();
    fill(&http, 18).await;
    let mut mirror = Mirror::of(http.clone(), Media::Ndjson, Coding::Identity).await;
    let headers = [("content-type", "application/x-ndjson")];
    let cursor = http.send("POST", "/v1/updates", &headers, Some(dump)).await.written();
    // It comes to a follower as one ordinary delta.
    mirror.next("5s").await;
    assert_eq!(mirror.cursor, cursor);
    assert_same("the state after the POST", &mirror.state, &model);
}

#[tokio::test]
async fn a_posted_snapshot_that_is_not_whole_is_refused_and_changes_nothing() {
    let daemon = Daemon::push(&[]);
    let http = daemon.http();
    for n in 0..10 {
        http.post(&[put(&format!("k/{n}"), "1")]).await;
    }
    let get = async |path: &str| {
        let got = http.get_with(path, &[("accept", "application/x-ndjson")]).await.ok(200);
        let text = String::from_utf8(got.body).unwrap();
        text.lines().map(str::to_owned).collect::<Vec<_>>()
    };
    let (dump, narrow) =
        (get("/v1/breadcrumbs/current").await, get("/v1/breadcrumbs/current?prefix=k%2F").await);
    let first = http.cursor().await;
    http.post(&[put("k/0", "2")]).await;
    let later = get("/v1/breadcrumbs/current").await;
    let page = get("/v1/kv?limit=3").await;
    let breadcrumb = get(&format!("/v1/breadcrumbs/{first}/next")).await;
    let cursor = http.cursor().await;
    let without = |fields: &[&str], line: &str| {
        let mut record: serde_json::Value = serde_json::from_str(line).unwrap();
        fields.iter().for_each(|field| drop(record.as_object_mut().unwrap().remove(*field)));
        record.to_string()
    };
    let (header, end) = (&dump[0], dump.last().unwrap());
    let (bare, bare_end) = (r#"{"type":"snapshot"}"#.to_owned(), r#"{"type":"end"}"#.to_owned());
    let framed = |header: &str, end: &str| [&[header.to_owned()], &dump[1..4], &[end.to_owned()]].concat();
    for (why, records, complaint) in [
        ("lines were lost", framed(header, end), "`count`"),
        ("only the header has a count", framed(header, &bare_end), "`count`"),
        ("only the end has a count", framed(&bare, end), "`count`"),
        ("only a digest contradicts", framed(&bare, &without(&["count"], end)), "`digest`"),
        ("a value is another", [&dump[..1], &later[1..11], &dump[11..]].concat(), "`digest`"),
        (
            "two halves of two dumps",
            framed(header, &without(&["count", "digest"], later.last().unwrap())),
            "cursors",
        ),
        ("a second end", [&dump[..4], std::slice::from_ref(end), &dump[4..]].concat(), "line 6"),
        ("a second snapshot", [&dump[..4], std::slice::from_ref(header), &dump[4..]].concat(), "line 5"),
        ("two dumps", [&dump[..], &later].concat(), "line 13"),
        ("a record after it", [&dump[..], &[put("x", "1")]].concat(), "line 13"),
        ("no end", dump[..11].to_vec(), "no `end`"),
        ("no beginning", dump[1..].to_vec(), "line 11"),
        ("only an end", vec![bare_end.clone()], "line 1"),
        ("some keys", narrow, "some keys"),
        ("a page", page, "page"),
        ("a breadcrumb", breadcrumb.clone(), "`breadcrumb`"),
        ("a breadcrumb without end", breadcrumb[..1].to_vec(), "`breadcrumb`"),
    ] {
        let problem = http.send("POST", "/v1/updates", &[], Some(lines(&records))).await.problem(400);
        assert!(problem["detail"].as_str().unwrap().contains(complaint), "{why}: {problem}");
        assert_eq!(http.cursor().await, cursor, "{why}");
    }
    // A key that comes twice is one key; a snapshot that says nothing of itself is believed.
    let twice = [&dump[..2], &dump[1..]].concat();
    for records in [twice, framed(&bare, &bare_end), dump.clone()] {
        http.send("POST", "/v1/updates", &[], Some(lines(&records))).await.written();
    }
    assert_eq!(
        get("/v1/breadcrumbs/current").await.last().map(|end| without(&["cursor"], end)),
        Some(without(&["cursor"], end))
    );
}

#[tokio::test]
async fn a_json_array_is_as_good_as_ndjson() {
    let mut mirrors = Vec::new();
    let mut workload = Workload::new(16, "", 100);
    let batches: Vec<Vec<Op>> = (0..20).map(|_| workload.batch(30)).collect();
    for array in [true, false] {
        let daemon = Daemon::push(&[]);
        let http = daemon.http();
        for batch in &batches {
            let records: Vec<String> = batch.iter().map(Op::record).collect();
            let (content_type, body) = match array {
                true => ("application/json", format!("[ {} ]", records.join(" ,\n ")).into_bytes()),
                false => ("application/x-ndjson", lines(&records)),
            };
            http.send("POST", "/v1/updates", &[("content-type", content_type)], Some(body)).await.written();
        }
        mirrors.push(Mirror::of(http, Media::Ndjson, Coding::Identity).await);
    }
    let mut model = State::new();
    batches.iter().flatten().for_each(|op| op.apply(&mut model));
    assert_same("by array", &mirrors[0].state, &model);
    assert_same("by NDJSON", &mirrors[1].state, &model);
}

#[tokio::test]
async fn a_wrong_claim_of_new_or_updated_is_corrected() {
    let daemon = Daemon::push(&[]);
    let http = daemon.http();
    http.post(&[put("there", "1")]).await;
    let mut mirror = Mirror::of(http.clone(), Media::Json, Coding::Identity).await;
    let start = mirror.cursor.clone();
    http.post(&[
        r#"{"type":"new","key":"there","value":2}"#,
        r#"{"type":"updated","key":"absent","value":2}"#,
        r#"{"type":"deleted","key":"never was"}"#,
    ])
    .await;
    // The mirror fails by itself when a type is not true of its map.
    mirror.next("5s").await;
    assert_eq!(mirror.state.len(), 2);

    // Relative to an older cursor the truth may be another: what was made and changed since is new, what was made and
    // deleted since was never there.
    http.post(&[put("absent", "3"), put("passing", "1")]).await;
    http.post(&[deleted("passing"), deleted("there")]).await;
    http.post(&[put("there", "9")]).await;
    let got = http.get(&format!("/v1/breadcrumbs/{start}/next?wait=0")).await.ok(200);
    let body = Body::read(got.need("content-type"), &got.plain());
    let mut kinds: Vec<(&str, &[u8])> = body.records.iter().map(|r| (&*r.kind, &*r.key)).collect();
    kinds.sort_unstable();
    let expected: [(&str, &[u8]); 2] = [("new", b"absent"), ("updated", b"there")];
    assert_eq!(kinds, expected);
    assert_eq!(body.header.mode, "squash");
}

#[tokio::test]
async fn a_ttl_comes_out_as_it_went_in() {
    let daemon = Daemon::push(&[]);
    let http = daemon.http();
    http.post(&[
        r#"{"type":"put","key":"leased","value":1,"ttl":86400}"#,
        r#"{"type":"put","key":"kept","value":1}"#,
    ])
    .await;
    let got = http.get("/v1/breadcrumbs/current").await.ok(200);
    let body = Body::read(got.need("content-type"), &got.plain());
    for record in &body.records {
        let expected = (&*record.key == b"leased").then_some(86400);
        assert_eq!(record.ttl, expected, "{record:?}");
    }
}

#[tokio::test]
async fn a_snapshot_of_some_keys_does_not_replace_the_whole_state() {
    let daemon = Daemon::push(&[]);
    let http = daemon.http();
    http.post(&[put("a/1", "1"), put("a/2", "2"), put("b/1", "3")]).await;
    let before = http.get("/v1/breadcrumbs/current").await.ok(200).json();
    for path in [
        "/v1/breadcrumbs/current?prefix=a%2F",
        "/v1/breadcrumbs/current?prefix=nothing",
        "/v1/kv?prefix=a%2F",
        "/v1/kv?start_after=a%2F1",
        "/v1/kv?limit=1",
    ] {
        let part = http.get_with(path, &[("accept", "application/x-ndjson")]).await.ok(200);
        let problem = http.send("POST", "/v1/updates", &[], Some(part.body)).await.problem(400);
        assert!(problem["detail"].as_str().unwrap().contains("nothing was applied"), "{path}: {problem}");
    }
    assert_eq!(http.get("/v1/breadcrumbs/current").await.json()["digest"], before["digest"]);
    // One that somebody has written, and one of every key.
    let whole = http.get_with("/v1/breadcrumbs/current", &[("accept", "application/x-ndjson")]).await.body;
    http.post(&["{\"type\":\"snapshot\"}".to_owned(), put("c", "1"), "{\"type\":\"end\"}".to_owned()]).await;
    http.send("POST", "/v1/updates", &[], Some(whole)).await.ok(200);
    assert_eq!(http.get("/v1/breadcrumbs/current").await.json()["digest"], before["digest"]);
}
