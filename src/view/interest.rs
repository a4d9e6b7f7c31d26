//! Who waits for which prefix: a waiter whose prefix is not touched is not woken.
//!
//! Waiters of one prefix share a *slot*, which is touched once: by the first breadcrumb that changes
//! a key under the prefix. It then leaves the index, and who waits again makes a new one. So a slot
//! says more than "something happened": from when it was made until the breadcrumb that touched it
//! nothing under the prefix changed, and its waiters may go on from right before that breadcrumb,
//! however long they waited and whatever has left the window since.
//!
//! A breadcrumb costs one look-up for each of its keys and each *length* that a waited-for prefix has.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;
use tokio::sync::Semaphore;

use super::Reason;
use super::waiting::Woken;
use crate::cache::Breadcrumb;
use crate::model::{Cursor, Key, Sequence};

/// A breadcrumb with more look-ups than this touches all slots instead: their waiters look for themselves.
const MAX_LOOKUPS: usize = 100_000;

/// The slots that nothing has touched.
#[derive(Default)]
pub(super) struct Interest {
    index: Mutex<Index>,
}

#[derive(Default)]
struct Index {
    slots: HashMap<Key, Arc<Slot>>,
    /// How many slots there are by the length of their prefix, in bytes.
    lengths: BTreeMap<usize, usize>,
    /// The last breadcrumb that was looked through.
    seen: Option<(Sequence, Cursor)>,
    ended: bool,
}

struct Slot {
    prefix: Key,
    /// Where the state was right before it was touched.
    before: OnceLock<Cursor>,
    /// Nobody gets a permit of it; it is closed when the slot is touched, which all who wait notice.
    untouched: Semaphore,
}

/// What came of asking for a slot.
pub(super) enum Registered {
    /// Nothing under the prefix has changed since the breadcrumb that the caller has looked at.
    Waiting(Registration),
    /// There is nothing to wait for: breadcrumbs that the caller has not looked at have gone through
    /// the index already, or none will come any more.
    Not(Woken),
}

/// A waiter's hold on a slot; the last one to let go of an untouched slot takes it from the index.
pub(super) struct Registration {
    interest: Arc<Interest>,
    slot: Arc<Slot>,
}

impl Interest {
    /// For a waiter that has looked at everything up to and with `looked_at`.
    pub(super) fn register(self: &Arc<Self>, prefix: &Key, looked_at: Sequence) -> Registered {
        let mut index = self.index.lock();
        if index.ended {
            return Registered::Not(Woken::Over(Reason::ShuttingDown));
        }
        if index.seen.is_some_and(|(seen, _)| seen > looked_at) {
            return Registered::Not(Woken::Look);
        }
        let slot = index.slot(prefix);
        Registered::Waiting(Registration { interest: Arc::clone(self), slot })
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
    fn slot(&mut self, prefix: &Key) -> Arc<Slot> {
        if let Some(slot) = self.slots.get(prefix) {
            return Arc::clone(slot);
        }
        let (before, untouched) = (OnceLock::new(), Semaphore::new(0));
        let slot = Arc::new(Slot { prefix: prefix.clone(), before, untouched });
        self.slots.insert(prefix.clone(), Arc::clone(&slot));
        *self.lengths.entry(prefix.as_bytes().len()).or_default() += 1;
        slot
    }

    fn remove(&mut self, prefix: &[u8]) -> Option<Arc<Slot>> {
        let slot = self.slots.remove(prefix)?;
        if let Some(count) = self.lengths.get_mut(&prefix.len()) {
            *count -= 1;
            if *count == 0 {
                self.lengths.remove(&prefix.len());
            }
        }
        Some(slot)
    }

    /// The slots of all prefixes of a key.
    fn take(&mut self, key: &[u8]) -> Vec<Arc<Slot>> {
        let there = |length: &usize| self.slots.contains_key(&key[..*length]);
        let lengths: Vec<usize> = self.lengths.range(..=key.len()).map(|(at, _)| *at).filter(there).collect();
        lengths.into_iter().filter_map(|length| self.remove(&key[..length])).collect()
    }

    fn take_all(&mut self) -> Vec<Arc<Slot>> {
        self.lengths.clear();
        self.slots.drain().map(|(_, slot)| slot).collect()
    }
}

impl Slot {
    fn touch(&self, before: Cursor) {
        // It was taken from the index, which happens once.
        _ = self.before.set(before);
        self.untouched.close();
    }
}

impl Registration {
    /// Resolves when a key under the prefix has changed: with the cursor right before that; with
    /// nothing when no breadcrumb will come any more. Cancel-safe.
    pub(super) async fn touched(&self) -> Option<Cursor> {
        // Closed is how this ends: there are no permits.
        _ = self.slot.untouched.acquire().await;
        self.before()
    }

    /// The cursor right before a key under the prefix has changed, once one has.
    pub(super) fn before(&self) -> Option<Cursor> {
        self.slot.before.get().copied()
    }

    /// How far the index has looked without finding a change; nothing once it has found one.
    pub(super) fn untouched_until(&self) -> Option<Cursor> {
        let index = self.interest.index.lock();
        let there = index.slots.get(&self.slot.prefix).is_some_and(|slot| Arc::ptr_eq(slot, &self.slot));
        index.seen.filter(|_| there).map(|(_, cursor)| cursor)
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        let mut index = self.interest.index.lock();
        // The index's own and this one: nobody else waits, and nobody can come while it is locked.
        let last = Arc::strong_count(&self.slot) == 2;
        let there = index.slots.get(&self.slot.prefix).is_some_and(|slot| Arc::ptr_eq(slot, &self.slot));
        if last && there {
            index.remove(self.slot.prefix.as_bytes());
        }
    }
}

#[cfg(test)]
mod model;
