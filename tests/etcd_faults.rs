//! What happens to etcd, and what a client of the daemon sees of it: as little as possible, and never anything wrong.
//!
//! Every etcd is a real process (Debian's `etcd-server`), killed with SIGKILL; the network between is a proxy that the
//! test cuts.
#![allow(clippy::unwrap_used)]

mod support;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use serde_json::Value;
use support::daemon::Daemon;
use support::etcd::{Etcd, Keys, Net, Op, Proxy};
use support::http::{Got, Http};
use support::mirror::{Coding, Media, Mirror, Step};
use support::record::Body;
use support::state::{State, assert_same, below, digest, hex};
use support::{DEADLINE, eventually, in_time};

const APP: &[u8] = b"app/";

fn daemon(feed: &str) -> Daemon {
    Daemon::serve(&["--feed", feed])
}

async fn status(http: &Http) -> Value {
    http.get("/v1/status").await.ok(200).json()
}

async fn is(http: &Http, wanted: &str) -> Value {
    eventually(wanted, || async {
        let status = status(http).await;
        (status["status"] == wanted).then_some(status)
    })
    .await
}

async fn mirror(http: &Http) -> Mirror {
    is(http, "in-sync").await;
    Mirror::of(http.clone(), Media::Ndjson, Coding::Identity).await
}

/// Follows until the mirror has what etcd has, by ordinary updates only. Gives the statuses that it was told on the way.
async fn catch_up(mirror: &mut Mirror, keys: &Keys) -> Vec<String> {
    let stored = keys.range(APP).await.state;
    let mut told = vec![mirror.status.clone()];
    let end = Instant::now() + DEADLINE;
    while mirror.state != stored || mirror.status != "in-sync" {
        assert!(
            Instant::now() < end,
            "the mirror does not reach what etcd has: {} {} {}",
            mirror.cursor,
            mirror.status,
            support::state::difference(&mirror.state, &stored)
        );
        assert_ne!(mirror.next("1s").await, Step::Gone, "the cursor {} was lost", mirror.cursor);
        if told.last() != Some(&mirror.status) {
            told.push(mirror.status.clone());
        }
    }
    told
}

/// Follows until the mirror is told this status.
async fn told(mirror: &mut Mirror, status: &str) {
    in_time(status, async {
        while mirror.status != status {
            assert_ne!(mirror.next("5s").await, Step::Gone, "the cursor {} was lost", mirror.cursor);
        }
    })
    .await;
}

/// Puts `app/{from}` to before `app/{to}`, a hundred in a transaction.
async fn fill(keys: &Keys, from: usize, to: usize, value: &str) -> i64 {
    let mut at = 0;
    let all: Vec<usize> = (from..to).collect();
    for some in all.chunks(100) {
        let ops: Vec<Op> = some
            .iter()
            .map(|n| Op::Put(format!("app/{n:05}").into_bytes(), format!("{value} {n}").into_bytes()))
            .collect();
        at = keys.txn(&ops).await;
    }
    at
}

/// Waits until a cursor is refused. Until the daemon knows, it may say that its status is another one, but no more.
async fn becomes_gone(what: &str, http: &Http, cursor: &str) -> Value {
    let path = format!("/v1/breadcrumbs/{cursor}/next?wait=1s");
    eventually(what, || async {
        let got = http.get(&path).await;
        match got.status {
            410 => Some(got.problem(410)),
            204 | 503 => None,
            200 if got.need("crumbd-reason") == "status" => {
                assert!(cursor.split('.').nth(1) == Some(got.need("crumbd-revision")), "{what}: {got:?}");
                None
            }
            other => panic!("{what}: {other} {}", String::from_utf8_lossy(&got.body)),
        }
    })
    .await
}

/// Holds a daemon's state to etcd's, by a fresh mirror.
async fn agrees_with(http: &Http, keys: &Keys) -> Mirror {
    let mut fresh = mirror(http).await;
    catch_up(&mut fresh, keys).await;
    let said = status(http).await;
    assert_eq!(said["digest"], hex(digest(&fresh.state)));
    fresh
}

#[tokio::test]
async fn compaction_while_the_network_is_cut_is_an_ordinary_delta_to_clients() {
    let etcd = Etcd::start().await;
    let keys = etcd.keys();
    fill(&keys, 0, 300, "before").await;
    let proxy = Proxy::before(etcd.endpoint()).await;
    let daemon = daemon(&proxy.feed("app/"));
    let http = daemon.http();
    let mut mirror = mirror(&http).await;
    assert_eq!(mirror.state.len(), 300);
    let before = mirror.cursor.clone();

    proxy.set(Net::Cut);
    told(&mut mirror, "resync-in-progress").await;
    // It goes on serving, and says how old it is.
    let age = |got: &Got| got.need("crumbd-age").parse::<f64>().unwrap();
    eventually("the age to grow", || async {
        let got = http.get("/v1/breadcrumbs/current").await.ok(200);
        (age(&got) > 0.5).then_some(())
    })
    .await;
    assert_eq!(&*http.get("/v1/kv/app%2F00007").await.ok(200).body, b"before 7");
    http.get("/readyz").await.ok(200);

    fill(&keys, 0, 20, "while away").await;
    keys.txn(&[Op::DeleteRange(b"app/00100".to_vec(), b"app/00150".to_vec())]).await;
    // Deleted and set again; made and deleted again.
    keys.delete(b"app/00200").await;
    keys.put(b"app/00200", b"again").await;
    keys.put(b"app/short", b"lived").await;
    keys.delete(b"app/short").await;
    fill(&keys, 400, 410, "new").await;
    keys.compact(keys.revision().await).await;
    proxy.set(Net::Open);

    let mut seen = catch_up(&mut mirror, &keys).await;
    seen.dedup();
    assert_eq!(seen, ["resync-in-progress", "in-sync"]);
    assert_eq!(mirror.seen.snapshots, 1);
    assert_eq!(mirror.revision, keys.revision().await as u64);
    // And from the cursor of before in one answer: the difference, and nothing but the difference.
    let got = http.get(&format!("/v1/breadcrumbs/{before}/next?wait=0")).await.ok(200).standing();
    let body = Body::read(got.need("content-type"), &got.plain());
    let kinds = body.records.iter().filter(|r| r.kind != "status").fold(BTreeMap::new(), |mut kinds, r| {
        *kinds.entry(r.kind.clone()).or_insert(0) += 1;
        kinds
    });
    let expected = [("deleted", 50), ("new", 10), ("updated", 21)];
    assert!(kinds.iter().map(|(k, n)| (&**k, *n)).eq(expected), "{kinds:?}");
    let status = status(&http).await;
    assert_eq!(status["ingest"]["swept"], 50, "{status}");
}

/// Debian's etcd forgets the deletions *of* the revision to which it is compacted, and still lets one watch from that
/// revision on (etcd issue 19179).
#[tokio::test]
async fn a_deletion_at_the_very_revision_of_a_compaction_is_not_missed() {
    let etcd = Etcd::start().await;
    let keys = etcd.keys();
    let proxy = Proxy::before(etcd.endpoint()).await;
    fill(&keys, 0, 50, "before").await;
    let daemon = daemon(&proxy.feed("app/"));
    let mut mirror = mirror(&daemon.http()).await;
    let changes = [
        vec![Op::Put(b"app/new".to_vec(), b"1".to_vec()), Op::Delete(b"app/00007".to_vec())],
        vec![Op::Delete(b"app/00008".to_vec())],
    ];
    for change in changes {
        proxy.set(Net::Cut);
        told(&mut mirror, "resync-in-progress").await;
        let at = keys.txn(&change).await;
        keys.compact(at).await;
        proxy.set(Net::Open);
        catch_up(&mut mirror, &keys).await;
    }
    assert_eq!(mirror.state.len(), 49);
    assert_eq!(mirror.seen.snapshots, 1);
}

#[tokio::test]
async fn a_network_that_falls_silent_is_noticed_and_mended() {
    let etcd = Etcd::start().await;
    let keys = etcd.keys();
    fill(&keys, 0, 50, "before").await;
    let proxy = Proxy::before(etcd.endpoint()).await;
    let daemon = daemon(&proxy.feed("app/"));
    let mut mirror = mirror(&daemon.http()).await;
    proxy.set(Net::Silent);
    fill(&keys, 40, 60, "while silent").await;
    told(&mut mirror, "resync-in-progress").await;
    let age = status(&daemon.http()).await["age_seconds"].as_f64().unwrap();
    assert!(age > 1.0, "{age}");
    proxy.set(Net::Open);
    catch_up(&mut mirror, &keys).await;
    assert_eq!(mirror.seen.snapshots, 1);
    eventually("the age to be small again", || async {
        (status(&daemon.http()).await["age_seconds"].as_f64()? < 1.5).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_connection_that_breaks_and_comes_back_at_once_costs_nothing() {
    let etcd = Etcd::start().await;
    let keys = etcd.keys();
    fill(&keys, 0, 50, "before").await;
    let proxy = Proxy::before(etcd.endpoint()).await;
    let daemon = daemon(&proxy.feed("app/"));
    let mut mirror = mirror(&daemon.http()).await;
    let resyncs = status(&daemon.http()).await["ingest"]["resyncs"].clone();
    for round in 0..5_u64 {
        let reconnects = status(&daemon.http()).await["ingest"]["reconnects"].as_u64().unwrap();
        proxy.set(Net::Cut);
        eventually("the daemon to notice", || async {
            (status(&daemon.http()).await["ingest"]["reconnects"].as_u64()? > reconnects).then_some(())
        })
        .await;
        fill(&keys, 0, 10, &format!("round {round}")).await;
        proxy.set(Net::Open);
        catch_up(&mut mirror, &keys).await;
    }
    assert_eq!(mirror.seen.snapshots, 1);
    let after = status(&daemon.http()).await;
    assert_eq!(after["ingest"]["resyncs"], resyncs, "what etcd still knows is not read anew: {after}");
}

#[tokio::test]
async fn etcd_killed_and_restarted_is_survived_with_every_cursor() {
    let mut etcd = Etcd::start().await;
    let keys = etcd.keys();
    fill(&keys, 0, 100, "before").await;
    let daemon = daemon(&etcd.feed("app/"));
    let http = daemon.http();
    let mut mirror = mirror(&http).await;
    for round in 0..2 {
        let before = mirror.cursor.clone();
        etcd.kill();
        told(&mut mirror, "resync-in-progress").await;
        assert_same("while etcd is dead", &agreeing(&http).await, &mirror.state);
        http.get(&format!("/v1/breadcrumbs/{before}")).await.ok(200);
        let age = |status: &Value| status["age_seconds"].as_f64().unwrap();
        let first = age(&status(&http).await);
        eventually("the age to grow", || async { (age(&status(&http).await) > first + 0.3).then_some(()) })
            .await;
        etcd.restart().await;
        fill(&keys, 50, 120, &format!("after {round}")).await;
        catch_up(&mut mirror, &keys).await;
        let got = http.get(&format!("/v1/breadcrumbs/{before}/next?wait=0")).await.ok(200).standing();
        assert_eq!(got.cursor(), mirror.cursor);
    }
    assert_eq!(mirror.seen.snapshots, 1);
}

/// What `current` holds now.
async fn agreeing(http: &Http) -> State {
    Mirror::of(http.clone(), Media::Json, Coding::Identity).await.state
}

#[tokio::test]
async fn a_daemon_that_starts_before_etcd_serves_as_soon_as_it_is_there() {
    let mut etcd = Etcd::start().await;
    let keys = etcd.keys();
    fill(&keys, 0, 10, "here").await;
    etcd.kill();
    let daemon = daemon(&etcd.feed("app/"));
    let http = daemon.http();
    http.get("/livez").await.ok(200);
    http.get("/readyz").await.problem(503);
    let early = http.get("/v1/breadcrumbs/current").await;
    early.problem(503);
    early.need("retry-after");
    etcd.restart().await;
    assert_eq!(agrees_with(&http, &keys).await.state.len(), 10);
    http.get("/readyz").await.ok(200);
}

#[tokio::test]
async fn a_recreated_store_with_fewer_revisions_is_another_history() {
    let mut etcd = Etcd::start().await;
    let keys = etcd.keys();
    for n in 0..50 {
        keys.put(format!("app/{n}").as_bytes(), b"old").await;
    }
    let running = daemon(&etcd.feed("app/"));
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
    let fresh = daemon(&etcd.feed("app/"));
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
    for n in 0..50 {
        keys.put(format!("app/{n}").as_bytes(), b"old").await;
    }
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
    let mut etcd = Etcd::start().await;
    let keys = etcd.keys();
    for n in 0..10 {
        keys.put(format!("app/{n}").as_bytes(), b"old").await;
    }
    let proxy = Proxy::before(etcd.endpoint()).await;
    let running = daemon(&proxy.feed("app/"));
    let http = running.http();
    let old = mirror(&http).await;
    proxy.set(Net::Cut);
    is(&http, "resync-in-progress").await;
    etcd.recreate().await;
    for n in 0..40 {
        keys.put(format!("app/{}", name(n)).as_bytes(), b"new").await;
    }
    proxy.set(Net::Open);
    becomes_gone("the old cursor to be refused", &http, &old.cursor).await;
    let new = agrees_with(&http, &keys).await;
    assert!(new.state.values().all(|value| &**value == b"new"));
    let fresh = daemon(&etcd.feed("app/"));
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
async fn the_past_of_a_recreated_store_is_not_taken_for_that_of_the_store_before() {
    // A daemon reads what came before its first load in the background. While it does, the store is replaced.
    let mut etcd = Etcd::start().await;
    let keys = etcd.keys();
    let earlier = daemon(&etcd.feed("app/"));
    is(&earlier.http(), "in-sync").await;
    for n in 0..6 {
        keys.put(format!("app/{n}").as_bytes(), b"old").await;
    }
    let mut client = mirror(&earlier.http()).await;
    catch_up(&mut client, &keys).await;
    for n in 3..9 {
        keys.put(format!("app/{n}").as_bytes(), b"old, later").await;
    }
    // The store's last change is elsewhere, so it takes the daemon longer to know that it has read everything.
    keys.put(b"other/key", b"old").await;
    let proxy = Proxy::before(etcd.endpoint()).await;
    let later = daemon(&proxy.feed("app/"));
    let http = later.http();
    is(&http, "in-sync").await;
    proxy.set(Net::Cut);
    etcd.recreate().await;
    for n in 0..20 {
        keys.put(format!("app/{}", 20 + n % 3).as_bytes(), b"new").await;
    }
    // By now it tries to connect at long intervals; the one who reads the past may be there first.
    eventually("some failures", || async {
        (status(&http).await["ingest"]["reconnects"].as_u64()? >= 5).then_some(())
    })
    .await;
    proxy.set(Net::Open);
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
                let after = support::mirror::apply(&mut state, digest(&client.state), &body.records);
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
    for n in 0..20 {
        keys.put(format!("app/{n}").as_bytes(), b"old").await;
    }
    let witness = daemon(&etcd.feed("app/"));
    let old = mirror(&witness.http()).await;
    etcd.recreate().await;
    keys.put(b"app/1", b"new").await;
    becomes_gone("the old cursor to be refused", &witness.http(), &old.cursor).await;
    // One replica saw the old store, the other one was started after it.
    let fresh = daemon(&etcd.feed("app/"));
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
async fn a_dead_endpoint_in_the_list_is_passed_over() {
    let etcd = Etcd::start().await;
    let keys = etcd.keys();
    fill(&keys, 0, 10, "here").await;
    let dead = support::etcd::free_port();
    for feed in [
        format!("etcd://127.0.0.1:{dead},{}/app/", etcd.endpoint()),
        format!("etcd://{},127.0.0.1:{dead}/app/", etcd.endpoint()),
    ] {
        let daemon = daemon(&feed);
        assert_eq!(agrees_with(&daemon.http(), &keys).await.state.len(), 10);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_loses_one_member_and_its_majority_and_the_client_keeps_its_cursor() {
    let mut members = Etcd::cluster(3).await;
    let all: Vec<String> = members.iter().map(Etcd::endpoint).collect();
    fill(&members[0].keys(), 0, 50, "before").await;
    let daemon = daemon(&format!("etcd://{}/app/", all.join(",")));
    let http = daemon.http();
    let mut mirror = mirror(&http).await;
    // The member that it speaks to is killed: it goes on with another one.
    let connected = daemon.logged("the endpoint", |line| {
        let line: Value = serde_json::from_str(line).ok()?;
        line["endpoint"].as_str().map(str::to_owned)
    });
    let killed = all.iter().position(|one| *one == connected).unwrap();
    members[killed].kill();
    let living: Vec<usize> = (0..3).filter(|n| *n != killed).collect();
    let keys = members[living[0]].keys();
    eventually("the other two to have a leader", || async { keys.try_revision().await.ok() }).await;
    fill(&keys, 20, 70, "with two").await;
    catch_up(&mut mirror, &keys).await;
    // Without a majority there is no leader: what is served may be old, and it says so.
    members[living[1]].kill();
    told(&mut mirror, "resync-in-progress").await;
    members[killed].run();
    eventually("a leader", || async { keys.try_revision().await.ok() }).await;
    fill(&keys, 60, 80, "with two others").await;
    catch_up(&mut mirror, &keys).await;
    assert_eq!(mirror.seen.snapshots, 1);
}

#[tokio::test]
async fn a_lease_is_a_ttl_and_its_end_is_a_deletion() {
    let etcd = Etcd::start().await;
    let keys = etcd.keys();
    let (long, other) = (keys.lease(600).await, keys.lease(1200).await);
    keys.put_with_lease(b"app/leased", b"1", &long).await;
    keys.put(b"app/stays", b"1").await;
    let daemon = daemon(&etcd.feed("app/"));
    let http = daemon.http();
    is(&http, "in-sync").await;
    let ttls = |got: &Got| -> BTreeMap<String, Option<u64>> {
        let body = Body::read(got.need("content-type"), &got.plain());
        body.records.iter().map(|r| (String::from_utf8(r.key.clone()).unwrap(), r.ttl)).collect()
    };
    let got = http.get("/v1/breadcrumbs/current").await.ok(200);
    let expected = [("app/leased".to_owned(), Some(600)), ("app/stays".to_owned(), None)];
    assert_eq!(ttls(&got), expected.into(), "in the first load");
    keys.put_with_lease(b"app/later", b"1", &other).await;
    let next = format!("/v1/breadcrumbs/{}/next?wait=10s", got.cursor());
    let got = http.get(&next).await.ok(200);
    assert_eq!(ttls(&got), [("app/later".to_owned(), Some(1200))].into(), "by the watch");
    // Another lease for the same value, and then none.
    keys.put_with_lease(b"app/leased", b"1", &other).await;
    let next = format!("/v1/breadcrumbs/{}/next?wait=10s", got.cursor());
    let got = http.get(&next).await.ok(200);
    assert_eq!(ttls(&got), [("app/leased".to_owned(), Some(1200))].into(), "of another lease");
    keys.put(b"app/leased", b"1").await;
    let next = format!("/v1/breadcrumbs/{}/next?wait=10s", got.cursor());
    let got = http.get(&next).await.ok(200);
    assert_eq!(ttls(&got), [("app/leased".to_owned(), None)].into(), "of no lease any more");
    keys.revoke(&other).await;
    eventually("the leased key to go", || async {
        (http.get("/v1/kv/app%2Flater").await.status == 404).then_some(())
    })
    .await;
    agrees_with(&http, &keys).await;
}

#[tokio::test]
async fn keys_and_values_arrive_byte_for_byte_and_neighbours_of_the_prefix_do_not() {
    let etcd = Etcd::start().await;
    let keys = etcd.keys();
    let names: [&[u8]; 8] = [
        b"app/",
        b"app/plain",
        b"app//double/",
        b"app/\xff\xfe",
        b"app/nul\0inside",
        "app/ключ 🦀".as_bytes(),
        b"app/\xff",
        b"app/%2F?a=b#c",
    ];
    let values: [&[u8]; 5] = [b"", b"\xff\xfe\0", b"{\"a\": 1}", b"{\"a\":1}", b"text\n"];
    let neighbours: [&[u8]; 5] = [b"app", b"app0", b"ap", b"app.", b"apq/x"];
    let mut expected = State::new();
    let half = |n: usize| n.is_multiple_of(2);
    let daemon = daemon(&etcd.feed("app/"));
    for name in neighbours {
        keys.put(name, b"not below app/").await;
    }
    // Half of them are there at the first load, half come by the watch.
    for (n, name) in names.iter().enumerate().filter(|(n, _)| half(*n)) {
        keys.put(name, values[n % values.len()]).await;
    }
    let http = daemon.http();
    let mut mirror = mirror(&http).await;
    for (n, name) in names.iter().enumerate().filter(|(n, _)| !half(*n)) {
        keys.put(name, values[n % values.len()]).await;
    }
    for (n, name) in names.iter().enumerate() {
        expected.insert(name.to_vec(), values[n % values.len()].into());
    }
    for name in neighbours {
        keys.put(name, b"still not").await;
    }
    catch_up(&mut mirror, &keys).await;
    assert_same("in full names", &mirror.state, &expected);
    for (key, value) in &expected {
        let got = http.get(&format!("/v1/kv/{}", support::http::encode(key))).await.ok(200);
        assert_eq!(&got.body[..], &value[..], "{:?}", String::from_utf8_lossy(key));
    }
    // An empty value is a value.
    keys.put(b"app/plain", b"").await;
    let left = catch_up(&mut mirror, &keys).await;
    assert!(mirror.state.contains_key(&b"app/plain"[..]), "{left:?}");
    for name in neighbours {
        http.get(&format!("/v1/kv/{}", support::http::encode(name))).await.problem(404);
    }
}

#[tokio::test]
async fn an_empty_prefix_is_the_whole_store() {
    let etcd = Etcd::start().await;
    let keys = etcd.keys();
    keys.put(b"a", b"1").await;
    keys.put(b"\xff\xff", b"2").await;
    let daemon = daemon(&etcd.feed(""));
    let mut mirror = mirror(&daemon.http()).await;
    let at = keys.txn(&[Op::Put(b"\0".to_vec(), b"3".to_vec()), Op::Delete(b"a".to_vec())]).await;
    in_time("the change", async {
        while mirror.revision < at as u64 {
            assert_ne!(mirror.next("5s").await, Step::Gone);
        }
    })
    .await;
    let expected: State = [(b"\xff\xff".to_vec(), b"2"[..].into()), (b"\0".to_vec(), b"3"[..].into())].into();
    assert_same("everything", &mirror.state, &expected);
}

#[tokio::test]
async fn twenty_thousand_keys_are_read_in_pages_at_one_revision() {
    let etcd = Etcd::start().await;
    let keys = etcd.keys();
    fill(&keys, 0, 20_000, "value").await;
    let proxy = Proxy::before(etcd.endpoint()).await;
    let daemon = daemon(&proxy.feed("app/"));
    let http = daemon.http();
    // Written on while it is read: whatever comes first, the state is never half of one and half of the other.
    for round in 0..20 {
        keys.txn(&[
            Op::Put(b"app/00000".to_vec(), format!("{round}").into_bytes()),
            Op::Put(b"app/19999".to_vec(), format!("{round}").into_bytes()),
        ])
        .await;
    }
    let mut mirror = mirror(&http).await;
    let both = |state: &State| (state[&b"app/00000"[..]].clone(), state[&b"app/19999"[..]].clone());
    let (first, last) = both(&mirror.state);
    assert!(first == last || (&*first == b"value 0" && &*last == b"value 19999"), "{first:?} {last:?}");
    assert_eq!(mirror.state.len(), 20_000);
    catch_up(&mut mirror, &keys).await;
    // Read again as a whole, when all but a few keys are the same: clients hear of the few.
    proxy.set(Net::Cut);
    told(&mut mirror, "resync-in-progress").await;
    fill(&keys, 5_000, 5_010, "changed").await;
    keys.delete(b"app/10000").await;
    keys.compact(keys.revision().await).await;
    proxy.set(Net::Open);
    let before = mirror.cursor.clone();
    catch_up(&mut mirror, &keys).await;
    let got = http.get(&format!("/v1/breadcrumbs/{before}/next?wait=0")).await.ok(200);
    let body = Body::read(got.need("content-type"), &got.plain());
    assert_eq!(body.records.iter().filter(|r| r.kind != "status").count(), 11);
    assert_same("below", &below(&mirror.state, APP), &mirror.state);
}

#[tokio::test]
async fn a_cursor_ahead_of_a_replica_waits_while_etcd_may_be_ahead() {
    let etcd = Etcd::start().await;
    let keys = etcd.keys();
    fill(&keys, 0, 10, "before").await;
    let proxy = Proxy::before(etcd.endpoint()).await;
    let lagging = daemon(&proxy.feed("app/"));
    let leading = daemon(&etcd.feed("app/"));
    is(&lagging.http(), "in-sync").await;
    let mut client = mirror(&leading.http()).await;
    proxy.set(Net::Cut);
    is(&lagging.http(), "resync-in-progress").await;
    fill(&keys, 0, 5, "while the other is cut off").await;
    catch_up(&mut client, &keys).await;
    let (cursor, revision) = (client.cursor.clone(), client.revision);
    client.move_to(lagging.http());
    assert_eq!(client.next("0").await, Step::Nothing);
    assert_eq!((&client.cursor, client.revision), (&cursor, revision), "a 204 never moves a client back");
    let path = format!("/v1/breadcrumbs/{cursor}/next?wait=20s");
    let waiting = {
        let http = lagging.http();
        tokio::spawn(async move { http.get(&path).await })
    };
    eventually("the request to wait", || async {
        (status(&lagging.http()).await["waiters"].as_u64()? >= 1).then_some(())
    })
    .await;
    fill(&keys, 5, 7, "more").await;
    proxy.set(Net::Open);
    let got = in_time("the waiter", waiting).await.unwrap().ok(200).standing();
    assert!(got.need("crumbd-revision").parse::<u64>().unwrap() > revision);
    catch_up(&mut client, &keys).await;
    assert_eq!(client.seen.snapshots, 1);
}

/// An etcd that wants a name and a password. `reader` may read `app/` and nothing else.
async fn guarded(more: &[&str]) -> Etcd {
    let etcd = Etcd::start_with(more).await;
    fill(&etcd.keys(), 0, 10, "guarded").await;
    etcd.keys().put(b"secret/key", b"not for readers").await;
    etcd.ctl(&["user", "add", "root:admin"]);
    etcd.ctl(&["role", "add", "root"]);
    etcd.ctl(&["user", "grant-role", "root", "root"]);
    etcd.ctl(&["user", "add", "reader:correct horse"]);
    etcd.ctl(&["role", "add", "app"]);
    etcd.ctl(&["role", "grant-permission", "app", "--prefix=true", "read", "app/"]);
    etcd.ctl(&["user", "grant-role", "reader", "app"]);
    etcd.ctl(&["auth", "enable"]);
    etcd
}

#[tokio::test]
async fn a_user_with_a_password_from_a_file_reads_what_it_may_and_logs_in_again_by_itself() {
    let mut etcd = guarded(&[]).await;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("password");
    std::fs::write(&file, "correct horse\n").unwrap();
    let file = file.to_str().unwrap();
    let daemon =
        Daemon::serve(&["--feed", &etcd.feed("app/"), "--etcd-user", "reader", "--etcd-password-file", file]);
    let http = daemon.http();
    let mut mirror = mirror(&http).await;
    assert_eq!(mirror.state.len(), 10);
    // A restarted etcd knows no token that it gave out before.
    etcd.kill();
    told(&mut mirror, "resync-in-progress").await;
    etcd.restart().await;
    etcd.ctl(&["--user", "root:admin", "put", "app/late", "1"]);
    in_time("what was written after the restart", async {
        while mirror.state.len() < 11 {
            assert_ne!(mirror.next("5s").await, Step::Gone);
        }
    })
    .await;
    told(&mut mirror, "in-sync").await;
    assert_eq!(mirror.seen.snapshots, 1);
    let command = std::fs::read(format!("/proc/{}/cmdline", daemon.pid())).unwrap();
    for (place, text) in
        [("process list", String::from_utf8_lossy(&command).into_owned()), ("log", daemon.log())]
    {
        assert!(!text.contains("correct horse"), "the password is in the {place}: {text}");
    }
}

/// etcd forgets a token that was not used for a while (5 minutes; here 1 second).
#[tokio::test]
async fn a_token_that_has_expired_is_replaced_by_logging_in_again() {
    let etcd = guarded(&["--auth-token-ttl", "1"]).await;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("password");
    std::fs::write(&file, "correct horse").unwrap();
    let daemon = Daemon::serve(&[
        "--feed",
        &etcd.feed("app/"),
        "--etcd-user",
        "reader",
        "--etcd-password-file",
        file.to_str().unwrap(),
    ]);
    let mut mirror = mirror(&daemon.http()).await;
    // A daemon that did not get to run uses no token; how long etcd keeps it beyond its time is etcd's business.
    eventually("etcd to have forgotten the token", || async {
        daemon.pause();
        tokio::time::sleep(std::time::Duration::from_secs(2)).await;
        daemon.go_on();
        let used = status(&daemon.http()).await["ingest"]["reconnects"].clone();
        eventually("the token to be used", || async {
            let status = status(&daemon.http()).await;
            (status["age_seconds"].as_f64()? < 1.0 || status["ingest"]["reconnects"] != used).then_some(())
        })
        .await;
        daemon.log().contains("invalid auth token").then_some(())
    })
    .await;
    etcd.ctl(&["--user", "root:admin", "put", "app/late", "1"]);
    in_time("what was written afterwards", async {
        while mirror.state.len() < 11 {
            assert_ne!(mirror.next("5s").await, Step::Gone);
        }
    })
    .await;
    told(&mut mirror, "in-sync").await;
    assert_eq!(mirror.seen.snapshots, 1);
    assert!(daemon.log().lines().filter(|line| line.contains("connected to etcd")).count() > 1);
}

#[tokio::test]
async fn a_wrong_password_is_told_in_the_log_and_tried_again_and_a_forbidden_prefix_is_not_served() {
    let etcd = guarded(&[]).await;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("password");
    for (password, prefix, complaint) in
        [("wrong horse", "app/", "authentication failed"), ("correct horse", "secret/", "permission denied")]
    {
        std::fs::write(&file, password).unwrap();
        let feed = etcd.feed(prefix);
        let arguments =
            ["--feed", &feed, "--etcd-user", "reader", "--etcd-password-file", file.to_str().unwrap()];
        let daemon = Daemon::serve(&arguments);
        daemon.logged(complaint, |line| line.contains(complaint).then_some(()));
        daemon.http().get("/livez").await.ok(200);
        daemon.http().get("/readyz").await.problem(503);
        assert!(!daemon.log().contains(password), "{}", daemon.log());
    }
}

/// Makes an authority `{name}-ca.pem`, and a certificate and key for 127.0.0.1 that it signed.
fn certificates(dir: &Path, name: &str) {
    let openssl = |arguments: &str| {
        let done = Command::new("openssl").args(arguments.split(' ')).current_dir(dir).output();
        let done = done.unwrap_or_else(|error| panic!("openssl ({error}): apt-get install openssl"));
        assert!(done.status.success(), "openssl {arguments}: {}", String::from_utf8_lossy(&done.stderr));
    };
    let fresh = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes";
    openssl(&format!(
        "req -x509 {fresh} -subj /CN={name}-ca -days 3650 -keyout {name}-ca-key.pem -out {name}-ca.pem"
    ));
    std::fs::write(dir.join("san"), "subjectAltName=IP:127.0.0.1,DNS:localhost\n").unwrap();
    openssl(&format!("req {fresh} -subj /CN={name} -keyout {name}-key.pem -out {name}.csr"));
    openssl(&format!(
        "x509 -req -in {name}.csr -CA {name}-ca.pem -CAkey {name}-ca-key.pem -CAcreateserial -days 3650 \
         -extfile san -out {name}.pem"
    ));
}

#[tokio::test]
async fn tls_with_certificates_on_both_sides() {
    let dir = tempfile::tempdir().unwrap();
    certificates(dir.path(), "good");
    certificates(dir.path(), "other");
    let file = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let (ca, cert, key) = (file("good-ca.pem"), file("good.pem"), file("good-key.pem"));
    let etcd = Etcd::start_with(&[
        "--cert-file",
        &cert,
        "--key-file",
        &key,
        "--trusted-ca-file",
        &ca,
        "--client-cert-auth",
    ])
    .await;
    let tls = ["--cacert", &ca, "--cert", &cert, "--key", &key];
    let put = |key: &str| etcd.try_ctl(&[&tls[..], &["put", key, "over TLS"]].concat()).ok();
    eventually("etcd to take a key", || async { put("app/a") }).await;
    let feed = format!("etcds://{}/app/", etcd.endpoint());
    let good = ["--feed", &feed, "--etcd-ca", &ca, "--etcd-cert", &cert, "--etcd-key", &key];
    let daemon = Daemon::serve(&good);
    let mut mirror = mirror(&daemon.http()).await;
    assert_eq!(mirror.state.len(), 1);
    put("app/b").unwrap();
    in_time("the second key", async {
        while mirror.state.len() < 2 {
            assert_ne!(mirror.next("5s").await, Step::Gone);
        }
    })
    .await;
    // Nobody is spoken to whose authority is another one, and nobody is let in without a certificate. The log says
    // what would be right.
    let other = file("other-ca.pem");
    let plain = etcd.feed("app/");
    for (bad, complaint) in [
        (
            vec!["--feed", &feed, "--etcd-ca", &other, "--etcd-cert", &cert, "--etcd-key", &key],
            "invalid peer certificate",
        ),
        (vec!["--feed", &feed], "--etcd-ca"),
        (vec!["--feed", &feed, "--etcd-ca", &ca], "--etcd-cert and --etcd-key"),
        (vec!["--feed", &plain], "etcds://"),
    ] {
        let refused = Daemon::serve(&bad);
        refused.logged(complaint, |line| (line.contains("WARN") && line.contains(complaint)).then_some(()));
        refused.http().get("/readyz").await.problem(503);
        let log = refused.log();
        assert!(!log.contains("connected to etcd"), "nobody was let in, and yet: {log}");
    }
    daemon.logged("that it is connected", |line| line.contains("connected to etcd").then_some(()));
}
