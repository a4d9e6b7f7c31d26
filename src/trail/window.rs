//! The window: the newest entries, and the lookup of an index among them.
//!
//! The window lets a client that was away for a moment continue from its cursor. Each entry is a state, numbered by an
//! `index` that grows from entry to entry (several may share one). An entry contains changes from its `first_index` on.
//! The indexes between its predecessor's `index` and its own `first_index` changed nothing, so a client at one of them
//! has the predecessor's state.
//!
//! ```text
//! entry            A              B                        C
//! index            10             13                       20
//! first_index      ..             12                       15
//!                  |              |                        |
//! lookup    9      10     11      12       13     14       15 … 19            20     21
//! result    Gone   At A   At A    Inside B At B   At B     Inside C           At C   Ahead
//! ```
//!
//! Three limits bound the window: a count, a number of bytes, and an age. The newest entry always stays.
//!
//! An entry weighs the bytes that it holds alone. It also weighs the bytes that it `replaced`, as long as its predecessor,
//! which holds them, is in the window.
//!
//! The age of an entry counts **from when it was superseded**, not from when it was made. A state that was current for an
//! hour and was superseded a second ago is the state of every client that is up to date, so it must stay.
//!
//! A window returns evicted entries rather than dropping them, because dropping a state may take long and need not be
//! done by the task that pushes. It is a plain value without a lock.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// The limits of a window. The newest entry stays even if it alone exceeds a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WindowLimits {
    /// The most entries.
    pub max_count: usize,
    /// The most bytes that the entries may weigh together.
    pub max_bytes: usize,
    /// The longest time that an entry stays after it was superseded.
    pub max_age: Duration,
}

/// One item in a window, with its indexes, weight and time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct WindowEntry<T> {
    /// The index of the state after this item.
    pub(crate) index: u64,
    /// The lowest index at which this item changed something. A value above `index` counts as `index`.
    pub(crate) first_index: u64,
    /// The bytes that this item holds.
    pub(crate) bytes: usize,
    /// The bytes that this item replaced. They weigh as long as the item before this one, which holds them, is in the
    /// window.
    pub(crate) replaced: usize,
    /// The time at which the item was made, and the one before it superseded.
    pub(crate) at: Instant,
    /// The item.
    pub(crate) item: T,
}

/// The newest entries, oldest first.
#[derive(Debug)]
pub(crate) struct Window<T> {
    limits: WindowLimits,
    /// Non-decreasing by `index`, so that `find` can be a binary search.
    entries: VecDeque<WindowEntry<T>>,
    /// The sum of `bytes` over the entries, and of `replaced` over all but the oldest.
    bytes: usize,
}

/// The place of an index in a [`Window`].
#[derive(Debug)]
pub(crate) enum Lookup<'w, T> {
    /// The index is newer than the newest entry.
    Ahead,
    /// The index is older than the oldest entry, or the window is empty.
    Gone,
    /// The index has exactly this entry's state.
    At(&'w WindowEntry<T>),
    /// The index lies strictly inside the changes of this entry.
    Inside(&'w WindowEntry<T>),
}

impl<T> Window<T> {
    /// An empty window.
    pub(crate) fn new(limits: WindowLimits) -> Self {
        Self { limits, entries: VecDeque::new(), bytes: 0 }
    }

    /// Adds the newest entry. Returns the evicted items, oldest first.
    ///
    /// An index below the newest one's begins another history, so all older entries are evicted. Of entries with the same
    /// index [`find`](Self::find) returns the last one.
    #[must_use = "the caller drops the evicted items, which may take long"]
    pub(crate) fn push(&mut self, entry: WindowEntry<T>) -> Vec<T> {
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

    /// Adds bytes to the newest entry that matches. Returns the evicted items, oldest first. That may include the entry
    /// itself, but never the newest one.
    #[must_use = "the caller drops the evicted items, which may take long"]
    pub(crate) fn grow(&mut self, matches: impl Fn(&T) -> bool, bytes: usize) -> Vec<T> {
        let Some(entry) = self.entries.iter_mut().rfind(|entry| matches(&entry.item)) else {
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

    /// Removes the entries that exceed the age limit at `now`. Returns their items, oldest first.
    fn expire(&mut self, now: Instant) -> Vec<T> {
        let mut evicted = Vec::new();
        while let Some(successor) = self.entries.get(1) {
            if now.saturating_duration_since(successor.at) <= self.limits.max_age {
                break;
            }
            evicted.extend(self.evict_oldest());
        }
        evicted
    }

    /// Removes all entries, also the newest. Returns their items, oldest first.
    #[must_use = "the caller drops the evicted items, which may take long"]
    pub(crate) fn clear(&mut self) -> Vec<T> {
        self.bytes = 0;
        self.entries.drain(..).map(|entry| entry.item).collect()
    }

    /// Finds the place of an index, in logarithmic time.
    pub(crate) fn find(&self, index: u64) -> Lookup<'_, T> {
        match self.newest() {
            None => return Lookup::Gone,
            Some(newest) if index > newest.index => return Lookup::Ahead,
            Some(_) => {}
        }
        let after = self.entries.partition_point(|entry| entry.index <= index);
        let Some(before) = after.checked_sub(1).and_then(|at| self.entries.get(at)) else {
            return Lookup::Gone;
        };
        match self.entries.get(after) {
            Some(within) if within.first_index <= index => Lookup::Inside(within),
            Some(_) | None => Lookup::At(before),
        }
    }

    /// The newest entry.
    pub(crate) fn newest(&self) -> Option<&WindowEntry<T>> {
        self.entries.back()
    }

    /// The oldest entry.
    pub(crate) fn oldest(&self) -> Option<&WindowEntry<T>> {
        self.entries.front()
    }

    /// An old entry that is not about to leave: a sixteenth of the entries are older, and those after it hold at most
    /// `max_bytes`.
    pub(crate) fn early(&self, max_bytes: usize) -> Option<&WindowEntry<T>> {
        let (oldest, mut bytes) = (self.entries.len() / 16, 0_usize);
        let mut early = self.entries.len().checked_sub(1)?;
        while early > oldest {
            bytes = bytes.saturating_add(self.entries.get(early)?.bytes);
            if bytes > max_bytes {
                break;
            }
            early -= 1;
        }
        self.entries.get(early)
    }

    /// The number of entries.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// The bytes that the entries weigh.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The limits of the window.
    pub(crate) fn limits(&self) -> WindowLimits {
        self.limits
    }

    /// Whether one more entry fits within the count and bytes.
    fn has_room_for(&self, entry: &WindowEntry<T>) -> bool {
        let sum = self.bytes.checked_add(entry.bytes).and_then(|sum| sum.checked_add(entry.replaced));
        self.entries.len() < self.limits.max_count && sum.is_some_and(|sum| sum <= self.limits.max_bytes)
    }

    fn evict_oldest(&mut self) -> Option<T> {
        let entry = self.entries.pop_front()?;
        self.bytes -= entry.bytes + self.entries.front().map_or(0, |oldest| oldest.replaced);
        Some(entry.item)
    }
}

#[cfg(test)]
mod tests;
