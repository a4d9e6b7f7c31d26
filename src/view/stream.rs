//! Streams: the state, then every change until the reader leaves.
//!
//! ```text
//! no cursor ──▶ snapshot ──┐ splice
//!                          ▼
//! a cursor ─▶ squash ─▶ trail: one encoded breadcrumb after the other ◀──┐
//!      │        ▲                      │ too many unread, position       │
//!      │        └──────────────────────┘ released, or a gap              │
//!      └─ gone ─▶ "reset" ─▶ snapshot ───────────────────────────────────┘
//! ```
//!
//! A stream is a long poll ([`View::next`]) that is repeated, with two differences. It begins with a snapshot that is
//! [spliced](EventSnapshot) onto the view's trail; all readers of the same state share its body. And a fast reader of
//! all keys walks the trail itself: it gets each breadcrumb as the bytes that were encoded for everybody.
//!
//! # Promises
//!
//! * The next event is made when the reader asks for it. It leads up to now, except for a few breadcrumbs that are
//!   encoded already. Nothing is queued for a reader.
//! * Each event leads from the reader's cursor: the trail's next item if it does, a squash otherwise. If the cursor
//!   cannot be continued, the reader gets a [`StreamEvent::Reset`] and the state.
//! * A slow reader keeps nothing in memory once its position is [released](Stream::release).

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use super::answer::{BreadcrumbInfo, end};
use super::budget::OverBudget;
use super::fanout::Item;
use super::long_poll::Follower;
use super::{Account, Answer, Format, KeySelector, Next, NextBreadcrumb, Reason, TryNext, View, ViewError};
use crate::model::Cursor;
use crate::trail::{BufferItem, EventSnapshot, SnapshotBuffer};
use crate::wire::{BodyWriter, Coding, MediaType, Mode, Values};

/// The format of a stream. Server-sent events wrap its lines.
pub(super) const fn format_of(values: Values) -> Format {
    Format { media: MediaType::ndjson(values), coding: Coding::Identity }
}

/// A reader with this many unread breadcrumbs gets one squash instead.
const MAX_UNREAD: u64 = 16;

/// One event of a stream.
#[derive(Debug)]
pub enum StreamEvent {
    /// The reader's state cannot be continued. It discards the state; a snapshot follows.
    Reset,
    /// The whole state.
    Snapshot(Answer),
    /// The changes since the reader's cursor.
    Updates(Answer),
    /// No change before the wait ended. The answer, if there is one, has no updates and leads to a newer cursor, so that
    /// the reader's cursor stays in the kept window.
    Heartbeat(Option<Answer>),
}

/// The end of a stream.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum StreamError {
    /// No breadcrumb will follow.
    #[error("the daemon is shutting down")]
    Stopped,
    /// There was no room for the next event. The stream may go on.
    #[error("{0}")]
    OverBudget(OverBudget),
    /// The state could not be read; a retry may succeed.
    #[error("{0}")]
    Failed(ViewError),
}

/// A reader's state and everything that changes it, as events. Made by [`View::stream`].
pub struct Stream {
    view: View,
    format: Format,
    /// The reader's cursor; `None` while it has no state.
    cursor: Option<Cursor>,
    /// The reader's position on the trail while it walks there. It keeps all later items in memory.
    position: Option<BufferItem<Item>>,
    /// Whether the next event is a reset.
    reset: bool,
    /// The account that large events are charged to.
    account: Account,
    /// Its presence, and the keys that it reads.
    reader: ReaderGuard,
}

/// The number of readers by their keys.
#[derive(Default)]
pub(super) struct Readers {
    by_keys: Mutex<HashMap<KeySelector, usize>>,
    snapshots_made: AtomicU64,
}

/// Statistics of the streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct StreamCounts {
    /// Readers.
    pub readers: usize,
    /// Different key selectors among the readers.
    pub selectors: usize,
    /// Snapshots that a new reader could share now.
    pub snapshots: usize,
    /// Snapshots made for readers since the start. One serves any number of readers.
    pub snapshots_made: u64,
}

impl View {
    /// A stream of these keys, with values in this form, from the cursor or with the state first. Its bodies are NDJSON.
    /// Large events are charged to the account.
    ///
    /// # Errors
    /// [`ViewError::Starting`]. A cursor that is gone is no error but a [`StreamEvent::Reset`].
    pub fn stream(
        &self,
        keys: &KeySelector,
        values: Values,
        from: Option<Cursor>,
        account: &Account,
    ) -> Result<Stream, ViewError> {
        self.newest()?;
        let (reader, account) = (ReaderGuard::new(&self.readers, keys), account.clone());
        let format = format_of(values);
        Ok(Stream { view: self.clone(), format, cursor: from, position: None, reset: false, account, reader })
    }

    /// Statistics of the streams.
    pub(crate) fn stream_counts(&self) -> StreamCounts {
        let by_keys = self.readers.by_keys.lock();
        StreamCounts {
            readers: by_keys.values().sum(),
            selectors: by_keys.len(),
            snapshots: if by_keys.is_empty() { 0 } else { self.snapshots.cached_bodies() },
            snapshots_made: self.readers.snapshots_made.load(Ordering::Relaxed),
        }
    }
}

impl Stream {
    /// The reader's cursor; `None` while it has no state.
    pub fn cursor(&self) -> Option<Cursor> {
        self.cursor
    }

    /// Discards the reader's state: a reset and a snapshot follow.
    pub fn start_over(&mut self) {
        (self.cursor, self.position, self.reset) = (None, None, true);
    }

    /// Releases the position on the trail, so that a slow reader keeps nothing in memory. The stream continues from the
    /// reader's cursor.
    pub fn release(&mut self) {
        self.position = None;
    }

    /// The next breadcrumb's answer for a fast reader of all keys, if it is encoded. `take` is given the answer.
    pub(crate) fn try_next<T>(&mut self, take: impl FnOnce(&Answer) -> T) -> TryNext<T> {
        let Some(cursor) = self.cursor.filter(|_| self.reader.keys.is_all() && self.view.wake_rate.is_none())
        else {
            return TryNext::Unknown;
        };
        let Some(mut position) = self.position.take().or_else(|| self.view.newest_item_at(cursor)) else {
            return TryNext::Unknown;
        };
        if let Ok(Some(next)) = position.next_no_block()
            && let Some(Item::EndOfSnapshot(_)) = next.value()
        {
            position = next;
        }
        let Ok(next) = position.next_no_block() else { return TryNext::Unknown };
        let Some(next) = next else {
            let pending = NextBreadcrumb::after(position.clone());
            self.view.fanout.note_demand(self.format, pending.sequence());
            self.position = Some(position);
            return TryNext::Pending(pending);
        };
        match self.view.encoded_step(&next, cursor, self.format) {
            Some(answer) => {
                self.cursor = Some(answer.cursor);
                let taken = take(answer);
                self.position = Some(next);
                TryNext::Answered(taken)
            }
            None => TryNext::Unknown,
        }
    }

    /// The next event; a [`StreamEvent::Heartbeat`] if `over` resolves first. It is made now, not in advance.
    /// Cancel-safe.
    ///
    /// # Errors
    /// [`StreamError`]; the stream has ended, except with [`StreamError::OverBudget`].
    pub async fn next(&mut self, over: impl Future<Output = ()>) -> Result<StreamEvent, StreamError> {
        if std::mem::take(&mut self.reset) {
            return Ok(StreamEvent::Reset);
        }
        let Some(cursor) = self.cursor else { return self.snapshot().await };
        if let TryNext::Answered(event) = self.try_next(|answer| StreamEvent::Updates(answer.clone())) {
            return Ok(event);
        }
        self.position = None;
        let (keys, format, account) = (&self.reader.keys, self.format, &self.account);
        let follower = Follower { asked: cursor, keys, format, account, advances: true, one_by_one: None };
        let over = async {
            over.await;
            Reason::Timeout
        };
        match self.view.follow(follower, over).await {
            Ok(Next::Answer(answer)) => {
                self.cursor = Some(answer.cursor);
                if self.reader.keys.is_all() {
                    self.position = self.view.newest_item_at(answer.cursor);
                    self.view.fanout.note_demand(format, answer.sequence);
                }
                Ok(StreamEvent::Updates(answer))
            }
            Ok(Next::Nothing { cursor, reason: Reason::Timeout, .. }) => {
                Ok(StreamEvent::Heartbeat(self.advance_to(cursor)))
            }
            Ok(Next::Nothing { .. }) => Err(StreamError::Stopped),
            Err(ViewError::Gone { .. }) => {
                (self.cursor, self.position) = (None, None);
                Ok(StreamEvent::Reset)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// The state; the position is then the item after it on the trail.
    async fn snapshot(&mut self) -> Result<StreamEvent, StreamError> {
        let (view, keys, format, account) = (&self.view, &self.reader.keys, self.format, &self.account);
        let mut made = None;
        let head = view.fanout.newest().map_err(|_| StreamError::Stopped)?;
        let snapshot = EventSnapshot::take(head, async |into: &mut SnapshotBuffer<Item>| {
            let at_least = view.newest()?.sequence();
            let (answer, is_new) = view.snapshots.current(at_least, keys, format, account).await?;
            view.readers.snapshots_made.fetch_add(u64::from(is_new), Ordering::Relaxed);
            let sequence = answer.sequence;
            into.append(Item::Snapshot(sequence));
            made = Some(answer);
            Ok::<_, StreamError>(sequence.0)
        });
        let first = snapshot.await?.start().next().await.map_err(|_| StreamError::Stopped)?;
        let Some(answer) = made else { return Err(StreamError::Stopped) };
        self.cursor = Some(answer.cursor);
        // Nothing came meanwhile: the trail's own item is shared, the snapshot's list is this reader's.
        let position = self.view.newest_item_at(answer.cursor).unwrap_or(first);
        self.position = self.reader.keys.is_all().then_some(position);
        Ok(StreamEvent::Snapshot(answer))
    }

    /// Sets the reader's cursor; the answer leads there without updates if the revision is newer.
    fn advance_to(&mut self, cursor: Cursor) -> Option<Answer> {
        let from = self.cursor.replace(cursor).filter(|from| cursor.revision > from.revision)?;
        let newest = self.view.fanout.newest().ok()?;
        let info = newest.value().and_then(Item::breadcrumb).map(|newest| newest.info)?;
        let (mode, reason) = (Mode::None, Reason::Timeout);
        let header = info.header(cursor, Some(from), mode, reason, false);
        let body = BodyWriter::breadcrumb(self.format.media, &header, 0).finish(&end(&header));
        let BreadcrumbInfo { sequence, timestamp, .. } = info;
        let (body, format) = (body.into(), self.format);
        Some(Answer { cursor, mode, reason, sequence, timestamp, body, format, at_once: false })
    }
}

impl View {
    /// The encoded answer of the next item, if it leads from the cursor and few breadcrumbs follow it.
    fn encoded_step<'a>(
        &self,
        next: &'a BufferItem<Item>,
        cursor: Cursor,
        format: Format,
    ) -> Option<&'a Answer> {
        let next = next.value().and_then(Item::breadcrumb)?;
        let unread = self.cache.newest_sequence().0.saturating_sub(next.info.sequence.0);
        // A large answer may have to wait for room.
        next.answer(cursor, format).filter(|answer| unread < MAX_UNREAD && !answer.body.is_counted())
    }
}

/// A counted reader, until the guard is dropped.
struct ReaderGuard {
    readers: Arc<Readers>,
    keys: KeySelector,
}

impl ReaderGuard {
    fn new(readers: &Arc<Readers>, keys: &KeySelector) -> Self {
        *readers.by_keys.lock().entry(keys.clone()).or_default() += 1;
        Self { readers: Arc::clone(readers), keys: keys.clone() }
    }
}

impl Drop for ReaderGuard {
    fn drop(&mut self) {
        let mut by_keys = self.readers.by_keys.lock();
        if let Some(readers) = by_keys.get_mut(&self.keys) {
            *readers -= 1;
            if *readers == 0 {
                by_keys.remove(&self.keys);
            }
        }
    }
}

impl From<ViewError> for StreamError {
    fn from(error: ViewError) -> Self {
        match error {
            ViewError::OverBudget(full) => Self::OverBudget(full),
            error => Self::Failed(error),
        }
    }
}

impl From<StreamError> for ViewError {
    fn from(error: StreamError) -> Self {
        match error {
            StreamError::Stopped => Self::Stopped,
            StreamError::OverBudget(full) => Self::OverBudget(full),
            StreamError::Failed(error) => error,
        }
    }
}

impl From<crate::trail::TerminalError> for StreamError {
    fn from(_: crate::trail::TerminalError) -> Self {
        Self::Stopped
    }
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stream")
            .field("keys", &self.reader.keys)
            .field("cursor", &self.cursor)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
