//! The whole state at one revision.

use super::table::Table;
use super::{CacheConfig, RefusedKeys};
use crate::model::{Digest, Entry, EntryLimits, History, Key, ReadEntries, Refusal, Revision, StateLimit};

/// The whole state at one revision. A clone is O(1) and never changes afterwards.
#[derive(Clone)]
pub struct Snapshot {
    pub(super) table: Table,
    pub(super) digest: Digest,
    pub(super) payload_bytes: u64,
    pub(super) revision: Revision,
    pub(super) history: History,
}

impl ReadEntries for Snapshot {
    fn revision(&self) -> Revision {
        self.revision
    }

    fn entry(&self, key: &[u8]) -> Option<Entry> {
        self.get(key).cloned()
    }

    fn select(&self, wanted: &dyn Fn(&[u8]) -> bool) -> Vec<Entry> {
        let mut selected: Vec<Entry> = self.iter().filter(|entry| wanted(entry.key())).cloned().collect();
        selected.sort_unstable_by(|one, other| one.key().cmp(other.key()));
        selected
    }
}

impl Snapshot {
    pub(super) fn empty(history: History) -> Self {
        Self {
            table: Table::new(),
            digest: Digest::default(),
            payload_bytes: 0,
            revision: Revision::ZERO,
            history,
        }
    }

    /// The entry of a key.
    pub fn get(&self, key: &[u8]) -> Option<&Entry> {
        self.table.get(key)
    }

    /// Number of keys.
    pub fn len(&self) -> usize {
        self.table.len()
    }

    /// Whether there is no key.
    pub fn is_empty(&self) -> bool {
        self.table.len() == 0
    }

    /// All entries, in no order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Entry> {
        self.table.iter()
    }

    /// The digest of the state.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// The bytes of all keys and values.
    pub fn payload_bytes(&self) -> u64 {
        self.payload_bytes
    }

    /// The revision of the state.
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// The history that the revision belongs to.
    pub fn history(&self) -> History {
        self.history
    }

    /// The same state in another history.
    pub(crate) fn in_history(self, history: History) -> Self {
        Self { history, ..self }
    }

    /// Removes the entries that exceed the limits, and those for which there is no room. Returns their keys.
    pub(super) fn remove_over_limits(&mut self, config: &CacheConfig) -> RefusedKeys {
        let mut refused = RefusedKeys::default();
        self.remove_too_large(config.entry_limits(), &mut refused);
        let max_keys = config.max_keys.unwrap_or(usize::MAX);
        let max_bytes = config.max_bytes.unwrap_or(u64::MAX);
        for (entry, limit) in self.remove_over_room(max_keys, max_bytes) {
            let refusal = Refusal::NoRoom { key: Key::shortened(entry.key()), limit };
            let reason = refusal.reason().unwrap_or_default();
            refused.add(entry.key(), &reason, entry.revision().unwrap_or(self.revision), Some(limit));
        }
        refused
    }

    /// Removes the last entries in key order until the rest has room.
    pub(super) fn remove_over_room(&mut self, max_keys: usize, max_bytes: u64) -> Vec<(Entry, StateLimit)> {
        if self.len() <= max_keys && self.payload_bytes <= max_bytes {
            return Vec::new();
        }
        let mut entries: Vec<Entry> = self.iter().cloned().collect();
        entries.sort_unstable_by(|one, other| one.key().cmp(other.key()));
        let (mut keys, mut bytes, mut removed) = (0, 0, Vec::new());
        for entry in entries {
            let with_it = bytes + entry.payload_bytes() as u64;
            if keys < max_keys && with_it <= max_bytes {
                (keys, bytes) = (keys + 1, with_it);
                continue;
            }
            let limit = match keys < max_keys {
                true => StateLimit::Bytes(max_bytes),
                false => StateLimit::Keys(max_keys as u64),
            };
            self.remove(&entry);
            removed.push((entry, limit));
        }
        removed
    }

    fn remove_too_large(&mut self, limits: EntryLimits, refused: &mut RefusedKeys) {
        if self.payload_bytes <= limits.max_value_bytes.min(limits.max_key_bytes) as u64 {
            return;
        }
        let allowed = |entry: &&Entry| limits.allow(entry.key(), entry.value().len());
        let over: Vec<Entry> = self.iter().filter(|entry| !allowed(entry)).cloned().collect();
        for entry in over {
            let refusal = limits.check(&entry.clone().into()).err();
            let reason = refusal.and_then(|refusal| refusal.reason()).unwrap_or_default();
            refused.add(entry.key(), &reason, entry.revision().unwrap_or(self.revision), None);
            self.remove(&entry);
        }
    }

    /// Sets the entry; `old` is what [`Snapshot::get`] found.
    pub(super) fn put(&mut self, entry: Entry, old: Option<&Entry>) {
        if let Some(old) = old {
            self.forget(old);
        }
        self.digest.add(&entry);
        self.payload_bytes += entry.payload_bytes() as u64;
        self.table.insert(entry);
    }

    /// Removes the entry that [`Snapshot::get`] found.
    pub(super) fn remove(&mut self, old: &Entry) {
        self.forget(old);
        self.table.remove(old.key());
    }

    fn forget(&mut self, old: &Entry) {
        self.digest.remove(old);
        self.payload_bytes -= old.payload_bytes() as u64;
    }
}
