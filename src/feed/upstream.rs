//! What is known of the upstream right now, beside the updates themselves.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use parking_lot::RwLock;
use prometheus_client::metrics::counter::Counter;
use tokio::sync::{Notify, watch};

use super::Activity;
use super::activity::ActivityReport;
use crate::model::{History, Revision, Sighting};

/// Shared by the feed, which writes it, and by whoever reports on it.
#[derive(Debug)]
pub struct Upstream {
    started: Instant,
    /// Milliseconds after `started`, plus one; 0: never heard.
    heard_ms: AtomicU64,
    /// Milliseconds that had passed at `started` since an earlier process heard it.
    earlier_ms: AtomicU64,
    /// How often it was heard.
    heard_count: Counter,
    candidates: RwLock<Vec<History>>,
    /// Any two related histories may be the same one.
    related_are_candidates: AtomicBool,
    /// Nothing is ahead of this process: it has applied all that there is.
    exhausted: AtomicBool,
    /// Somebody wants to know how far the upstream is.
    asked: Notify,
    /// Why the feed cannot say that it is in-sync, for people.
    problem: RwLock<Option<String>>,
    activity: RwLock<ActivityReport>,
    sighting: watch::Sender<Option<Sighting>>,
    /// Set for an upstream that is this process itself (a push feed): it is always heard.
    local: bool,
    /// Records or events that were not understood, and so refused.
    pub malformed: Counter,
    /// How often the feed had to connect, open or read from the start again.
    pub reconnects: Counter,
    /// How often the feed found the ingest buffer full and waited.
    pub waits: Counter,
    /// How long it has waited in all, in microseconds.
    pub waited_us: Counter,
    /// How often such a wait passed its deadline.
    pub overdue: Counter,
}

impl Upstream {
    /// An upstream outside of this process, not heard yet.
    pub fn remote() -> Self {
        Self::new(false)
    }

    /// An upstream that is this process itself, and so is never out of reach.
    pub fn local() -> Self {
        Self::new(true)
    }

    fn new(local: bool) -> Self {
        Self {
            started: Instant::now(),
            heard_ms: AtomicU64::new(0),
            earlier_ms: AtomicU64::new(0),
            heard_count: Counter::default(),
            candidates: RwLock::default(),
            related_are_candidates: AtomicBool::new(false),
            exhausted: AtomicBool::new(local),
            asked: Notify::new(),
            problem: RwLock::default(),
            activity: RwLock::new(ActivityReport::new()),
            sighting: watch::Sender::new(None),
            local,
            malformed: Counter::default(),
            reconnects: Counter::default(),
            waits: Counter::default(),
            waited_us: Counter::default(),
            overdue: Counter::default(),
        }
    }

    /// The upstream has answered, just now.
    pub fn heard(&self) {
        let now = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX - 1);
        self.heard_ms.fetch_max(now + 1, Ordering::Relaxed);
        self.heard_count.inc();
    }

    /// An earlier process heard the upstream so long before this one started.
    pub fn was_heard(&self, before: Duration) {
        let before = u64::try_from(before.as_millis()).unwrap_or(u64::MAX);
        self.earlier_ms.store(before, Ordering::Relaxed);
    }

    /// How often the upstream was heard.
    pub fn heard_count(&self) -> u64 {
        self.heard_count.get()
    }

    /// Sets the histories that may be one and the same. A cursor of one is accepted in another if the state that it
    /// names is the same.
    pub fn set_candidate_histories(&self, histories: Vec<History>) {
        *self.candidates.write() = histories;
    }

    /// The same for all related histories.
    pub fn related_histories_are_candidates(&self) {
        self.related_are_candidates.store(true, Ordering::Release);
    }

    /// Whether two histories may be one and the same.
    pub fn are_cousins(&self, one: History, other: History) -> bool {
        if self.related_are_candidates.load(Ordering::Acquire) && one.is_relative_of(other) {
            return true;
        }
        let candidates = self.candidates.read();
        candidates.contains(&one) && candidates.contains(&other)
    }

    /// No other process can be ahead of this one: it has applied all that this upstream will ever
    /// say, or nobody else hears this upstream.
    pub fn is_exhausted(&self) {
        self.exhausted.store(true, Ordering::Release);
    }

    /// Whether a cursor ahead of this process can only be of a state that is gone.
    pub fn nothing_is_ahead(&self) -> bool {
        self.exhausted.load(Ordering::Acquire)
    }

    /// Asks the feed to say soon how far the upstream is ([`is_at`](Self::is_at)). Feeds that say so
    /// now and then anyway need not listen.
    pub fn ask(&self) {
        self.asked.notify_one();
    }

    /// Resolves when somebody has asked. For the feed; cancel-safe.
    pub async fn asked(&self) {
        self.asked.notified().await;
    }

    /// Why the feed cannot say that it is in-sync, as a sentence; `None` once it can.
    pub fn has_problem(&self, problem: Option<String>) {
        *self.problem.write() = problem;
    }

    /// The same, for who reports on it.
    pub fn problem(&self) -> Option<String> {
        self.problem.read().clone()
    }

    /// Sets what the feed is doing.
    pub fn does(&self, activity: Activity) {
        self.activity.write().set(activity);
    }

    /// Records the last error of the feed.
    pub fn has_failed(&self, error: &impl fmt::Display) {
        self.activity.write().last_error = Some((error.to_string(), SystemTime::now()));
    }

    /// What the feed is doing, for who reports on it.
    pub fn activity(&self) -> ActivityReport {
        self.activity.read().clone()
    }

    /// The upstream said that it is at this revision, when asked at that moment.
    pub fn is_at(&self, revision: Revision, asked: Instant) {
        self.sighting.send_replace(Some(Sighting { revision, asked }));
    }

    /// What the upstream last said of its revision, and what it says next; `None` for upstreams that
    /// have no revision of their own.
    pub fn sightings(&self) -> watch::Receiver<Option<Sighting>> {
        self.sighting.subscribe()
    }

    /// Time since the upstream was last heard; since the start of the process when it never was.
    pub fn age(&self) -> Duration {
        self.age_at(Instant::now())
    }

    /// The same for who has just looked at the clock.
    pub fn age_at(&self, now: Instant) -> Duration {
        if self.local {
            return Duration::ZERO;
        }
        let elapsed = now.saturating_duration_since(self.started);
        match self.heard_ms.load(Ordering::Relaxed).checked_sub(1) {
            Some(heard) => elapsed.saturating_sub(Duration::from_millis(heard)),
            None => elapsed + Duration::from_millis(self.earlier_ms.load(Ordering::Relaxed)),
        }
    }
}
