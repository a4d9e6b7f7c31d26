//! One publication to all waiters, again and again.

use std::sync::Arc;
use std::time::Duration;

use crumbd_bench::load::{Board, Clock, Process, need_open_files};
use tokio::time::{Instant, sleep};

use super::contestant::Contestant;
use super::{Effort, median};

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
struct Found {
    /// Per waiter and round.
    cpu_us: Vec<f64>,
    user_share: Vec<f64>,
    memory_kib: Vec<f64>,
    p50_ms: Vec<f64>,
    p99_ms: Vec<f64>,
    max_ms: Vec<f64>,
    lost: u64,
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
        print(waiters, &all);
    }
}

async fn take_turn(contestant: Contestant, waiters: usize, rounds: usize, found: &mut Found) {
    let mut server = contestant.start();
    rest(&mut server.process).await;
    let empty = server.process.memory();
    let board = Arc::new(Board::new(waiters, Clock::Publisher, 1, |_| 0));
    let crowd = server.crowd(contestant, waiters, board.clone()).await;
    board.all_asked(CONNECTING, |_| {}).await.unwrap();
    rest(&mut server.process).await;
    let parked = server.process.memory().saturating_sub(empty);
    found.memory_kib.push(parked as f64 / waiters as f64 / 1024.0);

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
    // Ticks are too coarse for one round.
    found.user_share.push(user.as_secs_f64() / both.as_secs_f64().max(1e-9));
    found.lost += board.counts().holes + board.counts().failed;
    crowd.end().await;
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

fn print(waiters: usize, all: &[(Contestant, Found)]) {
    println!("\n{waiters} waiters, {} bytes to each", super::contestant::BODY_BYTES);
    println!(
        "{:<18}{:>14}{:>14}{:>14}{:>10}{:>10}{:>10}{:>7}",
        "", "CPU µs/wake", "of it user", "KiB/waiter", "p50 ms", "p99 ms", "max ms", "lost"
    );
    let figures = |found: &Found| {
        let m = |values: &Vec<f64>| median(values.clone());
        (m(&found.cpu_us), m(&found.memory_kib), m(&found.p99_ms))
    };
    for (contestant, found) in all {
        if let Some(why) = contestant.missing() {
            println!("{:<18}{why}", contestant.name());
            continue;
        }
        let m = |values: &Vec<f64>| median(values.clone());
        println!(
            "{:<18}{:>14.1}{:>14.1}{:>14.1}{:>10.1}{:>10.1}{:>10.1}{:>7}",
            contestant.name(),
            m(&found.cpu_us),
            m(&found.cpu_us) * m(&found.user_share),
            m(&found.memory_kib),
            m(&found.p50_ms),
            m(&found.p99_ms),
            m(&found.max_ms),
            found.lost
        );
    }
    let Some((_, crumbd)) = all.iter().find(|(contestant, _)| *contestant == Contestant::Crumbd) else {
        return;
    };
    let crumbd = figures(crumbd);
    println!("{:<32}{:>14}{:>14}{:>20}", "ratios", "CPU", "memory", "p99");
    for (contestant, found) in all {
        if *contestant != Contestant::Crumbd && contestant.missing().is_none() {
            let floor = figures(found);
            println!(
                "{:<32}{:>14.2}{:>14.2}{:>20.2}",
                format!("crumbd ÷ {}", contestant.name()),
                crumbd.0 / floor.0,
                crumbd.1 / floor.1,
                crumbd.2 / floor.2
            );
        }
    }
}
