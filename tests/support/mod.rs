//! What the end-to-end tests share: the real daemon as a child process, an HTTP client that hides nothing,
//! a mirror written from PROTOCOL.md alone, and a seeded workload.
//!
//! Nothing here uses the `crumbd` library: what the tests know of the protocol, they know from its text.
#![allow(dead_code, clippy::unwrap_used)] // each test file uses its own part of this; a test may unwrap

pub mod bincode;
pub mod browser;
pub mod daemon;
pub mod etcd;
pub mod file_keeper;
pub mod followed;
pub mod following;
pub mod http;
pub mod kube_double;
pub mod kubernetes;
pub mod mirror;
pub mod programs;
pub mod record;
pub mod roamer;
pub mod state;
pub mod tls;
pub mod tokens;
pub mod tools;
pub mod workload;

use std::time::{Duration, Instant};

/// How long a test waits for something that must happen. Reached only when it does not.
pub const DEADLINE: Duration = Duration::from_secs(20);

/// How long a test watches that something does *not* happen. It can let a fault pass, it can not raise a false alarm.
pub const A_WHILE: Duration = Duration::from_millis(150);

/// Asks `look` again and again until it answers, and fails with `what` after [`DEADLINE`].
pub async fn eventually<T, F>(what: &str, mut look: impl FnMut() -> F) -> T
where
    F: Future<Output = Option<T>>,
{
    let end = Instant::now() + DEADLINE;
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(Instant::now() < end, "not within {DEADLINE:?}: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Awaits `future`, and fails with `what` after [`DEADLINE`].
pub async fn in_time<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(DEADLINE, future).await {
        Ok(done) => done,
        Err(_) => panic!("not within {DEADLINE:?}: {what}"),
    }
}
