//! The client as a program uses it: a follower whose waiting may be dropped at any moment, a mirror that other threads
//! read, changes for an application that is slow, other replicas, a state that was kept.
#![allow(clippy::unwrap_used)]

mod support;

use std::sync::Arc;
use std::time::Duration;

use crumbd::client::{
    Client, DEFAULT_SILENCE, EntryChange, Event, Follower, FollowerBuilder, Gap, Mirror, MirrorSnapshot,
};
use crumbd::model::SyncStatus;

use support::daemon::Daemon;
use support::http::Http;
use support::state::{State, assert_same, digest, hex};
use support::tokens::TokenFile;
use support::workload::{Workload, deleted, put};
use support::{eventually, in_time};

/// Both ways to follow.
const WAYS: [fn(FollowerBuilder) -> FollowerBuilder; 2] =
    [|builder| builder, |builder| builder.stream(DEFAULT_SILENCE)];

fn follow(daemon: &Daemon) -> FollowerBuilder {
    Follower::builder(daemon.url()).unwrap()
}

/// Writes batches of changes; returns the last cursor.
async fn write(http: &Http, work: &mut Workload, state: &mut State, batches: usize) -> String {
    let mut last = String::new();
    for _ in 0..batches {
        let batch = work.batch(5);
        batch.iter().for_each(|op| op.apply(state));
        last = http.post(&batch.iter().map(|op| op.record()).collect::<Vec<_>>()).await;
    }
    last
}

fn state_of(snapshot: &MirrorSnapshot) -> State {
    snapshot.iter().map(|entry| (entry.key().to_vec(), entry.value().into())).collect()
}

/// Applies changes to what the application knows. Each must be true against that.
fn take(known: &mut State, changes: &[EntryChange]) {
    for change in changes {
        let before = known.get(change.key()).cloned();
        assert_eq!(before.as_deref(), change.before().map(|entry| entry.value()), "{change:?}");
        match change {
            EntryChange::New(new) | EntryChange::Updated { new, .. } => {
                known.insert(new.key().to_vec(), new.value().into());
            }
            EntryChange::Deleted { old, .. } => _ = known.remove(old.key()),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn waiting_may_be_dropped_at_any_moment_and_nothing_is_lost_or_told_twice() {
    for way in WAYS {
        let daemon = Daemon::push(&[]);
        let (mut work, mut state) = (Workload::new(31, "", 50), State::new());
        write(&daemon.http(), &mut work, &mut state, 5).await;
        let mut follower = way(follow(&daemon)).start();
        let writer = tokio::spawn({
            let http = daemon.http();
            async move {
                let last = write(&http, &mut work, &mut state, 200).await;
                (last, state)
            }
        });
        let (mut known, mut snapshots, mut dropped) = (State::new(), 0, 0);
        let mut expected = None;
        loop {
            // Shorter and longer than an answer takes.
            let patience = Duration::from_micros(fastrand::u64(0..2_000));
            match tokio::time::timeout(patience, follower.next()).await {
                Ok(event) => match event.unwrap() {
                    Event::Changed(changed) => {
                        snapshots += u32::from(changed.snapshot);
                        take(&mut known, &changed.changes);
                        assert_same("the follower's state", &state_of(follower.state()), &known);
                    }
                    other => panic!("{other:?}"),
                },
                Err(_) => dropped += 1,
            }
            if expected.is_none() && writer.is_finished() {
                expected = Some(());
            }
            if expected.is_some() {
                break;
            }
        }
        let (last, state) = writer.await.unwrap();
        while follower.state().cursor().map(|cursor| cursor.to_string()).as_deref() != Some(&last) {
            let changed = in_time("the last change", follower.next_change()).await.unwrap();
            take(&mut known, &changed.changes);
        }
        assert_same("in the end", &known, &state);
        assert_eq!(follower.state().digest().to_string(), hex(digest(&state)));
        assert_eq!(snapshots, 1);
        assert!(dropped > 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mirror_is_read_by_any_thread_and_a_slow_application_gets_joined_changes() {
    for way in WAYS {
        let daemon = Daemon::push(&[]);
        let http = daemon.http();
        let (mut work, mut state) = (Workload::new(32, "", 40), State::new());
        write(&http, &mut work, &mut state, 3).await;
        let mirror = Arc::new(Mirror::start(way(follow(&daemon)).start()));
        in_time("in-sync", mirror.synced()).await.unwrap();
        assert!(mirror.has_synced() && mirror.status() == Some(SyncStatus::InSync));
        assert_same("the first state", &state_of(&mirror.snapshot()), &state);

        let mut changes = mirror.changes();
        let (mut known, mut sets) = (State::new(), 0);
        let kept = (mirror.snapshot(), state.clone());
        // It looks up only now and then: what it is told is joined, and true against what it knew.
        for _ in 0..10 {
            let last = write(&http, &mut work, &mut state, 20).await;
            eventually("the mirror to follow", || async {
                let cursor = mirror.snapshot().cursor()?.to_string();
                (cursor == last).then_some(())
            })
            .await;
            let set = in_time("changes", changes.next()).await.unwrap();
            take(&mut known, &set.changes);
            assert_same("what the application knows", &known, &state_of(&set.state));
            sets += 1;
        }
        assert_same("in the end", &known, &state);
        assert_eq!(sets, 10);
        assert_same("a snapshot that was kept", &state_of(&kept.0), &kept.1);
        let reader = Arc::clone(&mirror);
        let read = std::thread::spawn(move || state_of(&reader.snapshot())).join().unwrap();
        assert_same("of another thread", &read, &state);

        // Nobody holds it any more: its task ends, and so do its changes and its place at the daemon.
        drop(mirror);
        assert!(in_time("the end", changes.next()).await.is_none());
        eventually("its place to be free", || async {
            let status: serde_json::Value =
                serde_json::from_slice(&http.get("/v1/status").await.body).unwrap();
            (status["waiters"] == 0).then_some(())
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_state_that_was_kept_is_continued_without_a_snapshot() {
    for way in WAYS {
        let daemon = Daemon::push(&[]);
        let http = daemon.http();
        http.post(&[put("a", "1"), put("b", "1")]).await;
        let mut follower = way(follow(&daemon)).start();
        assert!(in_time("the state", follower.next_change()).await.unwrap().snapshot);
        let kept = follower.state().clone();
        drop(follower);
        http.post(&[put("a", "2"), deleted("b"), put("c", "1")]).await;

        let entries: Vec<_> = kept.iter().cloned().collect();
        let kept = MirrorSnapshot::of(entries, kept.cursor(), kept.rights()).with_status(kept.status());
        assert_eq!(kept.status(), Some(SyncStatus::InSync));
        let mut follower = way(follow(&daemon)).resume(kept.clone()).start();
        assert_same("before anything is asked", &state_of(follower.state()), &state_of(&kept));
        let changed = in_time("what has changed since", follower.next_change()).await.unwrap();
        assert!(!changed.snapshot);
        let mut known = state_of(&kept);
        take(&mut known, &changed.changes);
        assert_eq!(changed.changes.len(), 3);
        assert_same("after it", &state_of(follower.state()), &known);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_replica_is_asked_when_one_fails_and_goes_on_from_the_cursor() {
    for way in WAYS {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("feed.ndjson");
        std::fs::write(
            &path,
            "{\"type\":\"put\",\"key\":\"a\",\"value\":1}\n{\"type\":\"status\",\"status\":\"in-sync\"}\n",
        )
        .unwrap();
        let feed = format!("file:{}?follow=true", path.display());
        let mut first = Daemon::serve(&["--feed", &feed]);
        let second = Daemon::serve(&["--feed", &feed]);
        for daemon in [&first, &second] {
            let http = daemon.http();
            eventually("ready", || async { (http.get("/readyz").await.status == 200).then_some(()) }).await;
        }
        let urls = format!("{},{}", first.url(), second.url());
        let mut follower = way(Follower::builder(&urls).unwrap()).start();
        assert!(in_time("the state", follower.next_change()).await.unwrap().snapshot);
        first.signal("KILL");
        _ = first.wait_exit();
        let mut file = std::fs::OpenOptions::new().append(true).open(&path).unwrap();
        std::io::Write::write_all(&mut file, b"{\"type\":\"put\",\"key\":\"b\",\"value\":2}\n").unwrap();
        let changed = in_time("the change of the other one", follower.next_change()).await.unwrap();
        assert!(!changed.snapshot && changed.changes.len() == 1, "{changed:?}");
    }
}

/// A follower that was told two keys, and the daemon that has lost them.
async fn after_a_loss(way: fn(FollowerBuilder) -> FollowerBuilder) -> (Daemon, Follower) {
    let listen = format!("127.0.0.1:{}", support::etcd::free_port());
    let serve = || Daemon::serve(&["--feed", "push:", "--listen", &listen]);
    let mut daemon = serve();
    daemon.http().post(&[put("a", "1"), put("b", "1")]).await;
    let mut follower = way(follow(&daemon)).start();
    in_time("the state", follower.next_change()).await.unwrap();
    daemon.signal("KILL");
    _ = daemon.wait_exit();
    (serve(), follower)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_state_in_place_of_one_with_keys_is_held_until_the_application_agrees() {
    for way in WAYS {
        let (daemon, mut follower) = after_a_loss(way).await;
        loop {
            match in_time("that it is held", follower.next()).await.unwrap() {
                Event::Held { keys } => {
                    assert_eq!(keys, 2);
                    break;
                }
                Event::Retry(_) | Event::Unchanged => {}
                Event::Changed(changed) => panic!("{changed:?}"),
            }
        }
        assert_eq!(follower.state().len(), 2);
        follower.allow_empty(true);
        let changed = in_time("the deletions", follower.next_change()).await.unwrap();
        assert!(changed.changes.len() == 2 && follower.state().is_empty());
        // What is deleted by an ordinary change is believed at once.
        follower.allow_empty(false);
        daemon.http().post(&[put("c", "1")]).await;
        in_time("a key", follower.next_change()).await.unwrap();
        daemon.http().post(&[deleted("c")]).await;
        let changed = in_time("its deletion", follower.next_change()).await.unwrap();
        assert!(changed.changes.len() == 1 && follower.state().is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_key_after_an_empty_state_is_heard_without_another_reading() {
    for way in WAYS {
        let (daemon, mut follower) = after_a_loss(way).await;
        while !matches!(in_time("that it is held", follower.next()).await.unwrap(), Event::Held { keys: 2 }) {
        }
        daemon.http().post(&[put("b", "2")]).await;
        let changed = in_time("the difference", follower.next_change()).await.unwrap();
        assert!(changed.snapshot && changed.gap == Some(Gap::CursorGone), "{changed:?}");
        assert_eq!((changed.changes.len(), follower.state().len()), (2, 1));
        let metrics = String::from_utf8(daemon.http().get("/metrics").await.ok(200).plain()).unwrap();
        let states = metrics
            .lines()
            .filter(|line| line.starts_with("crumbd_answers_total") && line.contains("reason=\"current\""));
        let number = |line: &str| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap();
        assert!(states.map(number).sum::<f64>() <= 1.0, "{metrics}");
    }
}

#[tokio::test]
async fn what_cannot_succeed_is_an_error_and_is_asked_again_when_it_is_mended() {
    let mut tokens = TokenFile::new();
    let token = tokens.add(&[], &[""]);
    tokens.save();
    let daemon = tokens.daemon(&[]);
    let client = Client::new(daemon.url()).unwrap().with_token(&token.text).unwrap();
    let mut follower = Follower::of(client).start();
    let error = in_time("a refusal", follower.next()).await.unwrap_err();
    assert!(error.to_string().contains("403"), "{error}");
    tokens.change(&token, Some(&[""]));
    tokens.save();
    loop {
        match in_time("an answer", follower.next()).await {
            Ok(Event::Changed(changed)) => break assert!(changed.snapshot),
            Ok(other) => panic!("{other:?}"),
            // Asked before the rights were there.
            Err(error) => assert!(error.to_string().contains("403"), "{error}"),
        }
    }
}
