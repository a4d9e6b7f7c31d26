//! What watches cost in front of etcd: etcd itself, its grpc-proxy and crumbd, in one run.
//!
//! ```text
//! cargo bench --bench etcd_watch                # 5,000 watches, then 10,000 keys: about three minutes
//! cargo bench --bench etcd_watch -- --quick     # fewer rounds
//! ```
//!
//! *Fan-out*: 50 connections with one stream each, and 100 watches of one prefix on each stream. A round is one put of
//! 256 bytes into etcd; it ends when every watch has its event, so nothing queues. One etcd serves all: the contestants
//! have a prefix each, whose puts concern nobody else, and take their turns on it. The same clients drive all of
//! them and share the machine's cores with them.
//!
//! | contestant | what its watches cost |
//! |---|---|
//! | etcd | CPU of etcd, less that of the same puts under a prefix that nobody watches; its memory, less that before the watches |
//! | grpc-proxy | the same, and CPU and memory of the proxy |
//! | crumbd | the same, and CPU and memory of the daemon |
//!
//! *Keys*: one daemon has 100 watches, another one 10,000, each of a key of its own, on streams of 100 and of 1. Both
//! hear of the same puts, of one watched key each. The ratio of their CPU says what 9,900 more watches cost an event.

// A benchmark may unwrap, and its table is its output.
#![allow(clippy::unwrap_used, missing_docs)]

mod contestant;
mod fanout;
mod keys;
#[allow(unused_imports)] // those of its unit tests, which a benchmark does not run
#[path = "../../../src/wire/etcd/mod.rs"]
mod messages;
#[path = "../../../tests/support/mod.rs"]
mod support;
mod watches;
mod writer;

use std::time::{Duration, Instant};

/// As in the binary.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// How much is done.
pub struct Effort {
    /// Turns of each contestant.
    pub turns: usize,
    /// Puts in a turn.
    pub rounds: usize,
    /// Connections, with one stream each.
    pub streams: usize,
    /// Watches of a stream.
    pub watches: usize,
    /// Watches of the daemon with many keys; the other one has a hundredth of them.
    pub keys: usize,
    /// Puts in a turn of the daemons with few and many keys.
    pub key_rounds: usize,
}

fn main() {
    let has = |flag: &str| std::env::args().any(|argument| argument == flag);
    let full = Effort { turns: 7, rounds: 40, streams: 50, watches: 100, keys: 10_000, key_rounds: 1000 };
    let effort = match (has("--bench"), has("--quick")) {
        (_, true) => Effort { turns: 3, rounds: 10, key_rounds: 300, ..full },
        (true, false) => full,
        // `cargo test --benches` runs this file too; it then only shows that it works.
        (false, false) => Effort { turns: 1, rounds: 2, streams: 2, watches: 3, keys: 200, key_rounds: 5 },
    };
    // One thread for all clients, so that the servers have a core for themselves.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let started = Instant::now();
    runtime.block_on(async {
        fanout::measure(&effort).await;
        keys::measure(&effort).await;
    });
    println!(
        "\n{} turns, medians; {} s, {} cores",
        effort.turns,
        started.elapsed().as_secs(),
        std::thread::available_parallelism().map_or(1, usize::from)
    );
}

pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

pub fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}
