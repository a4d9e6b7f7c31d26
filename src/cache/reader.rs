//! Read access to the cache.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::watch;

use super::breadcrumb::{BreadcrumbData, KnownPast, PastState};
use super::publish::SharedWindow;
use super::{Breadcrumb, CacheStats, RefusedKeys};
use crate::ingest::{Buffer, IngestBuffer};
use crate::model::{Cursor, CursorKey, FeedEvent, Sequence};
use crate::trail::{Head, Lookup, WindowEntry};

/// The place of a cursor's revision among the breadcrumbs in the window.
pub enum Position {
    /// The revision is that of this breadcrumb's state.
    At(Breadcrumb),
    /// The revision lies between the first and the last that `within` covers. The cursor comes from another process,
    /// which ended its breadcrumbs elsewhere.
    Inside {
        /// The breadcrumb that covers it.
        within: Breadcrumb,
    },
    /// The revision lies in the gap before `within`, a state that was read as a whole, and the changes in between are
    /// known.
    Before {
        /// The breadcrumb with that state.
        within: Breadcrumb,
        /// The changes that lead to it.
        past: Arc<KnownPast>,
    },
    /// As `Before`, but the feed has not read the changes back yet.
    Awaited(PastAwaited),
    /// The revision is older than the window.
    Gone,
    /// The revision is newer than the newest breadcrumb.
    Ahead,
    /// The cursor belongs to another history: its history differs, or its check is not that of the state at its
    /// revision.
    OtherHistory,
}

impl Position {
    /// The position of a cursor in the gap before `within`.
    fn in_gap_before(within: &Breadcrumb, cursor: Cursor, key: &CursorKey) -> Self {
        let Some(mut changes) = within.past() else { return Self::Gone };
        let past = changes.borrow_and_update().clone();
        match past {
            PastState::Unknown => Self::Gone,
            PastState::Known(past) if cursor.revision < past.base => Self::Gone,
            PastState::Known(past) if cursor.revision <= past.through && !past.fits(cursor, key) => {
                Self::OtherHistory
            }
            PastState::Known(past) if cursor.revision <= past.through => {
                Self::Before { within: within.clone(), past }
            }
            PastState::Known(_) | PastState::Awaited => {
                Self::Awaited(PastAwaited { end: within.cursor(), changes })
            }
        }
    }
}

/// A handle to wait on while the feed reads back the changes in a gap. It does not keep the breadcrumb after the gap in
/// memory.
pub struct PastAwaited {
    end: Cursor,
    changes: watch::Receiver<PastState>,
}

impl PastAwaited {
    /// The cursor of the breadcrumb after the gap.
    pub fn end(&self) -> Cursor {
        self.end
    }

    /// Waits until more is known than when the cursor was located, or the breadcrumb is gone. Locate the cursor again
    /// then.
    pub async fn changed(&mut self) {
        _ = self.changes.changed().await;
    }
}

/// The size of the window of readable breadcrumbs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct WindowUsage {
    /// The number of breadcrumbs.
    pub breadcrumbs: usize,
    /// An estimate of the bytes that only these breadcrumbs hold.
    pub bytes: usize,
}

/// Read access to a cache. Clones share it.
#[derive(Clone)]
pub struct Reader {
    head: Head<Arc<BreadcrumbData>>,
    window: SharedWindow,
    /// Used only for [`Reader::backlog`].
    buffer: Arc<IngestBuffer<FeedEvent>>,
    stats: Arc<CacheStats>,
    was_in_sync: Arc<AtomicBool>,
    cursor_key: CursorKey,
}

impl Reader {
    pub(super) fn new(
        head: Head<Arc<BreadcrumbData>>,
        window: SharedWindow,
        buffer: Arc<IngestBuffer<FeedEvent>>,
        stats: Arc<CacheStats>,
        was_in_sync: Arc<AtomicBool>,
        cursor_key: CursorKey,
    ) -> Self {
        Self { head, window, buffer, stats, was_in_sync, cursor_key }
    }

    pub(super) fn mark_warm(&self) {
        self.was_in_sync.store(true, Ordering::Release);
    }

    /// The newest breadcrumb.
    pub fn current_breadcrumb(&self) -> Breadcrumb {
        Breadcrumb::of(self.head.head()).unwrap_or_else(|_| self.newest_in_window())
    }

    /// The number of the newest breadcrumb. Cheaper than [`Reader::current_breadcrumb`]: no reference is counted.
    pub(crate) fn newest_sequence(&self) -> Sequence {
        let newest = self.head.peek(|crumb| crumb.map(|crumb| crumb.sequence));
        newest.unwrap_or_else(|| self.current_breadcrumb().sequence())
    }

    /// The newest breadcrumb of a cache that has stopped, whose trail ends with an error.
    fn newest_in_window(&self) -> Breadcrumb {
        let window = self.window.read();
        let newest = window.newest().map(|entry| entry.item.clone());
        newest.expect("the window always keeps the newest breadcrumb")
    }

    /// The oldest breadcrumb in the window.
    pub fn oldest_breadcrumb(&self) -> Breadcrumb {
        let oldest = self.window.read().oldest().map(|entry| entry.item.clone());
        oldest.unwrap_or_else(|| self.current_breadcrumb())
    }

    /// The size of the window.
    pub fn window_usage(&self) -> WindowUsage {
        let window = self.window.read();
        WindowUsage { breadcrumbs: window.len(), bytes: window.bytes() }
    }

    /// A kept breadcrumb to begin at: old, but not about to leave the window, and with at most `max_bytes` of changes
    /// after it.
    pub fn early_breadcrumb(&self, max_bytes: usize) -> Breadcrumb {
        let early = self.window.read().early(max_bytes).map(|entry| entry.item.clone());
        early.unwrap_or_else(|| self.current_breadcrumb())
    }

    /// Finds a cursor among the breadcrumbs in the window.
    pub fn locate(&self, cursor: Cursor) -> Position {
        let window = self.window.read();
        let same = |newest: &WindowEntry<Breadcrumb>| newest.item.kvs().history() == cursor.history;
        if !window.newest().is_some_and(same) {
            return Position::OtherHistory;
        }
        match window.find(cursor.revision.0) {
            Lookup::Ahead => Position::Ahead,
            Lookup::Gone => {
                let oldest = window.oldest().filter(|entry| entry.item.follows_gap());
                oldest.map_or(Position::Gone, |entry| {
                    Position::in_gap_before(&entry.item, cursor, &self.cursor_key)
                })
            }
            Lookup::At(entry) => match is_state_of(&entry.item, cursor, &self.cursor_key) {
                true => Position::At(entry.item.clone()),
                false => Position::OtherHistory,
            },
            Lookup::Inside(entry) => match &entry.item {
                within if within.follows_gap() => Position::in_gap_before(within, cursor, &self.cursor_key),
                within if !fits_inside(within, cursor, &self.cursor_key) => Position::OtherHistory,
                within => Position::Inside { within: within.clone() },
            },
        }
    }

    /// Whether the cache, or the earlier process whose state it restored, was ever in sync.
    pub fn was_in_sync(&self) -> bool {
        self.was_in_sync.load(Ordering::Acquire)
    }

    /// The cache's counters.
    pub fn stats(&self) -> &CacheStats {
        &self.stats
    }

    /// The keys that are absent because the upstream's value was refused.
    pub fn refused_keys(&self) -> Arc<RefusedKeys> {
        Arc::clone(&self.stats.refused_keys.read())
    }

    /// The number of events that wait for the ingest task, and the number that may wait.
    pub fn backlog(&self) -> (usize, usize) {
        (self.buffer.len(), self.buffer.capacity())
    }
}

/// Whether the breadcrumb's state is the one at the cursor.
fn is_state_of(breadcrumb: &Breadcrumb, cursor: Cursor, key: &CursorKey) -> bool {
    // A cursor of today's key costs no MAC.
    breadcrumb.cursor().check == cursor.check
        || key.accepts(cursor.revision, breadcrumb.kvs().digest().into(), cursor.check)
}

/// Whether a cursor inside a breadcrumb has the check of the state at its revision. A breadcrumb without steps changed
/// the state at its first revision only.
fn fits_inside(within: &Breadcrumb, cursor: Cursor, key: &CursorKey) -> bool {
    let steps = within.steps();
    if steps.is_empty() {
        return key.accepts(cursor.revision, within.kvs().digest().into(), cursor.check);
    }
    let after = steps.partition_point(|step| step.revision <= cursor.revision);
    let last = after.checked_sub(1).and_then(|at| steps.get(at)).and_then(|step| step.check);
    last.is_none_or(|check| key.accepts(cursor.revision, check, cursor.check))
}
