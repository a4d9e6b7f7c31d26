//! Whether the watch tells what happens, judged by what is in the store and not by the connection.
//!
//! A watch that brings nothing is right as long as nothing happens below the prefix. But there are watches that have
//! died and do not say so, behind a proxy for example (etcd issue 10650), while every other request is answered. So
//! once a second, when the store's revision has moved on and nothing has come, etcd is asked whether a key was set after
//! what we have seen, and how many keys there are. Where that says that the watch owes us something, and it has still
//! brought nothing a second later, it is dead.
//!
//! Exact, as far as it goes: when no key was set since, and there are as many as there were, nothing was deleted either.

use std::time::Duration;

use tokio::time::Instant;

/// To answer, etcd goes through all keys of the prefix. It shall not be busy with that for more than this part of its time …
const SHARE: u32 = 20;

/// … but it is asked at least so often.
const SELDOMEST: Duration = Duration::from_secs(30);

/// What is known of the watch.
pub(super) struct Progress {
    /// At this revision of the store nothing was missing.
    vouched: i64,
    /// Something has come since the last look.
    came: bool,
    /// The watch owed something at the last look.
    owes: bool,
    not_before: Instant,
}

/// How the watch stands.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Look {
    /// It has told everything, or is telling.
    Well,
    /// That is not known, and it is not yet the time to ask.
    Unknown,
    /// To find out, etcd has to be asked.
    Ask,
}

/// What etcd said when it was asked.
pub(super) struct Found {
    /// Its revision then.
    pub(super) revision: i64,
    /// Whether some key was set after what we have seen.
    pub(super) newer: bool,
    /// How many keys there are more or fewer than by what we have seen.
    pub(super) difference: i64,
    pub(super) took: Duration,
}

/// What follows from it.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Nothing is missing.
    Well,
    /// Something is missing, and may be on its way.
    Owes,
    /// It will not come any more.
    Dead,
}

impl Progress {
    /// Everything up to this revision is known.
    pub(super) fn from(revision: i64) -> Self {
        Self { vouched: revision, came: false, owes: false, not_before: Instant::now() }
    }

    /// Up to here nothing is missing.
    pub(super) fn vouched(&self) -> i64 {
        self.vouched
    }

    /// The watch has brought something.
    pub(super) fn came(&mut self) {
        self.came = true;
    }

    /// To be called once a second. `seen`: up to where the watch has told; `now`: where the store is.
    pub(super) fn look(&mut self, seen: i64, now: i64) -> Look {
        let came = std::mem::take(&mut self.came);
        if came || now <= seen.max(self.vouched) {
            self.owes = false;
            return Look::Well;
        }
        if self.owes || Instant::now() >= self.not_before { Look::Ask } else { Look::Unknown }
    }

    /// Takes etcd's answer.
    pub(super) fn found(&mut self, found: &Found) -> Verdict {
        self.not_before = Instant::now() + (found.took * SHARE).min(SELDOMEST);
        let missing = found.newer || found.difference != 0;
        if !missing {
            self.vouched = self.vouched.max(found.revision);
        }
        let owed = std::mem::replace(&mut self.owes, missing);
        match (missing, owed) {
            (false, _) => Verdict::Well,
            (true, false) => Verdict::Owes,
            (true, true) => Verdict::Dead,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(newer: bool, difference: i64) -> Found {
        Found { revision: 20, newer, difference, took: Duration::from_millis(100) }
    }

    #[tokio::test(start_paused = true)]
    async fn a_watch_that_owes_something_twice_is_dead() {
        for missing in [found(true, 0), found(false, -1), found(false, 1)] {
            let mut progress = Progress::from(10);
            assert_eq!(progress.look(10, 10), Look::Well);
            assert_eq!(progress.look(10, 20), Look::Ask);
            assert_eq!(progress.found(&missing), Verdict::Owes);
            assert_eq!(progress.look(10, 20), Look::Ask, "at once, however long it took");
            assert_eq!(progress.found(&missing), Verdict::Dead);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_watch_that_is_only_late_is_well() {
        let mut progress = Progress::from(10);
        assert_eq!(progress.look(10, 20), Look::Ask);
        assert_eq!(progress.found(&found(true, 0)), Verdict::Owes);
        progress.came();
        assert_eq!(progress.look(15, 20), Look::Well);
        tokio::time::advance(SELDOMEST).await;
        assert_eq!(progress.look(15, 20), Look::Ask);
        assert_eq!(progress.found(&found(true, 0)), Verdict::Owes, "what it owed before has come");
    }

    #[tokio::test(start_paused = true)]
    async fn a_store_that_is_busy_elsewhere_is_asked_for_a_share_of_its_time() {
        let mut progress = Progress::from(10);
        assert_eq!(progress.look(10, 20), Look::Ask);
        assert_eq!(progress.found(&found(false, 0)), Verdict::Well);
        assert_eq!(progress.vouched(), 20);
        assert_eq!(progress.look(10, 20), Look::Well);
        assert_eq!(progress.look(10, 21), Look::Unknown);
        tokio::time::advance(Duration::from_secs(2)).await;
        assert_eq!(progress.look(10, 21), Look::Ask);
    }
}
