//! One publication to all waiters or readers, again and again.

use std::sync::Arc;
use std::time::Duration;

use crumbd_bench::load::{Board, Clock, Process, need_open_files};
use tokio::time::{Instant, sleep};

use super::contestant::{Contestant, Server};
use super::{Effort, table};

const CONNECTING: Duration = Duration::from_secs(120);
const HEARING: Duration = Duration::from_secs(60);

/// A server that used less than this in a step is at rest.
const REST: Duration = Duration::from_micros(100);
const STEP: Duration = Duration::from_millis(5);
/// So many steps in a row.
const RESTING_STEPS: usize = 4;
const LONGEST_WORK: Duration = Duration::from_secs(30);

/// Figures of one contestant at one number of waiters.
#[derive(Default)]
pub struct Found {
    /// Per client and round.
    pub cpu_us: Vec<f64>,
    pub user_share: Vec<f64>,
    /// Per client that has heard nothing yet.
    pub parked_kib: Vec<f64>,
    /// Per client that is parked again after all rounds.
    pub memory_kib: Vec<f64>,
    pub p50_ms: Vec<f64>,
    pub p99_ms: Vec<f64>,
    pub max_ms: Vec<f64>,
    pub lost: u64,
}

pub async fn measure(effort: &Effort) {
    // Children inherit the limit.
    need_open_files(effort.waiters.iter().copied().max().unwrap_or(0)).unwrap();
    for waiters in effort.waiters.iter().copied() {
        let mut all: Vec<(Contestant, Found)> =
            effort.only.iter().map(|contestant| (*contestant, Found::default())).collect();
        for turn in 1..=effort.turns {
            for (contestant, found) in &mut all {
                if contestant.missing().is_none() {
                    eprintln!("{waiters} waiters, turn {turn} of {}: {}", effort.turns, contestant.name());
                    take_turn(*contestant, waiters, effort.rounds, found).await;
                }
            }
        }
        table::print(waiters, &all);
    }
}

async fn take_turn(contestant: Contestant, waiters: usize, rounds: usize, found: &mut Found) {
    let mut server = contestant.start();
    warm_up(contestant, &mut server).await;
    let empty = server.process.memory();
    let board = Arc::new(Board::new(waiters, Clock::Publisher, 1, |_| 0));
    let crowd = server.crowd(contestant, waiters, board.clone()).await;
    board.all_asked(CONNECTING, |_| {}).await.unwrap();
    rest(&mut server.process).await;
    let kib_each = |memory: u64| memory.saturating_sub(empty) as f64 / waiters as f64 / 1024.0;
    found.parked_kib.push(kib_each(server.process.memory()));

    let mut publisher = server.publisher(contestant).await;
    let (mut user, mut both) = (Duration::ZERO, Duration::ZERO);
    // The first round warms up: buffers are made that stay.
    for round in 0..=rounds as u64 {
        rest(&mut server.process).await;
        board.latencies.clear();
        let before = server.process.cpu();
        publisher.publish(&board).await;
        let heard = board.delivered((round + 1) * waiters as u64, HEARING).await;
        rest(&mut server.process).await;
        let spent = server.process.cpu() - before;
        if let Err(error) = heard {
            eprintln!("{}: {error}", contestant.name());
            found.lost += board.lost(round + 1);
            break;
        }
        if round == 0 {
            continue;
        }
        let latency = board.latencies.percentiles();
        found.cpu_us.push(spent.total.as_secs_f64() * 1e6 / waiters as f64);
        user += spent.user;
        both += spent.user + spent.system;
        found.p50_ms.push(latency.p50_ms);
        found.p99_ms.push(latency.p99_ms);
        found.max_ms.push(latency.max_ms);
    }
    found.memory_kib.push(kib_each(server.process.memory()));
    // Ticks are too coarse for one round.
    found.user_share.push(user.as_secs_f64() / both.as_secs_f64().max(1e-9));
    found.lost += board.counts().holes + board.counts().failed;
    crowd.end().await;
}

/// What a server allocates once, for its first clients and its first publication, is not what a client takes. Those
/// who warm it up are few, since the memory that they leave is used again.
async fn warm_up(contestant: Contestant, server: &mut Server) {
    const CLIENTS: usize = 20;
    const ROUNDS: u64 = 2;
    const WARMING: Duration = Duration::from_secs(2);
    let board = Arc::new(Board::new(CLIENTS, Clock::Publisher, 1, |_| 0));
    let crowd = server.crowd(contestant, CLIENTS, board.clone()).await;
    board.all_asked(CONNECTING, |_| {}).await.unwrap();
    let mut publisher = server.publisher(contestant).await;
    for round in 1..=ROUNDS {
        rest(&mut server.process).await;
        publisher.publish(&board).await;
        // A floor forgets who is late. Nothing is measured yet, so nobody has to have heard.
        _ = board.delivered(round * CLIENTS as u64, WARMING).await;
    }
    crowd.end().await;
    rest(&mut server.process).await;
}

/// Waits until the server has nothing to do.
async fn rest(process: &mut Process) {
    let end = Instant::now() + LONGEST_WORK;
    let mut resting = 0;
    let mut last = process.cpu().total;
    while resting < RESTING_STEPS && Instant::now() < end {
        sleep(STEP).await;
        let now = process.cpu().total;
        resting = if now.saturating_sub(last) < REST { resting + 1 } else { 0 };
        last = now;
    }
}
