//! Following one key.
//!
//! # Why this is no [`RangedWatcher`](crate::value::RangedWatcher)
//!
//! A ranged watcher belongs to a consumer: it remembers what the consumer was told, and tells what has
//! changed since. Here there is no consumer between two requests, only a cursor, which another
//! replica may have handed out, or this process before it was restarted. "Did this key change after that
//! cursor?" is a question about the past, and the answer may lie inside a breadcrumb, where no state
//! is kept that a watcher could begin with, but single steps are. To load a range for each request and
//! to compare it would also cost an allocation for each key; this looks up one.
//!
//! A waiter is woken by its own key and by those that begin with it, through the same index as
//! waiters for a prefix: who waits for one key sleeps through the others, and keeps its place meanwhile.
//!
//! What a ranged watcher promises is promised here too, and tested the same way: changes that come
//! together are one, a deletion is told to who could know the key, an empty value is a value, and
//! what was deleted while the feed was cut off is told after the resync.

use tokio::time::Instant;

use super::follow::furthest;
use super::interest::Registered;
use super::waiting::{Waiting, Woken};
use super::{KeyRead, Reason, View, ViewError};
use crate::cache::{Breadcrumb, PastAwaited, Position, Step};
use crate::model::{Cursor, Key, Sequence};

/// What came of waiting for a key to change.
#[derive(Debug)]
pub enum KeyNext {
    /// It changed: this is how it is now.
    Changed(KeyRead),
    /// It did not; the cursor may have moved on all the same.
    Unchanged {
        /// Where the client stands now.
        cursor: Cursor,
        /// The newest breadcrumb.
        sequence: Sequence,
        /// Why the wait ended.
        reason: Reason,
    },
}

enum Seen {
    Changed,
    Unchanged,
    /// It cannot be told yet.
    Awaited(PastAwaited),
}

impl View {
    /// The key as it is as soon as it was changed after the cursor; values in between may be
    /// skipped. Waits until the deadline, or until `stop` resolves. Cancel-safe.
    ///
    /// # Errors
    /// [`ViewError::Gone`], [`ViewError::Starting`].
    pub async fn key_after(
        &self,
        key: &Key,
        after: Cursor,
        deadline: Instant,
        stop: impl Future<Output = ()>,
    ) -> Result<KeyNext, ViewError> {
        let mut stop = std::pin::pin!(stop);
        let mut at = self.adopt(after);
        let mut upstream = self.watch_upstream();
        loop {
            let mut awaited = None;
            let newest = self.newest()?;
            let now = newest.cursor();
            let another_state = at.revision == now.revision && at.check != now.check;
            if at.history != now.history || another_state {
                return Err(self.gone(at));
            }
            if at.revision < now.revision {
                match self.has_changed(key, at, &newest)? {
                    Seen::Changed => {
                        let entry = newest.kvs().get(key.as_bytes()).cloned();
                        let cursor = Cursor { history: after.history, ..now };
                        return Ok(KeyNext::Changed(KeyRead { entry, cursor, breadcrumb: newest }));
                    }
                    Seen::Unchanged => at = now,
                    Seen::Awaited(past) => awaited = Some(past),
                }
            }
            if at.revision > now.revision && upstream.is_below(at.revision) {
                return Err(self.gone(at));
            }
            let sequence = newest.sequence();
            let mut waiting = match awaited {
                Some(past) => Waiting::ForThePast(newest, Box::new(past)),
                None if at.revision > now.revision => Waiting::ToCatchUp(newest, &mut upstream),
                // The breadcrumb is let go, and those that change other keys wake nobody here.
                None => match self.ahead.interest.register(key, sequence) {
                    Registered::Waiting(registration) => Waiting::ForPrefix(registration),
                    Registered::Not(woken) => Waiting::ForNothing(woken),
                },
            };
            let woken = tokio::select! {
                biased;
                woken = waiting.woken() => woken,
                () = &mut stop => Woken::Over(Reason::ShuttingDown),
                () = tokio::time::sleep_until(deadline) => Woken::Over(Reason::Timeout),
            };
            let reason = match woken {
                Woken::Look => continue,
                Woken::Untouched(before) => {
                    at = furthest(at, before);
                    continue;
                }
                Woken::Over(reason) => reason,
            };
            let moved = waiting.untouched_until().map_or(at, |until| furthest(at, until));
            let cursor = Cursor { history: after.history, ..moved };
            return Ok(KeyNext::Unchanged { cursor, sequence, reason });
        }
    }

    fn has_changed(&self, key: &Key, at: Cursor, newest: &Breadcrumb) -> Result<Seen, ViewError> {
        let key = key.as_bytes();
        let existed_among = |steps: &[Step], within: &Breadcrumb| {
            let missed = |step: &&Step| step.revision > at.revision;
            let first = steps.iter().filter(missed).find(|step| step.entry.key() == key);
            first.map_or_else(|| within.kvs().get(key).is_some(), |step| step.existed)
        };
        let existed = match self.cache.locate(at) {
            Position::At(base) => base.kvs().get(key).is_some(),
            Position::Inside { within } => existed_among(within.steps(), &within),
            Position::Before { within, past } => existed_among(past.steps(), &within),
            Position::Awaited(past) => return Ok(Seen::Awaited(past)),
            Position::Gone | Position::Ahead | Position::OtherHistory => return Err(self.gone(at)),
        };
        let changed = match newest.kvs().get(key) {
            Some(entry) => entry.revision().is_some_and(|set_at| set_at > at.revision),
            None => existed,
        };
        Ok(if changed { Seen::Changed } else { Seen::Unchanged })
    }
}
