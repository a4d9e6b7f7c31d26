//! Read access to the cache.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::watch;

use super::breadcrumb::{BreadcrumbData, KnownPast, PastState};
use super::publish::SharedWindow;
use super::weight::step_bytes;
use super::{Breadcrumb, CacheStats, Completeness, Delta, DeltaKind, RefusedKeys};
use crate::ingest::{Buffer, IngestBuffer};
use crate::model::{Check, Cursor, CursorKey, FeedEvent, Key, KeyStep, Revision, Sequence};
use crate::trail::{Head, Lookup, WindowEntry, WindowLimits};

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

/// The changes that lead to a kept breadcrumb, as far as they are known.
pub(crate) enum StepsTo {
    /// All that are kept, in order of revision. The first one names no change, but the state that the others begin at.
    Known(Vec<KeyStep>),
    /// The feed is still reading them back.
    Awaited,
    /// The breadcrumb is not kept.
    Gone,
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

    /// The limits of the window.
    pub fn window_limits(&self) -> WindowLimits {
        self.window.read().limits()
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

    /// The changes that lead to a kept breadcrumb: those of the breadcrumbs before it, and before them those that the feed
    /// has read back. Only the newest ones, if all have more than about `max_bytes`.
    pub(crate) fn steps_to(&self, cursor: Cursor, max_bytes: usize) -> StepsTo {
        let Position::At(end) = self.locate(cursor) else { return StepsTo::Gone };
        let oldest = self.oldest_breadcrumb();
        let through_end = oldest.later().take_while(|crumb| crumb.sequence() <= end.sequence());
        let crumbs: Vec<Breadcrumb> = std::iter::once(oldest.clone()).chain(through_end).collect();
        let is_whole = oldest.sequence() <= end.sequence()
            && crumbs.iter().all(|crumb| crumb.kvs().history() == cursor.history);
        if !is_whole {
            return StepsTo::Gone;
        }
        let (mut newest_first, mut bytes) = (Vec::new(), 0);
        for (number, crumb) in crumbs.iter().enumerate().rev() {
            let at_its_end = base_step(crumb.revision(), Some(crumb.kvs().digest().into()));
            let known = match crumb.past().map(|past| past.borrow().clone()) {
                None if number > 0 => steps_of(crumb),
                None | Some(PastState::Unknown) => return StepsTo::Known(in_order(at_its_end, newest_first)),
                Some(PastState::Known(past)) if past.through == crumb.revision() => {
                    past.steps().iter().map(KeyStep::from).collect()
                }
                Some(PastState::Known(_) | PastState::Awaited) => return StepsTo::Awaited,
            };
            bytes += known.iter().map(|step| step_bytes(step.key.as_bytes())).sum::<usize>();
            if bytes > max_bytes {
                return StepsTo::Known(in_order(at_its_end, newest_first));
            }
            newest_first.push(known);
            if let Some(PastState::Known(past)) = crumb.past().map(|past| past.borrow().clone()) {
                return StepsTo::Known(in_order(base_step(past.base, past.base_check), newest_first));
            }
        }
        StepsTo::Gone
    }

    /// Whether the cache, or the earlier process whose state it restored, was ever in sync.
    pub fn was_in_sync(&self) -> bool {
        self.was_in_sync.load(Ordering::Acquire)
    }

    /// How far the state is complete, and what it is next. The newest breadcrumb is at least that far.
    pub(crate) fn completeness(&self) -> watch::Receiver<Completeness> {
        self.stats.complete.subscribe()
    }

    /// The cache's counters.
    pub fn stats(&self) -> &CacheStats {
        &self.stats
    }

    /// The keys that are absent because the upstream's value was refused.
    pub fn refused_keys(&self) -> Arc<RefusedKeys> {
        Arc::clone(&self.stats.refused_keys.read())
    }

    /// The most keys, and bytes of keys and values, of the state.
    pub(crate) fn state_limits(&self) -> (Option<usize>, Option<u64>) {
        self.stats.state_limits
    }

    /// Whether the feed should read everything again, and when it should: there is room for keys that were refused for want
    /// of it.
    pub(crate) fn reread_wanted(&self) -> watch::Receiver<bool> {
        self.stats.reread_wanted.subscribe()
    }

    /// The number of events that wait for the ingest task, and the number that may wait.
    pub fn backlog(&self) -> (usize, usize) {
        (self.buffer.len(), self.buffer.capacity())
    }
}

/// The step that names the state at which others begin.
fn base_step(revision: Revision, check: Option<Check>) -> KeyStep {
    KeyStep { revision, key: Key::copy_from(b""), existed: false, check }
}

fn in_order(base: KeyStep, newest_first: Vec<Vec<KeyStep>>) -> Vec<KeyStep> {
    std::iter::once(base).chain(newest_first.into_iter().rev().flatten()).collect()
}

/// The steps of a breadcrumb, also where its changes are of one revision.
fn steps_of(crumb: &Breadcrumb) -> Vec<KeyStep> {
    if !crumb.steps().is_empty() {
        return crumb.steps().iter().map(KeyStep::from).collect();
    }
    let (deltas, check) = (crumb.deltas(), Some(crumb.kvs().digest().into()));
    // In a resync each key has its own revision, and the states in between are not known.
    let is_one =
        deltas.windows(2).all(|pair| pair.first().map(|d| d.revision) == pair.last().map(|d| d.revision));
    let revision = deltas.first().filter(|_| is_one).map_or(crumb.revision(), |delta| delta.revision);
    let existed = |delta: &Delta| delta.kind != DeltaKind::New;
    let step =
        |delta: &Delta| KeyStep { revision, key: delta.entry.to_key(), existed: existed(delta), check };
    deltas.iter().map(step).collect()
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
