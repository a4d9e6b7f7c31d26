//! The fast path of long polls and streams.
//!
//! Nearly all followers want all keys, are at the newest breadcrumb or the one before it, and want a format whose
//! answer was encoded before they were woken. For them a check is two comparisons, and a wait is one registration on
//! the view's trail. Everything else, errors included, is left to [`View::next`].

use super::fanout::Item;
use super::{Answer, Format, View};
use crate::model::{Cursor, Sequence};
use crate::trail::{BufferItem, SnapshotItem};

/// The result of the fast path.
pub(crate) enum TryNext<T> {
    /// The answer existed; this is what the caller made of it.
    Answered(T),
    /// There is no later breadcrumb yet.
    Pending(NextBreadcrumb),
    /// The fast path does not apply; use [`View::next`].
    Unknown,
}

/// The next breadcrumb, which does not exist yet.
pub(crate) struct NextBreadcrumb {
    newest: BufferItem<Item>,
}

impl View {
    /// The answer after the cursor for a follower of all keys, if it is encoded. `take` is given the answer. `first` says
    /// that the caller has not waited yet; only the caller knows the answer's [`at_once`](Answer::at_once).
    pub(crate) fn try_next<T>(
        &self,
        cursor: Cursor,
        format: Format,
        first: bool,
        take: impl FnOnce(&Answer) -> T,
    ) -> TryNext<T> {
        // A limited wake rate delays each waiter, which only `next` does.
        if self.wake_rate.is_some() {
            return TryNext::Unknown;
        }
        // The answer, or the sequence number of the breadcrumb that the cursor is at.
        let found: Option<Result<T, Sequence>> = self
            .fanout
            .peek(|newest| {
                // A client reads its own write even if the fan-out has not delivered it yet.
                if first && newest.info.sequence != self.cache.newest_sequence() {
                    return None;
                }
                if newest.is_at(cursor) {
                    return Some(Err(newest.info.sequence));
                }
                // A large answer may have to wait for room.
                let answer = newest.answer(cursor, format).filter(|answer| !answer.body.is_counted());
                answer.map(|answer| Ok(take(answer)))
            })
            .flatten();
        match found {
            None => TryNext::Unknown,
            Some(Ok(taken)) => TryNext::Answered(taken),
            Some(Err(sequence)) => {
                self.fanout.note_demand(format, sequence);
                match self.newest_item_at(cursor) {
                    Some(newest) => TryNext::Pending(NextBreadcrumb { newest }),
                    // A breadcrumb has just been delivered.
                    None => TryNext::Unknown,
                }
            }
        }
    }

    /// The newest item of the trail, if its breadcrumb is at this cursor.
    pub(super) fn newest_item_at(&self, cursor: Cursor) -> Option<BufferItem<Item>> {
        let newest = self.fanout.newest().ok()?;
        let is_at_cursor = newest.value().and_then(Item::breadcrumb)?.is_at(cursor);
        is_at_cursor.then_some(newest)
    }
}

impl NextBreadcrumb {
    pub(super) fn after(newest: BufferItem<Item>) -> Self {
        Self { newest }
    }

    /// Resolves to `true` when the breadcrumb is delivered, to `false` when the cache has stopped. Cancel-safe.
    pub(crate) async fn arrived(&self) -> bool {
        self.newest.next_ref().await.is_ok()
    }

    /// The sequence number of the breadcrumb before it.
    pub(crate) fn sequence(&self) -> Sequence {
        Sequence(self.newest.value().map_or(0, Item::index))
    }
}
