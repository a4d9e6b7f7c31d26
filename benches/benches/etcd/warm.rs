//! A warm start: from the start of the process until the whole kept state is served.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::daemon::Watched;

/// Leaves the state of the feed in a directory. Returns the size of the file.
pub async fn keep(feed: &str, dir: &Path) -> u64 {
    let first = Watched::start(&["--feed", feed, "--state-dir", dir.to_str().unwrap()]).await;
    first.in_sync().await;
    first.stop();
    std::fs::metadata(dir.join("state.crumbd")).unwrap().len()
}

/// Starts again and waits for the first answer; the feed is as far as the kept state. Also gives the CPU time of it.
pub async fn start(feed: &str, dir: &Path, keys: usize) -> (Duration, Duration) {
    let started = Instant::now();
    let again = Watched::start(&["--feed", feed, "--state-dir", dir.to_str().unwrap()]).await;
    let status = again.status().await;
    let elapsed = started.elapsed();
    let cpu = again.cpu_time();
    assert_eq!(status["count"], keys, "the whole state at once: {status}");
    (elapsed, cpu)
}
