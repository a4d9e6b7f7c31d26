//! The `file:` and `stdin:` feeds: NDJSON read, followed, cut, replaced and half-written.
#![allow(clippy::unwrap_used)]

#[path = "../support/mod.rs"]
mod support;

mod content;
mod cursors_ahead;
mod missing_paths;
mod partial_writes;
mod stdin;

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::PathBuf;
use std::sync::Arc;

use support::daemon::Daemon;
use support::http::{Http, lines};
use support::mirror::{Coding, Media, Mirror, Step};
use support::state::{State, assert_same};
use support::workload::{Op, Workload, deleted, put};
use support::{A_WHILE, eventually};
use tempfile::TempDir;

/// A feed file in a directory of its own.
struct Feed {
    dir: TempDir,
    path: PathBuf,
}

impl Feed {
    fn of(records: &[impl AsRef<str>]) -> Feed {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("feed.ndjson");
        fs::write(&path, lines(records)).unwrap();
        Feed { dir, path }
    }

    fn once(&self) -> String {
        format!("file:{}", self.path.display())
    }

    fn followed(&self) -> String {
        format!("file:{}?follow=true", self.path.display())
    }

    fn append(&self, text: &[u8]) {
        OpenOptions::new().append(true).open(&self.path).unwrap().write_all(text).unwrap();
    }

    /// Puts another file in this one's place, as editors and deployers do.
    fn replace(&self, records: &[impl AsRef<str>]) {
        let aside = self.dir.path().join("aside");
        fs::write(&aside, lines(records)).unwrap();
        fs::rename(&aside, &self.path).unwrap();
    }
}

/// The daemon's client, once it is ready.
async fn ready(daemon: &Daemon) -> Http {
    let http = daemon.http();
    eventually("readyz", || async { (http.get("/readyz").await.status == 200).then_some(()) }).await;
    http
}

/// A mirror of a daemon, once it is ready.
async fn mirror(daemon: &Daemon) -> Mirror {
    Mirror::of(ready(daemon).await, Media::Ndjson, Coding::Identity).await
}

fn state(entries: &[(&str, &str)]) -> State {
    entries.iter().map(|(k, v)| (k.as_bytes().to_vec(), Arc::from(v.as_bytes()))).collect()
}

/// Follows until the mirror's state is this one.
async fn follow_to(mirror: &mut Mirror, expected: &State) {
    for _ in 0..100 {
        if mirror.state == *expected {
            return;
        }
        assert_ne!(mirror.next("1s").await, Step::Gone, "an append is no new history");
    }
    assert_same("the mirror", &mirror.state, expected);
}

/// Waits until whoever asks anew gets this state.
async fn becomes(http: &Http, expected: &State) {
    eventually(&format!("the state {expected:?}"), || async {
        let mirror = Mirror::of(http.clone(), Media::Json, Coding::Identity).await;
        (mirror.state == *expected && mirror.status == "in-sync").then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_file_is_served_as_the_state_that_its_records_lead_to() {
    let mut workload = Workload::new(41, "", 150);
    let ops: Vec<Op> = (0..2000).map(|_| workload.op()).collect();
    let mut model = State::new();
    ops.iter().for_each(|op| op.apply(&mut model));
    let feed = Feed::of(&ops.iter().map(Op::record).collect::<Vec<_>>());
    for feed in [feed.once(), feed.followed()] {
        let daemon = Daemon::serve(&["--feed", &feed]);
        let mirror = mirror(&daemon).await;
        assert_same(&feed, &mirror.state, &model);
        assert_eq!(mirror.status, "in-sync");
    }
}

#[tokio::test]
async fn records_with_revisions_are_counted_by_them_and_those_without_one_by_one() {
    let with = |key: &str, revision: u64| {
        format!("{{\"type\":\"put\",\"key\":\"{key}\",\"value\":{revision},\"revision\":{revision}}}")
    };
    let feed = Feed::of(&[with("a", 5), with("b", 5), with("c", 9), put("d", "1"), put("d", "1")]);
    let daemon = Daemon::serve(&["--feed", &feed.followed()]);
    let mut mirror = mirror(&daemon).await;
    assert_eq!(mirror.revision, 10, "9, and one more change");
    feed.append(&lines(&[with("e", 3), with("f", 40)]));
    let expected = [("a", "5"), ("b", "5"), ("c", "9"), ("d", "1"), ("e", "3"), ("f", "40")];
    follow_to(&mut mirror, &state(&expected)).await;
    assert_eq!(mirror.revision, 40);
}

#[tokio::test]
async fn a_malformed_line_is_logged_with_its_number_and_the_rest_goes_on() {
    let bad = "{\"type\":\"put\",\"key\":\"broken\"".to_owned();
    let feed = Feed::of(&[put("a", "1"), bad, put("b", "2"), "nonsense".to_owned(), put("c", "3")]);
    let daemon = Daemon::serve(&["--feed", &feed.followed()]);
    let mut mirror = mirror(&daemon).await;
    assert_same("the good lines", &mirror.state, &state(&[("a", "1"), ("b", "2"), ("c", "3")]));
    for number in [2, 4] {
        daemon.logged(&format!("line {number}"), |line| names_line(line, number).then_some(()));
    }
    // What is appended later is counted on from there.
    let bad = "{\"type\":\"put\",\"key\":\"broken too\"".to_owned();
    feed.append(&lines(&[put("d", "4"), bad, put("e", "5")]));
    follow_to(&mut mirror, &state(&[("a", "1"), ("b", "2"), ("c", "3"), ("d", "4"), ("e", "5")])).await;
    daemon.logged("line 7", |line| names_line(line, 7).then_some(()));
    let status = daemon.http().get("/v1/status").await.ok(200).json();
    assert!(has_number(&status, 3), "three malformed lines are counted in {status}");
}

/// Whether a log line is about this line of the feed: it has the number as a field, or says it in words.
fn names_line(log: &str, number: u64) -> bool {
    let Ok(log) = serde_json::from_str::<serde_json::Value>(log) else { return false };
    fn find(value: &serde_json::Value, name: &str, number: u64) -> bool {
        match value {
            serde_json::Value::Object(members) => {
                members.iter().any(|(name, value)| find(value, name, number))
            }
            serde_json::Value::Number(n) => name.contains("line") && n.as_u64() == Some(number),
            serde_json::Value::String(text) => {
                text.contains(&format!("line {number}"))
                    || text.contains(&format!(":{number}:"))
                    || name.contains("line") && *text == number.to_string()
            }
            _ => false,
        }
    }
    find(&log, "", number)
}

/// Whether a number is anywhere in a JSON value.
fn has_number(value: &serde_json::Value, number: u64) -> bool {
    match value {
        serde_json::Value::Object(members) => members.values().any(|value| has_number(value, number)),
        serde_json::Value::Array(items) => items.iter().any(|value| has_number(value, number)),
        value => value.as_u64() == Some(number),
    }
}

#[tokio::test]
async fn a_revision_that_leaves_no_room_to_count_on_is_a_malformed_line() {
    let claimed = |key: &str, at: u64| format!(r#"{{"type":"put","key":"{key}","value":1,"revision":{at}}}"#);
    let feed = Feed::of(&[claimed("a", 5), claimed("b", u64::MAX), claimed("c", 1 << 63), put("d", "1")]);
    let daemon = Daemon::serve(&["--feed", &feed.once()]);
    let http = ready(&daemon).await;
    let status = http.get("/v1/status").await.json();
    assert_eq!((&status["revision"], &status["count"]), (&6.into(), &2.into()), "{status}");
    assert_eq!(status["ingest"]["malformed"], 2, "{status}");
    let complaint = "line 2: the revision 18446744073709551615 is above 9223372036854775807";
    daemon.logged(complaint, |line| line.contains(complaint).then_some(()));
}

#[tokio::test]
async fn strict_ends_at_the_first_malformed_line_and_names_file_and_line() {
    let feed = Feed::of(&[put("a", "1"), put("b", "1"), "nonsense".to_owned(), put("c", "3")]);
    for feed_name in [feed.once(), feed.followed()] {
        let ended = Daemon::serve_and_end(&["--strict", "--feed", &feed_name]);
        assert!(ended.status.code().is_some_and(|code| code != 0), "{}", ended.status);
        let message =
            ended.stderr.lines().find(|line| line.contains("feed.ndjson") && names_line_or_text(line, 3));
        assert!(message.is_some(), "file and line:\n{}", ended.stderr);
    }
    let good = Feed::of(&[put("a", "1")]);
    let daemon = Daemon::serve(&["--strict", "--feed", &good.once()]);
    assert_eq!(mirror(&daemon).await.state.len(), 1);
}

/// The same for a message that may not be JSON.
fn names_line_or_text(line: &str, number: u64) -> bool {
    names_line(line, number)
        || line.contains(&format!("line {number}"))
        || line.contains(&format!(":{number}"))
}

#[tokio::test]
async fn a_missing_file_is_an_error_that_names_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("nowhere.ndjson");
    let ended = Daemon::serve_and_end(&["--feed", &format!("file:{}", path.display())]);
    assert!(ended.status.code().is_some_and(|code| code != 0), "{}", ended.status);
    assert!(ended.stderr.contains("nowhere.ndjson"), "{}", ended.stderr);
    assert!(!ended.stderr.contains("panicked"), "{}", ended.stderr);
}

#[tokio::test]
async fn an_append_to_a_followed_file_is_seen() {
    let feed = Feed::of(&[put("a", "1")]);
    let daemon = Daemon::serve(&["--feed", &feed.followed()]);
    let mut mirror = mirror(&daemon).await;
    let mut workload = Workload::new(42, "", 50);
    let mut model = mirror.state.clone();
    for _ in 0..20 {
        let batch = workload.batch(30);
        batch.iter().for_each(|op| op.apply(&mut model));
        feed.append(&lines(&batch.iter().map(Op::record).collect::<Vec<_>>()));
        follow_to(&mut mirror, &model).await;
    }
    assert_eq!(mirror.status, "in-sync");
}

#[tokio::test]
async fn a_half_written_line_is_not_applied_until_it_is_whole() {
    let feed = Feed::of(&[put("a", "1")]);
    let daemon = Daemon::serve(&["--feed", &feed.followed()]);
    let mut mirror = mirror(&daemon).await;
    let late = put("late", "\"a value that comes in pieces\"");
    let (head, tail) = late.split_at(late.len() / 2);
    feed.append(&[lines(&[put("b", "1")]), head.as_bytes().to_vec()].concat());
    follow_to(&mut mirror, &state(&[("a", "1"), ("b", "1")])).await;
    feed.append(tail.as_bytes());
    feed.append(b"\n");
    let value = "\"a value that comes in pieces\"";
    follow_to(&mut mirror, &state(&[("a", "1"), ("b", "1"), ("late", value)])).await;
    assert!(!daemon.log().contains("malformed"), "{}", daemon.log());
}

#[tokio::test]
async fn a_replaced_file_is_a_new_history_and_its_state_is_the_new_files_exactly() {
    let feed = Feed::of(&[put("a", "1"), put("b", "1"), put("c", "1")]);
    let daemon = Daemon::serve(&["--feed", &feed.followed()]);
    let mut old = mirror(&daemon).await;
    let http = daemon.http();
    // Longer than before, as long, shorter: none of that tells a new file from an old one.
    let files = [
        vec![put("b", "2"), put("d", "1"), put("e", "1"), put("f", "1"), put("g", "1")],
        vec![put("b", "3"), put("d", "2"), put("e", "2"), put("f", "2"), put("g", "2")],
        vec![put("z", "1")],
    ];
    for records in files {
        feed.replace(&records);
        gone(&mut old).await;
        let expected = expected(&records);
        becomes(&http, &expected).await;
        let history = old.history.clone();
        old.take_current().await;
        assert_same("the new file", &old.state, &expected);
        assert_ne!(old.history, history);
    }
    feed.append(&lines(&[put("y", "1")]));
    follow_to(&mut old, &state(&[("y", "1"), ("z", "1")])).await;
}

#[tokio::test]
async fn a_truncated_file_is_a_new_history_and_its_state_is_what_is_left() {
    let feed = Feed::of(&[put("a", "1"), put("b", "1"), put("c", "1")]);
    let daemon = Daemon::serve(&["--feed", &feed.followed()]);
    let mut old = mirror(&daemon).await;
    let http = daemon.http();

    // Written anew in place, shorter.
    fs::write(&feed.path, lines(&[put("b", "2")])).unwrap();
    gone(&mut old).await;
    becomes(&http, &state(&[("b", "2")])).await;
    let history = old.history.clone();
    old.take_current().await;
    assert_ne!(old.history, history);

    // Cut to nothing, which is no state, then grown again.
    fs::write(&feed.path, b"").unwrap();
    daemon.logged("there is no record in it", |line| line.contains("there is no record in it").then_some(()));
    assert_same("a file without records", &old.state, &state(&[("b", "2")]));
    feed.append(&lines(&[put("x", "1")]));
    gone(&mut old).await;
    becomes(&http, &state(&[("x", "1")])).await;
}

#[tokio::test]
async fn a_file_replaced_again_and_again_is_never_taken_for_an_earlier_one() {
    // File systems hand out the numbers of deleted files again, and the beginning of a file may be a header that never
    // changes: neither makes the third file the first.
    let records =
        |n: usize| vec![put("header", "1"), put("n", &n.to_string()), put(&format!("only {n}"), "1")];
    let feed = Feed::of(&records(0));
    let daemon = Daemon::serve(&["--feed", &feed.followed()]);
    let mut mirrors = vec![mirror(&daemon).await];
    let http = daemon.http();
    for n in 1..8 {
        feed.replace(&records(n));
        becomes(&http, &expected(&records(n))).await;
        for old in &mut mirrors {
            // A mirror that is answered checks each answer against its own map, and so tells when it was another file's.
            gone(old).await;
        }
        mirrors.push(mirror(&daemon).await);
    }
    let mut histories: Vec<&str> = mirrors.iter().map(|mirror| &*mirror.history).collect();
    histories.sort_unstable();
    histories.dedup();
    assert_eq!(histories.len(), 8, "each file is a history of its own");
}

/// Where a client's state ends up that goes on from an old daemon's cursor at a new one's, given a change of the file in
/// between.
async fn changed_while_down(before: &[String], after: &[String], change: impl Fn(&Feed)) {
    let feed = Feed::of(before);
    let first = Daemon::serve(&["--feed", &feed.once()]);
    let mut mirror = mirror(&first).await;
    drop(first);
    change(&feed);
    let second = Daemon::serve(&["--feed", &feed.once()]);
    mirror.move_to(ready(&second).await);
    if mirror.next("0").await == Step::Gone {
        mirror.take_current().await;
    }
    assert_same("a client that went on from its cursor", &mirror.state, &expected(after));
}

#[tokio::test]
async fn a_file_replaced_while_the_daemon_was_down_is_a_new_history() {
    let before = [put("header", "1"), put("a", "1"), put("b", "1")];
    let after = [put("header", "1"), put("a", "2"), put("c", "1")];
    changed_while_down(&before, &after, |feed| feed.replace(&after)).await;
    // Replaced twice: the second may well have the first one's number in the file system.
    changed_while_down(&before, &after, |feed| {
        feed.replace(&[put("header", "1")]);
        feed.replace(&after);
    })
    .await;
}

#[tokio::test]
async fn a_file_written_anew_in_place_while_the_daemon_was_down_is_a_new_history() {
    let before = [put("header", "1"), put("a", "1"), put("b", "1")];
    for after in [
        vec![put("other", "1"), put("a", "2"), put("b", "2")],
        vec![put("header", "1"), put("a", "2"), put("b", "2")],
        vec![put("header", "1"), put("a", "2"), put("b", "1"), put("c", "2")],
    ] {
        changed_while_down(&before, &after, |feed| fs::write(&feed.path, lines(&after)).unwrap()).await;
    }
}

#[tokio::test]
async fn a_followed_file_written_anew_in_place_and_longer_is_a_new_history() {
    let before = [put("header", "1"), put("a", "1"), put("b", "1")];
    let after = [put("header", "1"), put("c", "2"), put("d", "2"), put("e", "2")];
    let feed = Feed::of(&before);
    let daemon = Daemon::serve(&["--feed", &feed.followed()]);
    let mut old = mirror(&daemon).await;
    fs::write(&feed.path, lines(&after)).unwrap();
    gone(&mut old).await;
    becomes(&daemon.http(), &expected(&after)).await;
}

/// Asks from an old cursor until it is gone.
async fn gone(old: &mut Mirror) {
    for _ in 0..200 {
        if old.next("100ms").await == Step::Gone {
            return;
        }
    }
    panic!("a cursor of the old file is still good");
}

/// The state of plain puts.
fn expected(records: &[String]) -> State {
    let records = records.iter().map(|record| serde_json::from_str::<serde_json::Value>(record).unwrap());
    records
        .map(|r| (r["key"].as_str().unwrap().into(), Arc::from(r["value"].to_string().into_bytes())))
        .collect()
}

#[tokio::test]
async fn a_snapshot_in_a_file_deletes_the_keys_that_did_not_come_back() {
    let begin = "{\"type\":\"snapshot\"}".to_owned();
    let end = "{\"type\":\"end\"}".to_owned();
    let feed =
        Feed::of(&[put("a", "1"), put("b", "1"), begin.clone(), put("b", "1"), put("c", "1"), end.clone()]);
    let daemon = Daemon::serve(&["--feed", &feed.followed()]);
    let mut mirror = mirror(&daemon).await;
    assert_same("after the snapshot", &mirror.state, &state(&[("b", "1"), ("c", "1")]));

    // Appended to a followed file it is an ordinary delta: cursors stay good, and nothing is deleted before its `end`.
    // Whether the keys that come in it are seen before that is left open.
    feed.append(&lines(&[begin, put("c", "2"), put("d", "1")]));
    mirror.next(&format!("{}ms", A_WHILE.as_millis())).await;
    assert!(mirror.state.contains_key(&b"b"[..]) && mirror.state.contains_key(&b"c"[..]));
    feed.append(&lines(&[deleted("d"), put("e", "1"), end]));
    follow_to(&mut mirror, &state(&[("c", "2"), ("e", "1")])).await;
    for _ in 0..20 {
        if mirror.status == "in-sync" {
            break;
        }
        assert_ne!(mirror.next("1s").await, Step::Gone);
    }
    assert_eq!(mirror.status, "in-sync");
}

#[tokio::test]
async fn a_restart_on_the_same_file_goes_on_from_old_cursors() {
    let feed = Feed::of(&[put("a", "1"), put("b", "1"), deleted("a"), put("c", "1")]);
    let first = Daemon::serve(&["--feed", &feed.followed()]);
    let mut mirror = mirror(&first).await;
    feed.append(&lines(&[put("d", "1")]));
    follow_to(&mut mirror, &state(&[("b", "1"), ("c", "1"), ("d", "1")])).await;
    drop(first);

    let second = Daemon::serve(&["--feed", &feed.followed()]);
    mirror.move_to(ready(&second).await);
    assert_eq!(mirror.next("0").await, Step::Nothing, "nothing is new since the restart");
    feed.append(&lines(&[put("e", "1"), deleted("b")]));
    follow_to(&mut mirror, &state(&[("c", "1"), ("d", "1"), ("e", "1")])).await;
    assert_eq!(mirror.seen.snapshots, 1, "no second snapshot was needed");
    drop(second);

    // What was appended while it was down may be out of the window, but it is never wrong.
    feed.append(&lines(&[put("f", "1"), deleted("c")]));
    let third = Daemon::serve(&["--feed", &feed.once()]);
    mirror.move_to(ready(&third).await);
    if mirror.next("0").await == Step::Gone {
        mirror.take_current().await;
    }
    assert_same("after the second restart", &mirror.state, &state(&[("d", "1"), ("e", "1"), ("f", "1")]));
}

#[tokio::test]
async fn a_client_that_moves_to_another_daemon_on_the_same_file_sees_no_snapshot() {
    let feed = Feed::of(&[put("a", "1"), put("b", "1")]);
    let daemons =
        [Daemon::serve(&["--feed", &feed.followed()]), Daemon::serve(&["--feed", &feed.followed()])];
    let https = [ready(&daemons[0]).await, ready(&daemons[1]).await];
    let mut client = mirror(&daemons[0]).await;
    let mut model = client.state.clone();
    for n in 0..20 {
        let value = n.to_string();
        model.insert(b"a".to_vec(), value.as_bytes().into());
        feed.append(&lines(&[put("a", &value)]));
        for http in &https {
            becomes(http, &model).await;
        }
        client.move_to(https[n % 2].clone());
        follow_to(&mut client, &model).await;
    }
    assert_eq!(client.seen.snapshots, 1);
}

#[tokio::test]
async fn stdin_is_served_as_it_comes() {
    let mut daemon = Daemon::serve_stdin(&["--feed", "stdin:"]);
    let http = daemon.http();
    http.get("/livez").await.ok(200);
    daemon.feed(&lines(&[put("a", "1"), "nonsense".to_owned(), put("b", "1")]));
    let key = |key: &'static str, value: &'static str| {
        let http = http.clone();
        async move {
            eventually(key, || async {
                let got = http.get(&format!("/v1/kv/{key}")).await;
                (got.status == 200 && got.body == value.as_bytes()).then_some(())
            })
            .await;
        }
    };
    key("b", "1").await;
    daemon.logged("line 2", |line| names_line(line, 2).then_some(()));
    daemon.feed(&lines(&[put("b", "2"), put("c", "1")]));
    key("c", "1").await;
    // The end of the feed is not the end of the daemon: what came is served on.
    daemon.feed(&lines(&[put("d", "1"), deleted("a")]));
    daemon.end_of_feed();
    becomes(&http, &state(&[("b", "2"), ("c", "1"), ("d", "1")])).await;
    http.get("/readyz").await.ok(200);
}

#[tokio::test]
async fn what_is_piped_in_is_the_state_once_it_has_ended() {
    let mut workload = Workload::new(43, "", 100);
    let ops: Vec<Op> = (0..1000).map(|_| workload.op()).collect();
    let mut model = State::new();
    ops.iter().for_each(|op| op.apply(&mut model));
    let mut daemon = Daemon::serve_stdin(&["--feed", "stdin:"]);
    daemon.feed(&lines(&ops.iter().map(Op::record).collect::<Vec<_>>()));
    daemon.end_of_feed();
    becomes(&daemon.http(), &model).await;
}
