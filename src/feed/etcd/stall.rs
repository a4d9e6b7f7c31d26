//! Detects a watch that has stalled, by what is in the store and not by the state of the connection.
//!
//! A watch without events is fine as long as nothing changes below the prefix. But a watch can die silently, behind a
//! proxy for example (etcd issue 10650), while every other request is answered. So once a second, if the store's
//! revision has moved on and no event has arrived, etcd is asked whether a key was set after the last event, and how
//! many keys there are. If that shows that events are missing, and none has arrived a second later, the watch has
//! stalled.
//!
//! The comparison is exact: if no key was set since, and the number of keys is the same, none was deleted either.

use std::time::Duration;

use tokio::time::Instant;

/// To compare, etcd goes through all keys of the prefix. It is kept busy with that for one part in so many of its
/// time …
const SHARE: u32 = 20;

/// … but is asked at least this often.
const LONGEST_INTERVAL: Duration = Duration::from_secs(30);

/// What is known about the watch.
pub(super) struct StallDetector {
    /// No event up to this revision of the store is missing.
    complete_to: i64,
    /// Events have arrived since the last check.
    events_arrived: bool,
    /// Events were missing at the last check.
    behind: bool,
    /// When etcd may be asked next.
    not_before: Instant,
}

/// The outcome of a check.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Check {
    /// The watch has delivered everything, or is delivering.
    Delivering,
    /// It is too early to ask etcd.
    Deferred,
    /// etcd has to be asked.
    Ask,
}

/// The store compared with what the watch has delivered.
pub(super) struct Comparison {
    /// The store's revision.
    pub(super) revision: i64,
    /// Whether a key was set after the last event.
    pub(super) newer: bool,
    /// How many more keys the store has.
    pub(super) difference: i64,
    /// How long etcd took to answer.
    pub(super) took: Duration,
}

/// What a comparison shows.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// No event is missing.
    Complete,
    /// Events are missing, and may be on their way.
    Behind,
    /// Events are missing, and will not arrive.
    Stalled,
}

impl StallDetector {
    /// Starts where everything up to `revision` is known.
    pub(super) fn new(revision: i64) -> Self {
        Self { complete_to: revision, events_arrived: false, behind: false, not_before: Instant::now() }
    }

    /// The revision of the store up to which no event is missing.
    pub(super) fn complete_to(&self) -> i64 {
        self.complete_to
    }

    /// Notes that events have arrived.
    pub(super) fn events_arrived(&mut self) {
        self.events_arrived = true;
    }

    /// To be called once a second with the revision of the last event, and that of the store.
    pub(super) fn check(&mut self, seen: i64, now: i64) -> Check {
        let arrived = std::mem::take(&mut self.events_arrived);
        if arrived || now <= seen.max(self.complete_to) {
            self.behind = false;
            return Check::Delivering;
        }
        if self.behind || Instant::now() >= self.not_before { Check::Ask } else { Check::Deferred }
    }

    /// Takes the comparison that [`Check::Ask`] asked for.
    pub(super) fn compared(&mut self, comparison: &Comparison) -> Verdict {
        self.not_before = Instant::now() + (comparison.took * SHARE).min(LONGEST_INTERVAL);
        let missing = comparison.newer || comparison.difference != 0;
        if !missing {
            self.complete_to = self.complete_to.max(comparison.revision);
        }
        let was_behind = std::mem::replace(&mut self.behind, missing);
        match (missing, was_behind) {
            (false, _) => Verdict::Complete,
            (true, false) => Verdict::Behind,
            (true, true) => Verdict::Stalled,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn comparison(newer: bool, difference: i64) -> Comparison {
        Comparison { revision: 20, newer, difference, took: Duration::from_millis(100) }
    }

    #[tokio::test(start_paused = true)]
    async fn a_watch_that_is_behind_twice_has_stalled() {
        for missing in [comparison(true, 0), comparison(false, -1), comparison(false, 1)] {
            let mut detector = StallDetector::new(10);
            assert_eq!(detector.check(10, 10), Check::Delivering);
            assert_eq!(detector.check(10, 20), Check::Ask);
            assert_eq!(detector.compared(&missing), Verdict::Behind);
            assert_eq!(detector.check(10, 20), Check::Ask, "at once, however long it took");
            assert_eq!(detector.compared(&missing), Verdict::Stalled);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_watch_that_is_only_late_has_not_stalled() {
        let mut detector = StallDetector::new(10);
        assert_eq!(detector.check(10, 20), Check::Ask);
        assert_eq!(detector.compared(&comparison(true, 0)), Verdict::Behind);
        detector.events_arrived();
        assert_eq!(detector.check(15, 20), Check::Delivering);
        tokio::time::advance(LONGEST_INTERVAL).await;
        assert_eq!(detector.check(15, 20), Check::Ask);
        assert_eq!(detector.compared(&comparison(true, 0)), Verdict::Behind, "what was missing has arrived");
    }

    #[tokio::test(start_paused = true)]
    async fn a_store_that_is_busy_elsewhere_is_asked_for_a_share_of_its_time() {
        let mut detector = StallDetector::new(10);
        assert_eq!(detector.check(10, 20), Check::Ask);
        assert_eq!(detector.compared(&comparison(false, 0)), Verdict::Complete);
        assert_eq!(detector.complete_to(), 20);
        assert_eq!(detector.check(10, 20), Check::Delivering);
        assert_eq!(detector.check(10, 21), Check::Deferred);
        tokio::time::advance(Duration::from_secs(2)).await;
        assert_eq!(detector.check(10, 21), Check::Ask);
    }
}
