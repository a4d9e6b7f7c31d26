//! The whole state at one revision: a persistent hash map (HAMT).

use std::borrow::Borrow;
use std::hash::{Hash, Hasher};

use crate::model::{Digest, Entry, History, Revision};

/// An entry that is found, and compared, by its key alone.
#[derive(Clone)]
pub(super) struct Keyed(pub(super) Entry);

impl Hash for Keyed {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.key().hash(state);
    }
}

impl PartialEq for Keyed {
    fn eq(&self, other: &Self) -> bool {
        self.0.key() == other.0.key()
    }
}

impl Eq for Keyed {}

impl Borrow<[u8]> for Keyed {
    fn borrow(&self) -> &[u8] {
        self.0.key()
    }
}

/// The whole state at one revision. A clone is O(1) and never changes afterwards.
///
/// The map holds one thin pointer an entry. The hasher is the standard library's, seeded per
/// process: keys come from outside, and path copying, not hashing, is what an update costs.
#[derive(Clone)]
pub struct Snapshot {
    map: im::HashMap<Keyed, ()>,
    digest: Digest,
    payload_bytes: u64,
    pub(super) revision: Revision,
    pub(super) history: History,
}

impl Snapshot {
    pub(super) fn empty(history: History) -> Self {
        Self {
            map: im::HashMap::new(),
            digest: Digest::default(),
            payload_bytes: 0,
            revision: Revision::ZERO,
            history,
        }
    }

    /// The entry of a key.
    pub fn get(&self, key: &[u8]) -> Option<&Entry> {
        self.map.get_key_value(key).map(|(keyed, ())| &keyed.0)
    }

    /// Number of keys.
    pub fn len(&self) -> usize {
        self.map.len()
    }

    /// Whether there is no key.
    pub fn is_empty(&self) -> bool {
        self.map.is_empty()
    }

    /// All entries, in no order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Entry> {
        self.map.keys().map(|keyed| &keyed.0)
    }

    /// Fingerprint of the state.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// Sum of all keys' and values' lengths, in bytes.
    pub fn payload_bytes(&self) -> u64 {
        self.payload_bytes
    }

    /// The revision that this state is.
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// Whose revision that is.
    pub fn history(&self) -> History {
        self.history
    }

    /// Sets the entry; `old` is what [`Snapshot::get`] found.
    pub(super) fn put(&mut self, entry: Entry, old: Option<&Entry>) {
        if let Some(old) = old {
            self.forget(old);
        }
        self.digest.add(&entry);
        self.payload_bytes += entry.payload_bytes() as u64;
        self.map.insert(Keyed(entry), ());
    }

    /// Removes the entry that [`Snapshot::get`] found.
    pub(super) fn remove(&mut self, old: &Entry) {
        self.forget(old);
        self.map.remove(old.key());
    }

    fn forget(&mut self, old: &Entry) {
        self.digest.remove(old);
        self.payload_bytes -= old.payload_bytes() as u64;
    }
}
