//! What a hop of a tree costs: the latency from a write at the root until a client has it at each level, and the CPU of a
//! relay for each update, beside a client that only decodes.
//!
//! ```text
//! cargo bench --bench relay                     # medians of 5 rounds: about two minutes
//! cargo bench --bench relay -- --quick          # one short round
//! ```
//!
//! Root, relay, leaf and the floor, which is `crumbd follow` to nowhere, are processes of their own and share the
//! machine's cores. One relay serves nobody, and is what is compared with the floor; another one serves the leaf.

// A benchmark may unwrap, and its table is its output.
#![allow(clippy::unwrap_used, missing_docs)]

#[path = "../../tests/support/mod.rs"]
mod support;

use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use crumbd::client::{Client, Follower};
use crumbd::model::Key;
use crumbd_bench::load::Process;
use support::daemon::{self, Daemon};
use tokio::sync::mpsc;

/// As in the binary.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The bytes of a value.
const VALUE: usize = 256;

struct Effort {
    rounds: usize,
    updates: u64,
}

fn main() {
    let has = |flag: &str| std::env::args().any(|argument| argument == flag);
    let effort = match (has("--bench"), has("--quick")) {
        (true, false) => Effort { rounds: 5, updates: 3000 },
        (_, true) => Effort { rounds: 1, updates: 1000 },
        // `cargo test --benches` runs this file too; it then only shows that it works.
        (false, false) => Effort { rounds: 1, updates: 20 },
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(measure(&effort));
}

async fn measure(effort: &Effort) {
    let root = Daemon::push(&[]);
    let relay_of = |daemon: &Daemon| Daemon::serve(&["--feed", &format!("crumbd://{}/", daemon.address())]);
    let (idle, relay) = (relay_of(&root), relay_of(&root));
    let leaf = relay_of(&relay);
    for daemon in [&root, &idle, &relay, &leaf] {
        assert_eq!(daemon.http().get("/readyz?wait=30s").await.status, 200);
    }
    let writer = Client::new(root.url()).unwrap();

    let levels = latencies(&writer, [&root, &relay, &leaf], effort).await;
    let at = |times: &[Duration], share: f64| {
        times[((times.len() - 1) as f64 * share) as usize].as_secs_f64() * 1e3
    };
    let floor = at(&levels[0], 0.5);
    println!("| a client here has a write at the root after | p50 | p99 | p50 beside a client of the root |");
    println!("|---|---|---|---|");
    for (name, times) in ["root", "relay", "leaf"].into_iter().zip(&levels) {
        let (p50, p99) = (at(times, 0.5), at(times, 0.99));
        println!("| {name} | {p50:.2} ms | {p99:.2} ms | {:.2} |", p50 / floor);
    }

    let floor = FollowProcess::of(&root);
    let pids = [floor.0.id(), idle.pid(), relay.pid(), leaf.pid(), root.pid()];
    let mut spent: [Vec<f64>; 5] = Default::default();
    for round in 0..effort.rounds {
        let mut processes = pids.map(|pid| Process::with_pid(pid).unwrap());
        let before = processes.each_mut().map(|process| process.cpu().total);
        write(&writer, round as u64 * effort.updates, effort.updates).await;
        let after = processes.each_mut().map(|process| process.cpu().total);
        for (spent, (before, after)) in spent.iter_mut().zip(before.into_iter().zip(after)) {
            spent.push((after - before).as_secs_f64() * 1e6 / effort.updates as f64);
        }
    }
    let [floor_us, idle_us, relay_us, leaf_us, root_us] = spent.map(median);
    println!("\n| process | CPU an update | beside the client that only decodes |\n|---|---|---|");
    for (name, us) in [
        ("client that only decodes (`crumbd follow`)", floor_us),
        ("relay without clients", idle_us),
        ("leaf", leaf_us),
        ("relay that serves the leaf", relay_us),
        ("root that serves two relays and the client", root_us),
    ] {
        println!("| {name} | {us:.0} µs | {:.2} |", us / floor_us);
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values[values.len() / 2]
}

async fn write(writer: &Client, from: u64, count: u64) {
    for number in from..from + count {
        put(writer, number).await;
    }
}

async fn put(writer: &Client, number: u64) {
    let mut value = number.to_string().into_bytes();
    value.resize(VALUE, b' ');
    writer.put(&Key::copy_from(b"key"), value, "application/octet-stream").await.unwrap();
}

/// The times from the start of a write until a client has it, at each of the daemons, sorted.
async fn latencies(writer: &Client, daemons: [&Daemon; 3], effort: &Effort) -> [Vec<Duration>; 3] {
    let (sender, mut heard) = mpsc::channel::<(usize, Instant)>(8);
    for (level, daemon) in daemons.into_iter().enumerate() {
        let mut follower = Follower::of(Client::new(daemon.url()).unwrap()).start();
        follower.next_change().await.unwrap();
        let sender = sender.clone();
        tokio::spawn(async move {
            while let Ok(step) = follower.next_change().await {
                // A change of the status alone is none of the writes.
                if !step.changes.is_empty() && sender.send((level, Instant::now())).await.is_err() {
                    break;
                }
            }
        });
    }
    let mut times: [Vec<Duration>; 3] = Default::default();
    for number in 0..effort.updates.min(1000) {
        let begun = Instant::now();
        put(writer, u64::MAX - number).await;
        for _ in 0..daemons.len() {
            let next = tokio::time::timeout(Duration::from_secs(10), heard.recv());
            let (level, at) = next.await.expect("every level to have the write").unwrap();
            times[level].push(at - begun);
        }
    }
    times.iter_mut().for_each(|times| times.sort_unstable());
    times
}

/// A client that only decodes. It is killed in the end, by its id.
struct FollowProcess(Child);

impl FollowProcess {
    fn of(daemon: &Daemon) -> Self {
        let mut command = daemon::command();
        command.args(["follow", "--url", daemon.url()]);
        Self(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
    }
}

impl Drop for FollowProcess {
    fn drop(&mut self) {
        _ = self.0.kill();
        _ = self.0.wait();
    }
}
