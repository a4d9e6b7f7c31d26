//! A large first snapshot for several kinds of clients at once: all of them get the whole state, and go on.
#![allow(clippy::unwrap_used)]

mod support;

use std::io::Write as _;

use support::daemon::Daemon;
use support::eventually;
use support::mirror::{Coding, Media, Mirror};
use support::state::{State, assert_same, digest, hex};
use support::workload::put;

const KEYS: usize = 200_000;

const CLIENTS: usize = 10;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_thousand_keys_reach_ten_clients_and_one_that_keeps_record() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("feed.ndjson");
    let mut state = State::new();
    let mut text = String::new();
    for number in 0..KEYS {
        let (key, value) =
            (format!("pods/default/pod-{number:06}"), format!("{{\"node\":{}}}", number % 250));
        text += &put(&key, &value);
        text.push('\n');
        state.insert(key.into_bytes(), value.into_bytes().into());
    }
    std::fs::write(&path, text).unwrap();
    let daemon = Daemon::serve(&["--feed", &format!("file:{}?follow=true", path.display())]);
    let http = daemon.http();
    let ready = || async { (http.get("/readyz").await.status == 200).then_some(()) };
    eventually("the state to be there", ready).await;

    let ways =
        [(Media::Bincode, Coding::Zstd), (Media::Ndjson, Coding::Identity), (Media::Bincode, Coding::Gzip)];
    let clients: Vec<_> = (0..CLIENTS)
        .map(|number| {
            let (media, coding) = ways[number % ways.len()];
            tokio::spawn(Mirror::of(daemon.http(), media, coding))
        })
        .collect();
    let mut recorder = Mirror::of(daemon.http(), Media::Json, Coding::Identity).await;
    assert_same("the recorder", &recorder.state, &state);
    assert_eq!(recorder.status, "in-sync");
    let mut mirrors = Vec::new();
    for client in clients {
        let mirror = client.await.unwrap();
        // It has compared count and digest with what it was told.
        assert_same("a client", &mirror.state, &state);
        assert_eq!((mirror.seen.snapshots, &mirror.cursor), (1, &recorder.cursor));
        mirrors.push(mirror);
    }
    let status = http.get("/v1/status").await.json();
    let told = (status["count"].as_u64(), status["digest"].as_str());
    assert_eq!(told, (Some(KEYS as u64), Some(&*hex(digest(&state)))));

    // One change more reaches them all, and needs no other snapshot.
    let mut feed = std::fs::OpenOptions::new().append(true).open(&path).unwrap();
    writeln!(feed, "{}", put("the/last", "1")).unwrap();
    state.insert(b"the/last".to_vec(), b"1"[..].into());
    recorder.follow_until("the last key", |mirror| mirror.state.len() == KEYS + 1).await;
    assert_same("the recorder", &recorder.state, &state);
    for mut mirror in mirrors {
        mirror.follow_until("the last key", |mirror| mirror.state.len() == KEYS + 1).await;
        assert_eq!((mirror.seen.snapshots, &mirror.cursor), (1, &recorder.cursor));
    }
}
