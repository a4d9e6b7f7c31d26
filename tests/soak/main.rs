//! A soak: one daemon with TLS, tokens and a state directory in front of etcd, under a mixed load, while clients die, etcd
//! is killed, and tokens and certificates are changed. At the end every client has etcd's state, nothing has failed that
//! was not made to fail, and the daemon's memory has not grown.
//!
//! `cargo test` runs a short one, which says nothing of memory. A long one, with its figures:
//!
//! ```sh
//! CRUMBD_SOAK_SECONDS=1800 cargo test --release --test soak -- --nocapture
//! ```
#![allow(clippy::unwrap_used)] // a test may unwrap

mod load;
mod memory;
#[path = "../support/mod.rs"]
mod support;

use std::time::{Duration, Instant};

use fastrand::Rng;

use load::{Fleet, Writer};
use memory::Samples;
use support::daemon::Daemon;
use support::etcd::Etcd;
use support::state::{digest, hex};
use support::tls::Authority;
use support::tokens::TokenFile;

/// From this time on the memory is judged: before, caches still fill.
const LONG: Duration = Duration::from_secs(600);

/// How much more memory the last third may have than the one before.
const GROWTH: f64 = 1.05;

/// The target of the access log.
const ACCESS_LOG: &str = "crumbd::http::access_log";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_daemon_under_mixed_load_and_changes_keeps_its_promises_and_its_memory() {
    let time =
        std::env::var("CRUMBD_SOAK_SECONDS").map_or(30, |text| text.parse().expect("a number of seconds"));
    let time = Duration::from_secs(time);
    let seed = std::env::var("CRUMBD_SOAK_SEED")
        .map_or_else(|_| fastrand::u64(..1_000_000), |text| text.parse().unwrap());
    println!("CRUMBD_SOAK_SEED={seed}");
    let mut rng = Rng::with_seed(seed);
    let mut etcd = Etcd::start().await;
    let authority = Authority::new("soak");
    let (_certificates, served) = authority.server().copied();
    let mut tokens = TokenFile::new();
    let steady = tokens.add_with(&["--name", "steady", "--read", ""]);
    let changing = tokens.add_with(&["--name", "changing", "--read", ""]);
    let admin = tokens.add_with(&["--name", "admin", "--admin"]);
    tokens.save();
    let dir = tempfile::tempdir().unwrap();
    let (feed, state) = (etcd.feed("app/"), dir.path().join("state"));
    let arguments = [
        "--feed",
        &feed,
        "--state-dir",
        state.to_str().unwrap(),
        "--state-interval",
        "1s",
        "--tokens",
        tokens.path(),
        "--access-log",
        "errors",
    ];
    let daemon = Daemon::serve(&[&arguments[..], &served.served()].concat()).vouched_for_by(&authority);
    let operator = daemon.http().with_token(&admin.text);
    // Cursors of the time before the first state are good for that time only.
    let ready = operator.get("/readyz?wait=30s").await.ok(200);
    assert_eq!(ready.body, b"ready\n");

    let writer = Writer::start(etcd.keys(), rng.fork());
    let mut fleet = Fleet::start(&daemon, &authority, [&steady.text, &changing.text], rng.fork());
    let mut samples = Samples::default();
    let (begin, mut turns) = (Instant::now(), [0_u32; 5]);
    let mut spare = None;
    // Each kind of change at least once, however short the time is.
    while begin.elapsed() < time || turns.contains(&0) {
        let turn = if let Some(first) = turns.iter().position(|turns| *turns == 0) {
            first
        } else {
            rng.usize(..turns.len())
        };
        turns[turn] += 1;
        match turn {
            0 => fleet.replace_some(),
            1 => {
                etcd.kill();
                pause(&mut samples, &daemon, Duration::from_millis(rng.u64(100..3_000))).await;
                etcd.restart().await;
            }
            2 => authority.server().replace(&served),
            3 => {
                let rights: &[&str] = if rng.bool() { &[""] } else { &["app/a", "app/db/"] };
                tokens.change(&changing, Some(rights));
                tokens.save();
            }
            _ => {
                // Nobody uses it: one comes, and the one before goes.
                if let Some(last) = spare.replace(tokens.add_with(&["--name", "spare", "--read", ""])) {
                    tokens.change(&last, None);
                }
                tokens.save();
            }
        }
        pause(&mut samples, &daemon, Duration::from_millis(rng.u64(500..4_000))).await;
    }
    tokens.change(&changing, Some(&[""]));
    tokens.save();
    let written = writer.stop().await;

    let stored = etcd.keys().range(b"app/").await;
    fleet.agrees_with(&hex(digest(&stored.state)), stored.state.len()).await;
    let log = daemon.log();
    let refused: Vec<&str> =
        log.lines().filter(|line| line.contains(ACCESS_LOG) && !is_caused(line)).collect();
    assert!(refused.is_empty(), "requests that failed, and nothing has caused it: {refused:#?}");
    let wrong: Vec<&str> = log.lines().filter(|line| is_unexpected(line)).collect();
    assert!(wrong.is_empty(), "lines that nothing has caused: {wrong:#?}");
    println!(
        "{:.0} s; {written} writes, {} keys; {turns:?} times: clients replaced, etcd killed, certificates, rights, tokens; {} clients in all",
        begin.elapsed().as_secs_f64(),
        stored.state.len(),
        fleet.started()
    );
    println!("resident memory, MiB, by thirds: {samples}");
    if time >= LONG {
        let [_, middle, last] = samples.thirds();
        assert!(last <= middle * GROWTH, "the memory grows: {samples}");
    }
}

/// Lets time pass, and looks at the memory meanwhile.
async fn pause(samples: &mut Samples, daemon: &Daemon, time: Duration) {
    let end = Instant::now() + time;
    while Instant::now() < end {
        samples.take(daemon.pid());
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// Whether a line of the access log is of a client whose rights were changed, or that was made to die.
fn is_caused(line: &str) -> bool {
    let line: serde_json::Value = serde_json::from_str(line).unwrap();
    let has_left = line["status"].is_null();
    has_left
        || line["token"] == "changing" && [403, 410].contains(&line["status"].as_u64().unwrap_or_default())
}

/// Whether it is a warning or an error that is not about the etcd that was killed.
fn is_unexpected(line: &str) -> bool {
    let Ok(line) = serde_json::from_str::<serde_json::Value>(line) else { return true };
    let text = line["message"].as_str().unwrap_or_default();
    let is_caused =
        text.starts_with("etcd:") || text.starts_with("clients are refused") && text.contains("permission");
    ["WARN", "ERROR"].contains(&line["level"].as_str().unwrap_or_default()) && !is_caused
}

#[test]
fn thirds_are_means_of_a_third_of_the_samples_each() {
    let samples = Samples::of([1.0, 3.0, 5.0, 7.0, 9.0, 11.0]);
    assert_eq!(samples.thirds(), [2.0, 6.0, 10.0]);
}
