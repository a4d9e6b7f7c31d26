//! Streams: the state, and then every change for as long as the reader stays.
//!
//! ```text
//! no cursor ──▶ snapshot ──┐ splice
//!                          ▼
//! a cursor ─▶ squash ─▶ trail: one encoded breadcrumb after the other ◀──┐
//!      │        ▲                      │ more than a few unread, let go, │
//!      │        └──────────────────────┘ or not continued                │
//!      └─ gone ─▶ "reset" ─▶ snapshot ───────────────────────────────────┘
//! ```
//!
//! A reader takes the road of a long poll ([`View::next`]) that asks again and again, so all that was said of those holds. Two
//! things are its own. It begins with a snapshot that is [spliced](EventSnapshot) onto the view's trail; the body is
//! shared with all who want the same state. And while it follows all keys and reads quickly, it walks the trail
//! itself, so that it is told each breadcrumb by the bytes that were encoded for everybody.
//!
//! # What it promises
//!
//! * The next thing is made when the reader asks for it, and then leads up to now, but for a few
//!   breadcrumbs that are there already. Nothing is queued for a reader.
//! * Each step leads from the cursor where the reader stands: what the trail has next is told only if it does, and else
//!   a squash is. Where there is no way, the reader is told ([`Told::Reset`]) and gets the state.
//! * A reader that is slow keeps nothing in memory, once it has been [let go](Stream::let_go).

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use super::answer::{BreadcrumbInfo, end};
use super::fanout::Item;
use super::long_poll::Follower;
use super::{Answer, Format, KeySelector, Next, NextBreadcrumb, Reason, TryNext, View, ViewError};
use crate::model::Cursor;
use crate::trail::{BufferItem, EventSnapshot, SnapshotBuffer};
use crate::wire::{BodyWriter, Coding, MediaType, Mode};

/// What a stream is made of: records that are sent as they are, or wrapped.
const FORMAT: Format = Format { media: MediaType::Ndjson, coding: Coding::Identity };

/// A reader gets breadcrumbs one by one as long as no more than so many wait for it, and else one squash.
const FEW: u64 = 16;

/// What a reader is told.
#[derive(Debug)]
pub enum Told {
    /// What it has cannot be continued: it shall forget it, a snapshot follows.
    Reset,
    /// The whole state.
    Snapshot(Answer),
    /// What changed since.
    Updates(Answer),
    /// Nothing, because the wait was over first. The answer, where there is one, has no updates and leads to a newer
    /// cursor: nothing in between concerns the reader, and so it does not fall out of the window.
    Nothing(Option<Answer>),
}

/// Why a stream has ended.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Ended {
    /// No breadcrumb will come any more.
    #[error("the daemon stops")]
    Stopped,
    /// The state could not be told. Coming again may help.
    #[error("{0}")]
    Failed(ViewError),
}

/// Tells one reader the state and all that happens to it. It is made by [`View::stream`].
pub struct Stream {
    view: View,
    keys: KeySelector,
    /// Where the reader stands, unless it has nothing.
    cursor: Option<Cursor>,
    /// Its place on the trail, while it walks there. It keeps what comes after it in memory.
    place: Option<BufferItem<Item>>,
    /// It is still to be told to forget what it has.
    reset: bool,
    _counted: Counted,
}

/// The readers of streams, counted.
#[derive(Default)]
pub(super) struct Readers {
    by_keys: Mutex<HashMap<KeySelector, usize>>,
    snapshots_made: AtomicU64,
}

/// What there is of streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamCounts {
    /// Readers.
    pub readers: usize,
    /// Different sets of keys that they read.
    pub selectors: usize,
    /// Snapshots that a newcomer could share now.
    pub snapshots: usize,
    /// Snapshots that were made for readers since the start, each for any number of them.
    pub snapshots_made: u64,
}

impl View {
    /// Follows these keys: from the cursor on, or with the state first.
    ///
    /// # Errors
    /// [`ViewError::Starting`]. That a cursor is gone is told by the stream.
    pub fn stream(&self, keys: &KeySelector, from: Option<Cursor>) -> Result<Stream, ViewError> {
        self.newest()?;
        let counted = Counted::new(&self.readers, keys);
        let (view, keys) = (self.clone(), keys.clone());
        Ok(Stream { view, keys, cursor: from, place: None, reset: false, _counted: counted })
    }

    /// What there is of streams.
    pub fn stream_counts(&self) -> StreamCounts {
        let by_keys = self.readers.by_keys.lock();
        StreamCounts {
            readers: by_keys.values().sum(),
            selectors: by_keys.len(),
            snapshots: if by_keys.is_empty() { 0 } else { self.snapshots.kept_bodies() },
            snapshots_made: self.readers.snapshots_made.load(Ordering::Relaxed),
        }
    }
}

impl Stream {
    /// Where the reader stands, unless it has nothing.
    pub fn cursor(&self) -> Option<Cursor> {
        self.cursor
    }

    /// What the reader has is of no use whatever its cursor is: it is told to forget it, and begins anew.
    pub fn start_over(&mut self) {
        (self.cursor, self.place, self.reset) = (None, None, true);
    }

    /// Gives up the place on the trail, so that nothing is kept in memory for this reader: for while it is
    /// being written to and does not take it. It goes on from its cursor.
    pub fn let_go(&mut self) {
        self.place = None;
    }

    /// What there is already, for a reader of all keys that is quick: `take` is given the next breadcrumb's answer.
    pub fn try_next<T>(&mut self, take: impl FnOnce(&Answer) -> T) -> TryNext<T> {
        let Some(cursor) = self.cursor.filter(|_| self.keys.is_all() && self.view.wake_rate.is_none()) else {
            return TryNext::Unknown;
        };
        let Some(mut place) = self.place.take().or_else(|| self.view.place_of(cursor)) else {
            return TryNext::Unknown;
        };
        if let Ok(Some(next)) = place.next_no_block()
            && let Some(Item::EndOfSnapshot(_)) = next.value()
        {
            place = next;
        }
        let Ok(next) = place.next_no_block() else { return TryNext::Unknown };
        let Some(next) = next else {
            let pending = NextBreadcrumb::after(place.clone());
            self.view.fanout.want(FORMAT, pending.sequence());
            self.place = Some(place);
            return TryNext::Pending(pending);
        };
        match self.view.step(&next, cursor) {
            Some(answer) => {
                self.cursor = Some(answer.cursor);
                let taken = take(answer);
                self.place = Some(next);
                TryNext::Answered(taken)
            }
            None => TryNext::Unknown,
        }
    }

    /// The next thing to tell, or [`Told::Nothing`] when `over` resolves first. It is made now, not before.
    /// Cancel-safe.
    ///
    /// # Errors
    /// [`Ended`], for good.
    pub async fn next(&mut self, over: impl Future<Output = ()>) -> Result<Told, Ended> {
        if std::mem::take(&mut self.reset) {
            return Ok(Told::Reset);
        }
        let Some(cursor) = self.cursor else { return self.snapshot().await };
        if let TryNext::Answered(told) = self.try_next(|answer| Told::Updates(answer.clone())) {
            return Ok(told);
        }
        self.place = None;
        let follower = Follower { asked: cursor, keys: &self.keys, format: FORMAT, advances: true };
        let over = async {
            over.await;
            Reason::Timeout
        };
        match self.view.follow(follower, over).await {
            Ok(Next::Answer(answer)) => {
                self.cursor = Some(answer.cursor);
                if self.keys.is_all() {
                    self.place = self.view.place_of(answer.cursor);
                    self.view.fanout.want(FORMAT, answer.sequence);
                }
                Ok(Told::Updates(answer))
            }
            Ok(Next::Nothing { cursor, reason: Reason::Timeout, .. }) => Ok(self.moved_to(cursor)),
            Ok(Next::Nothing { .. }) => Err(Ended::Stopped),
            Err(ViewError::Gone { .. }) => {
                (self.cursor, self.place) = (None, None);
                Ok(Told::Reset)
            }
            Err(error) => Err(Ended::Failed(error)),
        }
    }

    /// The state, and the place behind it on the trail.
    async fn snapshot(&mut self) -> Result<Told, Ended> {
        let (view, keys) = (&self.view, &self.keys);
        let head = view.fanout.newest().map_err(|_| Ended::Stopped)?;
        let snapshot = EventSnapshot::take(head, async |into: &mut SnapshotBuffer<Item>| {
            let at_least = view.newest().map_err(Ended::Failed)?.sequence();
            let (answer, made) =
                view.snapshots.current(at_least, keys, FORMAT).await.map_err(Ended::Failed)?;
            view.readers.snapshots_made.fetch_add(u64::from(made), Ordering::Relaxed);
            let index = answer.sequence.0;
            into.append(Item::Snapshot(answer));
            Ok::<_, Ended>(index)
        });
        let first = snapshot.await?.start().next().await.map_err(|_| Ended::Stopped)?;
        let Some(Item::Snapshot(answer)) = first.value() else { return Err(Ended::Stopped) };
        let answer = answer.clone();
        self.cursor = Some(answer.cursor);
        self.place = Some(first);
        Ok(Told::Snapshot(answer))
    }

    /// An empty step to a newer cursor, if it is one.
    fn moved_to(&mut self, cursor: Cursor) -> Told {
        let Some(from) = self.cursor.replace(cursor).filter(|from| cursor.revision > from.revision) else {
            return Told::Nothing(None);
        };
        let Ok(newest) = self.view.fanout.newest() else { return Told::Nothing(None) };
        let Some(info) = newest.value().and_then(Item::breadcrumb).map(|newest| newest.info) else {
            return Told::Nothing(None);
        };
        let (mode, reason) = (Mode::None, Reason::Timeout);
        let header = info.header(cursor, Some(from), mode, reason, false);
        let body = BodyWriter::breadcrumb(FORMAT.media, &header, 0).finish(&end(&header));
        let BreadcrumbInfo { sequence, timestamp, .. } = info;
        let (body, format) = (body.into(), FORMAT);
        let answer = Answer { cursor, mode, reason, sequence, timestamp, body, format, at_once: false };
        Told::Nothing(Some(answer))
    }
}

impl View {
    /// The answer of the next item, if it leads on from the cursor and few are behind it.
    fn step<'a>(&self, next: &'a BufferItem<Item>, cursor: Cursor) -> Option<&'a Answer> {
        let next = next.value().and_then(Item::breadcrumb)?;
        let unread = self.cache.newest_sequence().0.saturating_sub(next.info.sequence.0);
        next.answer(cursor, FORMAT).filter(|_| unread < FEW)
    }
}

/// A reader's presence; dropping it ends it.
struct Counted {
    readers: Arc<Readers>,
    keys: KeySelector,
}

impl Counted {
    fn new(readers: &Arc<Readers>, keys: &KeySelector) -> Self {
        *readers.by_keys.lock().entry(keys.clone()).or_default() += 1;
        Self { readers: Arc::clone(readers), keys: keys.clone() }
    }
}

impl Drop for Counted {
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

impl From<crate::trail::TerminalError> for Ended {
    fn from(_: crate::trail::TerminalError) -> Self {
        Self::Stopped
    }
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stream")
            .field("keys", &self.keys)
            .field("cursor", &self.cursor)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
