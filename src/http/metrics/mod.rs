//! What is counted here, and what everybody has counted, for Prometheus.
//!
//! Each room counts what happens in it: [`CacheStats`](crate::cache::CacheStats) in the cache,
//! [`Upstream`](crate::model::Upstream) for the feed, budgets and answers in this room. Nobody reads those numbers
//! but [`tell`], when somebody asks. What is counted per request ([`Metrics`]) takes no lock and makes no text:
//! a few additions in memory that no other core touches ([`sharded`]).

mod sharded;
mod streams;
mod tell;

use prometheus_client::metrics::counter::Counter;
use std::time::SystemTime;

use axum::extract::State;
use axum::http::{HeaderMap, HeaderName};
use axum::response::Response;

use crate::http::app::App;
use crate::http::rep::reply::{MODE, REASON};
use crate::model::Cursor;
use crate::view::{Answer, Next, Reason};
use crate::wire::Mode;
use sharded::{Histogram, Sharded};
use streams::Streams;
pub(super) use tell::metrics;

/// In microseconds.
const LATENCY_US: [u64; 16] = [
    100, 250, 500, 1000, 2500, 5000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000,
    10_000_000, 60_000_000,
];

/// In revisions.
const BEHIND: [u64; 14] = [0, 1, 2, 5, 10, 25, 50, 100, 250, 500, 1000, 10_000, 100_000, 1_000_000];

/// The statuses that this daemon answers with; others count as 0.
const STATUSES: [u16; 22] = [
    0, 200, 204, 304, 400, 401, 403, 404, 405, 406, 408, 410, 412, 413, 414, 415, 429, 431, 500, 501, 503,
    505,
];

const MODES: usize = Mode::ALL.len() + 1;
const REASONS: usize = Reason::ALL.len() + 1;

/// What is counted for every request and every connection.
pub(super) struct Metrics {
    /// By status, mode and reason.
    answers: Sharded,
    /// From a breadcrumb until its answer is written to somebody who waited for it.
    latency_us: Histogram,
    /// By how much those were behind who asked for what comes next.
    behind: Histogram,
    /// Connections that were accepted.
    pub(super) accepted: Counter,
    /// Connections that there was no room for.
    pub(super) refused: Counter,
    /// Connections that there was room for and that came to no TLS.
    pub(super) handshakes_failed: Counter,
    /// What is counted of streams.
    pub(super) streams: Streams,
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
            streams: Streams::default(),
        }
    }
}

impl Metrics {
    /// A long poll from this cursor has come to this, and its answer is about to be written.
    pub(super) fn polled(&self, from: Cursor, next: &Next) {
        match next {
            Next::Answer(answer) => self.came(from, answer, answer.at_once, SystemTime::now()),
            Next::Nothing { .. } => self.behind.observe(0),
        }
    }

    /// A long poll from this cursor is being answered so.
    pub(super) fn delivered(&self, from: Cursor, answer: &Answer, at_once: bool, now: SystemTime) {
        self.came(from, answer, at_once, now);
        self.answered_as(200, Some(answer.mode), Some(answer.reason));
    }

    fn came(&self, from: Cursor, answer: &Answer, at_once: bool, now: SystemTime) {
        if at_once {
            return self.behind.observe(answer.cursor.revision.0.saturating_sub(from.revision.0));
        }
        self.behind.observe(0);
        // A clock that was set back counts as no time.
        let latency = now.duration_since(answer.timestamp).unwrap_or_default();
        self.latency_us.observe(u64::try_from(latency.as_micros()).unwrap_or(u64::MAX));
    }

    /// An answer with this head is written.
    pub(super) fn answered(&self, status: u16, headers: &HeaderMap) {
        let word = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
        let mode = word(MODE).and_then(|word| Mode::ALL.into_iter().find(|mode| mode.as_str() == word));
        let named = |word| Reason::ALL.into_iter().find(|reason| reason.as_str() == word);
        let reason = word(REASON).and_then(named);
        self.answered_as(status, mode, reason);
    }

    /// An answer of this kind is written.
    pub(super) fn answered_as(&self, status: u16, mode: Option<Mode>, reason: Option<Reason>) {
        let status = STATUSES.iter().position(|known| *known == status).unwrap_or(0);
        let mode = mode.map_or(0, |mode| mode as usize + 1);
        let reason = reason.map_or(0, |reason| reason as usize + 1);
        self.answers.add((status * MODES + mode) * REASONS + reason, 1);
    }

    /// Every kind of answer that there was: status, mode, reason, and how many.
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

/// Counts what the framework answers. What the lean front answers it counts itself.
pub(super) async fn count(State(app): State<App>, response: Response) -> Response {
    app.metrics.answered(response.status().as_u16(), response.headers());
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_answer_has_a_place_of_its_own() {
        let metrics = Metrics::default();
        let modes = || Mode::ALL.into_iter().map(Some).chain([None]);
        let reasons = || Reason::ALL.into_iter().map(Some).chain([None]);
        for status in STATUSES {
            modes().for_each(|mode| reasons().for_each(|reason| metrics.answered_as(status, mode, reason)));
        }
        metrics.answered_as(999, None, None);
        let all: Vec<_> = metrics.answers().collect();
        assert_eq!(all.len(), STATUSES.len() * MODES * REASONS);
        assert!(all.iter().all(|(status, mode, reason, count)| {
            *count == if (*status, *mode, *reason) == (0, "", "") { 2 } else { 1 }
        }));
    }
}
