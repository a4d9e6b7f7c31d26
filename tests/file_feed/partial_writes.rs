//! A half-written file deletes nothing, and is never in-sync.

use std::fs::{self, File, OpenOptions};
use std::io::Write as _;

use super::support::daemon::Daemon;
use super::support::eventually;
use super::support::http::{Http, lines};
use super::support::mirror::{Coding, Media, Mirror, Step};
use super::support::state::{State, assert_same};
use super::support::workload::put;
use super::{Feed, becomes, expected, follow_to, mirror, ready, state};

fn many(value: &str) -> Vec<String> {
    (0..300).map(|n| put(&format!("k{n:03}"), value)).collect()
}

fn says(daemon: &Daemon, what: &str) {
    daemon.logged(what, |line| line.contains(what).then_some(()));
}

/// How often it is said.
fn times(daemon: &Daemon, what: &str) -> usize {
    daemon.log().lines().filter(|line| line.contains(what)).count()
}

async fn status_is(http: &Http, wanted: &str) {
    eventually(wanted, || async { (http.get("/v1/status").await.json()["status"] == wanted).then_some(()) })
        .await;
}

async fn current(http: Http) -> Mirror {
    Mirror::of(http, Media::Json, Coding::Identity).await
}

#[tokio::test]
async fn a_last_line_without_its_line_break_counts_at_the_start_and_after_an_append() {
    let feed = Feed::of(&[put("a", "1")]);
    feed.append(put("b", "1").as_bytes());
    for feed_name in [feed.once(), feed.followed()] {
        let daemon = Daemon::serve(&["--feed", &feed_name]);
        let mirror = mirror(&daemon).await;
        assert_same(&feed_name, &mirror.state, &state(&[("a", "1"), ("b", "1")]));
    }
    let daemon = Daemon::serve(&["--feed", &feed.followed()]);
    let mut mirror = mirror(&daemon).await;
    feed.append(b"\n");
    feed.append(put("c", "1").as_bytes());
    follow_to(&mut mirror, &state(&[("a", "1"), ("b", "1"), ("c", "1")])).await;
    feed.append(&[b"\r\n".to_vec(), lines(&[put("d", "1")])].concat());
    follow_to(&mut mirror, &state(&[("a", "1"), ("b", "1"), ("c", "1"), ("d", "1")])).await;
    let status = daemon.http().get("/v1/status").await.json();
    assert_eq!((&status["ingest"]["malformed"], &status["revision"]), (&0.into(), &4.into()), "{status}");
}

#[tokio::test]
async fn a_last_line_that_was_counted_and_goes_on_is_read_anew() {
    let feed = Feed::of(&[put("a", "1")]);
    feed.append(put("b", "1").as_bytes());
    let daemon = Daemon::serve(&["--feed", &feed.followed()]);
    mirror(&daemon).await;
    feed.append(b" and more\n");
    becomes(&daemon.http(), &state(&[("a", "1")])).await;
    // The line names its key: what it says of it cannot be read, and what it said before is not true any more.
    let status = daemon.http().get("/v1/status").await.json();
    assert_eq!(status["refused"]["keys"][0]["key"], "b", "{status}");
}

#[tokio::test]
async fn a_file_that_stalls_in_the_middle_of_a_line_deletes_nothing() {
    let feed = Feed::of(&many("1"));
    let daemon = Daemon::serve(&["--feed", &feed.followed()]);
    let before = mirror(&daemon).await;
    let (http, whole) = (daemon.http(), lines(&many("2")));
    let aside = feed.dir.path().join("aside");
    let mut writer = File::create(&aside).unwrap();
    writer.write_all(&whole[..8190]).unwrap();
    assert_ne!(whole[8189], b'\n');
    fs::rename(&aside, &feed.path).unwrap();
    says(&daemon, "it ends in the middle of line");
    let now = current(http.clone()).await;
    assert_same("while the writer stalls", &now.state, &before.state);
    assert_eq!(now.status, "resync-in-progress");
    let problem = http.get("/v1/status").await.json()["feed_problem"].to_string();
    assert!(problem.contains("in the middle of line"), "{problem}");
    writer.write_all(&whole[8190..]).unwrap();
    becomes(&http, &expected(&many("2"))).await;
    assert_eq!(times(&daemon, "it ends in the middle of line"), 1);
    assert_eq!(http.get("/v1/status").await.json()["feed_problem"], serde_json::Value::Null);
}

#[tokio::test]
async fn a_followed_file_that_is_cut_at_the_start_is_not_in_sync_until_the_rest_comes() {
    let feed = Feed::of(&[put("a", "1")]);
    let late = put("b", "1");
    feed.append(&late.as_bytes()[..10]);
    let daemon = Daemon::serve(&["--feed", &feed.followed()]);
    says(&daemon, "it ends in the middle of line 2");
    let http = daemon.http();
    http.get("/readyz").await.ok(503);
    feed.append(&late.as_bytes()[10..]);
    becomes(&http, &state(&[("a", "1"), ("b", "1")])).await;
    http.get("/readyz").await.ok(200);
}

#[tokio::test]
async fn a_cut_or_empty_file_that_is_read_once_deletes_nothing_of_what_was_kept() {
    let feed = Feed::of(&many("1"));
    let kept = feed.dir.path().join("state");
    let args = |feed: &Feed| {
        ["--feed", &feed.once(), "--state-dir", kept.to_str().unwrap(), "--state-interval", "20ms"]
            .map(str::to_owned)
    };
    let start = |feed: &Feed| {
        let args = args(feed);
        Daemon::serve(&args.each_ref().map(String::as_str))
    };
    let first = start(&feed);
    mirror(&first).await;
    first.terminate();
    { first }.wait_exit();
    for content in [&lines(&many("1"))[..8190], b""] {
        fs::write(&feed.path, content).unwrap();
        let daemon = start(&feed);
        says(&daemon, "is not whole and not followed");
        let now = current(daemon.http()).await;
        assert_same("what was kept", &now.state, &expected(&many("1")));
        assert_eq!(now.status, "resync-in-progress");
    }
}

#[tokio::test]
async fn an_empty_file_is_no_state_but_an_empty_snapshot_is_one() {
    let feed = Feed::of(&many("1"));
    let daemon = Daemon::serve(&["--feed", &feed.followed()]);
    let before = mirror(&daemon).await;
    for content in [&b""[..], b"\n\n  \n", b"<html>\n"] {
        fs::write(&feed.path, content).unwrap();
        says(&daemon, "there is no record in it");
        status_is(&daemon.http(), "resync-in-progress").await;
        assert_same("no record", &current(daemon.http()).await.state, &before.state);
    }
    fs::write(&feed.path, b"{\"type\":\"snapshot\"}\n{\"type\":\"end\"}\n").unwrap();
    becomes(&daemon.http(), &State::new()).await;
}

#[tokio::test]
async fn a_snapshot_or_breadcrumb_without_its_end_is_said_and_not_in_sync() {
    for what in ["snapshot", "breadcrumb"] {
        let feed = Feed::of(&[put("a", "1")]);
        let daemon = Daemon::serve(&["--feed", &feed.followed()]);
        let mut client = mirror(&daemon).await;
        let http = daemon.http();
        feed.append(&lines(&[format!("{{\"type\":\"{what}\"}}"), put("b", "1")]));
        let said = format!("the `{what}` that begins at line 2 has no `end` yet");
        says(&daemon, &said);
        status_is(&http, "resync-in-progress").await;
        client.next("0").await;
        assert_same("nothing yet", &client.state, &state(&[("a", "1")]));
        feed.append(&lines(&[put("a", "2"), "{\"type\":\"end\"}".to_owned()]));
        becomes(&http, &state(&[("a", "2"), ("b", "1")])).await;
        assert_eq!(times(&daemon, &said), 1);
        while client.status != "in-sync" {
            assert_ne!(client.next("1s").await, Step::Gone, "it is an ordinary delta");
        }
    }
}

#[tokio::test]
async fn a_problem_that_another_one_took_the_place_of_is_over_when_that_is() {
    let feed = Feed::of(&[put("a", "1")]);
    let daemon = Daemon::serve(&["--feed", &feed.followed()]);
    status_is(&daemon.http(), "in-sync").await;
    feed.append(&lines(&["{\"type\":\"snapshot\"}".to_owned(), put("a", "2")]));
    says(&daemon, "has no `end` yet");
    // Without any record, and not for so long that this is said.
    fs::write(&feed.path, b"\n").unwrap();
    says(&daemon, "reading it again");
    fs::write(&feed.path, lines(&[put("b", "1")])).unwrap();
    becomes(&daemon.http(), &state(&[("b", "1")])).await;
    status_is(&daemon.http(), "in-sync").await;
    let problem = || async { daemon.http().get("/v1/status").await.ok(200).json()["feed_problem"].clone() };
    crate::support::eventually("the problem to be over", || async {
        problem().await.is_null().then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_file_written_slowly_in_place_is_served_when_it_is_whole() {
    let feed = Feed::of(&many("1"));
    let daemon = Daemon::serve(&["--feed", &feed.followed()]);
    let before = mirror(&daemon).await;
    let whole = lines(&many("2"));
    let mut file = OpenOptions::new().write(true).truncate(true).open(&feed.path).unwrap();
    let http = daemon.http();
    // In pieces that end within lines, each of them seen by the daemon or not.
    for piece in whole.chunks(1009) {
        file.write_all(piece).unwrap();
        let now = current(http.clone()).await;
        let whole_file = file.metadata().unwrap().len() == whole.len() as u64;
        assert!(whole_file || now.state == before.state, "a part of the file is served");
    }
    becomes(&http, &expected(&many("2"))).await;
}

#[tokio::test]
async fn a_byte_order_mark_carriage_returns_and_holes_cost_no_record() {
    let feed = Feed::of(&[put("a", "1")]);
    let text =
        [b"\xef\xbb\xbf".to_vec(), format!("{}\r\n{}\r\n", put("a", "1"), put("b", "1")).into()].concat();
    fs::write(&feed.path, &text).unwrap();
    let daemon = Daemon::serve(&["--feed", &feed.followed()]);
    assert_same("mark", &mirror(&daemon).await.state, &state(&[("a", "1"), ("b", "1")]));
    assert_eq!(daemon.http().get("/v1/status").await.json()["ingest"]["malformed"], 0);

    // Room is made first, and filled later.
    let whole = lines(&[put("c", "1"), put("d", "1")]);
    let file = OpenOptions::new().write(true).truncate(true).open(&feed.path).unwrap();
    file.set_len(whole.len() as u64).unwrap();
    says(&daemon, "it ends in the middle of line 1");
    assert_same("a hole", &current(daemon.http()).await.state, &state(&[("a", "1"), ("b", "1")]));
    std::os::unix::fs::FileExt::write_all_at(&file, &whole, 0).unwrap();
    becomes(&daemon.http(), &state(&[("c", "1"), ("d", "1")])).await;
    ready(&daemon).await;
}
