//! Who watches which keys: a write wakes the streams that watch its key, and no other.
//!
//! Watches of one range with the same options share a *slot*. A slot knows the streams that have such watches, and a stream
//! the slots that have writes for it. What a stream has not been told yet is not kept for it: each of its watches is a
//! revision in the log.
//!
//! A write costs one look-up for the key, and one for each *length* of a watched prefix. A range that is no prefix is listed
//! under the longest prefix of all its keys.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Weak};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::encode::EncodedEvents;
use super::key_range::KeyRange;
use super::log::{ChunkPosition, LoggedBreadcrumb, LoggedChunk};
use crate::cache::Write;
use crate::model::{Revision, Sequence};

/// More look-ups than these for one breadcrumb wake every stream, which then looks for itself.
const MAX_LOOKUPS: usize = 100_000;

/// A stream with more slots to look at looks at all that it has.
const MAX_READY: usize = 1024;

/// The most bytes of the newest breadcrumb's events that are kept for watches that were not told of them yet.
const MAX_RECENT_BYTES: usize = 16 << 20;

/// What a watch wants of its keys' events.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub(crate) struct WatchOptions {
    /// Each event has the key as it was before.
    pub previous: bool,
    /// Puts are left out.
    pub no_put: bool,
    /// Deletions are left out.
    pub no_delete: bool,
}

/// The watches of one range with the same options.
pub(super) struct Slot {
    range: KeyRange,
    options: WatchOptions,
    streams: Mutex<Vec<Arc<Waker>>>,
    /// The events of the newest chunk that any of its streams was told of, while somebody holds them.
    newest: Mutex<Option<(ChunkPosition, Weak<SlotEvents>)>>,
}

/// The events of a chunk that a slot wants.
pub(super) struct SlotEvents {
    /// The revision of each event, and the end of its bytes.
    ends: Box<[(Revision, usize)]>,
    bytes: Bytes,
    /// Keeps the events of the chunk for other slots.
    _shared: Arc<EncodedEvents>,
}

/// The slots of a stream that have writes for it.
#[derive(Default)]
pub(super) struct Waker {
    ready: Mutex<Ready>,
    woken: Notify,
}

/// The slots with writes since a stream last looked, each with the first revision of them. Before that revision nothing has
/// changed for a watch that had been told everything.
pub(super) enum Ready {
    /// These slots.
    Some(Vec<(Arc<Slot>, Revision)>),
    /// Maybe all slots.
    All(Revision),
}

impl Default for Ready {
    fn default() -> Self {
        Self::Some(Vec::new())
    }
}

/// The slots of all streams.
#[derive(Default)]
pub(super) struct Watchers {
    index: Mutex<Index>,
    pub(super) recent: RecentEvents,
}

#[derive(Default)]
struct Index {
    /// The slots of one key.
    keys: HashMap<Bytes, Vec<Arc<Slot>>>,
    /// The other slots, by the longest prefix of their keys.
    prefixes: HashMap<Bytes, Vec<Arc<Slot>>>,
    /// The number of prefixes by their length.
    lengths: BTreeMap<usize, usize>,
}

impl Slot {
    /// Whether its watches are told of this write.
    pub(super) fn wants(&self, write: &Write) -> bool {
        let is_filtered = if write.is_put { self.options.no_put } else { self.options.no_delete };
        !is_filtered && self.range.contains(write.entry.key())
    }

    /// The events of a chunk. Those of the newest one are made once for all its watches.
    pub(super) fn events(&self, chunk: &LoggedChunk, recent: &RecentEvents) -> Arc<SlotEvents> {
        let position = chunk.position();
        let mut newest = self.newest.lock();
        let known =
            newest.as_ref().filter(|(of, _)| *of == position).and_then(|(_, events)| events.upgrade());
        if let Some(events) = known {
            return events;
        }
        let events = Arc::new(self.select(chunk));
        if newest.as_ref().is_none_or(|(of, _)| *of <= position) {
            *newest = Some((position, Arc::downgrade(&events)));
            recent.keep(position.0, &events);
        }
        events
    }

    fn select(&self, chunk: &LoggedChunk) -> SlotEvents {
        let shared = chunk.events(self.options.previous);
        let wanted = chunk.writes().iter().enumerate().filter(|(_, write)| self.wants(write));
        let (selected, revisions): (Vec<usize>, Vec<Revision>) =
            wanted.map(|(at, write)| (at, write.revision)).unzip();
        let mut end = 0;
        let ends = selected.iter().zip(revisions).map(|(at, revision)| {
            end += shared.len_of(*at);
            (revision, end)
        });
        SlotEvents { ends: ends.collect(), bytes: shared.select(&selected), _shared: shared }
    }
}

/// The events of the newest breadcrumb, which are kept until the next one: its watches are told of them one after the
/// other.
#[derive(Default)]
pub(super) struct RecentEvents(Mutex<Recent>);

#[derive(Default)]
struct Recent {
    sequence: Sequence,
    events: Vec<Arc<SlotEvents>>,
    /// The bytes of `events`.
    bytes: usize,
}

impl RecentEvents {
    fn keep(&self, sequence: Sequence, events: &Arc<SlotEvents>) {
        let mut recent = self.0.lock();
        if recent.sequence == sequence && recent.bytes < MAX_RECENT_BYTES {
            recent.bytes += events.bytes.len();
            recent.events.push(Arc::clone(events));
        }
    }

    fn begin(&self, sequence: Sequence) {
        let recent = Recent { sequence, ..Recent::default() };
        let before = std::mem::replace(&mut *self.0.lock(), recent);
        // Freed without the lock.
        drop(before);
    }
}

impl SlotEvents {
    /// The events from revision `next` on, up to about `max_bytes` of them but at least one revision: their bytes, and the
    /// last revision among them.
    pub(super) fn from(&self, next: Revision, max_bytes: usize) -> Option<(Bytes, Revision)> {
        let first = self.ends.partition_point(|(revision, _)| *revision < next);
        let start = first.checked_sub(1).and_then(|at| self.ends.get(at)).map_or(0, |(_, end)| *end);
        let rest = self.ends.get(first..)?;
        let (mut last, mut end) = *rest.first()?;
        for (revision, event_end) in rest {
            if *revision != last && event_end - start > max_bytes {
                break;
            }
            (last, end) = (*revision, *event_end);
        }
        Some((self.bytes.slice(start..end), last))
    }

    /// The lengths of the single events of one revision.
    pub(super) fn event_lengths(&self, revision: Revision) -> impl Iterator<Item = usize> {
        let first = self.ends.partition_point(|(of, _)| *of < revision);
        let mut start = first.checked_sub(1).and_then(|at| self.ends.get(at)).map_or(0, |(_, end)| *end);
        let of_revision = self.ends.get(first..).unwrap_or_default().iter();
        of_revision.take_while(move |(of, _)| *of == revision).map(move |(_, end)| {
            let length = end - start;
            start = *end;
            length
        })
    }
}

impl Waker {
    /// Waits until a slot has writes for the stream.
    pub(super) async fn woken(&self) {
        self.woken.notified().await;
    }

    /// The slots with writes since the last time.
    pub(super) fn take(&self) -> Ready {
        std::mem::take(&mut *self.ready.lock())
    }

    fn wake(&self, slot: &Arc<Slot>, first: Revision) {
        let mut ready = self.ready.lock();
        match &mut *ready {
            Ready::All(_) => return,
            Ready::Some(slots) if slots.iter().any(|(known, _)| Arc::ptr_eq(known, slot)) => return,
            Ready::Some(slots) if slots.len() < MAX_READY => slots.push((Arc::clone(slot), first)),
            Ready::Some(slots) => {
                let first = slots.iter().map(|(_, first)| *first).min().unwrap_or(first);
                *ready = Ready::All(first);
            }
        }
        drop(ready);
        self.woken.notify_one();
    }

    fn wake_for_all(&self, first: Revision) {
        let mut ready = self.ready.lock();
        let first = match &*ready {
            Ready::All(known) => first.min(*known),
            Ready::Some(slots) => slots.iter().map(|(_, known)| *known).fold(first, Revision::min),
        };
        *ready = Ready::All(first);
        drop(ready);
        self.woken.notify_one();
    }
}

impl Watchers {
    /// The slot of a range with these options, which wakes the stream from now on.
    pub(super) fn subscribe(&self, range: KeyRange, options: WatchOptions, stream: &Arc<Waker>) -> Arc<Slot> {
        let mut index = self.index.lock();
        let slot = index.slot(range, options);
        // With the index locked, so that nobody removes the slot meanwhile.
        let mut streams = slot.streams.lock();
        if !streams.iter().any(|known| Arc::ptr_eq(known, stream)) {
            streams.push(Arc::clone(stream));
        }
        drop(streams);
        slot
    }

    /// The stream has no watch of this slot any more.
    pub(super) fn unsubscribe(&self, slot: &Arc<Slot>, stream: &Arc<Waker>) {
        let mut index = self.index.lock();
        let mut streams = slot.streams.lock();
        streams.retain(|known| !Arc::ptr_eq(known, stream));
        if streams.is_empty() {
            index.remove(slot);
        }
    }

    /// Wakes the streams that want one of these writes.
    pub(super) fn deliver(&self, logged: &LoggedBreadcrumb) {
        let first = logged.writes.first().map_or(Revision::ZERO, |write| write.revision);
        self.recent.begin(logged.crumb.sequence());
        let index = self.index.lock();
        if logged.writes.len().saturating_mul(1 + index.lengths.len()) > MAX_LOOKUPS {
            drop(index);
            return self.wake_all(first);
        }
        let mut touched: Vec<Arc<Slot>> = Vec::new();
        for write in &logged.writes {
            let key = write.entry.key();
            let lengths = index.lengths.range(..=key.len()).map(|(length, _)| *length);
            let under = lengths.filter_map(|length| index.prefixes.get(&key[..length]));
            let slots = index.keys.get(key).into_iter().chain(under).flatten();
            touched.extend(slots.filter(|slot| slot.wants(write)).cloned());
        }
        drop(index);
        if logged.writes.len() > 1 {
            touched.sort_unstable_by_key(|slot| Arc::as_ptr(slot).addr());
            touched.dedup_by(|one, other| Arc::ptr_eq(one, other));
        }
        for slot in touched {
            // A copy, so that nobody waits for the lock while all are woken.
            let streams = slot.streams.lock().clone();
            streams.iter().for_each(|stream| stream.wake(&slot, first));
        }
    }

    /// Wakes every stream for all its slots. `first` is the first revision that may have changed something; zero where
    /// writes are not known.
    pub(super) fn wake_all(&self, first: Revision) {
        let index = self.index.lock();
        let slots: Vec<_> = index.keys.values().chain(index.prefixes.values()).flatten().cloned().collect();
        drop(index);
        for slot in slots {
            slot.streams.lock().iter().for_each(|stream| stream.wake_for_all(first));
        }
    }
}

impl Index {
    fn slot(&mut self, range: KeyRange, options: WatchOptions) -> Arc<Slot> {
        let (key, is_single) = (range.common_prefix(), range.single().is_some());
        let by_key = if is_single { &mut self.keys } else { &mut self.prefixes };
        let slots = by_key.entry(key.clone()).or_default();
        if let Some(slot) = slots.iter().find(|slot| slot.range == range && slot.options == options) {
            return Arc::clone(slot);
        }
        if slots.is_empty() && !is_single {
            *self.lengths.entry(key.len()).or_default() += 1;
        }
        let slot = Arc::new(Slot { range, options, streams: Mutex::default(), newest: Mutex::default() });
        slots.push(Arc::clone(&slot));
        slot
    }

    fn remove(&mut self, slot: &Arc<Slot>) {
        let (key, is_single) = (slot.range.common_prefix(), slot.range.single().is_some());
        let by_key = if is_single { &mut self.keys } else { &mut self.prefixes };
        let Some(slots) = by_key.get_mut(&key) else { return };
        slots.retain(|known| !Arc::ptr_eq(known, slot));
        if !slots.is_empty() {
            return;
        }
        by_key.remove(&key);
        if !is_single && let Some(count) = self.lengths.get_mut(&key.len()) {
            *count -= 1;
            if *count == 0 {
                self.lengths.remove(&key.len());
            }
        }
    }
}
