//! What the Rust client costs: a state read whole, and updates applied one body after the other, each checked by count and
//! digest.
//!
//! ```text
//! cargo bench --bench client                    # medians of 5 rounds: about half a minute
//! cargo bench --bench client -- --quick         # one short round
//! ```
//!
//! The floor decodes the same bytes and keeps the entries in a list. Both are in memory, in this process. The last figure
//! is of a follower that reads the state from a daemon on the same machine.

// A benchmark may unwrap, and its table is its output.
#![allow(clippy::unwrap_used, missing_docs)]

#[path = "../../tests/support/mod.rs"]
mod support;

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use crumbd::client::{CheckedState, Client, Follower, MirrorSnapshot};
use crumbd::model::{Digest, Entry};
use crumbd::wire::{BodyWriter, End, Header, MediaType, PutKind, Record, RecordReader};
use support::daemon::Daemon;

/// As in the binary.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The bytes of a value.
const VALUE: usize = 100;

/// The updates of a body.
const BODY: usize = 100;

struct Effort {
    rounds: usize,
    keys: usize,
}

fn main() {
    let has = |flag: &str| std::env::args().any(|argument| argument == flag);
    let effort = match (has("--bench"), has("--quick")) {
        (true, false) => Effort { rounds: 5, keys: 300_000 },
        (_, true) => Effort { rounds: 1, keys: 100_000 },
        // `cargo test --benches` runs this file too; it then only shows that it works.
        (false, false) => Effort { rounds: 1, keys: 1000 },
    };
    let entry = |number: usize, round: usize| {
        Entry::new(format!("app/{number:08}/config").as_bytes(), &[b'a' + (round % 26) as u8; VALUE], None)
    };
    let state: Vec<Entry> = (0..effort.keys).map(|number| entry(number, 0)).collect();
    let body = snapshot_body(&state);

    println!("| | a second | beside the floor |\n|---|---|---|");
    let floor = per_second(effort.keys, effort.rounds, || drop(decode(&body)));
    println!(
        "| floor: a state of {} keys in bincode decoded into a list, keys | {floor:.0} | 1.00 |",
        effort.keys
    );
    let read = per_second(effort.keys, effort.rounds, || drop(apply(CheckedState::default(), &body)));
    println!("| the same into a mirror, count and digest checked, keys | {read:.0} | {:.2} |", read / floor);

    let mirror = apply(CheckedState::default(), &body);
    let mut digest = mirror.digest();
    let bodies: Vec<Vec<u8>> = (0..effort.keys / BODY / 10)
        .map(|round| {
            let updates: Vec<(Entry, Entry)> = (0..BODY)
                .map(|i| {
                    let number = (round * BODY + i) * 7919 % effort.keys;
                    (state[number].clone(), entry(number, 1))
                })
                .collect();
            updates_body(&updates, effort.keys, &mut digest)
        })
        .collect();
    let count = bodies.len() * BODY;
    let floor = per_second(count, effort.rounds, || bodies.iter().for_each(|body| drop(decode(body))));
    println!("| floor: bodies of {BODY} updates decoded, updates | {floor:.0} | 1.00 |");
    let updated = per_second(count, effort.rounds, || {
        let mut mirror = mirror.clone();
        // A slow application holds each snapshot until the next one.
        let mut held = MirrorSnapshot::default();
        for body in &bodies {
            mirror = apply(mirror, body);
            held = mirror.snapshot();
        }
        drop(held);
    });
    println!(
        "| the same into the mirror, with a snapshot after each, updates | {updated:.0} | {:.2} |",
        updated / floor
    );

    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let followed = runtime.block_on(follow(&state, effort.rounds));
    println!("| a follower's first state over loopback, keys | {followed:.0} | |");
}

/// How many of `count` are done a second, at the median of several rounds.
fn per_second(count: usize, rounds: usize, mut work: impl FnMut()) -> f64 {
    let mut times: Vec<Duration> = (0..rounds)
        .map(|_| {
            let begun = Instant::now();
            work();
            begun.elapsed()
        })
        .collect();
    times.sort_unstable();
    count as f64 / times[times.len() / 2].as_secs_f64()
}

fn snapshot_body(state: &[Entry]) -> Vec<u8> {
    let (count, digest) = (Some(state.len() as u64), Some(state.iter().collect::<Digest>()));
    let mut body =
        BodyWriter::snapshot(MediaType::Bincode, &Header { count, digest, ..Header::default() }, 0);
    state.iter().for_each(|entry| body.put(PutKind::New, entry));
    body.finish(&End { count, digest, ..End::default() })
}

fn updates_body(updates: &[(Entry, Entry)], count: usize, digest: &mut Digest) -> Vec<u8> {
    let mut body = BodyWriter::breadcrumb(MediaType::Bincode, &Header::default(), 0);
    for (old, new) in updates {
        digest.remove(old);
        digest.add(new);
        body.put(PutKind::Updated, new);
    }
    body.finish(&End { count: Some(count as u64), digest: Some(*digest), ..End::default() })
}

fn decode(body: &[u8]) -> Vec<Record> {
    let mut reader = RecordReader::new(MediaType::Bincode);
    let mut records = Vec::new();
    for chunk in body.chunks(64 << 10) {
        reader.push(chunk);
        while let Some(record) = reader.next_record().unwrap() {
            records.push(record);
        }
    }
    records
}

fn apply(mut state: CheckedState, body: &[u8]) -> CheckedState {
    let mut reader = RecordReader::new(MediaType::Bincode);
    for chunk in body.chunks(64 << 10) {
        reader.push(chunk);
        while let Some(record) = reader.next_record().unwrap() {
            state.apply(&record).unwrap();
        }
    }
    state
}

async fn follow(state: &[Entry], rounds: usize) -> f64 {
    let daemon = Daemon::push(&[]);
    let client = Client::new(daemon.url()).unwrap();
    for part in state.chunks(50_000) {
        let mut records = String::new();
        for entry in part {
            let value = std::str::from_utf8(entry.value()).unwrap();
            writeln!(records, r#"{{"type":"put","key":"{}","value":"{value}"}}"#, entry.to_key()).unwrap();
        }
        client.post(records.into_bytes()).await.unwrap();
    }
    let mut times = Vec::new();
    for _ in 0..rounds {
        let begun = Instant::now();
        let mut follower = Follower::of(client.clone()).start();
        follower.next_change().await.unwrap();
        times.push(begun.elapsed());
        assert_eq!(follower.state().len(), state.len());
    }
    times.sort_unstable();
    state.len() as f64 / times[times.len() / 2].as_secs_f64()
}
