//! What is known of the upstream right now, beside the updates themselves.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use parking_lot::RwLock;
use prometheus_client::metrics::counter::Counter;
use tokio::sync::{Notify, watch};
use tracing::{info, warn};

use super::Activity;
use super::activity::ActivityReport;
use crate::model::{History, Key, KeySelector, Revision, Sighting};
use crate::value::Recurring;

/// The upstream was never heard.
const NEVER: i64 = i64::MIN;

/// Shared by the feed, which writes it, and by whoever reports on it.
#[derive(Debug)]
pub struct Upstream {
    started: Instant,
    /// Random, so that a relay recognises this collection of this process in the path of an answer.
    id: String,
    /// The ids of the daemons that the data come through, the nearest first, without this one.
    path: RwLock<Vec<String>>,
    /// Milliseconds after `started`, negative for an upstream that had not heard its own since; [`NEVER`]: never heard.
    heard_ms: AtomicI64,
    /// Milliseconds that had passed at `started` since an earlier process heard it.
    earlier_ms: AtomicU64,
    /// How often it was heard.
    heard_count: Counter,
    candidates: RwLock<Vec<History>>,
    /// Any two related histories may be the same one.
    related_are_candidates: AtomicBool,
    /// Nothing is ahead of this process: it has applied all that there is.
    exhausted: AtomicBool,
    /// The feed answers when it is asked how far the upstream is.
    answers: AtomicBool,
    /// Somebody wants to know how far the upstream is.
    asked: Notify,
    /// Somebody wants everything to be read again.
    asked_to_reread: Notify,
    /// Why the feed cannot say that it is in-sync, for people.
    problem: RwLock<Option<String>>,
    activity: RwLock<ActivityReport>,
    sighting: watch::Sender<Option<Sighting>>,
    /// The feed has read everything that there will ever be. Nothing newer can be missed, so it has no age.
    ended: AtomicBool,
    /// Set for an upstream that is this process itself (a push feed): it is always heard.
    local: bool,
    /// The keys that the feed follows. The upstream may have others.
    followed: KeySelector,
    /// Records or events that were not understood, and so refused.
    pub malformed: Counter,
    /// How often the feed had to connect, open or read from the start again.
    pub reconnects: Counter,
    /// How often an error kept the feed from its upstream.
    failures: Counter,
    /// How often the upstream was not reached, or did not answer, since it was last heard.
    pub connect_failures: Counter,
    /// What is logged of these errors.
    failing: Recurring,
    /// The same of a full ingest buffer.
    full: Recurring,
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
            id: format!("{:016x}", fastrand::u64(..)),
            path: RwLock::default(),
            heard_ms: AtomicI64::new(NEVER),
            earlier_ms: AtomicU64::new(0),
            heard_count: Counter::default(),
            candidates: RwLock::default(),
            related_are_candidates: AtomicBool::new(false),
            exhausted: AtomicBool::new(local),
            answers: AtomicBool::new(false),
            asked: Notify::new(),
            asked_to_reread: Notify::new(),
            problem: RwLock::default(),
            activity: RwLock::new(ActivityReport::new()),
            sighting: watch::Sender::new(None),
            ended: AtomicBool::new(false),
            local,
            followed: KeySelector::ALL,
            malformed: Counter::default(),
            reconnects: Counter::default(),
            failures: Counter::default(),
            connect_failures: Counter::default(),
            failing: Recurring::default(),
            full: Recurring::default(),
            waits: Counter::default(),
            waited_us: Counter::default(),
            overdue: Counter::default(),
        }
    }

    /// The same, of which only the keys with this prefix are followed.
    pub fn of_prefix(self, prefix: &[u8]) -> Self {
        Self { followed: KeySelector::prefix(Key::copy_from(prefix)), ..self }
    }

    /// The keys that the feed follows. Nothing is known of others, not even that they are absent.
    pub fn followed(&self) -> &KeySelector {
        &self.followed
    }

    /// The upstream has answered, just now.
    pub fn heard(&self) {
        self.heard_with_age(Duration::ZERO);
    }

    /// The upstream has answered just now, and had heard its own upstream so long before. Of several upstreams the
    /// newest word counts.
    pub fn heard_with_age(&self, age: Duration) {
        let ms = |time: Duration| i64::try_from(time.as_millis()).unwrap_or(i64::MAX);
        let heard = ms(self.started.elapsed()).saturating_sub(ms(age)).max(NEVER + 1);
        self.heard_ms.fetch_max(heard, Ordering::Relaxed);
        self.heard_count.inc();
    }

    /// The id of this collection in this process.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The data come through the daemons with these ids, the nearest first.
    pub fn comes_by(&self, path: Vec<String>) {
        *self.path.write() = path;
    }

    /// The ids of the daemons that the data come through: this one first, the root last.
    pub fn path(&self) -> Vec<String> {
        [&self.id].into_iter().chain(self.path.read().iter()).cloned().collect()
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

    /// The feed answers when it is [asked](Self::ask) how far the upstream is, and its state then reaches that revision.
    pub fn answers_when_asked(&self) {
        self.answers.store(true, Ordering::Release);
    }

    /// Whether it does.
    pub fn answers(&self) -> bool {
        self.answers.load(Ordering::Acquire)
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

    /// Asks the feed to read everything again: there is room for keys that the cache has refused for want of it. A feed that
    /// cannot need not listen.
    pub fn ask_to_reread(&self) {
        self.asked_to_reread.notify_one();
    }

    /// Resolves when somebody has asked for that. For the feed; cancel-safe.
    pub async fn asked_to_reread(&self) {
        self.asked_to_reread.notified().await;
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
    pub(crate) fn does(&self, activity: Activity) {
        self.activity.write().set(activity);
        self.ended.store(activity == Activity::Ended, Ordering::Relaxed);
        if activity == Activity::Watching {
            self.recovered();
        }
    }

    /// Records and counts an error of the feed.
    pub fn has_failed(&self, error: &impl fmt::Display) {
        self.failures.inc();
        self.activity.write().last_error = Some((error.to_string(), SystemTime::now()));
    }

    /// The same. If a line of the log is due, returns how often it has failed so since the line before.
    pub(super) fn keeps_failing(&self, error: &str) -> Option<u64> {
        self.has_failed(&error);
        self.failing.failed(error)
    }

    /// The errors are over.
    pub(super) fn recovered(&self) {
        if let Some(end) = self.failing.ended() {
            info!(times = end.times, lasted = %end.lasted(), "the upstream answers again, and changes are followed");
        }
    }

    /// The feed waits for room in the ingest buffer, and has waited for this long.
    pub(super) fn is_held_up(&self, capacity: usize, waited: Duration) {
        self.overdue.inc();
        if let Some(times) = self.full.failed("") {
            warn!(capacity, times, "the ingest buffer has been full for {waited:?}; the feed waits");
        }
    }

    /// The feed has got room in the ingest buffer.
    pub(super) fn goes_on(&self) {
        if let Some(end) = self.full.ended() {
            info!(times = end.times, lasted = %end.lasted(), "there is room in the ingest buffer again");
        }
    }

    /// How often an error kept the feed from its upstream.
    pub fn failures(&self) -> u64 {
        self.failures.get()
    }

    /// What the feed is doing, for who reports on it.
    pub(crate) fn activity(&self) -> ActivityReport {
        self.activity.read().clone()
    }

    /// The upstream said that it is at this revision, when asked at that moment.
    pub fn is_at(&self, revision: Revision, asked: Instant) {
        self.sighting.send_replace(Some(Sighting { revision, asked }));
    }

    /// What the upstream last said of its revision, and what it says next; `None` for upstreams that
    /// have no revision of their own.
    pub(crate) fn sightings(&self) -> watch::Receiver<Option<Sighting>> {
        self.sighting.subscribe()
    }

    /// When the upstream was last heard, by this process or by one before it; `None` if it never was.
    pub fn heard_at(&self) -> Option<SystemTime> {
        let heard = self.heard_ms.load(Ordering::Relaxed) != NEVER;
        let was_heard = self.local || heard || self.earlier_ms.load(Ordering::Relaxed) > 0;
        let age = self.heard_age_at(Instant::now());
        was_heard.then(|| SystemTime::now().checked_sub(age)).flatten()
    }

    /// Time since the upstream was last heard; since the start of the process when it never was. An upstream that has
    /// ended has none: there is nothing newer to hear.
    pub fn age(&self) -> Duration {
        self.age_at(Instant::now())
    }

    /// The same for who has just looked at the clock.
    pub fn age_at(&self, now: Instant) -> Duration {
        if self.ended.load(Ordering::Relaxed) {
            return Duration::ZERO;
        }
        self.heard_age_at(now)
    }

    fn heard_age_at(&self, now: Instant) -> Duration {
        if self.local {
            return Duration::ZERO;
        }
        let elapsed = now.saturating_duration_since(self.started);
        match self.heard_ms.load(Ordering::Relaxed) {
            NEVER => elapsed + Duration::from_millis(self.earlier_ms.load(Ordering::Relaxed)),
            heard if heard < 0 => elapsed + Duration::from_millis(heard.unsigned_abs()),
            heard => elapsed.saturating_sub(Duration::from_millis(heard.unsigned_abs())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_upstream_that_has_ended_does_not_grow_old() {
        let upstream = Upstream::remote();
        assert_eq!(upstream.heard_at(), None);
        upstream.heard_with_age(Duration::from_secs(3600));
        upstream.does(Activity::Ended);
        assert_eq!(upstream.age(), Duration::ZERO, "there is nothing newer to hear");
        assert!(upstream.heard_at().is_some_and(|at| at.elapsed().is_ok_and(|age| age.as_secs() >= 3600)));
    }

    #[test]
    fn the_age_is_that_of_the_newest_word_and_may_be_older_than_the_process() {
        let upstream = Upstream::remote();
        let hour = Duration::from_secs(3600);
        let is_about = |age: Duration| (age..age + Duration::from_secs(60)).contains(&upstream.age());
        assert!(is_about(Duration::ZERO), "since the start");
        upstream.heard_with_age(hour);
        assert!(is_about(hour));
        upstream.heard_with_age(Duration::from_secs(600));
        upstream.heard_with_age(hour);
        assert!(is_about(Duration::from_secs(600)), "what an upstream knew is not forgotten");
        upstream.heard();
        assert!(is_about(Duration::ZERO));
        upstream.heard_with_age(Duration::MAX);
        assert!(is_about(Duration::ZERO));
    }
}
