//! One topic: the live list of one subject, who follows it, and its snapshot.
//!
//! Everything here happens under the publisher's lock, so nothing here may take long. Two things
//! could: waking readers, and dropping the last reference to a long list. Both are handed out, to
//! be done when the lock is released: see [`Afterwards`].

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::task::AbortHandle;

use super::close::CloseReason;
use super::event::{Event, Part};
use super::snapshot::EventSnapshot;
use super::subscription::SubscribeRequest;
use crate::trail::{BufferItem, EventBuffer, Wake};

/// Where a reader stands. The place belongs to the reader, and can be taken from it.
pub(super) enum Place<E> {
    At {
        item: BufferItem<Part<E>>,
        /// How much the topic had published at that place.
        mark: u64,
        /// The snapshot that is being read. To hold it keeps it from being given up half made.
        snapshot: Option<Arc<EventSnapshot<E>>>,
    },
    /// The reader was too far behind: a new snapshot is its next step.
    LeftBehind,
    /// The subscription is closed and holds nothing.
    Nowhere,
}

/// What the publisher and the reader of one subscription share.
pub(super) struct Seat<E: Event> {
    pub(super) request: SubscribeRequest<E::Subject>,
    /// Held for a few moves by the reader, the sweeper and whoever closes.
    pub(super) place: Mutex<Place<E>>,
    pub(super) closed: watch::Sender<Option<CloseReason>>,
}

impl<E: Event> Seat<E> {
    /// Closes the subscription unless that was done before. The list is let go at once: a reader
    /// that stands still may take long to find out.
    pub(super) fn close(&self, reason: CloseReason, later: &mut Afterwards<E>) -> bool {
        let first = self.closed.send_if_modified(|closed| {
            let first = closed.is_none();
            closed.get_or_insert(reason);
            first
        });
        later.places.push(std::mem::replace(&mut *self.place.lock(), Place::Nowhere));
        first
    }

    /// Takes the place of a reader that has read nothing since the topic's mark was `oldest`. One
    /// whose snapshot is still being made cannot be ahead of it, and keeps it.
    fn leave_behind(&self, oldest: u64, later: &mut Afterwards<E>) {
        let mut place = self.place.lock();
        if let Place::At { mark, snapshot, .. } = &*place
            && *mark < oldest
            && snapshot.as_ref().is_none_or(|snapshot| snapshot.is_done())
        {
            later.places.push(std::mem::replace(&mut place, Place::LeftBehind));
        }
    }
}

/// A snapshot that newcomers share, and the task that will take it away.
pub(super) struct Cached<E> {
    pub(super) snapshot: Arc<EventSnapshot<E>>,
    pub(super) keeper: AbortHandle,
}

impl<E> Drop for Cached<E> {
    fn drop(&mut self) {
        self.keeper.abort();
    }
}

/// What is left to do when the lock is released. Dropping it does it.
pub(super) struct Afterwards<E: Event> {
    wakes: Vec<Wake<Part<E>>>,
    places: Vec<Place<E>>,
    snapshots: Vec<Cached<E>>,
    topics: Vec<Topic<E>>,
}

impl<E: Event> Afterwards<E> {
    pub(super) fn new() -> Self {
        Self { wakes: Vec::new(), places: Vec::new(), snapshots: Vec::new(), topics: Vec::new() }
    }

    pub(super) fn free_topic(&mut self, topic: Topic<E>) {
        self.topics.push(topic);
    }

    pub(super) fn free_snapshot(&mut self, snapshot: Cached<E>) {
        self.snapshots.push(snapshot);
    }
}

pub(super) struct Topic<E: Event> {
    buffer: EventBuffer<Part<E>>,
    /// The bytes published here so far.
    mark: u64,
    /// The index of the newest event here; in a topic without one, the index published when it was
    /// made. Whoever knows the state at this index or a later one has missed nothing.
    newest: u64,
    pub(super) seats: HashMap<u64, Arc<Seat<E>>>,
    pub(super) cached: Option<Cached<E>>,
    /// What is being published and belongs here.
    pending: Vec<E>,
    /// The mark at which to look for readers that are too far behind.
    next_sweep: u64,
}

impl<E: Event> Topic<E> {
    pub(super) fn new(published: u64) -> Self {
        Self {
            buffer: EventBuffer::new(),
            mark: 0,
            newest: published,
            seats: HashMap::new(),
            cached: None,
            pending: Vec::new(),
            next_sweep: 0,
        }
    }

    /// Whether who knows the state at `index` can go on from here. An index ahead of the topic is
    /// fine: what comes up to it will be skipped.
    pub(super) fn can_resume(&self, index: u64) -> bool {
        index > 0 && index >= self.newest
    }

    pub(super) fn newest_place(&self) -> Place<E> {
        Place::At { item: self.buffer.head(), mark: self.mark, snapshot: None }
    }

    pub(super) fn head(&self) -> BufferItem<Part<E>> {
        self.buffer.head()
    }

    pub(super) fn mark(&self) -> u64 {
        self.mark
    }

    /// The snapshot that a newcomer may share, if there is one.
    pub(super) fn shareable(&self, max_lag_bytes: u64) -> Option<&Arc<EventSnapshot<E>>> {
        let snapshot = &self.cached.as_ref()?.snapshot;
        let is_good = snapshot.err().is_none() && !self.is_worn_out(snapshot, max_lag_bytes);
        is_good.then_some(snapshot)
    }

    /// Takes an event for the item that [`flush`](Self::flush) will append. True for the first.
    pub(super) fn push(&mut self, event: E) -> bool {
        self.pending.push(event);
        self.pending.len() == 1
    }

    /// Appends what was pushed as one item.
    pub(super) fn flush(&mut self, index: u64, max_lag_bytes: u64, later: &mut Afterwards<E>) {
        let events = std::mem::take(&mut self.pending);
        let bytes = events.iter().map(|event| event.bytes() as u64).fold(0, u64::saturating_add);
        let before = self.mark;
        self.mark = self.mark.saturating_add(bytes);
        self.newest = index;
        match self.buffer.append_deferred(Part::events_at(index, self.mark, events)) {
            Ok((_, wake)) => later.wakes.push(wake),
            Err(refused) => debug_assert!(false, "a topic's buffer ends with the topic: {refused}"),
        }
        if self.mark >= self.next_sweep {
            self.sweep(before, max_lag_bytes, later);
        }
    }

    /// Lets go of what pins too much. Done once for each quarter of the limit that is published, so
    /// that it costs next to nothing for each event; hence up to 5/4 of the limit may be pinned.
    /// Who had read all that was there `before` this item is not behind, however large the item.
    fn sweep(&mut self, before: u64, max_lag_bytes: u64, later: &mut Afterwards<E>) {
        self.next_sweep = self.mark.saturating_add((max_lag_bytes / 4).max(1));
        let oldest = self.mark.saturating_sub(max_lag_bytes).min(before);
        for seat in self.seats.values() {
            seat.leave_behind(oldest, later);
        }
        if self.cached.as_ref().is_some_and(|cached| self.is_worn_out(&cached.snapshot, max_lag_bytes)) {
            later.snapshots.extend(self.cached.take());
        }
    }

    /// Whether so much was published since the snapshot that a newcomer would begin too far behind.
    /// One that is still being made is kept whatever happens, or it would never be finished.
    fn is_worn_out(&self, snapshot: &EventSnapshot<E>, max_lag_bytes: u64) -> bool {
        snapshot.is_done() && self.mark - snapshot.mark() > max_lag_bytes / 2
    }
}
