//! What the clients in Go, TypeScript and Python cost: the first state, and updates applied to a mirror in bodies of one
//! and of 100, each checked by count and digest.
//!
//! ```text
//! cargo bench --bench client_languages                # medians of 5 rounds: some minutes
//! cargo bench --bench client_languages -- --quick     # one short round
//! ```
//!
//! The first state comes from a daemon. The updates come from a recording of a daemon's stream, so that every client gets
//! the same bodies, as fast as it reads. The floor reads the same bytes over loopback, in Rust, and throws them away.

// A benchmark may unwrap, and its table is its output.
#![allow(clippy::unwrap_used, missing_docs)]

mod programs;
mod recording;
#[path = "../../../tests/support/mod.rs"]
mod support;

use std::fmt::Write as _;
use std::process::Stdio;

use crumbd::client::Client;
use programs::Program;
use recording::Recorder;
use serde::Deserialize;
use support::daemon::Daemon;

struct Effort {
    rounds: usize,
    keys: usize,
    /// Of the mirror that is updated, and the updates.
    mirrored: usize,
    updates: usize,
}

/// What a program prints: medians, in seconds.
#[derive(Deserialize)]
struct Figures {
    keys: usize,
    state: f64,
    state_cpu: f64,
    updates: f64,
    updates_cpu: f64,
}

fn main() {
    let has = |flag: &str| std::env::args().any(|argument| argument == flag);
    let effort = match (has("--bench"), has("--quick")) {
        (true, false) => Effort { rounds: 5, keys: 300_000, mirrored: 20_000, updates: 20_000 },
        (_, true) => Effort { rounds: 1, keys: 20_000, mirrored: 2_000, updates: 2_000 },
        // `cargo test --benches` runs this file too; it then only shows that it works.
        (false, false) => Effort { rounds: 1, keys: 1_000, mirrored: 100, updates: 200 },
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let (programs, missing): (Vec<_>, Vec<_>) = programs::all().into_iter().partition(Result::is_ok);
    let programs: Vec<Program> = programs.into_iter().flatten().collect();

    println!("| | a second | a second of CPU | beside the floor |\n|---|---|---|---|");
    let state = Daemon::push(&[]);
    let digest = runtime.block_on(fill(&state, effort.keys));
    let floor = recording::read_state(&state, effort.rounds);
    row("floor: the bytes of the first state, keys", effort.keys, floor, None, floor);
    for program in &programs {
        let figures = run(program, state.url(), "poll", &digest, effort.rounds);
        assert_eq!(figures.keys, effort.keys);
        let what = format!("{}: the first state, keys", program.name);
        row(&what, effort.keys, figures.state, Some(figures.state_cpu), floor);
    }
    for size in [1, 100] {
        let daemon = Daemon::push(&[]);
        runtime.block_on(fill(&daemon, effort.mirrored));
        let mut recorder = Recorder::begin(&daemon);
        let digest = runtime.block_on(update(&daemon, &mut recorder, effort.mirrored, effort.updates, size));
        let recording = recorder.end(&digest);
        drop(daemon);
        assert_eq!(recording.bodies(), effort.updates / size);
        let floor = recording.read(effort.rounds);
        row(&format!("floor: the bytes of bodies of {size}, updates"), effort.updates, floor, None, floor);
        for program in &programs {
            let figures = run(program, &recording.url(), "stream", &digest, effort.rounds);
            let what = format!("{}: bodies of {size}, updates", program.name);
            row(&what, effort.updates, figures.updates, Some(figures.updates_cpu), floor);
        }
    }
    for why in missing.into_iter().filter_map(Result::err) {
        println!("\nNot measured: {why}");
    }
}

fn row(what: &str, count: usize, seconds: f64, cpu_seconds: Option<f64>, floor: f64) {
    let count = count as f64;
    let by_cpu = cpu_seconds.map(|cpu| format!("{:.0}", count / cpu)).unwrap_or_default();
    println!("| {what} | {:.0} | {by_cpu} | {:.3} |", count / seconds, floor / seconds);
}

fn run(program: &Program, url: &str, transport: &str, digest: &str, rounds: usize) -> Figures {
    let mut command = program.command();
    command.args([url, transport, digest, &rounds.to_string()]).args(program.arguments);
    let output = command.stdin(Stdio::null()).output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {text}");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Sets keys of 19 bytes to values of 100. Returns the digest.
async fn fill(daemon: &Daemon, keys: usize) -> String {
    let client = Client::new(daemon.url()).unwrap();
    for begin in (0..keys).step_by(50_000) {
        let numbers = begin..keys.min(begin + 50_000);
        client.post(records(numbers, 'a')).await.unwrap();
    }
    digest(daemon).await
}

/// Updates keys, `size` of them in a breadcrumb. Returns the digest.
async fn update(
    daemon: &Daemon,
    recorder: &mut Recorder,
    keys: usize,
    updates: usize,
    size: usize,
) -> String {
    let client = Client::new(daemon.url()).unwrap();
    for begin in (0..updates).step_by(size) {
        let numbers = (begin..begin + size).map(|update| update * 7919 % keys);
        let value = char::from(b'b' + (begin / keys % 20) as u8);
        client.post(records(numbers, value)).await.unwrap();
        recorder.next_body();
    }
    digest(daemon).await
}

fn records(numbers: impl Iterator<Item = usize>, letter: char) -> Vec<u8> {
    let mut records = String::new();
    for number in numbers {
        let value = String::from(letter).repeat(100);
        writeln!(records, r#"{{"type":"put","key":"app/{number:08}/config","value":"{value}"}}"#).unwrap();
    }
    records.into_bytes()
}

async fn digest(daemon: &Daemon) -> String {
    let status = daemon.http().get("/v1/status").await;
    status.json()["digest"].as_str().unwrap().to_owned()
}
