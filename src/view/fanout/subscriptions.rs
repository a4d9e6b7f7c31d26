//! The subscription index: who waits for which keys. A waiter is woken only by a change of its keys.
//!
//! Waiters of one [`KeySelector`] share a *slot*. It is touched once, by the first breadcrumb that changes one of
//! the keys, and then leaves the index; who waits again makes a new one. So a touched slot says more than "something
//! happened": from when it was made until the breadcrumb that touched it none of the keys changed, and its
//! waiters may go on from right before that breadcrumb, however long they waited and whatever has
//! left the window since.
//!
//! A breadcrumb costs one look-up for each of its keys and each *length* that a waited-for prefix has.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;
use tokio::sync::Semaphore;

use crate::cache::Breadcrumb;
use crate::model::{Cursor, Key, KeySelector, Sequence};

/// A breadcrumb with more look-ups than this touches all slots instead: their waiters look for themselves.
const MAX_LOOKUPS: usize = 100_000;

/// The slots that nothing has touched.
#[derive(Default)]
pub(in crate::view) struct Subscriptions {
    index: Mutex<Index>,
}

#[derive(Default)]
struct Index {
    /// By prefix, the slots of the selectors that have it. One of several prefixes stands under each of them.
    slots: HashMap<Key, Vec<Arc<Slot>>>,
    /// How many prefixes there are by their length in bytes.
    lengths: BTreeMap<usize, usize>,
    /// The last breadcrumb that was looked through.
    seen: Option<(Sequence, Cursor)>,
    ended: bool,
}

struct Slot {
    keys: KeySelector,
    /// Where the state was right before it was touched.
    before: OnceLock<Cursor>,
    /// Nobody gets a permit of it; it is closed when the slot is touched, which all who wait notice.
    untouched: Semaphore,
}

/// Why there is nothing to wait for.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::view) enum NotSubscribed {
    /// Breadcrumbs that the caller has not looked at have gone through the index already.
    NotUpToDate,
    /// No breadcrumb will come any more.
    Ended,
}

/// A waiter's hold on a slot; the last one to let go of an untouched slot takes it from the index.
pub(in crate::view) struct Subscription {
    subscriptions: Arc<Subscriptions>,
    slot: Arc<Slot>,
}

impl Subscriptions {
    /// Waits for a change of these keys from now on, for a reader that has looked at everything up to and with
    /// `looked_at`.
    ///
    /// # Errors
    /// [`NotSubscribed`].
    pub(in crate::view) fn subscribe(
        self: &Arc<Self>,
        keys: &KeySelector,
        looked_at: Sequence,
    ) -> Result<Subscription, NotSubscribed> {
        let mut index = self.index.lock();
        if index.ended {
            return Err(NotSubscribed::Ended);
        }
        if index.seen.is_some_and(|(seen, _)| seen > looked_at) {
            return Err(NotSubscribed::NotUpToDate);
        }
        let slot = index.slot(keys);
        Ok(Subscription { subscriptions: Arc::clone(self), slot })
    }

    /// Touches the slots of everybody whom the breadcrumb concerns.
    pub(super) fn deliver(&self, breadcrumb: &Breadcrumb) {
        let (from, now) = (breadcrumb.from(), breadcrumb.cursor());
        let mut index = self.index.lock();
        index.seen = Some((breadcrumb.sequence(), now));
        if index.slots.is_empty() {
            return;
        }
        // A change of status or history concerns everybody.
        let all = from.status != now.status || from.history != now.history;
        let lookups = breadcrumb.deltas().len().saturating_mul(index.lengths.len());
        let touched = match all || lookups > MAX_LOOKUPS {
            true => index.take_all(),
            false => breadcrumb.deltas().iter().flat_map(|delta| index.take(delta.entry.key())).collect(),
        };
        drop(index);
        touched.into_iter().for_each(|slot| slot.touch(from));
    }

    /// Sends everybody away.
    pub(super) fn end(&self) {
        let mut index = self.index.lock();
        index.ended = true;
        let all = index.take_all();
        drop(index);
        all.into_iter().for_each(|slot| slot.untouched.close());
    }
}

impl Index {
    fn slot(&mut self, keys: &KeySelector) -> Arc<Slot> {
        // Whoever has the same selector stands under the same first prefix.
        let first = keys.iter().next().and_then(|first| self.slots.get(first));
        if let Some(slot) = first.into_iter().flatten().find(|slot| slot.keys == *keys) {
            return Arc::clone(slot);
        }
        let (before, untouched) = (OnceLock::new(), Semaphore::new(0));
        let slot = Arc::new(Slot { keys: keys.clone(), before, untouched });
        for prefix in keys {
            let slots = self.slots.entry(prefix.clone()).or_default();
            if slots.is_empty() {
                *self.lengths.entry(prefix.as_bytes().len()).or_default() += 1;
            }
            slots.push(Arc::clone(&slot));
        }
        slot
    }

    fn contains(&self, slot: &Arc<Slot>) -> bool {
        let first = slot.keys.iter().next().and_then(|first| self.slots.get(first));
        first.into_iter().flatten().any(|there| Arc::ptr_eq(there, slot))
    }

    fn remove(&mut self, slot: &Arc<Slot>) {
        for prefix in &slot.keys {
            let Some(slots) = self.slots.get_mut(prefix) else { continue };
            slots.retain(|there| !Arc::ptr_eq(there, slot));
            if !slots.is_empty() {
                continue;
            }
            self.slots.remove(prefix);
            if let Some(count) = self.lengths.get_mut(&prefix.as_bytes().len()) {
                *count -= 1;
                if *count == 0 {
                    self.lengths.remove(&prefix.as_bytes().len());
                }
            }
        }
    }

    /// Takes out the slots of all who wait for this key.
    fn take(&mut self, key: &[u8]) -> Vec<Arc<Slot>> {
        let lengths = self.lengths.range(..=key.len()).map(|(length, _)| *length);
        let under = lengths.filter_map(|length| self.slots.get(&key[..length])).flatten();
        let touched: Vec<Arc<Slot>> = under.filter(|slot| slot.keys.matches(key)).cloned().collect();
        touched.iter().for_each(|slot| self.remove(slot));
        touched
    }

    fn take_all(&mut self) -> Vec<Arc<Slot>> {
        self.lengths.clear();
        self.slots.drain().flat_map(|(_, slots)| slots).collect()
    }
}

impl Slot {
    fn touch(&self, before: Cursor) {
        // One of several prefixes is found several times when all are touched; the first counts.
        _ = self.before.set(before);
        self.untouched.close();
    }
}

impl Subscription {
    /// Resolves when one of the keys has changed: with the cursor right before that; with nothing when
    /// no breadcrumb will come any more. Cancel-safe.
    pub(in crate::view) async fn touched(&self) -> Option<Cursor> {
        // Closed is how this ends: there are no permits.
        _ = self.slot.untouched.acquire().await;
        self.before()
    }

    /// The cursor right before one of the keys changed, once one has.
    pub(in crate::view) fn before(&self) -> Option<Cursor> {
        self.slot.before.get().copied()
    }

    /// How far the index has looked without finding a change; nothing once it has found one.
    pub(in crate::view) fn untouched_until(&self) -> Option<Cursor> {
        let index = self.subscriptions.index.lock();
        index.seen.filter(|_| index.contains(&self.slot)).map(|(_, cursor)| cursor)
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let mut index = self.subscriptions.index.lock();
        // The index has one for each prefix, and this is one: nobody else waits, and nobody can come while it
        // is locked.
        let last = Arc::strong_count(&self.slot) == 1 + self.slot.keys.iter().count();
        if last && index.contains(&self.slot) {
            index.remove(&self.slot);
        }
    }
}

#[cfg(test)]
mod model;
