//! `crumbd follow`, by long polls and over a stream. Its output adds up to the state, whatever happens to the daemon, the
//! network and the rights of its token. It prints nothing twice.
#![allow(clippy::unwrap_used)]

#[path = "../support/mod.rs"]
mod support;

use std::fs;
use std::io::Write as _;
use std::path::Path;

use support::daemon::Daemon;
use support::etcd::{Net, Proxy, free_port};
use support::eventually;
use support::following::Following;
use support::http::{Http, lines};
use support::state::State;
use support::tokens::TokenFile;
use support::workload::{Op, Workload, deleted, put};

/// Both ways to follow.
const WAYS: [&[&str]; 2] = [&[], &["--stream"]];

async fn ready(http: &Http) {
    let ready =
        || async { (http.try_send("GET", "/readyz", &[], None).await.ok()?.status == 200).then_some(()) };
    eventually("the daemon to be ready", ready).await;
}

fn append(path: &Path, state: &mut State, ops: &[Op]) {
    let records: Vec<String> = ops.iter().map(Op::record).collect();
    fs::OpenOptions::new().append(true).open(path).unwrap().write_all(&lines(&records)).unwrap();
    ops.iter().for_each(|op| op.apply(state));
}

fn state_of(pairs: &[(&str, &str)]) -> State {
    pairs.iter().map(|(key, value)| (key.as_bytes().to_vec(), value.as_bytes().into())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn it_goes_on_from_where_it_was_when_the_daemon_is_killed_and_restarted() {
    for way in WAYS {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("feed.ndjson");
        let (mut work, mut state) = (Workload::new(21, "", 60), State::new());
        fs::write(&path, "").unwrap();
        append(&path, &mut state, &work.batch(200));
        let (feed, listen) =
            (format!("file:{}?follow=true", path.display()), format!("127.0.0.1:{}", free_port()));
        let start = || Daemon::serve(&["--feed", &feed, "--listen", &listen, "--heartbeat", "100ms"]);
        let mut daemon = start();
        ready(&daemon.http()).await;
        let following = Following::start(daemon.url(), &[&["--all"], way].concat(), None);
        following.reaches(&state).await;
        for restart in 0..4 {
            for _ in 0..10 {
                append(&path, &mut state, &work.batch(10));
                if restart % 2 == 0 {
                    following.reaches(&state).await;
                }
            }
            // By SIGKILL when it is dropped.
            if restart == 3 {
                daemon.terminate();
                assert!(daemon.wait_exit().success());
            }
            drop(daemon);
            append(&path, &mut state, &work.batch(40));
            daemon = start();
            append(&path, &mut state, &work.batch(40));
            following.reaches(&state).await;
        }
        let said = following.said();
        assert!(!said.contains("read again"), "its cursor was good all the time: {said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_continued_is_told_as_a_difference() {
    for way in WAYS {
        let listen = format!("127.0.0.1:{}", free_port());
        let daemon = Daemon::push(&["--listen", &listen]);
        daemon.http().post(&[put("a", "1"), put("b", "1"), put("c", "1")]).await;
        let following = Following::start(daemon.url(), &[&["--all"], way].concat(), None);
        following.reaches(&state_of(&[("a", "1"), ("b", "1"), ("c", "1")])).await;
        drop(daemon);
        // Nothing is kept, so this is another history.
        let daemon = Daemon::push(&["--listen", &listen]);
        daemon.http().post(&[put("b", "1"), put("c", "2"), put("d", "2")]).await;
        following.reaches(&state_of(&[("b", "1"), ("c", "2"), ("d", "2")])).await;
        following.says("the cursor was gone; the state was read again").await;
        assert_eq!(following.printed(|line| line.contains("\"b\"")), 1, "what is the same is not told again");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_falls_silent_is_given_up_and_another_one_goes_on() {
    let daemon = Daemon::push(&["--heartbeat", "100ms"]);
    let http = daemon.http();
    http.post(&[put("a", "1")]).await;
    let net = Proxy::before(daemon.url().strip_prefix("http://").unwrap().to_owned()).await;
    let url = format!("http://{}", net.endpoint());
    let following = Following::start(&url, &["--all", "--stream", "--silence", "1s"], None);
    following.reaches(&state_of(&[("a", "1")])).await;
    net.set(Net::Silent);
    http.post(&[put("a", "2"), put("b", "2")]).await;
    following.says("has said nothing for 1 s").await;
    net.set(Net::Open);
    following.reaches(&state_of(&[("a", "2"), ("b", "2")])).await;
    net.set(Net::Cut);
    http.post(&[deleted("a")]).await;
    following.says("trying again").await;
    net.set(Net::Open);
    following.reaches(&state_of(&[("b", "2")])).await;
    assert!(!following.said().contains("read again"), "{}", following.said());
}

/// Longer than it takes for silence to count, a quiet daemon is known to be there.
#[tokio::test(flavor = "multi_thread")]
async fn heartbeats_keep_a_quiet_stream() {
    let daemon = Daemon::push(&["--heartbeat", "100ms"]);
    let http = daemon.http();
    http.post(&[put("a", "1")]).await;
    let following = Following::start(daemon.url(), &["--all", "--stream", "--silence", "1s"], None);
    following.reaches(&state_of(&[("a", "1")])).await;
    tokio::time::sleep(std::time::Duration::from_secs(3)).await;
    http.post(&[put("a", "2")]).await;
    following.reaches(&state_of(&[("a", "2")])).await;
    assert_eq!(following.said().lines().count(), 1, "{}", following.said());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_rights_is_another_state_and_leaves_no_holes() {
    for way in WAYS {
        let dir = tempfile::tempdir().unwrap();
        let (state_dir, listen) = (dir.path().to_str().unwrap(), format!("127.0.0.1:{}", free_port()));
        let mut file = TokenFile::new();
        let (all, some) = (file.add(&[""], &[""]), file.add(&["a/"], &[]));
        let mut daemon = file.daemon(&["--listen", &listen, "--state-dir", state_dir]);
        let http = all.http(&daemon);
        http.post(&[put("a/1", "1"), put("b/1", "1"), put("c/1", "1")]).await;
        let following = Following::start(daemon.url(), &[&["--all"], way].concat(), Some(&some.text));
        following.reaches(&state_of(&[("a/1", "1")])).await;

        // While it waits.
        file.change(&some, Some(&["a/", "b/"]));
        file.save();
        following.reaches(&state_of(&[("a/1", "1"), ("b/1", "1")])).await;
        following.says("what this token may read has changed; the state was read again").await;

        // While it cannot be told.
        daemon.terminate();
        assert!(daemon.wait_exit().success());
        following.says("trying again").await;
        file.change(&some, Some(&["b/", "c/"]));
        daemon = file.daemon(&["--listen", &listen, "--state-dir", state_dir]);
        following.reaches(&state_of(&[("b/1", "1"), ("c/1", "1")])).await;
        let told = |said: String| said.matches("what this token may read has changed").count();
        eventually("the reason", || async { (told(following.said()) == 2).then_some(()) }).await;
        all.http(&daemon).post(&[put("c/2", "2"), put("a/1", "2")]).await;
        following.reaches(&state_of(&[("b/1", "1"), ("c/1", "1"), ("c/2", "2")])).await;
        assert_eq!(following.printed(|line| line.contains("b/1")), 1, "what is the same is not told again");
    }
}
