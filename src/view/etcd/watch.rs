//! The watches of one stream.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;

use super::key_range::KeyRange;
use super::log::{Log, NextWrites};
use super::watchers::{Ready, Slot, SlotEvents, Waker, WatchOptions};
use crate::model::{History, Revision};

/// About how many bytes of events one message has at most, unless a single revision has more.
const MAX_MESSAGE_BYTES: usize = 1 << 20;

/// What a stream has to be told.
#[derive(Debug)]
pub(crate) enum WatchMessage {
    /// Events of a watch.
    Events {
        /// The watch.
        id: i64,
        /// The revision of the newest event that the watch is told of with this message.
        revision: Revision,
        /// The events, as the field of a watch response.
        events: Bytes,
        /// Whether the revision goes on in the next message.
        fragment: bool,
    },
    /// The watch has ended: the writes that it wants next are not kept.
    Compacted {
        /// The watch.
        id: i64,
        /// The first revision from which a watch could begin.
        first_kept: Revision,
    },
}

/// The watches of one stream. What they have not been told of yet is not kept for them.
pub(crate) struct WatchStream {
    log: Arc<Log>,
    waker: Arc<Waker>,
    slots: HashMap<usize, StreamSlot>,
    by_id: HashMap<i64, usize>,
    /// The slots that have something for their watches.
    due: VecDeque<usize>,
}

/// The watches of a stream that share a slot.
struct StreamSlot {
    slot: Arc<Slot>,
    watches: Vec<Watch>,
    is_due: bool,
    /// The watches before this one were told everything since the slot became due.
    position: usize,
}

struct Watch {
    id: i64,
    history: History,
    /// The first revision that it was not told of.
    next: Revision,
    /// Whether it was told everything up to now. Nothing changes for it until its slot is woken.
    is_idle: bool,
    /// Whether a revision may be split over several messages.
    fragment: bool,
    /// The events of `next` that it was told of already, in a revision that is split.
    told: usize,
}

/// A new watch.
#[derive(Debug)]
pub(crate) struct NewWatch {
    /// The number by which the stream knows it.
    pub id: i64,
    /// Its keys.
    pub range: KeyRange,
    /// What it wants of their events.
    pub options: WatchOptions,
    /// The first revision that it wants.
    pub from: Revision,
    /// Whether a revision may be split over several messages.
    pub fragment: bool,
}

impl WatchStream {
    pub(super) fn new(log: Arc<Log>) -> Self {
        let (waker, slots, by_id, due) = Default::default();
        Self { log, waker, slots, by_id, due }
    }

    /// Waits until the watches can be told of everything that can be read now.
    pub(crate) async fn caught_up(&self) {
        self.log.caught_up().await;
    }

    /// Whether a watch has this number.
    pub(crate) fn contains(&self, id: i64) -> bool {
        self.by_id.contains_key(&id)
    }

    /// The revision that a watch without a first revision begins after.
    pub(crate) fn newest(&self) -> Revision {
        self.log.newest().1
    }

    /// The revision up to which the watches have been told everything, once nothing is due.
    pub(crate) fn look(&mut self) -> Revision {
        let delivered = self.log.delivered();
        self.look_at_ready();
        delivered
    }

    /// Adds a watch. Waits until it is known whether its first revision is kept.
    pub(crate) async fn add(&mut self, new: NewWatch) {
        let NewWatch { id, range, options, from, fragment } = new;
        self.log.past_known(from).await;
        let slot = self.log.watchers.subscribe(range, options, &self.waker);
        let address = Arc::as_ptr(&slot).addr();
        let (history, _) = self.log.newest();
        let watch = Watch { id, history, next: from, is_idle: false, fragment, told: 0 };
        match self.slots.get_mut(&address) {
            Some(known) => known.watches.push(watch),
            None => {
                let new = StreamSlot { slot, watches: vec![watch], is_due: false, position: 0 };
                self.slots.insert(address, new);
            }
        }
        self.by_id.insert(id, address);
        self.mark_due(address);
    }

    /// Removes a watch. Returns whether there was one.
    pub(crate) fn remove(&mut self, id: i64) -> bool {
        let Some(address) = self.by_id.remove(&id) else { return false };
        let Some(slot) = self.slots.get_mut(&address) else { return false };
        slot.watches.retain(|watch| watch.id != id);
        slot.position = 0;
        if slot.watches.is_empty()
            && let Some(slot) = self.slots.remove(&address)
        {
            self.log.watchers.unsubscribe(&slot.slot, &self.waker);
        }
        true
    }

    /// Waits until a watch may have something to be told. Cancel-safe.
    pub(crate) async fn ready(&mut self) {
        if self.due.is_empty() {
            self.waker.woken().await;
            self.look_at_ready();
        }
    }

    /// Whether the cache has stopped.
    pub(crate) fn has_ended(&self) -> bool {
        self.log.has_ended()
    }

    fn look_at_ready(&mut self) {
        match self.waker.take() {
            Ready::Some(slots) => {
                for (slot, first) in slots {
                    self.wake(Arc::as_ptr(&slot).addr(), first);
                }
            }
            Ready::All(first) => {
                let all: Vec<usize> = self.slots.keys().copied().collect();
                all.into_iter().for_each(|address| self.wake(address, first));
            }
        }
    }

    /// The keys of a slot have not changed before `first` for a watch that was told everything.
    fn wake(&mut self, address: usize, first: Revision) {
        if let Some(slot) = self.slots.get_mut(&address) {
            for watch in slot.watches.iter_mut().filter(|watch| watch.is_idle) {
                (watch.is_idle, watch.next) = (false, watch.next.max(first));
            }
        }
        self.mark_due(address);
    }

    fn mark_due(&mut self, address: usize) {
        if let Some(slot) = self.slots.get_mut(&address) {
            slot.position = 0;
            if !std::mem::replace(&mut slot.is_due, true) {
                self.due.push_back(address);
            }
        }
    }

    /// Whether there is something to [`take`](Self::take).
    pub(crate) fn is_due(&self) -> bool {
        !self.due.is_empty()
    }

    /// What the watches have to be told, about `max_bytes` of it.
    pub(crate) fn take(&mut self, max_bytes: usize) -> Vec<WatchMessage> {
        let (mut messages, mut bytes) = (Vec::new(), 0);
        while bytes < max_bytes
            && let Some(address) = self.due.pop_front()
        {
            let Some(slot) = self.slots.get_mut(&address) else { continue };
            if !slot.take(&self.log, max_bytes, &mut bytes, &mut messages) {
                self.due.push_front(address);
                break;
            }
            slot.is_due = false;
        }
        for message in &messages {
            if let WatchMessage::Compacted { id, .. } = message {
                self.remove(*id);
            }
        }
        messages
    }
}

impl StreamSlot {
    /// Whether all its watches were told everything.
    fn take(
        &mut self,
        log: &Log,
        max_bytes: usize,
        bytes: &mut usize,
        messages: &mut Vec<WatchMessage>,
    ) -> bool {
        // Watches at the same revision are told the same.
        let mut same: Vec<(Revision, History, Next)> = Vec::new();
        while let Some(watch) = self.watches.get_mut(self.position) {
            if *bytes >= max_bytes {
                return false;
            }
            if watch.is_idle {
                self.position += 1;
                continue;
            }
            let is_same = |(revision, history, _): &&(Revision, History, Next)| {
                (*revision, *history) == (watch.next, watch.history)
            };
            let next = match same.iter().find(is_same) {
                Some((_, _, next)) => next.clone(),
                None => {
                    let next = Next::of(log, &self.slot, watch);
                    if same.len() == MAX_SAME {
                        same.clear();
                    }
                    same.push((watch.next, watch.history, next.clone()));
                    next
                }
            };
            match next {
                Next::Events(events) => match watch.message(&events) {
                    Some((message, length)) => {
                        *bytes += length + MESSAGE_BYTES;
                        messages.push(message);
                        // What comes after it.
                        continue;
                    }
                    None => watch.next = watch.next.next(),
                },
                Next::NothingUpTo(revision) => {
                    (watch.next, watch.is_idle) = (watch.next.max(revision.next()), true);
                    self.position += 1;
                }
                Next::Compacted(floor) => {
                    *bytes += MESSAGE_BYTES;
                    messages.push(WatchMessage::Compacted { id: watch.id, first_kept: floor.next() });
                    self.position += 1;
                }
            }
        }
        self.position = 0;
        true
    }
}

/// Different revisions of a slot's watches that are looked up once. Most of them are at the same one.
const MAX_SAME: usize = 4;

/// The bytes of a message beside its events.
const MESSAGE_BYTES: usize = 48;

#[derive(Clone)]
enum Next {
    Events(Arc<SlotEvents>),
    NothingUpTo(Revision),
    Compacted(Revision),
}

impl Next {
    fn of(log: &Log, slot: &Slot, watch: &Watch) -> Self {
        match log.next_writes(slot, watch.history, watch.next) {
            NextWrites::In(chunk) => Self::Events(slot.events(&chunk, &log.watchers.recent)),
            NextWrites::NothingUpTo(revision) => Self::NothingUpTo(revision),
            NextWrites::Compacted(floor) => Self::Compacted(floor),
        }
    }
}

impl Watch {
    /// The next message with these events, and its length.
    fn message(&mut self, events: &SlotEvents) -> Option<(WatchMessage, usize)> {
        let (bytes, last) = events.from(self.next, MAX_MESSAGE_BYTES)?;
        if !self.fragment || bytes.len() <= MAX_MESSAGE_BYTES {
            let length = bytes.len();
            self.next = last.next();
            let (id, revision) = (self.id, last);
            return Some((WatchMessage::Events { id, revision, events: bytes, fragment: false }, length));
        }
        // One large revision, in parts.
        let lengths: Vec<usize> = events.event_lengths(last).collect();
        let start: usize = lengths.iter().take(self.told).sum();
        let mut length = 0;
        let mut told = self.told;
        while let Some(more) = lengths.get(told)
            && (length == 0 || length + more <= MAX_MESSAGE_BYTES)
        {
            length += more;
            told += 1;
        }
        let fragment = told < lengths.len();
        let part = bytes.slice(start..start + length);
        (self.told, self.next) = if fragment { (told, self.next) } else { (0, last.next()) };
        Some((WatchMessage::Events { id: self.id, revision: last, events: part, fragment }, length))
    }
}

impl Drop for WatchStream {
    fn drop(&mut self) {
        for slot in self.slots.values() {
            self.log.watchers.unsubscribe(&slot.slot, &self.waker);
        }
    }
}
