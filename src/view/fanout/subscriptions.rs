//! The subscription index: it wakes a waiter only when one of its keys changes.
//!
//! Waiters of one [`KeySelector`] share a *slot*. The first breadcrumb that changes one of the keys touches the slot and
//! removes it from the index; a waiter that waits again gets a new slot. None of the keys changed between the slot's
//! creation and that breadcrumb. So its waiters continue from right before the breadcrumb, however long they waited,
//! even if their own cursor has left the window.
//!
//! Streams of one selector share more than the wake: the breadcrumb that touches their slot is encoded once for all of
//! them before they are woken.
//!
//! A breadcrumb costs one look-up for each of its keys and each *length* of a subscribed prefix.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;
use tokio::sync::Semaphore;

use super::item::MAX_DELTAS;
use crate::cache::{Breadcrumb, Delta};
use crate::model::{Cursor, Key, KeySelector, Sequence};
use crate::view::answer::Draft;
use crate::view::body_cache::EncodedBody;
use crate::view::stream::format_of;
use crate::view::{Answer, Format};
use crate::wire::Values;

/// A breadcrumb that would need more look-ups touches all slots; the waiters then check their keys themselves.
const MAX_LOOKUPS: usize = 100_000;

/// A breadcrumb that touches more slots is not encoded by the fan-out, which would delay all wakes, but by the streams.
const MAX_ENCODED: usize = 1000;

/// The untouched slots.
#[derive(Default)]
pub(in crate::view) struct Subscriptions {
    index: Mutex<Index>,
}

#[derive(Default)]
struct Index {
    /// By prefix, the slots of the selectors that have it. A slot with several prefixes is listed under each of them.
    slots: HashMap<Key, Vec<Arc<Slot>>>,
    /// The number of prefixes by their length in bytes.
    lengths: BTreeMap<usize, usize>,
    /// The last breadcrumb that was delivered to the index.
    delivered: Option<(Sequence, Cursor)>,
    ended: bool,
}

struct Slot {
    keys: KeySelector,
    /// The cursor right before the slot was touched.
    before: OnceLock<Cursor>,
    /// The streams that wait, one element for each format of streams.
    streams: [SlotStreams; Values::ALL.len()],
    /// A semaphore without permits. It is closed when the slot is touched, which wakes all waiters.
    untouched: Semaphore,
}

/// The streams of a slot in one format. Their answer leads from right before the change, so all of them share it.
struct SlotStreams {
    format: Format,
    /// Whether there are any.
    waiting: AtomicBool,
    /// The answer, if it was encoded before the wake.
    answer: OnceLock<Box<Answer>>,
}

/// The reason for which a subscription was refused.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::view) enum NotSubscribed {
    /// The index has delivered breadcrumbs that the caller has not seen.
    Behind,
    /// The cache has stopped.
    Ended,
}

/// A waiter's share of a slot. When the last one is dropped, an untouched slot leaves the index.
pub(in crate::view) struct Subscription {
    subscriptions: Arc<Subscriptions>,
    slot: Arc<Slot>,
}

impl Subscriptions {
    /// A subscription to changes of these keys, for a reader that has seen all breadcrumbs up to and including `seen`.
    /// A `stream` in some format asks for an encoded answer from right before the change, which all streams of these keys
    /// and that format share.
    ///
    /// # Errors
    /// [`NotSubscribed`].
    pub(in crate::view) fn subscribe(
        self: &Arc<Self>,
        keys: &KeySelector,
        seen: Sequence,
        stream: Option<Format>,
    ) -> Result<Subscription, NotSubscribed> {
        let mut index = self.index.lock();
        if index.ended {
            return Err(NotSubscribed::Ended);
        }
        if index.delivered.is_some_and(|(delivered, _)| delivered > seen) {
            return Err(NotSubscribed::Behind);
        }
        let slot = index.slot(keys);
        for streams in slot.streams.iter().filter(|streams| Some(streams.format) == stream) {
            streams.waiting.store(true, Ordering::Relaxed);
        }
        Ok(Subscription { subscriptions: Arc::clone(self), slot })
    }

    /// Touches the slots with a key that the breadcrumb changes. Returns how many bodies were encoded for them: only the
    /// newest breadcrumb is encoded, because readers that are behind get a squash.
    pub(super) fn deliver(&self, breadcrumb: &Breadcrumb, is_newest: bool) -> u64 {
        let (from, now) = (breadcrumb.from(), breadcrumb.cursor());
        let mut index = self.index.lock();
        index.delivered = Some((breadcrumb.sequence(), now));
        if index.slots.is_empty() {
            return 0;
        }
        // A change of status or history concerns every waiter.
        let all = from.status != now.status || from.history != now.history;
        let lookups = breadcrumb.deltas().len().saturating_mul(index.lengths.len());
        let touched = match all || lookups > MAX_LOOKUPS {
            true => index.take_all(),
            false => breadcrumb.deltas().iter().flat_map(|delta| index.take(delta.entry.key())).collect(),
        };
        drop(index);
        let worth_encoding = is_newest
            && touched.len() <= MAX_ENCODED
            && from.history == now.history
            && breadcrumb.deltas().len() <= MAX_DELTAS;
        let mut encoded = 0;
        for slot in touched {
            if worth_encoding {
                encoded += slot.encode(breadcrumb);
            }
            slot.touch(from);
        }
        encoded
    }

    /// Ends all waits.
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
        // Equal selectors are listed under the same first prefix.
        let first = keys.iter().next().and_then(|first| self.slots.get(first));
        if let Some(slot) = first.into_iter().flatten().find(|slot| slot.keys == *keys) {
            return Arc::clone(slot);
        }
        let slot = Arc::new(Slot {
            keys: keys.clone(),
            before: OnceLock::new(),
            streams: Values::ALL.map(|values| SlotStreams {
                format: format_of(values),
                waiting: AtomicBool::new(false),
                answer: OnceLock::new(),
            }),
            untouched: Semaphore::new(0),
        });
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
        first.into_iter().flatten().any(|listed| Arc::ptr_eq(listed, slot))
    }

    fn remove(&mut self, slot: &Arc<Slot>) {
        for prefix in &slot.keys {
            let Some(slots) = self.slots.get_mut(prefix) else { continue };
            slots.retain(|listed| !Arc::ptr_eq(listed, slot));
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

    /// Removes the slots that select this key, and returns them.
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
    /// Encodes the breadcrumb's changes of the keys for the streams that wait. Returns how many bodies that made.
    fn encode(&self, breadcrumb: &Breadcrumb) -> u64 {
        let waiting = || self.streams.iter().filter(|streams| streams.waiting.load(Ordering::Relaxed));
        if waiting().next().is_none() {
            return 0;
        }
        let selected = breadcrumb.deltas().iter().filter(|delta| self.keys.matches(delta.entry.key()));
        let deltas: Vec<Delta> = selected.cloned().collect();
        if deltas.is_empty() && breadcrumb.from().status == breadcrumb.sync_status() {
            return 0;
        }
        let draft = Draft::step(breadcrumb, self.keys.is_all());
        let encode = |streams: &SlotStreams| {
            let body = EncodedBody::plain(draft.encode(streams.format.media, &deltas));
            let answer = draft.answer(body, streams.format);
            u64::from(streams.answer.set(Box::new(answer)).is_ok())
        };
        waiting().map(encode).sum()
    }

    fn touch(&self, before: Cursor) {
        // `take_all` returns a slot with several prefixes several times.
        _ = self.before.set(before);
        self.untouched.close();
    }
}

impl Subscription {
    /// Resolves when one of the keys has changed, to the cursor right before the change; to `None` when the cache has
    /// stopped. Cancel-safe.
    pub(in crate::view) async fn touched(&self) -> Option<Cursor> {
        // There are no permits, so it returns when the semaphore is closed.
        _ = self.slot.untouched.acquire().await;
        self.before()
    }

    /// The cursor right before one of the keys changed; `None` before that.
    pub(in crate::view) fn before(&self) -> Option<Cursor> {
        self.slot.before.get().copied()
    }

    /// The answer for streams in this format, if it was encoded before the wake.
    pub(in crate::view) fn answer(&self, format: Format) -> Option<&Answer> {
        let streams = self.slot.streams.iter().find(|streams| streams.format == format)?;
        streams.answer.get().map(|answer| &**answer)
    }

    /// The newest delivered cursor, if none of the keys has changed.
    pub(in crate::view) fn untouched_until(&self) -> Option<Cursor> {
        let index = self.subscriptions.index.lock();
        index.delivered.filter(|_| index.contains(&self.slot)).map(|(_, cursor)| cursor)
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let mut index = self.subscriptions.index.lock();
        // The index holds one reference for each prefix, and this is one more: there is no other subscription, and none
        // can be added while the index is locked.
        let last = Arc::strong_count(&self.slot) == 1 + self.slot.keys.iter().count();
        if last && index.contains(&self.slot) {
            index.remove(&self.slot);
        }
    }
}

#[cfg(test)]
mod model;
