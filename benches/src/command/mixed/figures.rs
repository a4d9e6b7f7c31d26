//! What is counted, and how it is told.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crumbd_bench::load::{Board, Counts, Latencies, Mirrored, Mirrors, Percentiles};
use parking_lot::Mutex;
use serde::Serialize;

use crate::command::report::{Report, Server, grouped, percentiles, size};

#[derive(Default, Serialize)]
pub(super) struct Figures {
    pub(super) url: String,
    pub(super) waiters: usize,
    pub(super) keys: u64,
    pub(super) updates: u64,
    pub(super) publications: u64,
    pub(super) refused_writes: u64,
    pub(super) lost: u64,
    #[serde(flatten)]
    pub(super) counts: Counts,
    pub(super) wake_latency: Percentiles,
    pub(super) joined: u64,
    pub(super) joiners_refused: u64,
    pub(super) joiners_failed: u64,
    pub(super) first_joiner_failure: Option<String>,
    pub(super) join_latency: Percentiles,
    pub(super) slow_readers: usize,
    pub(super) slow_bytes: u64,
    pub(super) mirrors: Mirrored,
    pub(super) seconds: f64,
    pub(super) server: Server,
}

/// What the clients count, beside the board.
#[derive(Default)]
pub(super) struct Tally {
    pub(super) updates: AtomicU64,
    pub(super) refused_writes: AtomicU64,
    pub(super) joined: AtomicU64,
    pub(super) joiners_refused: AtomicU64,
    pub(super) joiners_failed: AtomicU64,
    pub(super) slow_bytes: AtomicU64,
    pub(super) first_joiner_failure: Mutex<Option<String>>,
    pub(super) join_latency: Latencies,
}

impl Figures {
    pub(super) fn complete(&mut self, board: &Board, tally: &Tally, mirrors: &Mirrors) {
        self.server.end();
        self.seconds = self.server.seconds;
        self.mirrors = mirrors.found();
        self.counts = board.counts();
        self.wake_latency = board.latencies.percentiles();
        self.publications = board.last_published();
        self.lost = board.lost(self.publications);
        self.updates = tally.updates.load(Relaxed);
        self.refused_writes = tally.refused_writes.load(Relaxed);
        self.joined = tally.joined.load(Relaxed);
        self.joiners_refused = tally.joiners_refused.load(Relaxed);
        self.joiners_failed = tally.joiners_failed.load(Relaxed);
        self.first_joiner_failure = tally.first_joiner_failure.lock().clone();
        self.join_latency = tally.join_latency.percentiles();
        self.slow_bytes = tally.slow_bytes.load(Relaxed);
    }
}

impl Report for Figures {
    fn title(&self) -> String {
        let Self { url, waiters, mirrors, keys, .. } = self;
        format!(
            "mixed: {} waiters and {} mirrors of {url}, {} keys at the end",
            grouped(*waiters as u64),
            mirrors.mirrors,
            grouped(*keys)
        )
    }

    fn lines(&self) -> Vec<(&'static str, String)> {
        let Mirrored { mirrors, checked, snapshots, wrong, unreachable, in_sync, .. } = &self.mirrors;
        vec![
            (
                "written",
                format!(
                    "{} updates and {} publications in {:.2} s, {} writes refused for a while",
                    grouped(self.updates),
                    grouped(self.publications),
                    self.seconds,
                    self.refused_writes
                ),
            ),
            (
                "mirrors",
                format!(
                    "{} states checked, {wrong} wrong; {in_sync} of {mirrors} hold the final one; {snapshots} \
                     snapshots, {unreachable} failed requests",
                    grouped(*checked)
                ),
            ),
            (
                "waiters",
                format!(
                    "{} wakes, {} deliveries; {} behind at the end, {} publications left out, {} failed",
                    grouped(self.counts.wakes),
                    grouped(self.counts.deliveries),
                    self.lost,
                    self.counts.holes,
                    self.counts.failed
                ),
            ),
            ("wake latency", percentiles(&self.wake_latency)),
            (
                "joiners",
                format!(
                    "{} joined, {} failed, {} refused for a while; {} slow readers took {}",
                    grouped(self.joined),
                    self.joiners_failed,
                    self.joiners_refused,
                    self.slow_readers,
                    size(self.slow_bytes)
                ),
            ),
            ("join latency", percentiles(&self.join_latency)),
            ("server CPU", self.server.cores()),
            (
                "server memory",
                format!(
                    "{} before, {} after",
                    size(self.server.memory_before_bytes),
                    size(self.server.memory_after_bytes)
                ),
            ),
        ]
    }

    fn fault(&self) -> Option<String> {
        let mirrors = &self.mirrors;
        let behind = mirrors.mirrors - mirrors.in_sync;
        let Counts { holes, failed, .. } = self.counts;
        if (self.lost, holes, failed, mirrors.wrong, behind, self.joiners_failed) == (0, 0, 0, 0, 0, 0) {
            return None;
        }
        let first = mirrors.first_failure.as_ref().or(self.first_joiner_failure.as_ref());
        Some(format!(
            "{} waiters behind, {holes} publications left out, {failed} waiters failed; mirrors: {} wrong answers, \
             {behind} without the final state; {} joiners failed{}",
            self.lost,
            mirrors.wrong,
            self.joiners_failed,
            first.map_or(String::new(), |first| format!("; the first failure: {first}"))
        ))
    }
}
