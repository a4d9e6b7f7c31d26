//! Dropping a breadcrumb: link it, keep it in the window, wake its waiters.
//!
//! Few follow the trail directly: the fan-out of `view`, who wakes the clients, and the state directory's writer.
//! So to wake them costs the ingest task the same however many clients wait. (To wake 50,000 parked tasks
//! takes tens of milliseconds.)
//!
//! Dropping an old snapshot takes as long as making a new one, so that is handed to another thread. Where that
//! thread falls behind, the ingest task drops snapshots itself, which is the back-pressure.
//!
//! To hand garbage on wakes a thread, which costs more than to free the few tree nodes of a
//! breadcrumb of one delta. So it is handed on by the heap, and a little of it is freed by the ingest
//! task when it has nothing else to do.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Weak};
use std::time::{Instant, SystemTime};

use parking_lot::RwLock;

use super::breadcrumb::{Blind, Breadcrumb, Crumb, Delta, KnownPast, PastState, Step, cursor_of};
use super::handle::Stopped;
use super::restore::{RestoreError, RestoredBreadcrumb};
use super::weight::Weight;
use super::{CacheConfig, Journal, JournalError, Snapshot};
use crate::model::{Cursor, EntryLimits, Past, Revision, Sequence, SyncStatus};
use crate::trail::{self, AppendError, EventBuffer, Head, SharedError, Window};

/// Batches of garbage that may wait to be freed.
const CHORES: usize = 64;

/// Deltas whose breadcrumbs may wait to be handed on to be freed: under load that is one wake-up
/// of a thread for so many updates.
const HEAP: usize = 256;

/// Bytes that may wait so: large values are handed on at once.
const HEAP_BYTES: usize = 1 << 20;

/// Deltas whose breadcrumbs an idle ingest task frees itself: a few microseconds each.
const CRUMBS: usize = 16;

pub(super) type Trail = EventBuffer<Arc<Crumb>>;
pub(super) type Kept = Arc<RwLock<Window<Breadcrumb>>>;

/// A breadcrumb before it has a number.
pub(super) struct Draft {
    pub(super) state: Snapshot,
    pub(super) status: SyncStatus,
    pub(super) deltas: Box<[Delta]>,
    pub(super) steps: Box<[Step]>,
    pub(super) first_revision: Option<Revision>,
    pub(super) weight: Weight,
    pub(super) blind: bool,
    pub(super) provisional: bool,
}

impl Draft {
    pub(super) fn status_only(state: Snapshot, status: SyncStatus, provisional: bool) -> Self {
        let (deltas, steps, weight) = Default::default();
        Self { state, status, deltas, steps, first_revision: None, weight, blind: false, provisional }
    }
}

pub(super) struct Publisher {
    trail: Trail,
    kept: Kept,
    head: Arc<Crumb>,
    dropper: SyncSender<Garbage>,
    /// Evicted, and not yet freed or handed on.
    evicted: Vec<Breadcrumb>,
    /// The number of deltas in `evicted`, each breadcrumb counting at least once.
    evicted_deltas: usize,
    /// What the window has become lighter by since.
    evicted_bytes: usize,
    was_in_sync: Arc<AtomicBool>,
    /// Where every change is kept before it can be read, if anywhere.
    journal: Option<Box<dyn Journal>>,
    /// The last breadcrumb that ended a lossy resync; it does not keep it.
    blind: Option<Weak<Crumb>>,
    limits: EntryLimits,
}

/// What is only kept to be dropped.
#[expect(dead_code, reason = "nobody reads garbage: it is moved to another thread to be freed there")]
enum Garbage {
    Breadcrumbs(Vec<Breadcrumb>),
    Snapshot(Snapshot),
}

impl Publisher {
    /// Drops breadcrumb 1, the empty state or a restored one, and starts the thread that frees old snapshots.
    pub(super) fn start(
        state: Snapshot,
        timestamp: SystemTime,
        config: &CacheConfig,
        provisional: bool,
        blind: bool,
        was_in_sync: Arc<AtomicBool>,
    ) -> Result<(Self, Head<Arc<Crumb>>, Kept), AppendError> {
        let mut trail = Trail::new();
        let status = SyncStatus::WaitForDatastore;
        let from = cursor_of(&state, status);
        let draft = Draft { blind, ..Draft::status_only(state, status, provisional) };
        let head = Arc::new(crumb(draft, Sequence(1), from, timestamp).0);
        let first = trail.append(Arc::clone(&head))?;
        let mut window = Window::new(config.window);
        if let Ok(first) = Breadcrumb::of(first) {
            let revision = head.state.revision;
            drop(window.push(entry(revision, revision, (0, 0), first, instant_of(timestamp))));
        }
        let (readers, kept) = (trail.reader(), Arc::new(RwLock::new(window)));
        let known_blind = blind.then(|| Arc::downgrade(&head));
        let publisher = Self {
            trail,
            kept: Arc::clone(&kept),
            head,
            dropper: start_dropper(),
            evicted: Vec::new(),
            evicted_deltas: 0,
            evicted_bytes: 0,
            was_in_sync,
            journal: None,
            blind: known_blind,
            limits: config.entry_limits(),
        };
        Ok((publisher, readers, kept))
    }

    pub(super) fn head_state(&self) -> Snapshot {
        self.head.state.clone()
    }

    pub(super) fn head_cursor(&self) -> Cursor {
        cursor_of(&self.head.state, self.head.status)
    }

    pub(super) fn write_ahead_to(&mut self, journal: Box<dyn Journal>) {
        self.journal = Some(journal);
    }

    pub(super) fn is_journaled(&self) -> bool {
        self.journal.is_some()
    }

    /// Has it kept, where there is a journal, and makes it readable.
    ///
    /// # Errors
    /// It could not be kept, and cannot be read.
    pub(super) fn publish(&mut self, draft: Draft) -> Result<(), JournalError> {
        let timestamp = SystemTime::now();
        let (crumb, weight) = crumb(draft, Sequence(self.head.sequence.0 + 1), self.head_cursor(), timestamp);
        if let Some(journal) = &mut self.journal
            && crumb.state.revision > self.head.state.revision
        {
            journal.append(&crumb.record())?;
        }
        self.link(crumb, weight, Instant::now());
        Ok(())
    }

    /// Makes readable again what an earlier process published after the newest breadcrumb.
    ///
    /// # Errors
    /// It does not lead from there to the state that it names.
    pub(super) fn restore(&mut self, restored: RestoredBreadcrumb) -> Result<(), RestoreError> {
        let timestamp = restored.timestamp;
        let draft = restored.after(&self.head.state)?;
        let (crumb, weight) = crumb(draft, Sequence(self.head.sequence.0 + 1), self.head_cursor(), timestamp);
        self.link(crumb, weight, instant_of(timestamp));
        Ok(())
    }

    /// Makes it readable, on the trail and in the window under one lock, so that whoever finds it
    /// on the trail finds its cursor too.
    fn link(&mut self, crumb: Crumb, weight: Weight, at: Instant) {
        if crumb.status == SyncStatus::InSync {
            self.was_in_sync.store(true, Ordering::Release);
        }
        let other_history = crumb.state.history != self.head.state.history;
        let crumb = Arc::new(crumb);
        if crumb.blind.is_some()
            && let Some(before) = self.blind.replace(Arc::downgrade(&crumb)).and_then(|weak| weak.upgrade())
        {
            before.blind.iter().for_each(Blind::give_up);
        }
        let weights = (weight.held_by(&crumb), weight.replaced_by(&crumb, self.head.state.len()));
        self.head = Arc::clone(&crumb);
        let (revision, first) = (crumb.state.revision, crumb.first_revision);
        let (evicted, lighter) = {
            let mut kept = self.kept.write();
            let before = kept.bytes();
            let Ok(item) = self.trail.append(crumb) else {
                // Only `terminate` ends the trail, and it is the ingest task's last act.
                debug_assert!(false, "published after the end of the trail");
                return;
            };
            let Ok(breadcrumb) = Breadcrumb::of(item) else { return };
            let mut evicted = if other_history { kept.clear() } else { Vec::new() };
            evicted.extend(kept.push(entry(revision, first, weights, breadcrumb, at)));
            let lighter = (before + weights.0 + weights.1).saturating_sub(kept.bytes());
            (evicted, lighter)
        };
        self.take_evicted(evicted, lighter);
    }

    fn take_evicted(&mut self, evicted: Vec<Breadcrumb>, bytes: usize) {
        self.evicted_bytes += if evicted.is_empty() { 0 } else { bytes };
        self.evicted_deltas += evicted.iter().map(|crumb| crumb.deltas().len().max(1)).sum::<usize>();
        self.evicted.extend(evicted);
        if self.evicted_deltas >= HEAP || self.evicted_bytes >= HEAP_BYTES {
            self.hand_on();
        }
    }

    /// Nothing else is to be done at the moment. Says whether there is more that could be.
    pub(super) fn idle(&mut self) -> bool {
        self.free_evicted();
        self.journal.as_mut().is_some_and(|journal| journal.idle())
    }

    fn free_evicted(&mut self) {
        if self.evicted_deltas > CRUMBS {
            self.hand_on();
        } else {
            self.evicted.clear();
            (self.evicted_deltas, self.evicted_bytes) = (0, 0);
        }
    }

    fn hand_on(&mut self) {
        (self.evicted_deltas, self.evicted_bytes) = (0, 0);
        let evicted = std::mem::take(&mut self.evicted);
        self.throw_away(Garbage::Breadcrumbs(evicted));
    }

    /// The feed has found out what happened before the last lossy resync. That counts among what is kept.
    pub(super) fn tell_past(&mut self, end: Revision, past: Option<Past>) {
        let Some(crumb) = self.blind.as_ref().and_then(Weak::upgrade) else { return };
        let Some(blind) = crumb.blind.as_ref().filter(|_| crumb.state.revision == end) else { return };
        let Some(past) = past else { return blind.give_up() };
        let max_bytes = self.kept.read().limits().max_bytes;
        let known = KnownPast::trace(past, crumb.state.digest(), self.limits, max_bytes);
        let bytes = known.bytes();
        let before = match blind.past.send_replace(PastState::Known(Arc::new(known))) {
            PastState::Known(before) => before.bytes(),
            PastState::Awaited | PastState::Unknown => 0,
        };
        let is_it = |kept: &Breadcrumb| kept.sequence() == crumb.sequence;
        let evicted = self.kept.write().grow(is_it, bytes.saturating_sub(before));
        self.take_evicted(evicted, bytes);
    }

    /// Frees a state that nobody needs any more, on another thread.
    pub(super) fn discard(&self, state: Snapshot) {
        self.throw_away(Garbage::Snapshot(state));
    }

    fn throw_away(&self, garbage: Garbage) {
        match self.dropper.try_send(garbage) {
            Ok(()) => {}
            Err(TrySendError::Full(garbage) | TrySendError::Disconnected(garbage)) => drop(garbage),
        }
    }

    pub(super) fn terminate(&mut self) -> Result<(), AppendError> {
        self.trail.append_err(Arc::new(Stopped) as SharedError)
    }
}

fn crumb(draft: Draft, sequence: Sequence, from: Cursor, timestamp: SystemTime) -> (Crumb, Weight) {
    let Draft { state, status, deltas, steps, first_revision, weight, blind, provisional } = draft;
    // Where nothing changed, no revision lies inside this breadcrumb.
    let first_revision = first_revision.unwrap_or(state.revision);
    let blind = blind.then(Blind::new);
    let crumb =
        Crumb { sequence, timestamp, state, status, from, first_revision, deltas, steps, blind, provisional };
    (crumb, weight)
}

/// With what it holds and what it has replaced, in bytes.
fn entry(
    revision: Revision,
    first: Revision,
    (bytes, replaced): (usize, usize),
    item: Breadcrumb,
    at: Instant,
) -> trail::Entry<Breadcrumb> {
    trail::Entry { index: revision.0, first_index: first.0, bytes, replaced, at, item }
}

/// When something of an earlier process happened, by the clock of this one. Where that does not reach back so far
/// (the machine was started since), it counts as new: it is kept a little longer.
fn instant_of(timestamp: SystemTime) -> Instant {
    let now = Instant::now();
    now.checked_sub(timestamp.elapsed().unwrap_or_default()).unwrap_or(now)
}

fn start_dropper() -> SyncSender<Garbage> {
    let (send, receive) = sync_channel::<Garbage>(CHORES);
    let thread = std::thread::Builder::new().name("crumbd-drop".to_owned());
    // Without the thread the channel is closed, and garbage is dropped where it arises.
    if let Err(error) = thread.spawn(move || receive.into_iter().for_each(drop)) {
        tracing::warn!(%error, "no thread to free old snapshots on: the ingest task does it");
    }
    send
}
