//! The real daemon as a child process, its status and its memory.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::daemon::Daemon;
use crate::support::http::Http;

/// How often the status is asked for: a small share of what is measured.
const ASK: Duration = Duration::from_millis(2);

/// Nothing that is measured here takes longer.
pub const PATIENCE: Duration = Duration::from_secs(120);

pub struct Watched {
    pub daemon: Daemon,
    pub http: Http,
}

impl Watched {
    pub async fn start(arguments: &[&str]) -> Watched {
        let daemon = Daemon::serve(arguments);
        let http = daemon.http();
        Watched { daemon, http }
    }

    pub async fn status(&self) -> Value {
        self.http.get("/v1/status").await.ok(200).json()
    }

    /// Waits for a status of which this holds.
    pub async fn until(&self, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
        let end = Instant::now() + PATIENCE;
        loop {
            let status = self.status().await;
            if holds(&status) {
                return status;
            }
            assert!(Instant::now() < end, "not within {PATIENCE:?}: {what}: {status}");
            tokio::time::sleep(ASK).await;
        }
    }

    pub async fn in_sync(&self) -> Value {
        self.until("in-sync", |status| status["status"] == "in-sync").await
    }

    /// Resident bytes, once they have stayed the same for a second: what is freed is freed beside the work.
    pub async fn steady_bytes(&self) -> u64 {
        let mut before = 0;
        let mut calm = 0;
        for _ in 0..100 {
            tokio::time::sleep(Duration::from_millis(200)).await;
            let now = self.memory("VmRSS:");
            calm = if now.abs_diff(before) < (1 << 20) { calm + 1 } else { 0 };
            before = now;
            if calm == 5 {
                break;
            }
        }
        before
    }

    /// The most bytes that were resident since [`Watched::forget_peak`].
    pub fn peak_bytes(&self) -> u64 {
        self.memory("VmHWM:")
    }

    /// CPU time of the process so far, of all its threads. On a machine that has other things to do it
    /// says more than the clock.
    pub fn cpu_time(&self) -> Duration {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.daemon.pid())).unwrap();
        // The name may hold spaces; user and system time are the 12th and 13th field after it.
        let fields = stat.rsplit_once(')').unwrap().1.split_ascii_whitespace().skip(11).take(2);
        // In hundredths of a second, on every Linux.
        Duration::from_millis(fields.map(|ticks| ticks.parse::<u64>().unwrap() * 10).sum())
    }

    pub fn forget_peak(&self) {
        std::fs::write(format!("/proc/{}/clear_refs", self.daemon.pid()), "5").unwrap();
    }

    fn memory(&self, field: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.daemon.pid())).unwrap();
        let line = status.lines().find(|line| line.starts_with(field)).unwrap();
        line.split_ascii_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
    }

    /// Ends it as a service manager does; it saves its state then.
    pub fn stop(mut self) {
        self.daemon.terminate();
        assert!(self.daemon.wait_exit().success(), "{}", self.daemon.log());
    }
}
