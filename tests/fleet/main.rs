//! A fleet: clients of each language follow two replicas of one etcd, while keys change at random and replicas are cut
//! off, refuse connections, and are restarted with and without their state. At the end every client has etcd's state, and none
//! has read the whole state again while its cursor was kept.
//!
//! `cargo test` runs a short one. A long one, of 200 clients and ten minutes, with its figures:
//!
//! ```sh
//! CRUMBD_FLEET_CLIENTS=50 CRUMBD_FLEET_SECONDS=600 cargo test --test fleet -- --nocapture
//! ```
//!
//! `CRUMBD_FLEET_SEED` repeats the choices of an earlier run, which prints it.
#![allow(clippy::unwrap_used)]

mod client;
mod faults;
mod journal;
mod network;
mod replica;
#[path = "../support/mod.rs"]
mod support;
mod writer;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use fastrand::Rng;

use client::{Client, States};
use faults::Faults;
use journal::Tally;
use network::Network;
use replica::Replica;
use support::etcd::Etcd;
use support::programs::{Client as _, Go, Python, Rust, TypeScript};
use support::state::{digest, hex};
use writer::Writer;

/// How long something may take on a slow machine that must happen.
const PATIENCE: Duration = Duration::from_secs(120);

/// The keys of the fleet begin with it.
const PREFIX: &str = "app/";

/// Asks `look` again and again until it answers. Nothing after the deadline.
async fn within<T>(deadline: Duration, mut look: impl AsyncFnMut() -> Option<T>) -> Option<T> {
    let end = Instant::now() + deadline;
    loop {
        let found = look().await;
        if found.is_some() || Instant::now() > end {
            return found;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// How large and how long.
struct Plan {
    /// Of each language.
    clients: usize,
    /// The least time of writes and faults.
    time: Duration,
    seed: u64,
}

impl Plan {
    fn given() -> Plan {
        let number = |name: &str| {
            let text = std::env::var(name).ok()?;
            Some(text.parse::<u64>().unwrap_or_else(|_| panic!("{name} is {text:?}: it must be a number")))
        };
        Plan {
            clients: number("CRUMBD_FLEET_CLIENTS").unwrap_or(8) as usize,
            time: Duration::from_secs(number("CRUMBD_FLEET_SECONDS").unwrap_or(30)),
            seed: number("CRUMBD_FLEET_SEED").unwrap_or_else(|| fastrand::u64(..1_000_000)),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_client_of_every_language_keeps_the_state_and_its_cursor_through_all_faults() {
    let plan = Plan::given();
    println!("CRUMBD_FLEET_SEED={}", plan.seed);
    let mut rng = Rng::with_seed(plan.seed);
    let etcd = Etcd::start().await;
    let writer = Writer::start(etcd.keys(), rng.fork()).await;
    let network = Network::default();
    let replicas =
        [Replica::start(&etcd, network.replica()).await, Replica::start(&etcd, network.replica()).await];
    let states = States::default();
    let clients = start_clients(plan.clients, &network, &states);
    let start_time = PATIENCE + clients.len() as u32 * Duration::from_secs(3);
    let started = within(start_time, async || clients.iter().all(Client::has_a_state).then_some(()));
    started
        .await
        .unwrap_or_else(|| panic!("{}", failure("have no first state", &clients, &[], |c| !c.has_a_state())));

    let mut faults = Faults::new(replicas, etcd.keys(), rng.fork());
    let begin = Instant::now();
    // Each kind at least once, however short the time is.
    while begin.elapsed() < plan.time || !faults.had_each_kind() {
        faults.next(&clients).await;
    }
    let active = begin.elapsed();
    let written = writer.stop().await;
    let memory = resident_memory(&clients);

    let stored = etcd.keys().range(PREFIX.as_bytes()).await;
    let (digest, count) = (hex(digest(&stored.state)), stored.state.len());
    let is_there = |client: &Client| client.is_in_sync_with(&digest, count);
    let agreed = within(PATIENCE, async || clients.iter().all(is_there).then_some(())).await;
    let happened = faults.happened();
    if agreed.is_none() {
        let what = format!("are not in-sync with digest {digest} of {count} keys");
        panic!("{}", failure(&what, &clients, &happened, |client| !is_there(client)));
    }
    let reread = |client: &Client| !client.journal().needless().is_empty();
    assert!(!clients.iter().any(reread), "{}", failure("asked in vain", &clients, &happened, reread));
    // Replicas give every cursor up that etcd and they have forgotten, and no other, whatever they were restarted with.
    let is_wrong = |client: &Client| (client.journal().times_gone() > 0) != faults.has_left_behind(client);
    let what = "were not told that their cursor is gone, or were told so of one that is kept";
    assert!(!clients.iter().any(is_wrong), "{}", failure(what, &clients, &happened, is_wrong));
    let wrong = states.disagreements();
    assert!(wrong.is_empty(), "one cursor, and several states:\n{}", wrong.join("\n"));
    let mut tally = Tally::default();
    clients.iter().for_each(|client| tally += client.journal().tally());
    for client in clients {
        client.end().await;
    }

    println!(
        "{} clients of each of {}, for {:.0} s",
        plan.clients,
        LANGUAGES.join(", "),
        active.as_secs_f64()
    );
    println!("etcd: {written}; {count} keys at revision {}", stored.revision);
    println!("faults: {}", faults.summary());
    println!("requests: {tally}");
    println!("resident memory, MiB: {memory}");
}

const LANGUAGES: [&str; 4] = ["rust", "go", "typescript", "python"];

/// Half of them by long polls, half over streams; half begin with the first replica, half with the second; half of those in
/// Python use asyncio.
fn start_clients(count: usize, network: &Network, states: &States) -> Vec<Client> {
    let mut clients = Vec::new();
    for number in 0..count {
        for language in LANGUAGES {
            let program = match language {
                "rust" => Rust.follower(),
                "go" => Go.follower(),
                "typescript" => TypeScript.follower(),
                _ => Python { asyncio: number / 4 % 2 == 1 }.follower(),
            };
            let (transport, first) = (["poll", "stream"][number % 2], number / 2 % 2);
            clients.push(Client::start(language, number, transport, first, program, network, states));
        }
    }
    clients
}

/// Of each language: the largest process, and all together.
fn resident_memory(clients: &[Client]) -> String {
    let mut of: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
    for client in clients {
        let (largest, all) = of.entry(client.language).or_default();
        let bytes = client.resident_kib();
        *largest = (*largest).max(bytes);
        *all += bytes;
    }
    let text = |(language, (largest, all)): (&&str, &(u64, u64))| {
        format!("{language} {} ({} at the most)", all / 1024, largest / 1024)
    };
    of.iter().map(text).collect::<Vec<_>>().join(", ")
}

/// A sentence, and the first clients that it is about, with what they said and asked last.
fn failure(
    what: &str,
    clients: &[Client],
    happened: &[(Instant, String)],
    is_broken: impl Fn(&Client) -> bool,
) -> String {
    let broken: Vec<&Client> = clients.iter().filter(|client| is_broken(client)).collect();
    let mut text = format!("{} of {} clients {what}", broken.len(), clients.len());
    for client in broken.iter().take(4) {
        text += &format!("\n\n{}", client.report(happened));
    }
    text += "\n\nthe last faults:";
    for (at, fault) in happened.iter().rev().take(12).rev() {
        text += &format!("\n  {:.1} s ago: {fault}", at.elapsed().as_secs_f64());
    }
    text
}
