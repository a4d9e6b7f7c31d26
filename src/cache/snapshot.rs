//! The whole state at one revision.

use super::RefusedKeys;
use super::table::Table;
use crate::model::{Digest, Entry, EntryLimits, History, ReadEntries, Revision};

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

    /// Removes the entries that exceed the limits, and returns their keys.
    pub(super) fn remove_over_limits(&mut self, limits: EntryLimits) -> RefusedKeys {
        let mut refused = RefusedKeys::default();
        if self.payload_bytes <= limits.max_value_bytes.min(limits.max_key_bytes) as u64 {
            return refused;
        }
        let allowed = |entry: &&Entry| limits.allow(entry.key(), entry.value().len());
        let over: Vec<Entry> = self.iter().filter(|entry| !allowed(entry)).cloned().collect();
        for entry in over {
            let refusal = limits.check(&entry.clone().into()).err();
            let reason = refusal.and_then(|refusal| refusal.reason()).unwrap_or_default();
            refused.add(entry.key(), &reason, entry.revision().unwrap_or(self.revision));
            self.remove(&entry);
        }
        refused
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
