//! The whole state to many at once.

use std::time::Duration;

use crumbd_bench::load::{Cpu, Joiner, Target, Writer, need_open_files};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use super::contestant::Server;
use super::{Effort, median};

const VALUE_BYTES: usize = 200;
const FILLING: usize = 1000;
const JOINING: Duration = Duration::from_secs(300);

#[derive(Default)]
struct Found {
    /// User and system together, exactly; the two apart only to the tick.
    cpu_ms: Vec<f64>,
    user_ms: Vec<f64>,
    system_ms: Vec<f64>,
    seconds: Vec<f64>,
    peak_mib: Vec<f64>,
}

pub async fn measure(effort: &Effort) {
    need_open_files(effort.joiners).unwrap();
    let mut crumbd = Server::crumbd(&[]);
    fill(&crumbd.target, effort.keys).await;
    let joiner = Joiner::new(&crumbd.target, "application/json", "identity");
    // Whoever comes first pays for what all share; that is not what is measured.
    let bytes = joiner.join(0).await.unwrap().bytes;
    let mut floor = Server::floor("static", usize::try_from(bytes).unwrap());
    let floor_joiner = Joiner::of_path(&floor.target, "/", "*/*", "identity");
    let (mut ours, mut least) = (Found::default(), Found::default());
    for turn in 1..=effort.turns {
        eprintln!("{} joiners, turn {turn} of {}", effort.joiners, effort.turns);
        join(&mut crumbd, &joiner, effort.joiners, &mut ours).await;
        join(&mut floor, &floor_joiner, effort.joiners, &mut least).await;
    }
    println!("\n{} joiners at once, a body of {:.1} MB", effort.joiners, bytes as f64 / 1e6);
    println!(
        "{:<26}{:>15}{:>12}{:>12}{:>12}{:>20}",
        "", "CPU ms/joiner", "of it user", "system", "seconds", "peak − steady MiB"
    );
    let m = |values: &Vec<f64>| median(values.clone());
    for (name, found) in [("crumbd, snapshot + next", &ours), ("bare axum, static body", &least)] {
        println!(
            "{name:<26}{:>15.2}{:>12.2}{:>12.2}{:>12.2}{:>20.1}",
            m(&found.cpu_ms),
            m(&found.user_ms),
            m(&found.system_ms),
            m(&found.seconds),
            m(&found.peak_mib)
        );
    }
    let (ours, least) = (m(&ours.cpu_ms), m(&least.cpu_ms));
    println!("{:<26}{:>15.2}   ratio {:.2}", "crumbd beyond the floor", ours - least, ours / least);
}

async fn join(server: &mut Server, joiner: &Joiner, joiners: usize, found: &mut Found) {
    server.process.forget_peak();
    let steady = server.process.memory();
    let before = server.process.cpu();
    let began = Instant::now();
    let mut tasks = JoinSet::new();
    for client in 0..joiners {
        let joiner = joiner.clone();
        tasks.spawn(async move { joiner.join(client).await });
    }
    let all = async {
        while let Some(joined) = tasks.join_next().await {
            joined.unwrap().unwrap();
        }
    };
    timeout(JOINING, all).await.unwrap();
    let seconds = began.elapsed().as_secs_f64();
    let Cpu { total, user, system } = (server.process.cpu() - before).shared_out();
    found.cpu_ms.push(total.as_secs_f64() * 1e3 / joiners as f64);
    found.user_ms.push(user.as_secs_f64() * 1e3 / joiners as f64);
    found.system_ms.push(system.as_secs_f64() * 1e3 / joiners as f64);
    found.seconds.push(seconds);
    found.peak_mib.push(server.process.peak().saturating_sub(steady) as f64 / f64::from(1 << 20));
}

async fn fill(target: &Target, keys: usize) {
    let mut writer = Writer::of_updates(target).await.unwrap();
    let text = "x".repeat(VALUE_BYTES - 2);
    for first in (0..keys).step_by(FILLING) {
        let line =
            |key: usize| format!("{{\"type\":\"put\",\"key\":\"bench/{key:08}\",\"value\":\"{text}\"}}\n");
        let body: String = (first..keys.min(first + FILLING)).map(line).collect();
        writer.write(body.as_bytes()).await.unwrap();
    }
}
