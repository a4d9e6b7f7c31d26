//! The lean front and the framework give the same answer to any bytes that a client sends.
//!
//! The same raw bytes go to a daemon with `--lean-front=on` and to one with `--lean-front=off`, which have
//! the same state. Everything that comes back is compared: each answer's status line, headers and body, what
//! follows the last whole answer, and whether the connection is then closed. That two servers agree on where a
//! request ends is what keeps one client's bytes from being taken for another's request by whoever stands
//! before us; so bodies and header values that look like requests are sent above all.
#![allow(clippy::unwrap_used)]

#[path = "../support/mod.rs"]
mod support;

mod answer;
mod cases;
mod exchange;
mod grammar;
mod header_lines;
mod timing;
mod twins;
mod writes;

use std::sync::Arc;

use exchange::{Case, Seen, compare};
use fastrand::Rng;
use tokio::task::JoinSet;
use twins::{Places, Twins};

/// Where the generator begins; every run sends the same.
const SEED: u64 = 0x1ea2_f207;

/// How many generated exchanges there are, unless the variable `LEAN_CASES` says otherwise.
const CASES: u64 = 4000;

/// How many are under way at once: many end by both sides being quiet for a while.
const AT_ONCE: usize = 48;

/// Differences that are looked for before the rest is given up.
const ENOUGH: usize = 5;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_cases_that_tell_servers_apart_are_answered_the_same() {
    let twins = Arc::new(Twins::of_a_file().await);
    let places = twins.places.clone();
    run(twins, cases::all(&places).into_iter()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_a_client_sends_is_answered_the_same() {
    let twins = Arc::new(Twins::of_a_file().await);
    let generated = generated(&twins.places);
    run(twins, generated).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_asks_with_whichever_token_is_answered_the_same() {
    let twins = Arc::new(Twins::that_want_tokens().await);
    let generated = generated(&twins.places);
    run(twins, generated).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_tls_whatever_a_client_sends_is_answered_the_same() {
    let twins = Arc::new(Twins::over_tls().await);
    let places = twins.places.clone();
    // What is inside is the same; only how the bytes come to the fronts is another way.
    let some = cases::all(&places).into_iter().chain(generated(&places)).step_by(8);
    run(twins, some).await;
}

fn generated(places: &Places) -> impl Iterator<Item = Case> + use<> {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let (first, cases) = (number("LEAN_SEED").unwrap_or(SEED), number("LEAN_CASES").unwrap_or(CASES));
    let places = places.clone();
    (0..cases).map(move |n| grammar::case(&mut Rng::with_seed(first + n), &places))
}

/// Compares every case, some at a time, and shows those that differ.
async fn run(twins: Arc<Twins>, mut cases: impl Iterator<Item = Case>) {
    let mut under_way = JoinSet::new();
    let (mut seen, mut differences) = (Seen::default(), Vec::new());
    loop {
        while under_way.len() < AT_ONCE
            && differences.len() < ENOUGH
            && let Some(case) = cases.next()
        {
            let twins = Arc::clone(&twins);
            under_way.spawn(async move { compare(&twins, case).await });
        }
        match under_way.join_next().await {
            Some(compared) => match compared.unwrap() {
                Ok(same) => seen += same,
                Err(difference) => differences.push(difference),
            },
            None => break,
        }
    }
    assert!(differences.is_empty(), "they differ after {seen:?}:\n{}", differences.join("\n\n"));
    assert!(seen.answers > seen.cases, "most are answered more than once: {seen:?}");
    println!("{seen:?}");
}
