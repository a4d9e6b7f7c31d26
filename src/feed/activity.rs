//! What a feed is doing, for people and for metrics.

use std::fmt;
use std::time::SystemTime;

/// What a feed is doing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Activity {
    /// It has not begun.
    Starting,
    /// It connects to its upstream, or waits for it.
    Connecting,
    /// It reads the whole state: the number of the page, from 1.
    Listing {
        /// The page.
        page: u64,
    },
    /// It checks that the upstream is the one whose state it has.
    Verifying,
    /// It has the whole state, and waits for changes.
    Watching,
    /// It waits before it tries again.
    Retrying,
    /// It has read everything that there will ever be.
    Ended,
    /// It has failed for good.
    Failed,
}

impl Activity {
    /// The words for all activities.
    pub(crate) const WORDS: [&'static str; 8] =
        ["starting", "connecting", "listing", "verifying", "watching", "retrying", "ended", "failed"];

    /// The word for the activity.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Connecting => "connecting",
            Self::Listing { .. } => "listing",
            Self::Verifying => "verifying",
            Self::Watching => "watching",
            Self::Retrying => "retrying",
            Self::Ended => "ended",
            Self::Failed => "failed",
        }
    }

    /// The number of the page, while the state is listed.
    pub(crate) fn page(self) -> Option<u64> {
        match self {
            Self::Listing { page } => Some(page),
            _ => None,
        }
    }
}

impl fmt::Display for Activity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())?;
        self.page().map_or(Ok(()), |page| write!(f, " page {page}"))
    }
}

/// What a feed is doing, since when, and its last error.
#[derive(Clone, Debug)]
pub(crate) struct ActivityReport {
    /// The activity.
    pub activity: Activity,
    /// The beginning of the activity. A listing begins with its first page.
    pub since: SystemTime,
    /// The last error as a sentence, and its time. It is kept after the feed has recovered.
    pub last_error: Option<(String, SystemTime)>,
}

impl ActivityReport {
    pub(super) fn new() -> Self {
        Self { activity: Activity::Starting, since: SystemTime::now(), last_error: None }
    }

    pub(super) fn set(&mut self, activity: Activity) {
        if self.activity.as_str() != activity.as_str() {
            self.since = SystemTime::now();
        }
        self.activity = activity;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_activity_has_its_word() {
        let all = [
            Activity::Starting,
            Activity::Connecting,
            Activity::Listing { page: 3 },
            Activity::Verifying,
            Activity::Watching,
            Activity::Retrying,
            Activity::Ended,
            Activity::Failed,
        ];
        assert_eq!(all.map(Activity::as_str), Activity::WORDS);
        assert_eq!(Activity::Listing { page: 3 }.to_string(), "listing page 3");
    }
}
