//! What it costs to deliver: crumbd beside the floors, in one run.
//!
//! ```text
//! cargo bench --bench delivery                             # everything, about four minutes
//! cargo bench --bench delivery -- --quick                  # about half a minute
//! cargo bench --bench delivery -- --waiters 2000,9000      # fan-out with so many waiters
//! cargo bench --bench delivery -- --waiters 2000 --only crumbd,tokio
//! cargo bench --bench delivery -- --waiters 2000 --only stream
//! cargo bench --bench delivery -- --joiners 200            # snapshots to so many joiners at once
//! ```
//!
//! *Fan-out*, a round: one publication; every client hears it, those that long-poll ask again, those that read a
//! stream wait for more; the server comes to rest. Measured are the server's CPU from the publication until it rests,
//! over the number of clients, and its memory with all parked again after the last round (and before the first), less
//! that before the first connected. All contestants are driven
//! by the same clients, take turns several times so that noise hits all alike, start afresh for each turn, and are
//! pinned to no core. Figures are medians over all rounds.
//!
//! | contestant | what it is |
//! |---|---|
//! | crumbd | the daemon, or the one at `CRUMBD_BIN`, with the `push:` feed; a value of 256 bytes, its answer is JSON with cursor, count and digest |
//! | bare tokio loop | [`floors`]: reads a request, frees its buffer, waits for a shared `Notify`, writes fixed bytes |
//! | bare axum | [`floors`]: `axum::serve`, one handler that waits for a shared `Notify` |
//! | nginx + nchan | Debian's module; long-poll, one channel in memory, two workers; messages of 256 bytes; `CRUMBD_BENCH_NCHAN` names the module elsewhere |
//! | crumbd HTTP/2 | the same daemon over HTTP/2 without TLS, 100 long polls on each connection |
//! | crumbd stream | the same daemon, read as `/v1/stream`, server-sent events |
//! | bare tokio stream | [`floors`]: a head, then waits for a shared `Notify` and writes a fixed event, for ever |
//! | durable-streams | `cargo install durable-streams`; server-sent events of one stream, `--durability memory`; on the path, or at `CRUMBD_BENCH_DURABLE_STREAMS`. It ends a stream after 60 s, so a turn must not be longer |
//!
//! *Join*: so many clients at once GET the state of 100,000 keys with 200 bytes each, against the smallest axum
//! server that gives everybody one shared body of the same length.

// A benchmark may unwrap, and its table is its output.
#![allow(clippy::unwrap_used, missing_docs)]

mod contestant;
mod fanout;
mod floors;
mod join;
mod table;

use std::time::Instant;

use contestant::{ALL, Contestant};

/// How much is done.
#[derive(Clone)]
pub struct Effort {
    /// Times that each contestant is started for each number of waiters.
    pub turns: usize,
    /// Publications in a turn.
    pub rounds: usize,
    pub waiters: Vec<usize>,
    pub joiners: usize,
    pub keys: usize,
    pub only: Vec<Contestant>,
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let Some(which) = arguments.iter().find_map(|argument| argument.strip_prefix("--serve=")) {
        let (which, bytes) = which.split_once(':').unwrap();
        return floors::serve(which, bytes.parse().unwrap());
    }
    let effort = effort(&arguments);
    let started = Instant::now();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        if effort.waiters.iter().any(|waiters| *waiters > 0) {
            fanout::measure(&effort).await;
        }
        if effort.joiners > 0 {
            join::measure(&effort).await;
        }
    });
    println!(
        "\n{} turns of {} rounds, medians; {} s, {} cores",
        effort.turns,
        effort.rounds,
        started.elapsed().as_secs(),
        std::thread::available_parallelism().map_or(1, usize::from)
    );
}

fn effort(arguments: &[String]) -> Effort {
    let has = |flag: &str| arguments.iter().any(|argument| argument == flag);
    let value = |flag: &str| {
        let at = arguments.iter().position(|argument| argument == flag)?;
        Some(arguments.get(at + 1).unwrap_or_else(|| panic!("{flag} needs a value")).as_str())
    };
    let numbers = |text: &str| text.split(',').map(|n| n.parse().unwrap()).collect::<Vec<usize>>();
    let full = Effort {
        turns: 7,
        rounds: 15,
        waiters: vec![2000, 9000],
        joiners: 300,
        keys: 100_000,
        only: ALL.to_vec(),
    };
    let mut effort = match (has("--quick"), has("--bench")) {
        (true, _) => Effort { turns: 3, rounds: 5, joiners: 100, ..full },
        (false, true) => full,
        // `cargo test --benches` runs this file too; it then only shows that it works.
        (false, false) => Effort { turns: 1, rounds: 2, waiters: vec![20], joiners: 3, keys: 1000, ..full },
    };
    let (waiters, joiners) = (value("--waiters"), value("--joiners"));
    // Who asks for one of the two wants only that.
    match (waiters, joiners) {
        (Some(_), None) => effort.joiners = 0,
        (None, Some(_)) => effort.waiters.clear(),
        _ => {}
    }
    if let Some(waiters) = waiters {
        effort.waiters = numbers(waiters);
    }
    if let Some(joiners) = joiners {
        effort.joiners = joiners.parse().unwrap();
    }
    if let Some(turns) = value("--turns") {
        effort.turns = turns.parse().unwrap();
    }
    if let Some(rounds) = value("--rounds") {
        effort.rounds = rounds.parse().unwrap();
    }
    if let Some(only) = value("--only") {
        effort.only.retain(|one| only.split(',').any(|wanted| one.name().contains(wanted)));
    }
    effort
}

pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
