//! A recreated store with the same cluster id: its revisions are another history.

use crate::support::daemon::Daemon;
use crate::support::etcd::{Etcd, GrpcProxy, Net};
use crate::support::eventually;
use crate::support::followed::{
    Followed, agrees_with, becomes_gone, catch_up, follow, is, mirror, put_each, status,
};
use crate::support::mirror::apply;
use crate::support::record::Body;
use crate::support::state::{digest, hex};

#[tokio::test]
async fn a_recreated_store_with_fewer_revisions_is_another_history() {
    let mut etcd = Etcd::start().await;
    let keys = etcd.keys();
    put_each(&keys, 0..50, "old").await;
    let running = follow(&etcd.feed("app/"));
    let http = running.http();
    let old = mirror(&http).await;
    assert_eq!(old.revision, 51);
    etcd.recreate().await;
    keys.put(b"app/1", b"new").await;
    keys.put(b"app/other", b"new").await;
    let gone = becomes_gone("the old cursor to be refused", &http, &old.cursor).await;
    assert!(gone["current"].is_string(), "{gone}");
    let new = agrees_with(&http, &keys).await;
    assert_eq!(new.state.len(), 2);
    assert_ne!(new.history, old.history, "a revision that went backwards starts a new history");
    // A daemon that never saw the old store.
    let fresh = follow(&etcd.feed("app/"));
    assert_eq!(agrees_with(&fresh.http(), &keys).await.state.len(), 2);
    becomes_gone("the old cursor to be refused by a fresh daemon", &fresh.http(), &old.cursor).await;
    // The old one overtakes the cursor's revision: it is still refused.
    for n in 0..60 {
        keys.put(b"app/1", format!("{n}").as_bytes()).await;
    }
    for http in [&http, &fresh.http()] {
        agrees_with(http, &keys).await;
        http.get(&format!("/v1/breadcrumbs/{}/next?wait=0", old.cursor)).await.problem(410);
    }
}

#[tokio::test]
async fn a_warm_start_finds_out_that_the_store_was_recreated() {
    let mut etcd = Etcd::start().await;
    let keys = etcd.keys();
    put_each(&keys, 0..50, "old").await;
    let dir = tempfile::tempdir().unwrap();
    let arguments = [
        "--feed",
        &etcd.feed("app/"),
        "--state-dir",
        dir.path().to_str().unwrap(),
        "--state-interval",
        "50ms",
    ];
    let mut before = Daemon::serve(&arguments);
    let old = mirror(&before.http()).await;
    before.terminate();
    assert!(before.wait_exit().success());

    etcd.wipe();
    let daemon = Daemon::serve(&arguments);
    let http = daemon.http();
    // Until it can ask, the old state is what it has, and it says that it may be old.
    let got = http.get("/v1/breadcrumbs/current").await.ok(200);
    assert_eq!(
        (got.cursor().split('.').next(), got.json()["count"].as_u64()),
        (Some(&*old.history), Some(50))
    );
    assert_ne!(got.need("crumbd-status"), "in-sync");
    etcd.restart().await;
    keys.put(b"app/1", b"new").await;
    let cursors = [got.cursor().to_owned(), old.cursor.clone()];
    for cursor in &cursors {
        becomes_gone("a cursor of the old store to be refused", &http, cursor).await;
    }
    let new = agrees_with(&http, &keys).await;
    assert_eq!(new.state.len(), 1);
    assert_ne!(new.history, old.history, "a revision that went backwards starts a new history");
    // And when the new one gets further than the old one was.
    for n in 0..60 {
        keys.put(b"app/2", format!("{n}").as_bytes()).await;
    }
    agrees_with(&http, &keys).await;
    for cursor in &cursors {
        http.get(&format!("/v1/breadcrumbs/{cursor}/next?wait=0")).await.problem(410);
    }
}

/// Another store takes the place of one with `app/0` to `app/9`, set at revisions 2 to 11, while the daemon is away,
/// and gets further than that one was. `name` is the number of the key that the write number `n` sets.
async fn recreated_and_further_on(name: impl Fn(usize) -> usize) {
    let etcd = Etcd::start().await;
    let keys = etcd.keys();
    put_each(&keys, 0..10, "old").await;
    let Followed { keys, net, http, mut etcd, daemon: _running } = Followed::of(etcd).await;
    let old = mirror(&http).await;
    net.set(Net::Cut);
    is(&http, "resync-in-progress").await;
    etcd.recreate().await;
    put_each(&keys, (0..40).map(name), "new").await;
    net.set(Net::Open);
    becomes_gone("the old cursor to be refused", &http, &old.cursor).await;
    let new = agrees_with(&http, &keys).await;
    assert!(new.state.values().all(|value| &**value == b"new"));
    let fresh = follow(&etcd.feed("app/"));
    agrees_with(&fresh.http(), &keys).await;
    becomes_gone("the old cursor to be refused by a fresh daemon", &fresh.http(), &old.cursor).await;
}

#[tokio::test]
async fn a_recreated_store_with_more_revisions_is_noticed_too() {
    recreated_and_further_on(|n| n * 7 % 13).await;
}

#[tokio::test]
async fn a_recreated_store_that_set_the_same_key_at_the_same_revision_is_noticed_too() {
    // As when the same program fills the store in the same order: `app/9` at revision 11 in both, the values differ.
    recreated_and_further_on(|n| if n < 10 { n } else { 20 }).await;
}

#[tokio::test]
async fn a_store_that_is_recreated_behind_a_proxy_while_the_daemon_stands_still_is_noticed() {
    let mut etcd = Etcd::start().await;
    let keys = etcd.keys();
    put_each(&keys, 0..10, "old").await;
    let proxy = GrpcProxy::before(&etcd).await;
    let daemon = follow(&format!("etcd://{}/app/", proxy.endpoint()));
    let http = daemon.http();
    is(&http, "in-sync").await;
    let old = agrees_with(&http, &keys).await;
    daemon.pause();
    // The connection to the proxy lasts, and the proxy watches the new store from where it was. In that the same keys are set
    // in the same order, after one that was not there.
    etcd.recreate().await;
    let keys = etcd.keys();
    keys.put(b"app/first", b"new").await;
    put_each(&keys, 0..10, "old").await;
    // Longer than between two looks at the store.
    tokio::time::sleep(std::time::Duration::from_secs(4)).await;
    daemon.go_on();
    becomes_gone("the old cursor to be refused", &http, &old.cursor).await;
    agrees_with(&http, &keys).await;
}

#[tokio::test]
async fn the_past_of_a_recreated_store_is_not_taken_for_that_of_the_store_before() {
    // A daemon reads what came before its first load in the background. While it does, the store is replaced.
    let etcd = Etcd::start().await;
    let keys = etcd.keys();
    let earlier = follow(&etcd.feed("app/"));
    is(&earlier.http(), "in-sync").await;
    put_each(&keys, 0..6, "old").await;
    let mut client = mirror(&earlier.http()).await;
    catch_up(&mut client, &keys).await;
    put_each(&keys, 3..9, "old, later").await;
    // The store's last change is elsewhere, so it takes the daemon longer to know that it has read everything.
    keys.put(b"other/key", b"old").await;
    let Followed { keys, net, http, mut etcd, daemon: _later } = Followed::of(etcd).await;
    net.set(Net::Cut);
    etcd.recreate().await;
    put_each(&keys, (0..20).map(|n| 20 + n % 3), "new").await;
    // By now it tries to connect at long intervals; the one who reads the past may be there first.
    eventually("some failures", || async {
        (status(&http).await["ingest"]["reconnects"].as_u64()? >= 5).then_some(())
    })
    .await;
    net.set(Net::Open);
    let path = format!("/v1/breadcrumbs/{}/next?wait=1s", client.cursor);
    let cursor = client.cursor.clone();
    eventually("the old cursor to be refused", || async {
        let got = http.get(&path).await;
        match got.status {
            410 => Some(got.problem(410)),
            204 | 503 => None,
            _ => {
                // Or to be continued rightly, as long as the daemon serves the old store's state.
                let got = got.ok(200);
                let body = Body::read(got.need("content-type"), &got.plain());
                let mut state = client.state.clone();
                let after = apply(&mut state, digest(&client.state), &body.records);
                assert_eq!(body.header.digest, Some(hex(after)), "{cursor}: {body:?}");
                None
            }
        }
    })
    .await;
    assert_eq!(agrees_with(&http, &keys).await.state.len(), 3);
}

#[tokio::test]
async fn replicas_of_a_recreated_store_continue_each_others_cursors() {
    let mut etcd = Etcd::start().await;
    let keys = etcd.keys();
    put_each(&keys, 0..20, "old").await;
    let witness = follow(&etcd.feed("app/"));
    let old = mirror(&witness.http()).await;
    etcd.recreate().await;
    keys.put(b"app/1", b"new").await;
    becomes_gone("the old cursor to be refused", &witness.http(), &old.cursor).await;
    // One replica saw the old store, the other one was started after it.
    let fresh = follow(&etcd.feed("app/"));
    let mut client = agrees_with(&witness.http(), &keys).await;
    agrees_with(&fresh.http(), &keys).await;
    for round in 0..4 {
        client.move_to(if round % 2 == 0 { fresh.http() } else { witness.http() });
        keys.put(b"app/2", format!("round {round}").as_bytes()).await;
        catch_up(&mut client, &keys).await;
    }
    assert_eq!(client.seen.snapshots, 1);
}

#[tokio::test]
async fn a_store_that_went_back_to_its_backup_is_another_history() {
    let dir = tempfile::tempdir().unwrap();
    let backup = dir.path().join("backup");
    let Followed { keys, net: _net, http, mut etcd, daemon: _running } = Followed::with(20).await;
    let mut early = mirror(&http).await;
    etcd.save(&backup);
    put_each(&keys, 0..30, "lost").await;
    let mut late = mirror(&http).await;
    catch_up(&mut late, &keys).await;
    etcd.restore(&backup).await;
    assert!(keys.revision().await < late.revision as i64);
    becomes_gone("a cursor of what was lost to be refused", &http, &late.cursor).await;
    let mut new = agrees_with(&http, &keys).await;
    assert_ne!(new.history, late.history, "a revision that went backwards starts a new history");
    assert_eq!(new.state.len(), 20);
    // What was so before the backup is so again: the digest in the cursor says it.
    keys.put(b"app/after", b"the backup").await;
    catch_up(&mut early, &keys).await;
    assert_eq!(early.seen.snapshots, 1);
    // The new one overtakes the cursor's revision: it is still refused, and by a daemon that never saw the old one.
    put_each(&keys, 0..40, "written again").await;
    catch_up(&mut new, &keys).await;
    assert_eq!(new.seen.snapshots, 1);
    let fresh = follow(&etcd.feed("app/"));
    agrees_with(&fresh.http(), &keys).await;
    for http in [&http, &fresh.http()] {
        becomes_gone("the lost cursor to be refused", http, &late.cursor).await;
    }
}

#[tokio::test]
async fn a_store_that_went_back_to_its_backup_and_further_on_meanwhile_is_noticed_too() {
    let dir = tempfile::tempdir().unwrap();
    let backup = dir.path().join("backup");
    let Followed { keys, net, http, mut etcd, daemon: _running } = Followed::with(20).await;
    etcd.save(&backup);
    put_each(&keys, 0..30, "lost").await;
    let mut late = mirror(&http).await;
    catch_up(&mut late, &keys).await;
    net.set(Net::Cut);
    is(&http, "resync-in-progress").await;
    etcd.restore(&backup).await;
    put_each(&keys, 0..40, "written again").await;
    net.set(Net::Open);
    becomes_gone("a cursor of what was lost to be refused", &http, &late.cursor).await;
    assert_ne!(agrees_with(&http, &keys).await.history, late.history);
}

#[tokio::test]
async fn a_store_that_is_restored_just_as_it_was_goes_on_as_if_it_had_never_been_away() {
    let dir = tempfile::tempdir().unwrap();
    let backup = dir.path().join("backup");
    let Followed { keys, net: _net, http, mut etcd, daemon: _running } = Followed::with(20).await;
    let mut mirror = mirror(&http).await;
    let resyncs = status(&http).await["ingest"]["resyncs"].clone();
    etcd.save(&backup);
    etcd.restore(&backup).await;
    keys.put(b"app/after", b"the backup").await;
    catch_up(&mut mirror, &keys).await;
    assert_eq!(mirror.seen.snapshots, 1);
    let after = status(&http).await;
    assert_eq!(after["ingest"]["resyncs"], resyncs, "what is known is not read anew: {after}");
}
