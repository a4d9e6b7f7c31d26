//! Publishing a breadcrumb: link it to the trail, add it to the window, wake the followers.
//!
//! Only two tasks follow the trail: `view`'s fan-out, which wakes the clients, and the writer of the state directory.
//! So a wake-up costs the ingest task the same, however many clients wait. (Waking 50,000 parked tasks takes tens of
//! milliseconds.)
//!
//! Freeing an old snapshot takes as long as making a new one, so a separate thread does it. If that thread falls
//! behind, its queue fills up, and the ingest task frees snapshots itself. That is the back-pressure.
//!
//! Waking that thread costs more than freeing the few tree nodes of a one-delta breadcrumb. So evicted breadcrumbs are
//! queued in batches, and an idle ingest task frees a small batch itself.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Weak};
use std::time::{Instant, SystemTime};

use parking_lot::RwLock;

use super::breadcrumb::{Breadcrumb, BreadcrumbData, Delta, Gap, KnownPast, PastState, Step, cursor_of};
use super::handle::Stopped;
use super::restore::{RestoreError, RestoredBreadcrumb};
use super::weight::Weight;
use super::{CacheConfig, Journal, JournalError, Snapshot};
use crate::model::{Cursor, CursorKey, Digest, EntryLimits, KeyStep, Past, Revision, Sequence, SyncStatus};
use crate::trail::{AppendError, EventBuffer, Head, SharedError, Window, WindowEntry};

/// Drop batches that may wait for the drop thread.
const DROP_QUEUE_BATCHES: usize = 64;

/// Deltas of evicted breadcrumbs that make a full drop batch. Under load the drop thread is woken once per batch.
const DROP_BATCH_DELTAS: usize = 256;

/// Bytes of evicted breadcrumbs that make a full drop batch, so that large values are freed soon.
const DROP_BATCH_BYTES: usize = 1 << 20;

/// The inline drop limit: a batch of at most this many deltas is freed by an idle ingest task, in microseconds.
const INLINE_DROP_DELTAS: usize = 16;

pub(super) type Trail = EventBuffer<Arc<BreadcrumbData>>;
pub(super) type SharedWindow = Arc<RwLock<Window<Breadcrumb>>>;

/// A breadcrumb that has no sequence number yet.
pub(super) struct Draft {
    pub(super) state: Snapshot,
    pub(super) status: SyncStatus,
    pub(super) deltas: Box<[Delta]>,
    pub(super) steps: Box<[Step]>,
    pub(super) first_revision: Option<Revision>,
    pub(super) weight: Weight,
    pub(super) gap: bool,
    pub(super) provisional: bool,
}

impl Draft {
    pub(super) fn status_only(state: Snapshot, status: SyncStatus, provisional: bool) -> Self {
        let (deltas, steps, weight) = Default::default();
        Self { state, status, deltas, steps, first_revision: None, weight, gap: false, provisional }
    }
}

pub(super) struct Publisher {
    trail: Trail,
    window: SharedWindow,
    head: Arc<BreadcrumbData>,
    drop_queue: SyncSender<DropBatch>,
    /// The drop batch under construction.
    evicted: Vec<Breadcrumb>,
    /// The number of deltas in `evicted`, each breadcrumb counting at least once.
    evicted_deltas: usize,
    /// The bytes that the breadcrumbs in `evicted` weighed in the window.
    evicted_bytes: usize,
    was_in_sync: Arc<AtomicBool>,
    /// The write-ahead journal, if there is one.
    journal: Option<Box<dyn Journal>>,
    /// The last breadcrumb after a lossy resync, held weakly: only this one can still get its past.
    last_after_gap: Option<Weak<BreadcrumbData>>,
    limits: EntryLimits,
    cursor_key: CursorKey,
}

/// Memory to be freed by the drop thread.
#[expect(dead_code, reason = "the contents are only moved to the drop thread, which frees them")]
enum DropBatch {
    Breadcrumbs(Vec<Breadcrumb>),
    Snapshot(Snapshot),
}

impl Publisher {
    /// Publishes breadcrumb 1, which holds an empty or a restored state, and starts the drop thread.
    pub(super) fn start(
        state: Snapshot,
        timestamp: SystemTime,
        (config, cursor_key): (&CacheConfig, &CursorKey),
        provisional: bool,
        gap: bool,
        was_in_sync: Arc<AtomicBool>,
    ) -> Result<(Self, Head<Arc<BreadcrumbData>>, SharedWindow), AppendError> {
        let mut trail = Trail::new();
        let status = SyncStatus::WaitForDatastore;
        let from = cursor_of(&state, status, cursor_key);
        let draft = Draft { gap, ..Draft::status_only(state, status, provisional) };
        let head = Arc::new(crumb(draft, Sequence(1), from, timestamp, cursor_key).0);
        let first = trail.append(Arc::clone(&head))?;
        let mut window = Window::new(config.window);
        if let Ok(first) = Breadcrumb::of(first) {
            let revision = head.state.revision;
            drop(window.push(window_entry(revision, revision, (0, 0), first, instant_of(timestamp))));
        }
        let (readers, window) = (trail.reader(), Arc::new(RwLock::new(window)));
        let last_after_gap = gap.then(|| Arc::downgrade(&head));
        let publisher = Self {
            trail,
            window: Arc::clone(&window),
            head,
            drop_queue: start_drop_thread(),
            evicted: Vec::new(),
            evicted_deltas: 0,
            evicted_bytes: 0,
            was_in_sync,
            journal: None,
            last_after_gap,
            limits: config.entry_limits(),
            cursor_key: cursor_key.clone(),
        };
        Ok((publisher, readers, window))
    }

    pub(super) fn head_state(&self) -> Snapshot {
        self.head.state.clone()
    }

    pub(super) fn head_cursor(&self) -> Cursor {
        self.head.cursor
    }

    pub(super) fn set_journal(&mut self, journal: Box<dyn Journal>) {
        self.journal = Some(journal);
    }

    pub(super) fn is_journaled(&self) -> bool {
        self.journal.is_some()
    }

    /// Appends the breadcrumb to the journal, if there is one, and makes it readable.
    ///
    /// # Errors
    /// The journal did not persist it; it is not readable then.
    pub(super) fn publish(&mut self, draft: Draft) -> Result<(), JournalError> {
        let timestamp = SystemTime::now();
        let (crumb, weight) = self.next(draft, timestamp);
        if let Some(journal) = &mut self.journal
            && crumb.state.revision > self.head.state.revision
        {
            journal.append(&crumb.record())?;
        }
        self.link(crumb, weight, Instant::now());
        Ok(())
    }

    /// Publishes the next breadcrumb of an earlier process again.
    ///
    /// # Errors
    /// Its changes do not lead from the newest state to the state that it names.
    pub(super) fn restore(&mut self, restored: RestoredBreadcrumb) -> Result<(), RestoreError> {
        let timestamp = restored.timestamp;
        let draft = restored.after(&self.head.state)?;
        let (crumb, weight) = self.next(draft, timestamp);
        self.link(crumb, weight, instant_of(timestamp));
        Ok(())
    }

    /// The breadcrumb after the newest one.
    fn next(&self, draft: Draft, timestamp: SystemTime) -> (BreadcrumbData, Weight) {
        let sequence = Sequence(self.head.sequence.0 + 1);
        crumb(draft, sequence, self.head.cursor, timestamp, &self.cursor_key)
    }

    /// Makes the breadcrumb readable. The trail and the window change under one lock, so a reader that finds it on the
    /// trail can also locate its cursor.
    fn link(&mut self, crumb: BreadcrumbData, weight: Weight, at: Instant) {
        if crumb.cursor.status == SyncStatus::InSync {
            self.was_in_sync.store(true, Ordering::Release);
        }
        let other_history = crumb.state.history != self.head.state.history;
        let crumb = Arc::new(crumb);
        if crumb.gap.is_some()
            && let Some(before) =
                self.last_after_gap.replace(Arc::downgrade(&crumb)).and_then(|weak| weak.upgrade())
        {
            before.gap.iter().for_each(Gap::mark_unknown);
        }
        let weights = (weight.held_by(&crumb), weight.replaced_by(&crumb, self.head.state.len()));
        self.head = Arc::clone(&crumb);
        let (revision, first) = (crumb.state.revision, crumb.first_revision);
        let (evicted, lighter) = {
            let mut window = self.window.write();
            let before = window.bytes();
            let Ok(item) = self.trail.append(crumb) else {
                // Only `terminate` ends the trail, as the last act of the ingest task.
                debug_assert!(false, "published after the end of the trail");
                return;
            };
            let Ok(breadcrumb) = Breadcrumb::of(item) else { return };
            let mut evicted = if other_history { window.clear() } else { Vec::new() };
            evicted.extend(window.push(window_entry(revision, first, weights, breadcrumb, at)));
            let lighter = (before + weights.0 + weights.1).saturating_sub(window.bytes());
            (evicted, lighter)
        };
        self.collect_evicted(evicted, lighter);
    }

    fn collect_evicted(&mut self, evicted: Vec<Breadcrumb>, bytes: usize) {
        self.evicted_bytes += if evicted.is_empty() { 0 } else { bytes };
        self.evicted_deltas += evicted.iter().map(|crumb| crumb.deltas().len().max(1)).sum::<usize>();
        self.evicted.extend(evicted);
        if self.evicted_deltas >= DROP_BATCH_DELTAS || self.evicted_bytes >= DROP_BATCH_BYTES {
            self.queue_evicted();
        }
    }

    /// Does a little deferred work. Returns whether more is left.
    pub(super) fn idle(&mut self) -> bool {
        self.drop_evicted();
        self.journal.as_mut().is_some_and(|journal| journal.idle())
    }

    fn drop_evicted(&mut self) {
        if self.evicted_deltas > INLINE_DROP_DELTAS {
            self.queue_evicted();
        } else {
            self.evicted.clear();
            (self.evicted_deltas, self.evicted_bytes) = (0, 0);
        }
    }

    fn queue_evicted(&mut self) {
        (self.evicted_deltas, self.evicted_bytes) = (0, 0);
        let evicted = std::mem::take(&mut self.evicted);
        self.drop_deferred(DropBatch::Breadcrumbs(evicted));
    }

    /// Adds the past that the feed has read back, or its absence, to the last breadcrumb after a lossy resync. Its bytes
    /// count in the window.
    pub(super) fn set_past(&mut self, end: Revision, past: Option<Past>) {
        let limits = self.limits;
        let trace = |end: Digest, max_bytes| Some(KnownPast::trace(past?, end, limits, max_bytes));
        self.set_known_past(end, trace);
    }

    /// The same with the past that another daemon knows.
    pub(super) fn set_relayed_past(&mut self, end: Revision, steps: Vec<KeyStep>) {
        self.set_known_past(end, |digest, max_bytes| {
            KnownPast::relayed(steps, end, digest.into(), max_bytes)
        });
    }

    /// Adds the past that `known` makes of the digest of the state at its end, in at most so many bytes.
    fn set_known_past(&mut self, end: Revision, known: impl FnOnce(Digest, usize) -> Option<KnownPast>) {
        let Some(crumb) = self.last_after_gap.as_ref().and_then(Weak::upgrade) else { return };
        let Some(gap) = crumb.gap.as_ref().filter(|_| crumb.state.revision == end) else { return };
        let max_bytes = self.window.read().limits().max_bytes;
        let Some(known) = known(crumb.state.digest(), max_bytes) else { return gap.mark_unknown() };
        let bytes = known.bytes();
        let before = match gap.past.send_replace(PastState::Known(Arc::new(known))) {
            PastState::Known(before) => before.bytes(),
            PastState::Awaited | PastState::Unknown => 0,
        };
        let is_crumb = |other: &Breadcrumb| other.sequence() == crumb.sequence;
        let evicted = self.window.write().grow(is_crumb, bytes.saturating_sub(before));
        self.collect_evicted(evicted, bytes);
    }

    /// Frees an old snapshot on the drop thread.
    pub(super) fn drop_snapshot(&self, state: Snapshot) {
        self.drop_deferred(DropBatch::Snapshot(state));
    }

    /// Queues a batch for the drop thread, or frees it here when the queue is full.
    fn drop_deferred(&self, batch: DropBatch) {
        match self.drop_queue.try_send(batch) {
            Ok(()) => {}
            Err(TrySendError::Full(batch) | TrySendError::Disconnected(batch)) => drop(batch),
        }
    }

    pub(super) fn terminate(&mut self) -> Result<(), AppendError> {
        self.trail.append_err(Arc::new(Stopped) as SharedError)
    }
}

fn crumb(
    draft: Draft,
    sequence: Sequence,
    from: Cursor,
    timestamp: SystemTime,
    key: &CursorKey,
) -> (BreadcrumbData, Weight) {
    let Draft { state, status, deltas, steps, first_revision, weight, gap, provisional } = draft;
    // Where nothing changed, no revision lies inside this breadcrumb.
    let first_revision = first_revision.unwrap_or(state.revision);
    let (cursor, gap) = (cursor_of(&state, status, key), gap.then(Gap::new));
    let crumb = BreadcrumbData {
        sequence,
        timestamp,
        state,
        cursor,
        from,
        first_revision,
        deltas,
        steps,
        gap,
        provisional,
    };
    (crumb, weight)
}

/// A window entry for a breadcrumb. The pair is the bytes that it holds and the bytes that it replaced.
fn window_entry(
    revision: Revision,
    first: Revision,
    (bytes, replaced): (usize, usize),
    item: Breadcrumb,
    at: Instant,
) -> WindowEntry<Breadcrumb> {
    WindowEntry { index: revision.0, first_index: first.0, bytes, replaced, at, item }
}

/// The monotonic time of a wall-clock timestamp from an earlier process. A time before the machine started becomes
/// now, so the breadcrumb stays in the window a little longer.
fn instant_of(timestamp: SystemTime) -> Instant {
    let now = Instant::now();
    now.checked_sub(timestamp.elapsed().unwrap_or_default()).unwrap_or(now)
}

fn start_drop_thread() -> SyncSender<DropBatch> {
    let (send, receive) = sync_channel::<DropBatch>(DROP_QUEUE_BATCHES);
    let thread = std::thread::Builder::new().name("crumbd-drop".to_owned());
    // Without the thread the channel is closed, and `drop_deferred` frees each batch in place.
    if let Err(error) = thread.spawn(move || receive.into_iter().for_each(drop)) {
        tracing::warn!(%error, "cannot start the thread that frees old snapshots; the ingest task frees them itself");
    }
    send
}
