//! 5,000 watches of one prefix.

use std::time::{Duration, Instant};

use crumbd_bench::load::Process;

use crate::contestant::{ALL, Contestant, Server, watch_prefix};
use crate::support::etcd::Etcd;
use crate::watches::Watches;
use crate::writer::Writer;
use crate::{Effort, median, micros};

/// Keys under each prefix.
const KEYS: usize = 100;
/// Nobody watches these.
const QUIET: &str = "quiet/";

/// What was measured of one contestant.
#[derive(Default)]
struct Measured {
    /// Microseconds of CPU a put, of etcd and of the server in front of it; one for each turn.
    cpu: Vec<f64>,
    /// From the start of a put until a watch has its event, of all watches and rounds.
    latencies: Vec<Duration>,
    /// What the watches have added to the memory of etcd and of the server in front of it, after the rounds.
    memory: f64,
}

struct Playing {
    contestant: Contestant,
    // Dropped before the server that they are connected to.
    watches: Watches,
    server: Server,
    memory_before: u64,
    measured: Measured,
}

pub async fn measure(effort: &Effort) {
    let etcd = Etcd::start().await;
    let mut etcd_process = Process::listening_on(etcd.endpoint().parse().unwrap()).unwrap();
    let writer = Writer::connect(&etcd.endpoint()).await;
    // Everybody has its keys, and etcd the memory that puts need, before anything counts.
    for prefix in ALL.map(Contestant::prefix).into_iter().chain([QUIET]) {
        for key in 0..KEYS {
            writer.put(&key_of(prefix, key)).await;
        }
    }
    let mut playing = Vec::new();
    for contestant in ALL {
        let server = contestant.start(&etcd).await;
        playing.push(open(contestant, server, &etcd_process, effort).await);
    }

    let mut quiet = Vec::new();
    for turn in 0..=effort.turns {
        let before = etcd_process.cpu().total;
        for round in 0..effort.rounds {
            writer.put(&key_of(QUIET, round % KEYS)).await;
        }
        quiet.push(micros(etcd_process.cpu().total - before) / effort.rounds as f64);
        for playing in &mut playing {
            let etcd_memory = etcd_process.memory();
            let turn_of = play(playing, &mut etcd_process, &writer, effort).await;
            // The first turn warms up: buffers grow, pages are touched.
            if turn == 0 {
                playing.measured.memory += etcd_process.memory().saturating_sub(etcd_memory) as f64;
            } else {
                playing.measured.cpu.push(turn_of.cpu);
                playing.measured.latencies.extend(turn_of.latencies);
            }
        }
    }
    print(playing, median(quiet), effort);
}

fn key_of(prefix: &str, number: usize) -> String {
    format!("{prefix}{number:03}")
}

async fn open(contestant: Contestant, server: Server, etcd: &Process, effort: &Effort) -> Playing {
    let memory = || server.process.as_ref().map_or(0, Process::memory);
    let (etcd_before, memory_before) = (etcd.memory(), memory());
    let stream = vec![watch_prefix(contestant.prefix()); effort.watches];
    let watches = Watches::open(&server.address, vec![stream; effort.streams]).await;
    let memory = etcd.memory().saturating_sub(etcd_before) as f64;
    Playing {
        contestant,
        server,
        watches,
        memory_before,
        measured: Measured { memory, ..Measured::default() },
    }
}

struct Turn {
    cpu: f64,
    latencies: Vec<Duration>,
}

async fn play(playing: &mut Playing, etcd: &mut Process, writer: &Writer, effort: &Effort) -> Turn {
    let Playing { contestant, server, watches, .. } = playing;
    let mut spent = |etcd: &mut Process| {
        etcd.cpu().total + server.process.as_mut().map_or(Duration::ZERO, |p| p.cpu().total)
    };
    let before = spent(etcd);
    let mut latencies = Vec::with_capacity(effort.rounds * watches.count());
    for round in 0..effort.rounds {
        let key = key_of(contestant.prefix(), round % KEYS);
        let begun = Instant::now();
        let revision = writer.put(&key).await;
        let heard = watches.hear(watches.count(), revision).await;
        latencies.extend(heard.iter().map(|heard| heard.at - begun));
    }
    Turn { cpu: micros(spent(etcd) - before) / effort.rounds as f64, latencies }
}

fn print(playing: Vec<Playing>, quiet: f64, effort: &Effort) {
    let watches = (effort.streams * effort.watches) as f64;
    println!(
        "{} watches of one prefix on {} streams; a put that nobody watches takes {quiet:.0} µs of etcd's CPU\n",
        watches, effort.streams
    );
    println!(
        "| | KiB a watch | CPU an event, of all its watches | … beside etcd | p50 | p99 | … beside etcd |"
    );
    println!("|---|---|---|---|---|---|---|");
    let mut floor = None;
    for mut one in playing {
        let grown = one.server.process.as_ref().map_or(0, Process::memory).saturating_sub(one.memory_before);
        let memory = (one.measured.memory + grown as f64) / watches / 1024.0;
        let cpu = median(one.measured.cpu) - quiet;
        let latencies = &mut one.measured.latencies;
        latencies.sort_unstable();
        let at = |share: f64| latencies[((latencies.len() - 1) as f64 * share) as usize].as_secs_f64() * 1e3;
        let (p50, p99) = (at(0.5), at(0.99));
        let (etcd_memory, etcd_cpu, etcd_p99) = *floor.get_or_insert((memory, cpu, p99));
        println!(
            "| {} | {memory:.2} ({:.2}) | {:.1} ms | {:.2} | {p50:.1} ms | {p99:.1} ms | {:.2} |",
            one.contestant.name(),
            memory / etcd_memory,
            cpu / 1e3,
            cpu / etcd_cpu,
            p99 / etcd_p99,
        );
    }
}
