//! A path without a file, for a moment or for good.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use super::support::daemon::Daemon;
use super::support::eventually;
use super::support::http::{Http, lines};
use super::support::mirror::Step;
use super::support::workload::put;
use super::{Feed, becomes, follow_to, mirror, state};

async fn status_is(http: &Http, wanted: &str) {
    eventually(wanted, || async { (http.get("/v1/status").await.json()["status"] == wanted).then_some(()) })
        .await;
}

fn make_pipe(path: &Path) {
    assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
}

#[tokio::test]
async fn a_path_that_is_broken_for_a_moment_is_waited_for_and_said_once() {
    type Break = (&'static str, fn(&Path));
    let breaks: [Break; 5] = [
        ("it does not exist", |_| {}),
        ("Not a directory", |dir| fs::write(dir, b"").unwrap()),
        ("Too many levels of symbolic links", |dir| symlink(dir, dir).unwrap()),
        ("it is a directory", |dir| fs::create_dir_all(dir.join("feed.ndjson")).unwrap()),
        ("it is a pipe", |dir| {
            fs::create_dir(dir).unwrap();
            make_pipe(&dir.join("feed.ndjson"));
        }),
    ];
    for (said, make) in breaks {
        let feed = Feed::of(&[put("a", "1")]);
        let (dir, aside) = (feed.dir.path().join("in"), feed.dir.path().join("aside"));
        fs::create_dir(&dir).unwrap();
        let path = dir.join("feed.ndjson");
        fs::rename(&feed.path, &path).unwrap();
        let daemon = Daemon::serve(&["--feed", &format!("file:{}?follow=true", path.display())]);
        let mut client = mirror(&daemon).await;
        let http = daemon.http();
        fs::rename(&dir, &aside).unwrap();
        make(&dir);
        daemon.logged(said, |line| line.contains(said).then_some(()));
        status_is(&http, "resync-in-progress").await;
        http.get("/v1/kv/a").await.ok(200);
        let problem = http.get("/v1/status").await.json()["feed_problem"].to_string();
        assert!(problem.contains(said), "{problem}");

        if fs::symlink_metadata(&dir).is_ok_and(|meta| meta.is_dir()) {
            fs::remove_dir_all(&dir).unwrap();
        } else if fs::symlink_metadata(&dir).is_ok() {
            fs::remove_file(&dir).unwrap();
        }
        fs::rename(&aside, &dir).unwrap();
        status_is(&http, "in-sync").await;
        assert_eq!(daemon.log().matches(said).count(), 1, "{}", daemon.log());
        let appended = fs::OpenOptions::new().append(true).open(&path);
        std::io::Write::write_all(&mut appended.unwrap(), &lines(&[put("b", "1")])).unwrap();
        follow_to(&mut client, &state(&[("a", "1"), ("b", "1")])).await;
        assert_ne!(client.next("0").await, Step::Gone);
    }
}

#[tokio::test]
async fn a_followed_file_that_is_out_of_reach_at_the_start_is_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("in/feed.ndjson");
    fs::write(dir.path().join("in"), b"").unwrap();
    let daemon = Daemon::serve(&["--feed", &format!("file:{}?follow=true", path.display())]);
    let said = "Not a directory";
    daemon.logged(said, |line| line.contains(said).then_some(()));
    daemon.http().get("/readyz").await.ok(503);
    fs::remove_file(dir.path().join("in")).unwrap();
    fs::create_dir(dir.path().join("in")).unwrap();
    fs::write(&path, lines(&[put("a", "1")])).unwrap();
    daemon.http().get("/readyz?wait=20s").await.ok(200);
    becomes(&daemon.http(), &state(&[("a", "1")])).await;
}

#[test]
fn what_is_no_file_is_refused_at_the_start_and_the_refusal_says_what_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let pipe = dir.path().join("pipe");
    make_pipe(&pipe);
    let directory = dir.path().to_str().unwrap();
    for (path, said) in [
        (pipe.to_str().unwrap(), "it is a pipe, not a file: read it with `--feed stdin:`"),
        (directory, "it is a directory"),
        ("/dev/null", "it is a device"),
    ] {
        for follow in ["", "?follow=true"] {
            let ended = Daemon::serve_and_end(&["--feed", &format!("file:{path}{follow}")]);
            assert!(!ended.status.success(), "{}", ended.status);
            assert!(ended.stderr.contains(said) && ended.stderr.contains(path), "{}", ended.stderr);
        }
    }
}
