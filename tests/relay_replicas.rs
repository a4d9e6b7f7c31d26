//! A relay of one of several replicas: it continues the cursors that the other replicas of the same etcd have given.
#![allow(clippy::unwrap_used)]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use support::daemon::Daemon;
use support::etcd::{Etcd, Keys};
use support::followed::{is, status};
use support::http::{Got, Http};
use support::mirror::{Coding, Media, Mirror, apply};
use support::record::Body;
use support::roamer::Roamer;
use support::state::{State, assert_same, digest, hex};
use support::{eventually, in_time};

fn replica(etcd: &Etcd) -> Daemon {
    Daemon::serve(&["--feed", &etcd.feed("app/")])
}

fn relay_of(daemon: &Daemon) -> Daemon {
    Daemon::serve(&["--feed", &format!("crumbd://{}/", daemon.address())])
}

/// Writes `count` changes of few keys; after each the mirror's cursor and state are kept.
async fn write_and_follow(keys: &Keys, mirror: &mut Mirror, count: u32, round: u32) -> Vec<(String, State)> {
    let mut seen = Vec::new();
    for number in 0..count {
        let key = format!("app/{}", number % 3);
        let at = match number % 5 {
            4 => keys.delete(key.as_bytes()).await,
            _ => keys.put(key.as_bytes(), format!("{round} {number}").as_bytes()).await,
        };
        mirror.follow_until("the change", |mirror| mirror.revision >= at as u64).await;
        seen.push((mirror.cursor.clone(), mirror.state.clone()));
    }
    seen
}

async fn at_revision(http: &Http, revision: u64) {
    eventually("the last revision", || async {
        (status(http).await["revision"].as_u64()? >= revision).then_some(())
    })
    .await;
}

/// Asks for what follows a cursor, and checks that it leads from that state to the newest one.
async fn continues(http: &Http, cursor: &str, mut state: State) -> Result<(), Got> {
    let got = http.get(&format!("/v1/breadcrumbs/{cursor}/next?wait=0")).await;
    if got.status == 410 {
        return Err(got);
    }
    if got.status == 204 {
        return Ok(());
    }
    let got = got.ok(200).standing();
    let body = Body::read(got.need("content-type"), &got.plain());
    let before = digest(&state);
    let after = apply(&mut state, before, &body.records);
    assert_eq!(body.header.digest, Some(hex(after)), "{cursor}");
    Ok(())
}

async fn all_continue(name: &str, http: &Http, seen: &[(String, State)]) {
    let mut gone = Vec::new();
    for (cursor, state) in seen {
        if continues(http, cursor, state.clone()).await.is_err() {
            gone.push(cursor.clone());
        }
    }
    assert!(gone.is_empty(), "{name}: {} of {} cursors are gone: {gone:?}", gone.len(), seen.len());
}

#[tokio::test]
async fn a_relay_continues_cursors_from_inside_a_breadcrumb_of_its_upstream() {
    let etcd = Etcd::start().await;
    let keys = etcd.keys();
    keys.put(b"app/first", b"1").await;
    let (paused, other) = (replica(&etcd), replica(&etcd));
    let relay = relay_of(&paused);
    let leaf = relay_of(&relay);
    for daemon in [&paused, &other, &relay, &leaf] {
        is(&daemon.http(), "in-sync").await;
    }
    let mut mirror = Mirror::of(other.http(), Media::Json, Coding::Identity).await;
    let breadcrumbs = async || status(&paused.http()).await["sequence"].as_u64().unwrap();
    for round in 0..3 {
        let before = breadcrumbs().await;
        paused.pause();
        let seen = write_and_follow(&keys, &mut mirror, 12, round).await;
        paused.go_on();
        for daemon in [&paused, &relay, &leaf] {
            at_revision(&daemon.http(), mirror.revision).await;
            is(&daemon.http(), "in-sync").await;
        }
        eprintln!("{} breadcrumbs for {} changes", breadcrumbs().await - before, seen.len());
        all_continue("the replica", &paused.http(), &seen).await;
        all_continue("its relay", &relay.http(), &seen).await;
        all_continue("the relay of the relay", &leaf.http(), &seen).await;
    }
}

#[tokio::test]
async fn a_relay_continues_cursors_from_before_its_upstream_was_started() {
    let etcd = Etcd::start().await;
    let keys = etcd.keys();
    keys.put(b"app/first", b"1").await;
    let other = replica(&etcd);
    is(&other.http(), "in-sync").await;
    let mut mirror = Mirror::of(other.http(), Media::Json, Coding::Identity).await;
    let seen = write_and_follow(&keys, &mut mirror, 12, 0).await;
    let fresh = replica(&etcd);
    is(&fresh.http(), "in-sync").await;
    let relay = relay_of(&fresh);
    is(&relay.http(), "in-sync").await;
    at_revision(&relay.http(), mirror.revision).await;
    all_continue("the replica", &fresh.http(), &seen).await;
    all_continue("its relay", &relay.http(), &seen).await;

    // The upstream has breadcrumbs of its own by now. The late relay begins at one of the first of them.
    let more = write_and_follow(&keys, &mut mirror, 60, 1).await;
    at_revision(&fresh.http(), mirror.revision).await;
    let late = relay_of(&fresh);
    let leaf = relay_of(&late);
    for (name, daemon) in [("the first relay", &relay), ("the late relay", &late), ("its relay", &leaf)] {
        is(&daemon.http(), "in-sync").await;
        at_revision(&daemon.http(), mirror.revision).await;
        all_continue(name, &daemon.http(), &[&seen[..], &more].concat()).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_roam_between_two_replicas_and_a_relay_of_one_and_take_no_second_snapshot() {
    let etcd = Etcd::start().await;
    let keys = etcd.keys();
    keys.put(b"app/first", b"1").await;
    let replicas = [replica(&etcd), replica(&etcd)];
    let relay = relay_of(&replicas[0]);
    let leaf = relay_of(&relay);
    let everywhere = [replicas[0].http(), replicas[1].http(), relay.http(), leaf.http()];
    for http in &everywhere {
        is(http, "in-sync").await;
    }
    let last = Arc::new(AtomicU64::new(u64::MAX));
    let roamers: Vec<_> = (0..6)
        .map(|seed| {
            let (everywhere, last) = (everywhere.clone(), last.clone());
            tokio::spawn(async move { Roamer::roam(&everywhere[1], &everywhere, seed, &last).await })
        })
        .collect();
    // A replica that stands still for a moment makes one breadcrumb of many revisions.
    for number in 0..400 {
        match number % 40 {
            10 => replicas[(number / 40) % 2].pause(),
            30 => replicas[(number / 40) % 2].go_on(),
            _ => {}
        }
        let key = format!("app/{}", number % 7);
        match number % 5 {
            4 => keys.delete(key.as_bytes()).await,
            _ => keys.put(key.as_bytes(), number.to_string().as_bytes()).await,
        };
    }
    let at = keys.put(b"app/last", b"1").await;
    last.store(at as u64, Ordering::SeqCst);
    let truth = keys.range(b"app/").await.state;
    let mut moved = 0;
    for roamer in roamers {
        let roamer = in_time("a client to get to the end", roamer).await.unwrap();
        assert_same("a client at the end", &roamer.state, &truth);
        moved += roamer.moved;
    }
    assert!(moved > 20, "{moved} moves");
}

#[tokio::test]
async fn what_the_datastore_has_lost_is_gone_at_every_relay() {
    let mut etcd = Etcd::start().await;
    let dir = tempfile::tempdir().unwrap();
    let backup = dir.path().join("backup");
    let keys = etcd.keys();
    for number in 0..20 {
        keys.put(format!("app/{number}").as_bytes(), b"kept").await;
    }
    etcd.save(&backup);
    let port = support::etcd::free_port().to_string();
    let listen = format!("127.0.0.1:{port}");
    let at_a_port = |etcd: &Etcd| Daemon::serve(&["--feed", &etcd.feed("app/"), "--listen", &listen]);
    let mut root = at_a_port(&etcd);
    let relay = relay_of(&root);
    let relays =
        [relay_of(&relay), Daemon::serve(&["--feed", &format!("crumbd://{}/?prefix=app/", relay.address())])];
    let lost = keys.put(b"app/1", b"lost").await;
    for number in 0..30 {
        keys.put(format!("app/{number}").as_bytes(), b"lost").await;
    }
    let newest = lost as u64 + 30;
    let mut cursors = Vec::new();
    for daemon in [&relay, &relays[0], &relays[1]] {
        at_revision(&daemon.http(), newest).await;
        cursors.push(support::followed::mirror(&daemon.http()).await.cursor);
    }
    // The daemon that followed etcd starts anew, and does not know that it went back.
    root.terminate();
    root.wait_exit();
    etcd.restore(&backup).await;
    keys.put(b"app/1", b"after").await;
    let _root = at_a_port(&etcd);
    for (daemon, cursor) in [&relay, &relays[0], &relays[1]].into_iter().zip(&cursors) {
        let http = daemon.http();
        eventually("the state of the datastore", || async {
            let got = http.get("/v1/kv/app/1").await;
            (got.need("crumbd-status") == "in-sync" && got.plain() == b"after").then_some(())
        })
        .await;
        eventually("the lost cursor to be refused", || async {
            (http.get(&format!("/v1/breadcrumbs/{cursor}/next?wait=1s")).await.status == 410).then_some(())
        })
        .await;
    }
}
