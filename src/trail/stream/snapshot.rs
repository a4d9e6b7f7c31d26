//! One snapshot: a list that is filled while it is read, and then goes over into the live one.
//!
//! # The splice
//!
//! The topic's head is captured **before** the [`SnapFn`] looks at the state, so every event that
//! the snapshot does not contain is the captured item or comes after it. When the snapshot is done
//! at index `n`, the first item with an index greater than `n` is what follows it, **beginning with
//! the captured item itself**: an event may have been published after the state was read and before
//! anything else was, and an implementation that looks only behind the captured item loses it. If
//! there is no such item yet, the snapshot is joined to whatever comes after the last one.
//!
//! In that case the state may have been ahead of what was published, and events up to `n` may still
//! be published. The list is shared and cannot wait for them to pass without keeping a task for
//! each snapshot of a quiet topic; so [`Subscription`](super::Subscription) skips what is not after
//! the snapshot that it has read. Who walks [`EventSnapshot::start`] by hand must do so too.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use tokio::sync::watch;
use tokio::task::AbortHandle;

use super::event::{Event, Part};
use crate::trail::{BufferItem, EventBuffer, Head, SharedError, TerminalError};

/// What a [`SnapFn`] returns: the index of the state that it has written.
pub type SnapFuture<'a> = Pin<Box<dyn Future<Output = Result<u64, SharedError>> + Send + 'a>>;

/// Makes snapshots. The idea is Consul's `SnapFn`.
pub trait SnapFn<E: Event>: Send + Sync + 'static {
    /// Writes the state of a subject into the buffer and returns the index of that state. What is
    /// written can be read at once. Of a state without an index, 0 will be told as 1.
    ///
    /// It runs as a task of its own, and is dropped where it waits if everybody who wanted the
    /// snapshot has gone. A long one should give way now and then, and must not block.
    ///
    /// # Errors
    ///
    /// Whatever kept it from writing everything. Those who read the snapshot are told.
    fn snap<'a>(&'a self, subject: &'a E::Subject, into: &'a mut SnapshotBuffer<E>) -> SnapFuture<'a>;
}

/// Where a [`SnapFn`] writes to.
pub struct SnapshotBuffer<E> {
    buffer: EventBuffer<Part<E>>,
    mark: u64,
}

impl<E> SnapshotBuffer<E> {
    /// Adds events that belong together, with the index at which they got to be what they are. None
    /// at all is fine, and adds nothing.
    pub fn append(&mut self, index: u64, events: impl Into<Arc<[E]>>) {
        let events = events.into();
        if !events.is_empty() {
            self.add(Part::events_at(index.max(1), self.mark, events));
        }
    }

    fn add(&mut self, part: Part<E>) {
        let added = self.buffer.append(part);
        debug_assert!(added.is_ok(), "the buffer is ended or joined by its owner, who does nothing after");
    }
}

/// The state of one subject at some index, and all that happens to the subject afterwards, for any
/// number of readers. The idea is Consul's `EventSnapshot`.
///
/// To keep it is to cache it: the list keeps whatever belongs to it. That is also everything
/// published since, so it must not be kept for ever. Dropping the last handle stops the making of a
/// snapshot that is not done, which ends its readers; one that is done can be read to the end, and
/// on, by those who hold a place in it.
pub struct EventSnapshot<E> {
    start: BufferItem<Part<E>>,
    newest: Head<Part<E>>,
    /// The index once the snapshot is whole and joined. Closed when it will not change any more.
    index: watch::Receiver<Option<u64>>,
    mark: u64,
    making: AbortHandle,
}

impl<E: Event> EventSnapshot<E> {
    /// Begins a snapshot, to be followed by what comes after `head` on the live topic (or by `head`
    /// itself, see the module's text). Take `head` first, and nothing can be missed. `mark` is the
    /// topic's at that place.
    ///
    /// The work is done by a task of the tokio runtime that this is called in.
    pub fn take(snap: Arc<dyn SnapFn<E>>, subject: E::Subject, head: BufferItem<Part<E>>, mark: u64) -> Self {
        let mut buffer = SnapshotBuffer { buffer: EventBuffer::new(), mark };
        let (start, newest) = (buffer.buffer.head(), buffer.buffer.reader());
        let (told, index) = watch::channel(None);
        let making = tokio::spawn(async move {
            let snapped = snap.snap(&subject, &mut buffer).await;
            finish(buffer, head, snapped, told);
        });
        Self { start, newest, index, mark, making: making.abort_handle() }
    }
}

impl<E> EventSnapshot<E> {
    /// The place before the first event. What is there can be read while the rest is being made.
    pub fn start(&self) -> BufferItem<Part<E>> {
        self.start.clone()
    }

    /// The index of the state, once the snapshot is whole.
    pub fn index(&self) -> Option<u64> {
        *self.index.borrow()
    }

    /// Whether nothing is left to do: it is whole, or it failed.
    pub fn is_done(&self) -> bool {
        self.index.has_changed().is_err()
    }

    /// Why the snapshot failed. `None` need not mean that it will not fail yet.
    pub fn err(&self) -> Option<TerminalError> {
        self.newest.head().error().cloned()
    }

    /// Waits until nothing is left to do, without keeping the snapshot.
    pub(super) fn done(&self) -> impl Future<Output = ()> + Send + use<E> {
        let mut index = self.index.clone();
        async move { while index.changed().await.is_ok() {} }
    }

    pub(super) fn mark(&self) -> u64 {
        self.mark
    }
}

impl<E> Drop for EventSnapshot<E> {
    fn drop(&mut self) {
        self.making.abort();
    }
}

impl<E> fmt::Debug for EventSnapshot<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (index, err) = (self.index(), self.err());
        f.debug_struct("EventSnapshot").field("index", &index).field("err", &err).finish_non_exhaustive()
    }
}

/// Ends the snapshot, one way or the other.
fn finish<E>(
    mut snapshot: SnapshotBuffer<E>,
    head: BufferItem<Part<E>>,
    snapped: Result<u64, SharedError>,
    told: watch::Sender<Option<u64>>,
) {
    let spliced = snapped.and_then(|index| {
        let index = index.max(1);
        let next = first_after(head, index)?;
        snapshot.add(Part::end_of_snapshot(index, snapshot.mark));
        let joined = snapshot.buffer.append_buffer(next);
        debug_assert!(joined.is_ok(), "a new buffer can be joined to one that is older than it");
        Ok(index)
    });
    match spliced {
        Ok(index) => {
            told.send_replace(Some(index));
        }
        Err(error) => {
            let ended = snapshot.buffer.append_err(error);
            debug_assert!(ended.is_ok(), "nobody else ends or joins this buffer");
        }
    }
}

/// The first item, from `item` on, that is later than `index`; or, when there is none yet, an empty
/// one that what comes next will follow.
fn first_after<E>(item: BufferItem<Part<E>>, index: u64) -> Result<BufferItem<Part<E>>, TerminalError> {
    if let Some(error) = item.error() {
        return Err(error.clone());
    }
    let is_later = |item: &BufferItem<Part<E>>| item.value().map(|part| part.index() > index);
    if is_later(&item) == Some(true) {
        return Ok(item);
    }
    let mut item = item;
    loop {
        let next = item.follow_after()?;
        match is_later(&next) {
            // Empty: there is no next item yet. Later: this is it.
            None | Some(true) => return Ok(next),
            Some(false) => item = next,
        }
    }
}
