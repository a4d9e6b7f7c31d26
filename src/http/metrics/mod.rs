//! Metrics for Prometheus.
//!
//! Each room counts its own events: [`CacheStats`](crate::cache::CacheStats) in the cache,
//! [`Upstream`](crate::feed::Upstream) for the feed, [`Metrics`] in this room. [`openmetrics`] reads them when they are
//! scraped. Counting a request takes no lock and allocates nothing: a few additions in memory that no other core touches
//! ([`sharded`]).

#[cfg(feature = "etcd")]
pub(in crate::http) mod etcd;
mod log_lines;
mod openmetrics;
mod process;
mod sharded;
mod streams;

use std::time::SystemTime;

use axum::http::HeaderName;
use prometheus_client::metrics::counter::Counter;

use crate::http::refusals::RefusalLog;
use crate::http::rep::reply::{MODE, REASON};
use crate::model::Cursor;
use crate::view::{Answer, Next, Reason};
use crate::wire::Mode;
pub use log_lines::LogLines;
pub(super) use openmetrics::metrics;
use sharded::{Histogram, Sharded};
use streams::Streams;

/// The buckets of the delivery latency, in microseconds.
const LATENCY_US: [u64; 16] = [
    100, 250, 500, 1000, 2500, 5000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000,
    10_000_000, 60_000_000,
];

/// The buckets of how far clients are behind, in revisions.
const BEHIND: [u64; 14] = [0, 1, 2, 5, 10, 25, 50, 100, 250, 500, 1000, 10_000, 100_000, 1_000_000];

/// The status codes of this daemon. Any other is counted as 0.
const STATUSES: [u16; 24] = [
    0, 200, 204, 304, 400, 401, 403, 404, 405, 406, 408, 410, 412, 413, 414, 415, 421, 429, 431, 500, 501,
    503, 505, 507,
];

const MODES: usize = Mode::ALL.len() + 1;
const REASONS: usize = Reason::ALL.len() + 1;

/// The counters of requests, connections and streams.
pub(super) struct Metrics {
    /// Answers by status, mode and reason.
    answers: Sharded,
    /// The time from a breadcrumb until its answer is written to a client that waited for it.
    latency_us: Histogram,
    /// The revisions that clients were behind when they asked for the next breadcrumb.
    behind: Histogram,
    /// Accepted connections.
    pub(super) accepted: Counter,
    /// Connections over the budget.
    pub(super) refused: Counter,
    /// Accepted connections without a successful TLS handshake.
    pub(super) handshakes_failed: Counter,
    /// The refused requests.
    pub(super) refusals: RefusalLog,
    /// The counters of streams.
    pub(super) streams: Streams,
    /// The counters of etcd's clients.
    #[cfg(feature = "etcd")]
    pub(super) etcd: etcd::EtcdMetrics,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            answers: Sharded::new(STATUSES.len() * MODES * REASONS),
            latency_us: Histogram::new(&LATENCY_US),
            behind: Histogram::new(&BEHIND),
            accepted: Counter::default(),
            refused: Counter::default(),
            handshakes_failed: Counter::default(),
            refusals: RefusalLog::default(),
            streams: Streams::default(),
            #[cfg(feature = "etcd")]
            etcd: etcd::EtcdMetrics::default(),
        }
    }
}

impl Metrics {
    /// Records the result of a long poll from this cursor, right before its answer is written.
    pub(super) fn observe_poll(&self, from: Cursor, next: &Next) {
        match next {
            Next::Answer(answer) => self.observe_delivery(from, answer, answer.at_once, SystemTime::now()),
            Next::Nothing { .. } => self.behind.observe(0),
        }
    }

    /// Records and counts the answer to a long poll from this cursor, right before it is written.
    pub(super) fn count_delivery(&self, from: Cursor, answer: &Answer, at_once: bool, now: SystemTime) {
        self.observe_delivery(from, answer, at_once, now);
        self.count_answer(200, Some(answer.mode), Some(answer.reason));
    }

    fn observe_delivery(&self, from: Cursor, answer: &Answer, at_once: bool, now: SystemTime) {
        if at_once {
            return self.behind.observe(answer.cursor.revision.0.saturating_sub(from.revision.0));
        }
        self.behind.observe(0);
        // A latency is 0 if the clock was set back.
        let latency = now.duration_since(answer.timestamp).unwrap_or_default();
        self.latency_us.observe(u64::try_from(latency.as_micros()).unwrap_or(u64::MAX));
    }

    /// Counts an answer.
    pub(super) fn count_reply<B>(&self, reply: &axum::http::Response<B>) {
        self.refusals.count(reply);
        let word = |name: HeaderName| reply.headers().get(name).and_then(|value| value.to_str().ok());
        let mode = word(MODE).and_then(|word| Mode::ALL.into_iter().find(|mode| mode.as_str() == word));
        let named = |word| Reason::ALL.into_iter().find(|reason| reason.as_str() == word);
        let reason = word(REASON).and_then(named);
        self.count_answer(reply.status().as_u16(), mode, reason);
    }

    /// Counts an answer of this kind.
    pub(super) fn count_answer(&self, status: u16, mode: Option<Mode>, reason: Option<Reason>) {
        let status = STATUSES.iter().position(|known| *known == status).unwrap_or(0);
        let mode = mode.map_or(0, |mode| mode as usize + 1);
        let reason = reason.map_or(0, |reason| reason as usize + 1);
        self.answers.add((status * MODES + mode) * REASONS + reason, 1);
    }

    /// The counted answers: status, mode, reason and number.
    fn answers(&self) -> impl Iterator<Item = (u16, &'static str, &'static str, u64)> {
        let kind = |slot: usize| {
            let (status, mode, reason) = (slot / REASONS / MODES, slot / REASONS % MODES, slot % REASONS);
            let mode = mode.checked_sub(1).map_or("", |mode| Mode::ALL[mode].as_str());
            let reason = reason.checked_sub(1).map_or("", |reason| Reason::ALL[reason].as_str());
            (STATUSES[status], mode, reason, self.answers.sum(slot))
        };
        (0..STATUSES.len() * MODES * REASONS).map(kind).filter(|(.., count)| *count > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_answer_has_its_own_counter() {
        let metrics = Metrics::default();
        let modes = || Mode::ALL.into_iter().map(Some).chain([None]);
        let reasons = || Reason::ALL.into_iter().map(Some).chain([None]);
        for status in STATUSES {
            modes().for_each(|mode| reasons().for_each(|reason| metrics.count_answer(status, mode, reason)));
        }
        metrics.count_answer(999, None, None);
        let all: Vec<_> = metrics.answers().collect();
        assert_eq!(all.len(), STATUSES.len() * MODES * REASONS);
        assert!(all.iter().all(|(status, mode, reason, count)| {
            *count == if (*status, *mode, *reason) == (0, "", "") { 2 } else { 1 }
        }));
    }
}
