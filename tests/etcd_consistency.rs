//! Whatever happens to etcd, a state that the daemon calls in-sync is etcd's.
//!
//! Rounds of faults at random, from a fixed seed: etcd is killed, paused, compacted, restored from a snapshot or from a copy of
//! its directory, created again and filled in the same order, put behind a `grpc-proxy`; the network is cut meanwhile,
//! the daemon is stopped, or started again on its state directory. After each round, once the store is left in
//! peace, the daemon has to come to what etcd holds; and in one history a revision never means two states.
//!
//! `ETCD_TRUTH_ROUNDS` and `ETCD_TRUTH_SEED` set other numbers: a failure names its round and its seed.
#![allow(clippy::unwrap_used)]

#[path = "support/mod.rs"]
mod support;

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use support::daemon::Daemon;
use support::etcd::{Etcd, GrpcProxy, Keys, Net, Op, Proxy};
use support::followed::{APP, follow, is, mirror};
use support::http::Http;
use support::mirror::{Coding, Media, Mirror, Step};
use support::state::{digest, hex};
use support::{A_WHILE, DEADLINE};
use tempfile::TempDir;

fn setting(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).map_or(otherwise, |text| text.parse().unwrap_or_else(|_| panic!("{name}={text}")))
}

#[derive(Debug, Clone, Copy)]
enum Fault {
    Nothing,
    Killed,
    Paused,
    CompactedToTheNewest,
    CompactedInTheMiddle,
    SavedAsSnapshot,
    SavedAsCopy,
    RestoredFromSnapshot,
    RestoredFromCopy,
    Recreated,
    RecreatedInTheSameOrder,
    BehindAGrpcProxy,
    GrpcProxyRestarted,
    WithoutProxy,
}

const FAULTS: [Fault; 14] = [
    Fault::Nothing,
    Fault::Killed,
    Fault::Paused,
    Fault::CompactedToTheNewest,
    Fault::CompactedInTheMiddle,
    Fault::SavedAsSnapshot,
    Fault::SavedAsCopy,
    Fault::RestoredFromSnapshot,
    Fault::RestoredFromCopy,
    Fault::Recreated,
    Fault::RecreatedInTheSameOrder,
    Fault::BehindAGrpcProxy,
    Fault::GrpcProxyRestarted,
    Fault::WithoutProxy,
];

/// What the daemon notices of it meanwhile.
#[derive(Debug, Clone, Copy)]
enum Absence {
    /// Everything.
    None,
    /// Its network is cut.
    Cut,
    /// It does not run.
    Stopped,
    /// It is ended, and started again on its state directory.
    Ended,
}

const ABSENCES: [Absence; 5] = [Absence::None, Absence::None, Absence::Cut, Absence::Stopped, Absence::Ended];

/// Everything that is written to the store goes through here, so that it can be written again in the same order.
#[derive(Debug, Clone)]
enum Write {
    Put(u64, u64),
    Delete(u64),
    Both(u64, u64, u64),
    Elsewhere,
}

fn key(n: u64) -> Vec<u8> {
    format!("app/{n}").into_bytes()
}

async fn write(keys: &Keys, write: &Write, salt: &str) {
    let value = |n: u64| format!("{n}{salt}").into_bytes();
    let ops = match *write {
        Write::Put(k, v) => vec![Op::Put(key(k), value(v))],
        Write::Delete(k) => vec![Op::Delete(key(k))],
        Write::Both(k, v, gone) => vec![Op::Put(key(k), value(v)), Op::Delete(key(gone))],
        Write::Elsewhere => vec![Op::Put(b"other/key".to_vec(), b"x".to_vec())],
    };
    keys.txn(&ops).await;
}

struct World {
    random: fastrand::Rng,
    etcd: Etcd,
    net: Proxy,
    grpc: Option<GrpcProxy>,
    daemon: Daemon,
    dir: TempDir,
    snapshot: Option<PathBuf>,
    copy: Option<PathBuf>,
    written: Vec<Write>,
    /// What each revision was, by the daemon that stays.
    seen: HashMap<(String, u64), String>,
    client: Mirror,
}

fn serve(net: &Proxy, dir: &TempDir) -> Daemon {
    let state = dir.path().join("state");
    let arguments =
        ["--feed", &net.feed("app/"), "--state-dir", state.to_str().unwrap(), "--state-interval", "20ms"];
    Daemon::serve(&arguments)
}

impl World {
    async fn new(seed: u64) -> World {
        let etcd = Etcd::start().await;
        let net = Proxy::before(etcd.endpoint()).await;
        let dir = tempfile::tempdir().unwrap();
        etcd.keys().put(b"app/0", b"first").await;
        let daemon = serve(&net, &dir);
        let client = mirror(&daemon.http()).await;
        World {
            random: fastrand::Rng::with_seed(seed),
            etcd,
            net,
            grpc: None,
            daemon,
            dir,
            snapshot: None,
            copy: None,
            written: Vec::new(),
            seen: HashMap::new(),
            client,
        }
    }

    fn some_write(&mut self) -> Write {
        let random = &mut self.random;
        let (k, v) = (random.u64(..8), random.u64(..1000));
        match random.u8(..10) {
            0..5 => Write::Put(k, v),
            5..8 => Write::Delete(k),
            8 => Write::Both(k, v, k + 1),
            _ => Write::Elsewhere,
        }
    }

    async fn write(&mut self, most: usize) {
        let keys = self.etcd.keys();
        for _ in 0..self.random.usize(..=most) {
            let next = self.some_write();
            write(&keys, &next, "").await;
            self.written.push(next);
        }
    }

    /// What was written, again; but for the values of some.
    async fn write_again(&mut self) {
        let keys = self.etcd.keys();
        let (all, other) = (self.written.len(), self.random.usize(..=self.written.len()));
        keys.put(b"app/0", b"first").await;
        for (n, again) in self.written.clone().iter().enumerate() {
            // Only what comes early differs, so that what was written last is just as it was.
            write(&keys, again, if n < other.min(all / 2) { " again" } else { "" }).await;
        }
    }

    async fn happens(&mut self, fault: Fault) {
        match fault {
            Fault::Nothing => {}
            Fault::Killed => {
                self.etcd.kill();
                self.etcd.restart().await;
            }
            Fault::Paused => {
                self.etcd.pause();
                tokio::time::sleep(Duration::from_millis(self.random.u64(100..7000))).await;
                self.etcd.go_on();
                let keys = self.etcd.keys();
                support::eventually("etcd to go on", || async { keys.try_revision().await.ok() }).await;
            }
            Fault::CompactedToTheNewest => self.compact(0).await,
            Fault::CompactedInTheMiddle => {
                let back = self.random.i64(1..10);
                self.compact(back).await;
            }
            Fault::SavedAsSnapshot => {
                let file = self.dir.path().join(format!("snapshot-{}", self.random.u64(..)));
                self.etcd.save(&file);
                self.snapshot = Some(file);
            }
            Fault::SavedAsCopy => {
                let copy = self.dir.path().join(format!("copy-{}", self.random.u64(..)));
                self.etcd.copy_to(&copy).await;
                self.copy = Some(copy);
            }
            Fault::RestoredFromSnapshot => {
                if let Some(file) = self.snapshot.clone() {
                    self.etcd.restore(&file).await;
                }
            }
            Fault::RestoredFromCopy => {
                if let Some(copy) = self.copy.clone() {
                    self.etcd.go_back_to(&copy).await;
                }
            }
            Fault::Recreated => {
                self.etcd.recreate().await;
                self.written.clear();
            }
            Fault::RecreatedInTheSameOrder => {
                self.etcd.recreate().await;
                self.write_again().await;
            }
            Fault::BehindAGrpcProxy | Fault::GrpcProxyRestarted => {
                let proxy = GrpcProxy::before(&self.etcd).await;
                self.net.lead_to(proxy.endpoint());
                // The one before, if there is one, goes with its connections.
                self.grpc = Some(proxy);
                self.hang_up();
            }
            Fault::WithoutProxy => {
                self.net.lead_to(self.etcd.endpoint());
                self.grpc = None;
            }
        }
    }

    /// Breaks the connections that there are.
    fn hang_up(&self) {
        let before = self.net.state();
        self.net.set(Net::Cut);
        self.net.set(before);
    }

    async fn compact(&mut self, back: i64) {
        let keys = self.etcd.keys();
        let to = keys.revision().await - back;
        // What is compacted already cannot be compacted again.
        _ = keys.try_compact(to).await;
    }

    async fn round(&mut self, n: u64) -> String {
        let fault = FAULTS[self.random.usize(..FAULTS.len())];
        let absence = ABSENCES[self.random.usize(..ABSENCES.len())];
        let what = format!("round {n}: {fault:?}, absent: {absence:?}");
        self.write(6).await;
        match absence {
            Absence::None => {}
            Absence::Cut => self.net.set(Net::Cut),
            Absence::Stopped => self.daemon.pause(),
            Absence::Ended => {
                self.daemon.terminate();
                assert!(self.daemon.wait_exit().success());
            }
        }
        self.happens(fault).await;
        let most = if self.random.bool() { 3 } else { 60 };
        self.write(most).await;
        match absence {
            Absence::None => {}
            Absence::Cut => self.net.set(Net::Open),
            Absence::Stopped => self.daemon.go_on(),
            Absence::Ended => {
                self.daemon = serve(&self.net, &self.dir);
                self.client.move_to(self.daemon.http());
            }
        }
        what
    }

    /// Nobody writes any more.
    async fn settles(&mut self, what: &str) -> Duration {
        let (http, keys) = (self.daemon.http(), self.etcd.keys());
        let wrong = comes_to(&http, &keys, what).await;
        tokio::time::sleep(A_WHILE).await;
        let current = Mirror::of(http.clone(), Media::Ndjson, Coding::Identity).await;
        let stored = keys.range(APP).await.state;
        assert!(current.status != "in-sync" || current.state == stored, "{what}: it did not stay so");
        let sum = hex(digest(&current.state));
        let before = self.seen.insert((current.history.clone(), current.revision), sum.clone());
        assert!(
            before.as_ref().is_none_or(|before| *before == sum),
            "{what}: revision {} of history {} is two states: {before:?} and {sum}",
            current.revision,
            current.history
        );
        self.client_follows(&stored, what).await;
        wrong
    }

    /// A client that followed all the time comes to the same, or is told that its cursor is gone.
    async fn client_follows(&mut self, stored: &support::state::State, what: &str) {
        let end = Instant::now() + DEADLINE;
        while self.client.state != *stored {
            assert!(Instant::now() < end, "{what}: a client does not come to what etcd holds");
            if self.client.next("1s").await == Step::Gone {
                self.client.take_current().await;
            }
        }
    }
}

/// Waits until the daemon is in-sync with what etcd holds. Gives how long it said so before it was true.
async fn comes_to(http: &Http, keys: &Keys, what: &str) -> Duration {
    let start = Instant::now();
    let mut wrong = Duration::ZERO;
    loop {
        let stored = keys.range(APP).await.state;
        let current = Mirror::of(http.clone(), Media::Ndjson, Coding::Identity).await;
        match (&*current.status, current.state == stored) {
            ("in-sync", true) => return wrong,
            ("in-sync", false) => wrong = start.elapsed(),
            _ => {}
        }
        assert!(
            start.elapsed() < DEADLINE,
            "{what}: {}, and not what etcd holds: {}",
            current.status,
            support::state::difference(&current.state, &stored)
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_called_in_sync_is_what_etcd_holds_whatever_becomes_of_it() {
    let (rounds, seed) = (setting("ETCD_TRUTH_ROUNDS", 20), setting("ETCD_TRUTH_SEED", 10));
    let mut world = World::new(seed).await;
    let mut longest = (Duration::ZERO, String::new());
    for n in 0..rounds {
        let what = format!("{} (seed {seed})", world.round(n).await);
        let wrong = world.settles(&what).await;
        println!("{what}: {} ms of in-sync before it was true", wrong.as_millis());
        if wrong > longest.0 {
            longest = (wrong, what);
        }
        if n % 10 == 9 {
            // One that saw nothing of all that.
            let fresh = follow(&world.net.feed("app/"));
            is(&fresh.http(), "in-sync").await;
            comes_to(&fresh.http(), &world.etcd.keys(), "a fresh daemon").await;
        }
    }
    println!("{rounds} rounds; longest: {} ms, {}", longest.0.as_millis(), longest.1);
}
