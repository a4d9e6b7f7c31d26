//! The fast path of those who come by the thousand.
//!
//! Nearly all who follow want all keys, stand at the newest breadcrumb or at the one before, and want an
//! answer that was made before they were woken. For them a look is two comparisons, and a wait is one registration on the
//! view's trail. Everything else, also every error, is for [`View::next`], which can do all of it.

use super::fanout::Item;
use super::{Answer, Format, View};
use crate::model::{Cursor, Sequence};
use crate::trail::{BufferItem, SnapshotItem};

/// What the fast path came to.
pub enum TryNext<T, P = NextBreadcrumb> {
    /// What was made of the answer, which was there already.
    Answered(T),
    /// Nothing has come yet.
    Pending(P),
    /// The fast path cannot say: ask [`View::next`].
    Unknown,
}

/// The breadcrumb after the newest one.
pub struct NextBreadcrumb {
    newest: BufferItem<Item>,
}

impl View {
    /// What there is after the cursor, for somebody who follows all keys. `take` is given the answer; whether it
    /// was there [`at_once`](Answer::at_once) only the caller knows: `first` says that it has not waited yet.
    pub fn try_next<T>(
        &self,
        cursor: Cursor,
        format: Format,
        first: bool,
        take: impl FnOnce(&Answer) -> T,
    ) -> TryNext<T> {
        // Who is woken in turns has to take a turn.
        if self.wake_rate.is_some() {
            return TryNext::Unknown;
        }
        let newest = self.fanout.peek(|newest| {
            // Who has just written and asks now must see that, also where the fan-out has not come as far.
            if first && newest.info.sequence != self.cache.newest_sequence() {
                return TryNext::Unknown;
            }
            if newest.is_at(cursor) {
                return TryNext::Pending(newest.info.sequence);
            }
            newest.answer(cursor, format).map_or(TryNext::Unknown, |answer| TryNext::Answered(take(answer)))
        });
        match newest {
            None | Some(TryNext::Unknown) => TryNext::Unknown,
            Some(TryNext::Answered(taken)) => TryNext::Answered(taken),
            Some(TryNext::Pending(sequence)) => {
                self.fanout.want(format, sequence);
                match self.place_of(cursor) {
                    Some(newest) => TryNext::Pending(NextBreadcrumb { newest }),
                    // One has just come.
                    None => TryNext::Unknown,
                }
            }
        }
    }

    /// The newest item, if its breadcrumb is where this cursor stands.
    pub(super) fn place_of(&self, cursor: Cursor) -> Option<BufferItem<Item>> {
        let newest = self.fanout.newest().ok()?;
        let is_there = newest.value().and_then(Item::breadcrumb)?.is_at(cursor);
        is_there.then_some(newest)
    }
}

impl NextBreadcrumb {
    pub(super) fn after(newest: BufferItem<Item>) -> Self {
        Self { newest }
    }

    /// Resolves when it has come, with `true`, or when none will come any more. Cancel-safe.
    pub async fn came(&self) -> bool {
        self.newest.next_ref().await.is_ok()
    }

    /// The number of the breadcrumb that was the newest.
    pub fn sequence(&self) -> Sequence {
        Sequence(self.newest.value().map_or(0, Item::index))
    }
}
