//! Scale-out: any replica of crumbd on the same etcd prefix continues any other's cursors, whatever is killed,
//! restarted or compacted meanwhile.
//!
//! The processes are real: two daemons and Debian's etcd, killed with SIGKILL.
#![allow(clippy::unwrap_used)]

mod support;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use fastrand::Rng;
use support::daemon::Daemon;
use support::etcd::{self, Etcd, Keys, Net, Op, Proxy};
use support::followed::is;
use support::http::Http;
use support::mirror::{Coding, Media, Mirror, Step};
use support::record::Body;
use support::roamer::Roamer;
use support::state::{State, assert_same, below, digest, hex};
use support::{eventually, in_time};

const PREFIX: &[u8] = b"app/";

/// A daemon on this etcd's `app/`.
fn replica(etcd: &Etcd) -> Daemon {
    Daemon::serve(&["--feed", &etcd.feed("app/")])
}

/// The state below the prefix at every revision that the store ever had.
type Model = Arc<Mutex<BTreeMap<u64, State>>>;

/// What writer, client and the one who breaks things know of each other.
#[derive(Default)]
struct Shared {
    model: Model,
    written: AtomicUsize,
    /// The revisions at which something changed below the prefix.
    changes: Mutex<Vec<u64>>,
    /// The client's revision.
    revision: AtomicUsize,
    steps: AtomicUsize,
    no_more_faults: AtomicBool,
    written_all: AtomicBool,
    /// The living replicas.
    replicas: Mutex<[Option<Http>; 2]>,
}

/// How far the writer runs ahead of the client at most, in transactions.
const AHEAD: usize = 30;
const TRANSACTIONS: usize = 1500;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_client_alternates_between_two_replicas_while_everything_is_killed_and_never_notices() {
    // Another seed, another story: `CRUMBD_SEED=5 cargo test one_client`.
    let seed = std::env::var("CRUMBD_SEED").map_or(3, |seed| seed.parse().unwrap());
    eprintln!("seed {seed}");
    let mut etcd = Etcd::start().await;
    let keys = etcd.keys();
    let shared = Arc::new(Shared::default());
    shared.model.lock().unwrap().insert(1, State::new());
    let mut replicas = [Some(replica(&etcd)), Some(replica(&etcd))];
    for (slot, one) in shared.replicas.lock().unwrap().iter_mut().zip(&replicas) {
        *slot = Some(one.as_ref().unwrap().http());
    }
    is(&replicas[0].as_ref().unwrap().http(), "in-sync").await;
    let mut roamer = Roamer::start(&replicas[0].as_ref().unwrap().http(), seed + 1).await;
    let writer = tokio::spawn(write(keys.clone(), shared.clone(), Rng::with_seed(seed + 2)));
    let client = {
        let shared = shared.clone();
        tokio::spawn(async move {
            let seen = roam(&mut roamer, &shared).await;
            (roamer, seen)
        })
    };

    let mut rng = Rng::with_seed(seed);
    let mut kills = [0; 2];
    for fault in 0..24 {
        let (written, steps) = (shared.written.load(Ordering::SeqCst), shared.steps.load(Ordering::SeqCst));
        match fault % 4 {
            0 => compact_behind(&keys, &shared).await,
            2 if fault % 8 == 2 => {
                etcd.kill();
                if rng.bool() {
                    // A replica that starts while there is no etcd.
                    let which = rng.usize(..2);
                    kill_replica(which, &mut replicas);
                    start_replica(which, &mut replicas, &shared, &etcd);
                }
                etcd.restart().await;
            }
            _ => {
                let which = (fault / 2) % 2;
                kills[which] += 1;
                kill_replica(which, &mut replicas);
                if rng.bool() {
                    compact_behind(&keys, &shared).await;
                }
                start_replica(which, &mut replicas, &shared, &etcd);
                let http = replicas[which].as_ref().unwrap().http();
                is(&http, "in-sync").await;
            }
        }
        // Go on breaking things only after writer and client went on too.
        eventually("writer and client to go on", || async {
            let failed = writer.is_finished() || client.is_finished();
            let on = shared.written.load(Ordering::SeqCst) > written + 20
                && shared.steps.load(Ordering::SeqCst) > steps + 2;
            (failed || on).then_some(())
        })
        .await;
        if writer.is_finished() || client.is_finished() {
            break;
        }
    }
    shared.no_more_faults.store(true, Ordering::SeqCst);
    if !client.is_finished() {
        in_time("the writer to end", writer).await.unwrap();
        shared.written_all.store(true, Ordering::SeqCst);
    }
    let (roamer, seen) = match in_time("the client to see everything", client).await {
        Ok(done) => done,
        Err(failed) => std::panic::resume_unwind(failed.into_panic()),
    };

    assert!(kills.iter().all(|&kills| kills >= 3), "{kills:?}");
    let answered = ["0", "1"].map(|replica| roamer.answered.iter().filter(|by| *by == replica).count());
    assert!(answered.iter().all(|&n| n > 30), "answers by each replica: {answered:?}");
    assert!(roamer.moved > 30, "a cursor of one was continued by the other {} times", roamer.moved);
    let stored = keys.range(PREFIX).await;
    assert_same("at the end", &roamer.state, &stored.state);
    let model = shared.model.lock().unwrap();
    assert!(seen.len() > 50, "{} states seen", seen.len());
    for (revision, state) in &seen {
        let (at, expected) = model.range(..=revision).next_back().unwrap();
        assert_same(&format!("at revision {revision} (the model's at {at})"), state, expected);
    }
    eprintln!(
        "{} transactions, {} states seen, {answered:?} answers, {} moves, {} retries",
        shared.written.load(Ordering::SeqCst),
        seen.len(),
        roamer.moved,
        roamer.retries.len()
    );
}

/// The client is not told: it finds out by a refused or broken connection.
fn kill_replica(which: usize, replicas: &mut [Option<Daemon>; 2]) {
    drop(replicas[which].take());
}

fn start_replica(which: usize, replicas: &mut [Option<Daemon>; 2], shared: &Shared, etcd: &Etcd) {
    let started = replica(etcd);
    shared.replicas.lock().unwrap()[which] = Some(started.http());
    replicas[which] = Some(started);
}

/// Compacts to about 50 revisions ago, but not beyond where the client is: whoever is further behind than etcd
/// remembers has to begin anew at a replica that was not there.
async fn compact_behind(keys: &Keys, shared: &Shared) {
    let revision = keys.revision().await - 50;
    let to = revision.min(shared.revision.load(Ordering::SeqCst) as i64);
    if to > 1 {
        // Already compacted so far: that is what was wanted.
        drop(keys.call("kv/compaction", &serde_json::json!({"revision": to.to_string()})).await);
    }
}

/// Writes transactions and records the state at each of their revisions.
async fn write(keys: Keys, shared: Arc<Shared>, mut rng: Rng) {
    let mut state = State::new();
    let mut revision = keys.revision().await;
    loop {
        let written = shared.written.load(Ordering::SeqCst);
        if written >= TRANSACTIONS && shared.no_more_faults.load(Ordering::SeqCst) {
            return;
        }
        // The client goes along, so that faults hit it at work.
        eventually("the client to come further", || async {
            let client = shared.revision.load(Ordering::SeqCst) as u64;
            let changes = shared.changes.lock().unwrap();
            (changes.len() - changes.partition_point(|at| *at <= client) < AHEAD).then_some(())
        })
        .await;
        let ops = transaction(&mut rng, written);
        let now = match keys.try_txn(&ops).await {
            Ok(now) => now,
            // Killed in the middle: whether it was applied, only etcd knows.
            Err(_) => eventually("etcd to come back", || async { keys.try_revision().await.ok() }).await,
        };
        assert!(now == revision || now == revision + 1, "{now} after {revision}: somebody else writes");
        if now > revision {
            let before = below(&state, PREFIX);
            etcd::apply(&mut state, &ops);
            let after = below(&state, PREFIX);
            revision = now;
            if before != after {
                shared.changes.lock().unwrap().push(now as u64);
            }
            shared.model.lock().unwrap().insert(now as u64, after);
        }
        shared.written.fetch_add(1, Ordering::SeqCst);
    }
}

fn transaction(rng: &mut Rng, number: usize) -> Vec<Op> {
    let key = |rng: &mut Rng| format!("app/{:02}", rng.u32(..60)).into_bytes();
    let value = |rng: &mut Rng| match rng.u32(..8) {
        0 => Vec::new(),
        1 => vec![0xff, 0xfe, rng.u8(..)],
        2 => b"the same".to_vec(),
        3 => format!("{{\"n\":{number}}}").into_bytes(),
        _ => format!("value {number} {}", "x".repeat(rng.usize(..80))).into_bytes(),
    };
    match rng.u32(..20) {
        0..8 => vec![Op::Put(key(rng), value(rng))],
        8..11 => vec![Op::Delete(key(rng))],
        // Outside of the prefix.
        11..13 => vec![Op::Put(format!("other/{}", rng.u32(..5)).into_bytes(), value(rng))],
        13 => vec![Op::Put(b"app".to_vec(), value(rng)), Op::Put(b"app0".to_vec(), value(rng))],
        14 => {
            let from = rng.u32(..55);
            vec![Op::DeleteRange(
                format!("app/{from:02}").into_bytes(),
                format!("app/{:02}", from + 5).into_bytes(),
            )]
        }
        // Several keys at once, some deleted, some set; each key once, as etcd demands.
        _ => {
            let mut numbers: Vec<u32> = (0..60).collect();
            rng.shuffle(&mut numbers);
            let many = 2 + rng.usize(..7);
            let one = |number: &u32| {
                let key = format!("app/{number:02}").into_bytes();
                if rng.u32(..3) == 0 { Op::Delete(key) } else { Op::Put(key, value(rng)) }
            };
            let mut ops: Vec<Op> = numbers[..many].iter().map(one).collect();
            ops.push(Op::Put(b"other/too".to_vec(), number.to_string().into_bytes()));
            ops
        }
    }
}

/// Sends each request to a replica of its choice, and to the other one when that one does not serve, until the writer
/// has ended and everything was seen. Gives every state that the client was in, with its revision.
async fn roam(roamer: &mut Roamer, shared: &Shared) -> Vec<(u64, State)> {
    let mut seen = vec![(roamer.revision, roamer.state.clone())];
    loop {
        if shared.written_all.load(Ordering::SeqCst) {
            let model = shared.model.lock().unwrap();
            let last = model.last_key_value().unwrap().1;
            if roamer.state == *last {
                return seen;
            }
        }
        let mut tried: Option<usize> = None;
        let choose = |rng: &mut Rng| {
            let which = tried.map_or_else(|| rng.usize(..2), |tried| 1 - tried);
            tried = Some(which);
            let http = shared.replicas.lock().unwrap()[which].clone();
            http.map(|http| (which.to_string(), http))
        };
        let got = roamer.step("500ms", choose).await;
        shared.revision.store(roamer.revision as usize, Ordering::SeqCst);
        if got.status == 200 {
            seen.push((roamer.revision, roamer.state.clone()));
            shared.steps.fetch_add(1, Ordering::SeqCst);
        }
    }
}

/// The cursor and digest that both report at once, with nobody writing.
async fn agreed(one: &Http, other: &Http, at_least: i64) -> (String, String) {
    eventually("two replicas at the same cursor", || async {
        let (one, other) = (one.get("/v1/status").await.json(), other.get("/v1/status").await.json());
        let revision = one["revision"].as_i64().unwrap();
        (one["revision"] == other["revision"]
            && revision >= at_least
            && one["status"] == "in-sync"
            && other["status"] == "in-sync")
            .then(|| {
                assert_eq!(one["digest"], other["digest"], "one revision, one digest: {one} {other}");
                assert_eq!(one["cursor"], other["cursor"], "one revision, one cursor: {one} {other}");
                assert_eq!(one["count"], other["count"]);
                (one["cursor"].as_str().unwrap().to_owned(), one["digest"].as_str().unwrap().to_owned())
            })
    })
    .await
}

#[tokio::test]
async fn two_replicas_at_one_revision_have_one_digest_and_one_cursor() {
    let etcd = Etcd::start().await;
    let keys = etcd.keys();
    let mut rng = Rng::with_seed(23);
    let mut last = 1;
    for number in 0..100 {
        last = keys.txn(&transaction(&mut rng, number)).await;
    }
    let one = replica(&etcd);
    let mut other = replica(&etcd);
    for round in 0..3 {
        for number in 0..60 {
            keys.txn(&transaction(&mut rng, number)).await;
        }
        last = keys.put(b"app/last", format!("{round} {last}").as_bytes()).await;
        let (_, seen) = agreed(&one.http(), &other.http(), last).await;
        let stored = keys.range(PREFIX).await;
        assert_eq!(seen, hex(digest(&stored.state)), "and it is that of what etcd has");
        // From one that watched all the time and one that read everything just now.
        drop(other);
        if round == 1 {
            keys.compact(keys.revision().await).await;
        }
        other = replica(&etcd);
        let (_, after) = agreed(&one.http(), &other.http(), last).await;
        assert_eq!(after, seen);
    }
}

#[tokio::test]
async fn a_fresh_replica_on_a_store_whose_last_change_was_elsewhere_continues_the_others_cursors() {
    // The store's revision counts changes outside of the prefix too; a replica that reads everything sees that one,
    // a replica that watches sees only its own.
    let etcd = Etcd::start().await;
    let keys = etcd.keys();
    let last = keys.put(b"app/a", b"1").await;
    let old = replica(&etcd);
    is(&old.http(), "in-sync").await;
    for n in 0..5 {
        keys.put(b"other/a", n.to_string().as_bytes()).await;
    }
    let fresh = replica(&etcd);
    is(&fresh.http(), "in-sync").await;
    let mut mirror = Mirror::of(old.http(), Media::Json, Coding::Identity).await;
    assert!(mirror.revision >= last as u64);
    for number in 0..6 {
        mirror.move_to(if number % 2 == 0 { fresh.http() } else { old.http() });
        while mirror.next("0").await != Step::Nothing {}
        let at = keys.put(b"app/a", format!("round {number}").as_bytes()).await;
        mirror.follow_until("the change", |mirror| mirror.revision >= at as u64).await;
        assert_same("after a move", &mirror.state, &keys.range(PREFIX).await.state);
    }
    assert_eq!(mirror.seen.snapshots, 1);
}

#[tokio::test]
async fn a_replica_that_was_cut_off_continues_a_cursor_from_within_what_it_missed() {
    let etcd = Etcd::start().await;
    let keys = etcd.keys();
    let mut rng = Rng::with_seed(5);
    for number in 0..60 {
        keys.txn(&transaction(&mut rng, number)).await;
    }
    let proxy = Proxy::before(etcd.endpoint()).await;
    let away = Daemon::serve(&["--feed", &proxy.feed("app/")]);
    let there = replica(&etcd);
    is(&away.http(), "in-sync").await;
    is(&there.http(), "in-sync").await;
    let mut mirror = Mirror::of(there.http(), Media::Json, Coding::Identity).await;
    for round in 0..4 {
        proxy.set(Net::Cut);
        is(&away.http(), "resync-in-progress").await;
        // Three cursors: two before the compaction and one after it, all of revisions that the other never saw.
        let mut stops = Vec::new();
        for number in 0..90 {
            keys.txn(&transaction(&mut rng, number)).await;
            if number % 30 == 10 {
                // Made and deleted again before the other one is back: it has to be told of the deletion.
                keys.put(b"app/short-lived", format!("{round} {number}").as_bytes()).await;
                let at = keys.put(b"app/stop", format!("{round} {number}").as_bytes()).await;
                mirror.follow_until("the one there", |mirror| mirror.revision >= at as u64).await;
                stops.push((mirror.cursor.clone(), mirror.state.clone()));
            }
        }
        keys.delete(b"app/short-lived").await;
        keys.compact(mirror.revision as i64).await;
        let last = keys.put(b"app/last", round.to_string().as_bytes()).await;
        proxy.set(Net::Open);
        let (_, sum) = agreed(&away.http(), &there.http(), last).await;
        // What etcd still knows the way from is continued; the rest is continued rightly or refused.
        for (number, (cursor, mut state)) in stops.into_iter().enumerate() {
            let path = format!("/v1/breadcrumbs/{cursor}/next?wait=10s");
            let got = away.http().get(&path).await;
            if got.status == 410 && number < 2 {
                got.problem(410);
                continue;
            }
            let got = got.ok(200).standing();
            let body = Body::read(got.need("content-type"), &got.plain());
            let before = digest(&state);
            let after = support::mirror::apply(&mut state, before, &body.records);
            assert_eq!(hex(after), sum, "cursor {number} of round {round}: {cursor}");
        }
        mirror.move_to(away.http());
        mirror.follow_until("the change", |mirror| mirror.revision >= last as u64).await;
        assert_same("by the one that was away", &mirror.state, &keys.range(PREFIX).await.state);
        mirror.move_to(there.http());
    }
    assert_eq!(mirror.seen.snapshots, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transaction_is_one_revision_and_is_never_split() {
    let etcd = Etcd::start().await;
    let keys = etcd.keys();
    let pair = |n: u32| {
        let value = format!("{n}").into_bytes();
        vec![Op::Put(b"app/left".to_vec(), value.clone()), Op::Put(b"app/right".to_vec(), value)]
    };
    keys.txn(&pair(0)).await;
    // A batch of one: whoever cuts by updates would cut here.
    let daemons = [
        Daemon::serve(&["--feed", &etcd.feed("app/"), "--max-batch", "1"]),
        Daemon::serve(&["--feed", &etcd.feed("app/")]),
    ];
    const LAST: u32 = 400;
    let followers = daemons.iter().map(|daemon| daemon.http()).map(|http| {
        tokio::spawn(async move {
            is(&http, "in-sync").await;
            let mut mirror = Mirror::of(http, Media::Ndjson, Coding::Identity).await;
            let mut seen = 0;
            loop {
                let of = |key: &[u8]| mirror.state.get(key).map(|v| String::from_utf8(v.to_vec()).unwrap());
                let (left, right) = (of(b"app/left"), of(b"app/right"));
                assert_eq!(left, right, "one half of a transaction at {}", mirror.cursor);
                seen += 1;
                if left == Some(LAST.to_string()) {
                    return seen;
                }
                assert_ne!(mirror.next("10s").await, Step::Gone);
            }
        })
    });
    let followers: Vec<_> = followers.collect();
    for n in 1..LAST {
        // Sometimes both are deleted at once, and come again at once.
        if n % 7 == 0 {
            keys.txn(&[Op::DeleteRange(b"app/".to_vec(), b"app0".to_vec())]).await;
        } else {
            keys.txn(&pair(n)).await;
        }
    }
    keys.txn(&pair(LAST)).await;
    for follower in followers {
        let seen = in_time("a follower", follower).await.unwrap();
        assert!(seen > 10, "{seen} states seen");
    }
    for daemon in &daemons {
        let kept = daemon.http().get("/v1/status").await.json();
        assert_eq!(kept["count"], 2);
    }
}

#[tokio::test]
async fn a_large_transaction_that_etcd_sends_in_fragments_is_still_one_breadcrumb() {
    let etcd = Etcd::start_with(&["--max-txn-ops", "2000", "--max-request-bytes", "10485760"]).await;
    let keys = etcd.keys();
    keys.put(b"app/000", b"first").await;
    let daemon = replica(&etcd);
    is(&daemon.http(), "in-sync").await;
    let mut mirror = Mirror::of(daemon.http(), Media::Bincode, Coding::Identity).await;
    // 64 values of 48 KiB: 3 MiB in one revision, above the 2 MiB at which etcd begins to cut.
    let ops: Vec<Op> =
        (0..64_u8).map(|n| Op::Put(format!("app/{n:03}").into_bytes(), vec![n; 48 << 10])).collect();
    let at = keys.txn(&ops).await;
    let step = in_time("the transaction", mirror.next("20s")).await;
    assert_eq!(step, Step::Changes { updates: 64, mode: "delta".into() });
    assert_eq!(mirror.revision, at as u64);
    assert_same("after it", &mirror.state, &keys.range(PREFIX).await.state);
}
