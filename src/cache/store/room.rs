//! The room of a collection: the most keys and bytes of its state.
//!
//! An update of a feed that does not fit is refused like a value that is too large: its key is absent, counted and named.
//! But the reason may pass. So the store notices when the state becomes smaller than it was at such a refusal, and asks the
//! feed to read everything again ([`CacheStats::reread_wanted`](crate::cache::CacheStats::reread_wanted)).
//!
//! What is kept already comes first. A change of a kept key only has to fit by its growth. In a resync, keys of the state
//! before it that were not read yet keep their room, so reading the same upstream again gives the same state.
//!
//! Within one upstream revision the order says nothing: deletions are applied before what grows. A write of a client is
//! refused as a whole if the state after it would be over the limit and larger than before.

use std::collections::{HashMap, HashSet};

use tracing::{info, warn};

use super::Store;
use crate::cache::resync::Resync;
use crate::cache::{CacheConfig, Snapshot};
use crate::model::{Change, Entry, Key, Refusal, StateLimit, Update};

/// The store's part of it.
pub(super) struct Room {
    max_keys: usize,
    max_bytes: u64,
    is_limited: bool,
    /// Whether the updates that are being applied are known to fit.
    is_checked: bool,
    /// The largest sizes of the state at which something was refused, since everything was last read.
    refused_at: Size,
    /// Whether the state has become smaller since.
    has_room_again: bool,
    /// Whether the state may lack keys that an earlier process, or a resync that was given up, has refused.
    may_lack_more: bool,
    /// Whether the log says that keys are refused.
    is_logged: bool,
}

/// The size of a state.
#[derive(Clone, Copy, Default)]
struct Size {
    keys: usize,
    bytes: u64,
}

/// The keys of the state before a resync that were not read yet.
#[derive(Default)]
pub(in crate::cache) struct Unread {
    size: Size,
    /// The others, by the addresses of their entries.
    read: HashSet<usize>,
}

impl Room {
    pub(super) fn new(config: &CacheConfig) -> Self {
        Self {
            max_keys: config.max_keys.unwrap_or(usize::MAX),
            max_bytes: config.max_bytes.unwrap_or(u64::MAX),
            is_limited: config.max_keys.is_some() || config.max_bytes.is_some(),
            is_checked: false,
            refused_at: Size::default(),
            has_room_again: false,
            may_lack_more: false,
            is_logged: false,
        }
    }

    fn keys_limit(&self) -> StateLimit {
        StateLimit::Keys(self.max_keys as u64)
    }

    fn bytes_limit(&self) -> StateLimit {
        StateLimit::Bytes(self.max_bytes)
    }
}

impl Unread {
    /// Everything in this state.
    pub(in crate::cache) fn all_of(before: &Snapshot) -> Self {
        let size = Size { keys: before.len(), bytes: before.payload_bytes() };
        Self { size, read: HashSet::new() }
    }

    fn has_read(&mut self, entry: &Entry) {
        if self.read.insert(entry.address()) {
            self.size.keys -= 1;
            self.size.bytes -= entry.payload_bytes() as u64;
        }
    }
}

impl Store {
    /// The size of the state, with what a resync has yet to read again.
    fn size(&self) -> Size {
        let unread = self.resyncs.last().map_or(Size::default(), |resync| resync.unread.size);
        Size { keys: self.state.len() + unread.keys, bytes: self.state.payload_bytes() + unread.bytes }
    }

    /// Whether the state may lack keys for want of room.
    fn lacks_keys(&self) -> bool {
        self.room.may_lack_more || StateLimit::FLAGS.iter().any(|flag| self.refused.lacks_room(flag))
    }

    /// The room is limited, and the state was restored: what an earlier process refused is not known.
    pub(in crate::cache) fn may_lack_keys_of_before(&mut self) {
        self.room.may_lack_more = self.room.is_limited;
    }

    /// Notes in a resync that a key was read: its room is no longer held for it.
    pub(super) fn note_read(&mut self, key: &[u8]) {
        if !self.room.is_limited {
            return;
        }
        if let Some(resync) = self.resyncs.last_mut().filter(|resync| !resync.reload)
            && let Some(before) = resync.before.get(key)
        {
            resync.unread.has_read(before);
        }
    }

    /// Whether there is room for an update.
    pub(super) fn check_room(&mut self, update: &Update) -> Result<(), Refusal> {
        let Change::Put(entry) = &update.change else { return Ok(()) };
        if !self.room.is_limited || self.room.is_checked {
            return Ok(());
        }
        let key = entry.key();
        let (size, old) = (self.size(), self.state.get(key).map(Entry::payload_bytes));
        let (new, old_bytes) = (entry.payload_bytes() as u64, old.unwrap_or(0) as u64);
        let limits = self.limits();
        let limit = if old.is_none() && size.keys >= limits.keys {
            self.room.keys_limit()
        } else if new > old_bytes && size.bytes - old_bytes + new > limits.bytes {
            self.room.bytes_limit()
        } else {
            return Ok(());
        };
        let refused_at = &mut self.room.refused_at;
        refused_at.keys = refused_at.keys.max(size.keys);
        refused_at.bytes = refused_at.bytes.max(size.bytes);
        Err(Refusal::NoRoom { key: Key::shortened(key), limit })
    }

    /// How much room there is. While a log is read from its start, which is nothing that is served, twice as much: keys that
    /// it deletes later take room for a while.
    fn limits(&self) -> Size {
        let times = if self.resyncs.first().is_some_and(Resync::is_of_log) { 2 } else { 1 };
        let Room { max_keys, max_bytes, .. } = self.room;
        Size { keys: max_keys.saturating_mul(times), bytes: max_bytes.saturating_mul(times as u64) }
    }

    /// Refuses what is over the limit after a log was read from its start: the last keys in key order.
    pub(super) fn trim_to_room(&mut self) {
        if !self.room.is_limited {
            return;
        }
        let mut state = self.state.clone();
        for (entry, limit) in state.remove_over_room(self.room.max_keys, self.room.max_bytes) {
            let refusal = Refusal::NoRoom { key: Key::shortened(entry.key()), limit };
            self.stats.refused.inc();
            self.record_refused(entry.key(), &refusal, entry.revision());
        }
        self.state = state;
        // What has no room now has none when the log is read once more.
        self.room.refused_at = self.size();
    }

    /// Whether all these updates fit, however they are ordered, without looking at what they replace.
    fn all_fit(&self, updates: &[Update]) -> bool {
        let entries = || {
            updates.iter().filter_map(|update| match &update.change {
                Change::Put(entry) => Some(entry),
                _ => None,
            })
        };
        let size = self.size();
        let bytes: u64 = entries().map(|entry| entry.payload_bytes() as u64).sum();
        size.keys + entries().count() <= self.room.max_keys && size.bytes + bytes <= self.room.max_bytes
    }

    /// Whether there is room for a write, which is applied as a whole or not at all. If it `replaces` the state, only its own
    /// keys are there afterwards.
    pub(super) fn check_room_for_write(&self, updates: &[Update], replaces: bool) -> Result<(), Refusal> {
        if !self.room.is_limited || (!replaces && self.all_fit(updates)) {
            return Ok(());
        }
        let mut last: HashMap<&[u8], Option<&Entry>> = HashMap::new();
        for update in updates {
            let entry = match &update.change {
                Change::Put(entry) => Some(entry),
                Change::Delete(_) | Change::Unreadable(..) => None,
            };
            last.insert(update.change.key(), entry);
        }
        let before = Size { keys: self.state.len(), bytes: self.state.payload_bytes() };
        let mut after = if replaces { Size::default() } else { before };
        let bytes = |entry: &Entry| entry.payload_bytes() as u64;
        for (key, entry) in &last {
            if let Some(old) = self.state.get(key).filter(|_| !replaces) {
                after = Size { keys: after.keys - 1, bytes: after.bytes - bytes(old) };
            }
            if let Some(entry) = entry {
                after = Size { keys: after.keys + 1, bytes: after.bytes + bytes(entry) };
            }
        }
        let limit = if after.keys > self.room.max_keys && after.keys > before.keys {
            self.room.keys_limit()
        } else if after.bytes > self.room.max_bytes && after.bytes > before.bytes {
            self.room.bytes_limit()
        } else {
            return Ok(());
        };
        // The first one that makes it larger.
        let grows = |entry: &Entry| self.state.get(entry.key()).is_none_or(|old| bytes(old) < bytes(entry));
        let entries = updates.iter().filter_map(|update| last.get(update.change.key()).copied().flatten());
        let key = entries.into_iter().find(|entry| grows(entry)).map_or(&b""[..], Entry::key);
        Err(Refusal::NoRoom { key: Key::shortened(key), limit })
    }

    /// Applies updates that are known to fit.
    pub(super) fn knowing_that_it_fits<T>(&mut self, apply: impl FnOnce(&mut Self) -> T) -> T {
        self.room.is_checked = true;
        let applied = apply(self);
        self.room.is_checked = false;
        applied
    }

    /// Whether the order of updates within a revision matters for the room.
    pub(super) fn is_room_limited(&self) -> bool {
        self.room.is_limited
    }

    /// The updates of one revision, with those first that make room.
    pub(super) fn in_order_of_room(&self, updates: Vec<Update>) -> Vec<Update> {
        let is_sure = !self.room.is_limited || self.room.is_checked;
        if is_sure || updates.len() < 2 || self.all_fit(&updates) {
            return updates;
        }
        let mut grow: HashMap<Key, bool> = HashMap::new();
        for update in &updates {
            let old = self.state.get(update.change.key()).map(Entry::payload_bytes);
            let grows = match &update.change {
                Change::Put(entry) => {
                    self.check_update(update).is_ok() && old.is_none_or(|old| old < entry.payload_bytes())
                }
                Change::Delete(_) | Change::Unreadable(..) => false,
            };
            grow.insert(Key::copy_from(update.change.key()), grows);
        }
        let grows = |update: &Update| grow.get(update.change.key()).copied().unwrap_or(true);
        let (growing, mut ordered): (Vec<Update>, Vec<Update>) = updates.into_iter().partition(grows);
        ordered.extend(growing);
        ordered
    }

    /// Begins to read everything again. Returns what is not read yet, and whether keys are lacking.
    pub(super) fn begin_reading_for_room(&mut self, is_reload: bool) -> (Unread, bool) {
        let lacks_keys = self.lacks_keys();
        (self.room.refused_at, self.room.has_room_again) = (Size::default(), false);
        self.publish_room();
        let holds_room = self.room.is_limited && !is_reload;
        (if holds_room { Unread::all_of(&self.state) } else { Unread::default() }, lacks_keys)
    }

    /// Everything was read. What was refused meanwhile is all that is lacking.
    pub(super) fn end_reading_for_room(&mut self) {
        self.room.may_lack_more = false;
    }

    /// A reading was given up, before which keys may have been lacking.
    pub(super) fn give_up_reading_for_room(&mut self, lacked_keys: bool) {
        self.room.may_lack_more |= lacked_keys;
    }

    /// Notices whether there is room again, after a batch outside of a resync.
    pub(super) fn look_for_room(&mut self) {
        if !self.room.is_limited || !self.resyncs.is_empty() {
            return;
        }
        let (size, full) = (self.size(), self.room.refused_at);
        let lacks = |limit: StateLimit| self.refused.lacks_room(limit.flag());
        let has_room = lacks(self.room.keys_limit()) && size.keys < full.keys
            || lacks(self.room.bytes_limit()) && size.bytes < full.bytes
            || self.room.may_lack_more;
        self.room.has_room_again = (self.room.has_room_again || has_room) && self.lacks_keys();
        self.publish_room();
        self.log_room();
    }

    fn publish_room(&self) {
        let wanted = self.room.has_room_again;
        self.stats.reread_wanted.send_if_modified(|before| std::mem::replace(before, wanted) != wanted);
    }

    /// Logs the begin and the end of a time in which keys are refused for want of room.
    fn log_room(&mut self) {
        let flags: Vec<&str> = self.refused.lacking_room().collect();
        if flags.is_empty() != self.room.is_logged {
            return;
        }
        self.room.is_logged = !flags.is_empty();
        let (keys, bytes) = (self.state.len(), self.state.payload_bytes());
        match self.room.is_logged {
            true => warn!(
                keys,
                bytes,
                "the upstream has more than --{} allows: what does not fit is refused, and absent here",
                flags.join(" and --")
            ),
            false => info!(
                keys,
                bytes, "the upstream is within the limits again: nothing is refused for want of room"
            ),
        }
    }
}
