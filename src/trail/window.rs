//! The window: the newest entries, kept on purpose, and the place in them that belongs to an index.
//!
//! A window is what lets a client that went away for a moment carry on where it was. Each entry is
//! a state, numbered by an `index` that grows from entry to entry (several may share one). An entry
//! also says from which index on it contains changes, its `first_index`; the indexes between its
//! predecessor's `index` and its own `first_index` changed nothing, so a client that names one of
//! them stands at the predecessor.
//!
//! ```text
//! entry            A              B                        C
//! index            10             13                       20
//! first_index      ..             12                       15
//!                  |              |                        |
//! asked     9      10     11      12       13     14       15 … 19            20     21
//! found     Gone   At A   At A    Inside   At B   At B     Inside B‥C         At C   Ahead
//!                                 A‥B
//! ```
//!
//! Three limits bound what is kept: a count, a number of bytes, and an age. An item weighs what it holds alone, for as long
//! as it is kept, and what it has `replaced`: that is held by the item before it, and weighs while that one is kept. The newest entry stays
//! whatever they say. The age of an entry is counted **from when it was superseded**, not from when
//! it was made: a state that stood for an hour and was replaced a second ago is where every client
//! stands that is up to date, and must not be gone at that moment.
//!
//! A window never drops an entry itself but hands it out, since to drop a state may take long and
//! need not be done by the task that pushes. It is a plain value with no lock; the owner decides
//! who may see it.

use std::collections::VecDeque;
use std::collections::vec_deque;
use std::time::{Duration, Instant};

/// How much a [`Window`] keeps. The newest entry is kept even where it alone is over a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The number of entries.
    pub max_count: usize,
    /// What the entries may weigh together.
    pub max_bytes: usize,
    /// How long an entry stays once it is no longer the newest.
    pub max_age: Duration,
}

/// One kept item and what the window needs to know of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry<T> {
    /// The number of the state after this item.
    pub index: u64,
    /// The lowest index at which this item changed something. One above `index` counts as `index`.
    pub first_index: u64,
    /// What the item weighs against [`Limits::max_bytes`] as long as it is kept.
    pub bytes: usize,
    /// What the item has replaced: it weighs as long as the item before this one is kept, which holds it.
    pub replaced: usize,
    /// When the item was made, which is when the one before it was superseded.
    pub at: Instant,
    /// The item.
    pub item: T,
}

/// The newest entries, oldest first.
#[derive(Debug)]
pub struct Window<T> {
    limits: Limits,
    /// Non-decreasing by `index`, which is what makes `find` a binary search.
    entries: VecDeque<Entry<T>>,
    /// The sum of `bytes` over the entries, and of `replaced` over all but the oldest.
    bytes: usize,
}

/// Where an index lies in a [`Window`]. It borrows the window, so a position cannot outlive the
/// entry it points to.
#[derive(Debug)]
pub enum Found<'w, T> {
    /// Newer than everything there is.
    Ahead,
    /// Older than the oldest entry that is kept, or nothing is kept: what changed since is unknown.
    Gone,
    /// The state at the index is exactly this entry's.
    At(Position<'w, T>),
    /// The index lies strictly inside what one entry changed at once.
    Inside {
        /// The newest entry whose state is wholly at or below the index.
        before: Position<'w, T>,
        /// Its successor, of which the index covers a part.
        within: Position<'w, T>,
    },
}

/// An entry of a [`Window`] and its place, from which the later ones can be walked.
#[derive(Debug)]
pub struct Position<'w, T> {
    window: &'w Window<T>,
    /// Below `window.entries.len()`.
    offset: usize,
    entry: &'w Entry<T>,
}

impl<T> Window<T> {
    /// An empty window.
    pub fn new(limits: Limits) -> Self {
        Self { limits, entries: VecDeque::new(), bytes: 0 }
    }

    /// Adds the newest entry, and returns what it pushed out, oldest first.
    ///
    /// An index below the newest one's starts a history anew: nothing that was kept says anything
    /// about it, so all of that is pushed out. Among entries with the same index the last one is
    /// found.
    #[must_use = "drop what was evicted where it may take long"]
    pub fn push(&mut self, entry: Entry<T>) -> Vec<T> {
        let mut evicted = Vec::new();
        if self.newest().is_some_and(|newest| entry.index < newest.index) {
            evicted = self.clear();
        }
        while !self.entries.is_empty() && !self.has_room_for(&entry) {
            evicted.extend(self.evict_oldest());
        }
        // Cannot overflow: either the window is empty and the sum 0, or there is room.
        self.bytes += entry.bytes + if self.entries.is_empty() { 0 } else { entry.replaced };
        let now = entry.at;
        self.entries.push_back(entry);
        evicted.append(&mut self.expire(now));
        evicted
    }

    /// The newest entry whose item is the one meant weighs so much more from now on. Returns what that pushed out, oldest
    /// first, perhaps the entry itself, but never the newest one.
    #[must_use = "drop what was evicted where it may take long"]
    pub fn grow(&mut self, is_meant: impl Fn(&T) -> bool, bytes: usize) -> Vec<T> {
        let Some(entry) = self.entries.iter_mut().rfind(|entry| is_meant(&entry.item)) else {
            return Vec::new();
        };
        let bytes = bytes.min(usize::MAX - self.bytes.max(entry.bytes));
        entry.bytes += bytes;
        self.bytes += bytes;
        let mut evicted = Vec::new();
        while self.entries.len() > 1 && self.bytes > self.limits.max_bytes {
            evicted.extend(self.evict_oldest());
        }
        evicted
    }

    /// Removes what is over the age limit at `now`, and returns it, oldest first.
    #[must_use = "drop what was evicted where it may take long"]
    pub fn expire(&mut self, now: Instant) -> Vec<T> {
        let mut evicted = Vec::new();
        while let Some(successor) = self.entries.get(1) {
            if now.saturating_duration_since(successor.at) <= self.limits.max_age {
                break;
            }
            evicted.extend(self.evict_oldest());
        }
        evicted
    }

    /// Removes everything, the newest entry too, and returns it, oldest first.
    #[must_use = "drop what was evicted where it may take long"]
    pub fn clear(&mut self) -> Vec<T> {
        self.bytes = 0;
        self.entries.drain(..).map(|entry| entry.item).collect()
    }

    /// Finds where `index` lies, in logarithmic time.
    pub fn find(&self, index: u64) -> Found<'_, T> {
        match self.newest() {
            None => return Found::Gone,
            Some(newest) if index > newest.index => return Found::Ahead,
            Some(_) => {}
        }
        let after = self.entries.partition_point(|entry| entry.index <= index);
        let Some(before) = after.checked_sub(1).and_then(|at| self.position(at)) else {
            return Found::Gone;
        };
        match self.position(after) {
            Some(within) if within.entry.first_index <= index => Found::Inside { before, within },
            Some(_) | None => Found::At(before),
        }
    }

    /// The entries after a position of this window, oldest first.
    pub fn iter_after<'w>(&'w self, position: Position<'w, T>) -> vec_deque::Iter<'w, Entry<T>> {
        debug_assert!(std::ptr::eq(self, position.window), "another window's position");
        position.after()
    }

    /// The newest entry.
    pub fn newest(&self) -> Option<&Entry<T>> {
        self.entries.back()
    }

    /// The oldest entry.
    pub fn oldest(&self) -> Option<&Entry<T>> {
        self.entries.front()
    }

    /// The number of entries.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether nothing is kept.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// What the entries weigh.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The limits it was made with.
    pub fn limits(&self) -> Limits {
        self.limits
    }

    fn position(&self, offset: usize) -> Option<Position<'_, T>> {
        Some(Position { window: self, offset, entry: self.entries.get(offset)? })
    }

    /// Whether one more entry, after others, keeps the window within its count and bytes.
    fn has_room_for(&self, entry: &Entry<T>) -> bool {
        let sum = self.bytes.checked_add(entry.bytes).and_then(|sum| sum.checked_add(entry.replaced));
        self.entries.len() < self.limits.max_count && sum.is_some_and(|sum| sum <= self.limits.max_bytes)
    }

    fn evict_oldest(&mut self) -> Option<T> {
        let entry = self.entries.pop_front()?;
        self.bytes -= entry.bytes + self.entries.front().map_or(0, |oldest| oldest.replaced);
        Some(entry.item)
    }
}

impl<'w, T> Position<'w, T> {
    /// The entry at this place.
    pub fn entry(self) -> &'w Entry<T> {
        self.entry
    }

    /// The entries after this one, oldest first.
    pub fn after(self) -> vec_deque::Iter<'w, Entry<T>> {
        self.window.entries.range(self.offset + 1..)
    }
}

impl<T> Clone for Position<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Position<'_, T> {}

#[cfg(test)]
mod tests;
