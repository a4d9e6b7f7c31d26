//! A file has changed if its content has: its length, times and inode do not matter.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::time::SystemTime;

use super::support::daemon::Daemon;
use super::support::http::lines;
use super::support::mirror::Step;
use super::support::state::assert_same;
use super::support::workload::put;
use super::{Feed, becomes, expected, follow_to, gone, mirror, ready};

fn numbered(first: &str) -> Vec<String> {
    (0..20).map(|n| put(&format!("k{n:02}"), if n == 0 { first } else { "\"same\"" })).collect()
}

#[tokio::test]
async fn a_rewrite_in_place_of_the_same_length_is_seen() {
    let feed = Feed::of(&numbered("1"));
    let daemon = Daemon::serve(&["--feed", &feed.followed()]);
    let mut old = mirror(&daemon).await;
    let after = numbered("2");
    fs::write(&feed.path, lines(&after)).unwrap();
    gone(&mut old).await;
    becomes(&daemon.http(), &expected(&after)).await;

    // One byte, and the time of the last change is set back.
    let before = fs::metadata(&feed.path).unwrap();
    let file = OpenOptions::new().write(true).open(&feed.path).unwrap();
    let at = lines(&after).iter().position(|&byte| byte == b'2').unwrap();
    file.write_all_at(b"3", at as u64).unwrap();
    file.set_modified(before.modified().unwrap()).unwrap();
    assert_eq!(file.metadata().unwrap().len(), before.len());
    becomes(&daemon.http(), &expected(&numbered("3"))).await;
}

#[tokio::test]
async fn a_longer_rewrite_in_place_with_the_same_last_lines_is_seen() {
    let feed = Feed::of(&numbered("1"));
    let daemon = Daemon::serve(&["--feed", &feed.followed()]);
    mirror(&daemon).await;
    let mut after = numbered("2");
    after.extend(["x", "y", "z"].map(|key| put(key, "1")));
    fs::write(&feed.path, lines(&after)).unwrap();
    becomes(&daemon.http(), &expected(&after)).await;
}

/// Follows appends that come after changes that were none, and fails at any other answer.
async fn goes_on_after(change: impl Fn(&Feed, &[String])) {
    let mut records = numbered("1");
    let feed = Feed::of(&records);
    let daemon = Daemon::serve(&["--feed", &feed.followed()]);
    let mut mirror = mirror(&daemon).await;
    let history = mirror.history.clone();
    for n in 0..3 {
        change(&feed, &records);
        records.push(put(&format!("new {n}"), "1"));
        feed.append(&lines(&records[records.len() - 1..]));
        follow_to(&mut mirror, &expected(&records)).await;
        assert_eq!((&*mirror.history, &*mirror.status), (&*history, "in-sync"));
    }
    assert_eq!(mirror.seen.snapshots, 1);
    let status = daemon.http().get("/v1/status").await.json();
    assert_eq!(status["ingest"]["resyncs"], 0, "{status}");
}

#[tokio::test]
async fn the_same_content_renamed_into_place_changes_nothing() {
    goes_on_after(|feed, records| feed.replace(records)).await;
}

#[tokio::test]
async fn the_same_content_written_in_place_changes_nothing() {
    goes_on_after(|feed, records| fs::write(&feed.path, lines(records)).unwrap()).await;
    goes_on_after(|feed, _| {
        OpenOptions::new().write(true).open(&feed.path).unwrap().set_modified(SystemTime::now()).unwrap();
    })
    .await;
}

#[tokio::test]
async fn a_longer_file_renamed_into_place_that_begins_with_the_old_one_is_an_append() {
    let mut records = numbered("1");
    let feed = Feed::of(&records);
    let daemon = Daemon::serve(&["--feed", &feed.followed()]);
    let mut mirror = mirror(&daemon).await;
    records.push(put("one more", "1"));
    feed.replace(&records);
    follow_to(&mut mirror, &expected(&records)).await;
    assert_eq!(mirror.seen.snapshots, 1);
}

#[tokio::test]
async fn daemons_agree_on_a_file_whatever_was_renamed_into_its_place_before_they_started() {
    let records = numbered("1");
    let feed = Feed::of(&records);
    let first = Daemon::serve(&["--feed", &feed.followed()]);
    let mut old = mirror(&first).await;
    feed.replace(&records);
    let second = Daemon::serve(&["--feed", &feed.followed()]);
    let http = ready(&second).await;
    let mut new = mirror(&second).await;
    old.move_to(http);
    new.move_to(first.http());
    for mirror in [&mut old, &mut new] {
        assert_eq!(mirror.next("0").await, Step::Nothing);
    }
    let more = [put("more", "1")];
    feed.append(&lines(&more));
    let after = expected(&[&records[..], &more[..]].concat());
    for mirror in [&mut old, &mut new] {
        follow_to(mirror, &after).await;
        assert_eq!(mirror.seen.snapshots, 1, "no second snapshot was needed");
    }
    // Another content, and both are told so by either.
    let other = numbered("7");
    feed.replace(&other);
    for daemon in [&first, &second] {
        becomes(&daemon.http(), &expected(&other)).await;
    }
    for mirror in [&mut old, &mut new] {
        gone(mirror).await;
    }
}

#[tokio::test]
async fn a_symlink_that_is_swapped_leads_to_the_new_content() {
    let dir = tempfile::tempdir().unwrap();
    let (one, two) = (numbered("1"), numbered("2"));
    for (name, records) in [("..1", &one), ("..2", &one), ("..3", &two)] {
        fs::create_dir(dir.path().join(name)).unwrap();
        fs::write(dir.path().join(name).join("feed"), lines(records)).unwrap();
    }
    let point_to = |name: &str| {
        std::os::unix::fs::symlink(name, dir.path().join("..tmp")).unwrap();
        fs::rename(dir.path().join("..tmp"), dir.path().join("..data")).unwrap();
    };
    point_to("..1");
    std::os::unix::fs::symlink("..data/feed", dir.path().join("feed")).unwrap();
    let daemon = Daemon::serve(&["--feed", &format!("file:{}/feed?follow=true", dir.path().display())]);
    let mut mirror = mirror(&daemon).await;
    point_to("..2");
    fs::remove_dir_all(dir.path().join("..1")).unwrap();
    point_to("..3");
    becomes(&daemon.http(), &expected(&two)).await;
    gone(&mut mirror).await;
}

#[tokio::test]
async fn a_file_that_shrinks_by_its_last_line_break_has_the_same_state() {
    let records = numbered("1");
    let feed = Feed::of(&records);
    let daemon = Daemon::serve(&["--feed", &feed.followed()]);
    let mirror = mirror(&daemon).await;
    let file: File = OpenOptions::new().write(true).open(&feed.path).unwrap();
    file.set_len(file.metadata().unwrap().size() - 1).unwrap();
    daemon.logged("read anew", |line| line.contains("resync finished").then_some(()));
    becomes(&daemon.http(), &expected(&records)).await;
    assert_same("before", &mirror.state, &expected(&records));
}
