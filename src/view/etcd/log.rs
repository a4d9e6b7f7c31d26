//! The log: every single write of the kept breadcrumbs, in order of revision.
//!
//! It follows the cache's trail, and keeps a breadcrumb's writes as long as the cache's window keeps the breadcrumb. It
//! begins after its *floor*: a watch from the floor or before is refused as compacted. Where a breadcrumb's writes are not
//! known (everything was read again, or another history began), the log begins anew after that breadcrumb, and
//! every watch that has not reached it ends as compacted. So a watch never has a gap.
//!
//! After a breadcrumb that follows a gap, the feed may read the missing writes back. Until it is known whether it can, for
//! [`PATIENCE`] at most, the breadcrumb and those after it are *held*: no watch is told of them.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::encode::EncodedEvents;
use super::watchers::{Slot, Watchers};
use crate::cache::{self, Breadcrumb, Snapshot, Write, Writes, WritesAwaited};
use crate::model::{History, Revision, Sequence};

/// How long writes that the feed may read back are waited for.
const PATIENCE: Duration = Duration::from_secs(10);

/// About how many bytes of keys and values are encoded at a time.
const CHUNK_BYTES: usize = 4 << 20;

/// The log of a collection, and who watches it.
pub(crate) struct Log {
    cache: cache::Reader,
    state: RwLock<State>,
    /// Held while breadcrumbs are taken and their watchers woken, so that both happen in order.
    order: Mutex<()>,
    pub(super) watchers: Watchers,
    /// The revision up to which every stream was woken.
    delivered: AtomicU64,
    /// The number of the newest breadcrumb that was taken or is held, and a notification of the next.
    seen: AtomicU64,
    advanced: Notify,
    /// Notified when the writes before the first breadcrumb are known, or never will be.
    past_settled: Notify,
}

struct State {
    history: History,
    /// The log has every write after this revision.
    floor: Revision,
    /// The revision of the newest breadcrumb in the log.
    newest: Revision,
    crumbs: VecDeque<Arc<LoggedBreadcrumb>>,
    /// The breadcrumb of `newest`, also if it has no writes.
    last: Breadcrumb,
    /// Breadcrumbs that wait for the writes of the first of them.
    held: Option<Vec<Breadcrumb>>,
    /// The first breadcrumb of all, while the writes before it may still be read back.
    first: Option<Breadcrumb>,
    /// Whether the cache has stopped.
    ended: bool,
}

/// A breadcrumb and its writes.
pub(super) struct LoggedBreadcrumb {
    pub(super) crumb: Breadcrumb,
    /// The state before the first write, if it is known.
    pub(super) before: Option<Snapshot>,
    /// The writes, in order of revision; at least one.
    pub(super) writes: Box<[Write]>,
    /// The writes in chunks of whole revisions.
    chunks: Box<[Chunk]>,
}

/// Writes whose events are encoded together.
struct Chunk {
    writes: Range<usize>,
    /// Its events without and with the previous entries, while somebody uses them.
    encoded: [Mutex<Weak<EncodedEvents>>; 2],
}

/// The place of a chunk: its breadcrumb, and its number in it.
pub(super) type ChunkPosition = (Sequence, usize);

/// A chunk of a breadcrumb.
#[derive(Clone)]
pub(super) struct LoggedChunk {
    pub(super) logged: Arc<LoggedBreadcrumb>,
    number: usize,
}

impl LoggedBreadcrumb {
    fn new(crumb: Breadcrumb, before: Option<Snapshot>, writes: Vec<Write>) -> Self {
        let chunks = chunks_of(&writes);
        Self { crumb, before, writes: writes.into(), chunks }
    }

    /// The revision of the state after it.
    pub(super) fn revision(&self) -> Revision {
        self.crumb.revision()
    }
}

impl LoggedChunk {
    /// Its place among all chunks of the log.
    pub(super) fn position(&self) -> ChunkPosition {
        (self.logged.crumb.sequence(), self.number)
    }

    /// The writes.
    pub(super) fn writes(&self) -> &[Write] {
        self.logged.chunks.get(self.number).map_or(&[], |chunk| &self.logged.writes[chunk.writes.clone()])
    }

    /// The events of all writes, encoded once for all who want them at a time.
    pub(super) fn events(&self, with_previous: bool) -> Arc<EncodedEvents> {
        let LoggedBreadcrumb { before, writes, chunks, .. } = &*self.logged;
        let chunk = &chunks[self.number];
        let mut encoded = chunk.encoded[usize::from(with_previous)].lock();
        if let Some(events) = encoded.upgrade() {
            return events;
        }
        let before = before.as_ref().filter(|_| with_previous);
        let Range { start, end } = chunk.writes;
        let events = Arc::new(EncodedEvents::of(&writes[..end], start, before));
        *encoded = Arc::downgrade(&events);
        events
    }
}

/// Writes in chunks of whole revisions: each is about [`CHUNK_BYTES`], or one revision.
fn chunks_of(writes: &[Write]) -> Box<[Chunk]> {
    let (mut chunks, mut start, mut bytes) = (Vec::new(), 0, 0);
    for (at, write) in writes.iter().enumerate() {
        let begins_revision = at > start && writes[at - 1].revision != write.revision;
        if begins_revision && bytes > CHUNK_BYTES {
            chunks.push(Chunk { writes: start..at, encoded: Default::default() });
            (start, bytes) = (at, 0);
        }
        bytes += write.entry.payload_bytes();
    }
    chunks.push(Chunk { writes: start..writes.len(), encoded: Default::default() });
    chunks.into()
}

/// What comes next for a watch.
pub(super) enum NextWrites {
    /// A chunk with writes at or after the watch's revision.
    In(LoggedChunk),
    /// Nothing yet, up to and including this revision.
    NothingUpTo(Revision),
    /// The log begins after this revision, which is not before the watch's.
    Compacted(Revision),
}

/// A state at a revision.
pub(super) enum StateAt {
    /// The log has not reached the revision yet.
    Later,
    /// That of a breadcrumb.
    Breadcrumb(Breadcrumb),
    /// The state inside a breadcrumb: after the writes up to `revision`.
    Inside {
        /// The breadcrumb, whose state before is known.
        within: Arc<LoggedBreadcrumb>,
        /// The revision.
        revision: Revision,
    },
    /// A revision that is not kept any more.
    Compacted,
}

impl Log {
    /// The log of the breadcrumbs that the cache keeps.
    pub(in crate::view) fn new(cache: &cache::Reader) -> Arc<Self> {
        let oldest = cache.oldest_breadcrumb();
        let state = State::beginning_at(&oldest);
        let log = Arc::new(Self {
            cache: cache.clone(),
            state: RwLock::new(state),
            order: Mutex::default(),
            delivered: AtomicU64::new(oldest.revision().0),
            seen: AtomicU64::new(oldest.sequence().0),
            advanced: Notify::new(),
            watchers: Watchers::default(),
            past_settled: Notify::new(),
        });
        log.begin_with(&oldest);
        log
    }

    fn begin_with(self: &Arc<Self>, oldest: &Breadcrumb) {
        let _in_order = self.order.lock();
        let mut awaited = None;
        {
            let mut state = self.state.write();
            match oldest.writes() {
                Writes::After { base, writes } => state.prepend(oldest, base, writes),
                Writes::Awaited(past) => {
                    state.first = Some(oldest.clone());
                    awaited = Some(past);
                }
                Writes::Unknown => {}
            }
        }
        if let Some(past) = awaited {
            self.await_past(Awaited::First, past, Instant::now() + PATIENCE);
        }
        for crumb in oldest.later() {
            let appended = self.append(&crumb);
            self.wake(&[appended]);
            self.seen.store(crumb.sequence().0, Ordering::Release);
        }
    }

    /// Takes the next breadcrumb of the cache, and wakes who watches one of its keys.
    pub(in crate::view) fn deliver(self: &Arc<Self>, crumb: &Breadcrumb) {
        let _in_order = self.order.lock();
        // The log has begun with the breadcrumbs that were there.
        if crumb.sequence().0 <= self.seen.load(Ordering::Acquire) {
            return;
        }
        let appended = self.append(crumb);
        self.forget_older_than(self.cache.oldest_breadcrumb().sequence());
        self.wake(&[appended]);
        self.seen.store(crumb.sequence().0, Ordering::Release);
        self.advanced.notify_waiters();
    }

    /// Ends every watch: the cache has stopped.
    pub(in crate::view) fn end(&self) {
        self.state.write().ended = true;
        self.watchers.wake_all(Revision::ZERO);
        self.advanced.notify_waiters();
    }

    /// Wakes who watches what was appended: everything that the log has got since the last time.
    fn wake(&self, appended: &[Appended]) {
        for appended in appended {
            match appended {
                Appended::Writes(logged) => self.watchers.deliver(logged),
                // What has changed before is not known.
                Appended::Boundary => self.watchers.wake_all(Revision::ZERO),
                Appended::Nothing => {}
            }
        }
        // Only now, as a stream that was not woken yet would say that nothing has come up to here.
        self.delivered.store(self.state.read().newest.0, Ordering::Release);
    }

    fn append(self: &Arc<Self>, crumb: &Breadcrumb) -> Appended {
        let mut state = self.state.write();
        if let Some(held) = &mut state.held {
            held.push(crumb.clone());
            return Appended::Nothing;
        }
        match crumb.writes() {
            // Nobody watches this history yet, so nobody has to wait.
            Writes::Awaited(past) if crumb.kvs().history() != state.history => {
                let appended = state.begin_anew(crumb);
                state.first = Some(crumb.clone());
                drop(state);
                self.await_past(Awaited::First, past, Instant::now() + PATIENCE);
                appended
            }
            Writes::Awaited(past) => {
                state.held = Some(vec![crumb.clone()]);
                drop(state);
                self.await_past(Awaited::Held, past, Instant::now() + PATIENCE);
                Appended::Nothing
            }
            Writes::After { base, writes } => state.take(crumb, base, writes),
            Writes::Unknown => state.begin_anew(crumb),
        }
    }

    /// Waits until more is known of the writes that are missing, then goes on.
    fn await_past(self: &Arc<Self>, awaited: Awaited, mut past: WritesAwaited, until: Instant) {
        let log = Arc::downgrade(self);
        tokio::spawn(async move {
            loop {
                let in_time = tokio::time::timeout_at(until, past.changed()).await.is_ok();
                let Some(log) = log.upgrade() else { return };
                let more = match awaited {
                    Awaited::First => log.settle_first(in_time),
                    Awaited::Held => log.settle_held(in_time),
                };
                match more {
                    Some(more) => past = more,
                    None => return,
                }
            }
        });
    }

    /// Adds the writes before the first breadcrumb. Returns what has still to be waited for.
    fn settle_first(&self, in_time: bool) -> Option<WritesAwaited> {
        let mut state = self.state.write();
        if let Some(first) = state.first.take() {
            match first.writes() {
                Writes::Awaited(past) if in_time => {
                    state.first = Some(first);
                    return Some(past);
                }
                Writes::After { base, writes } if state.begins_after(&first) => {
                    state.prepend(&first, base, writes);
                }
                _ => {}
            }
        }
        drop(state);
        self.past_settled.notify_waiters();
        None
    }

    /// Takes the breadcrumbs that were held. Returns what has still to be waited for.
    fn settle_held(self: &Arc<Self>, in_time: bool) -> Option<WritesAwaited> {
        let _in_order = self.order.lock();
        let mut state = self.state.write();
        let held = state.held.take()?;
        let mut crumbs = held.iter();
        let mut appended = Vec::new();
        if let Some(first) = crumbs.next() {
            appended.push(match first.writes() {
                Writes::Awaited(past) if in_time => {
                    state.held = Some(held);
                    return Some(past);
                }
                Writes::After { base, writes } => state.take(first, base, writes),
                Writes::Awaited(_) | Writes::Unknown => state.begin_anew(first),
            });
        }
        drop(state);
        appended.extend(crumbs.map(|crumb| self.append(crumb)));
        self.wake(&appended);
        None
    }

    fn forget_older_than(&self, sequence: Sequence) {
        let mut forgotten = Vec::new();
        let mut state = self.state.write();
        while let Some(oldest) = state.crumbs.front().filter(|oldest| oldest.crumb.sequence() < sequence) {
            state.floor = oldest.revision();
            forgotten.extend(state.crumbs.pop_front());
        }
        if state.first.as_ref().is_some_and(|first| first.sequence() < sequence) {
            state.first = None;
        }
        drop(state);
    }

    /// Waits until the log has the newest breadcrumb of now. A client that has read a state watches from there on.
    pub(super) async fn caught_up(&self) {
        let newest = self.cache.newest_sequence();
        loop {
            let mut advanced = std::pin::pin!(self.advanced.notified());
            advanced.as_mut().enable();
            if self.seen.load(Ordering::Acquire) >= newest.0 || self.has_ended() {
                return;
            }
            advanced.await;
        }
    }

    /// Waits until it is known whether the log begins before this revision, if the feed may still read it back.
    pub(super) async fn past_known(&self, revision: Revision) {
        loop {
            let settled = self.past_settled.notified();
            let mut settled = std::pin::pin!(settled);
            settled.as_mut().enable();
            {
                let state = self.state.read();
                if state.first.is_none() || revision > state.floor {
                    return;
                }
            }
            settled.await;
        }
    }

    /// The history, and the revision of the newest breadcrumb in the log.
    pub(super) fn newest(&self) -> (History, Revision) {
        let state = self.state.read();
        (state.history, state.newest)
    }

    /// The revision up to which every stream was woken.
    pub(super) fn delivered(&self) -> Revision {
        Revision(self.delivered.load(Ordering::Acquire))
    }

    /// Whether the cache has stopped.
    pub(super) fn has_ended(&self) -> bool {
        self.state.read().ended
    }

    /// The next breadcrumb with a write of this slot's keys, for a watch that wants the writes at and after `next`.
    pub(super) fn next_writes(&self, slot: &Slot, history: History, next: Revision) -> NextWrites {
        let state = self.state.read();
        if state.history != history || next <= state.floor {
            return NextWrites::Compacted(state.floor);
        }
        let from = state.crumbs.partition_point(|logged| logged.revision() < next);
        let is_wanted = |write: &Write| write.revision >= next && slot.wants(write);
        for logged in state.crumbs.range(from..) {
            let number = logged
                .chunks
                .iter()
                .position(|chunk| logged.writes[chunk.writes.clone()].iter().any(is_wanted));
            if let Some(number) = number {
                return NextWrites::In(LoggedChunk { logged: Arc::clone(logged), number });
            }
        }
        NextWrites::NothingUpTo(state.newest)
    }

    /// The state at a revision that is not newer than the newest breadcrumb.
    pub(super) fn state_at(&self, revision: Revision) -> StateAt {
        let state = self.state.read();
        if revision > state.newest {
            return StateAt::Later;
        }
        let after = state.crumbs.partition_point(|logged| logged.revision() <= revision);
        let Some(within) = state.crumbs.get(after) else {
            // Nothing has changed since the last breadcrumb with writes, or since the log began.
            let since = after.checked_sub(1).and_then(|at| state.crumbs.get(at));
            let since = since.map_or(state.floor, |logged| logged.revision());
            return if revision >= since {
                StateAt::Breadcrumb(state.last.clone())
            } else {
                StateAt::Compacted
            };
        };
        match &within.before {
            Some(before) if before.revision() <= revision => {
                StateAt::Inside { within: Arc::clone(within), revision }
            }
            _ => StateAt::Compacted,
        }
    }
}

/// Whose writes are waited for.
#[derive(Clone, Copy)]
enum Awaited {
    /// Those before the first breadcrumb.
    First,
    /// Those of the first breadcrumb that is held.
    Held,
}

/// What became of a breadcrumb.
enum Appended {
    Writes(Arc<LoggedBreadcrumb>),
    /// The log begins anew after it.
    Boundary,
    Nothing,
}

impl State {
    fn beginning_at(oldest: &Breadcrumb) -> Self {
        // A store begins empty at revision 1, and a watch may begin there.
        let is_first = oldest.revision() == Revision(1) && oldest.kvs().is_empty();
        Self {
            history: oldest.kvs().history(),
            floor: if is_first { Revision::ZERO } else { oldest.revision() },
            newest: oldest.revision(),
            crumbs: VecDeque::new(),
            last: oldest.clone(),
            held: None,
            first: None,
            ended: false,
        }
    }

    /// Whether the log begins right after this breadcrumb.
    fn begins_after(&self, first: &Breadcrumb) -> bool {
        self.floor == first.revision() && self.history == first.kvs().history()
    }

    /// Adds the writes that lead to the state at which the log begins.
    fn prepend(&mut self, first: &Breadcrumb, base: Revision, writes: Vec<Write>) {
        if !writes.is_empty() {
            self.crumbs.push_front(Arc::new(LoggedBreadcrumb::new(first.clone(), None, writes)));
        }
        self.floor = self.floor.min(base);
    }

    /// Adds a breadcrumb whose writes after `base` are known.
    fn take(&mut self, crumb: &Breadcrumb, base: Revision, mut writes: Vec<Write>) -> Appended {
        if crumb.kvs().history() != self.history {
            return self.begin_anew(crumb);
        }
        let follows = base <= self.newest;
        let before = follows.then(|| self.last.kvs().clone());
        writes.retain(|write| write.revision > self.newest || !follows);
        if !follows {
            self.crumbs.clear();
            self.floor = base;
        }
        (self.newest, self.last) = (crumb.revision(), crumb.clone());
        if writes.is_empty() {
            return if follows { Appended::Nothing } else { Appended::Boundary };
        }
        let logged = Arc::new(LoggedBreadcrumb::new(crumb.clone(), before, writes));
        self.crumbs.push_back(Arc::clone(&logged));
        if follows { Appended::Writes(logged) } else { Appended::Boundary }
    }

    /// Begins anew after a breadcrumb whose writes are not known.
    fn begin_anew(&mut self, crumb: &Breadcrumb) -> Appended {
        let (first, held) = (None, None);
        *self = Self { first, held, ended: self.ended, ..Self::beginning_at(crumb) };
        Appended::Boundary
    }
}
