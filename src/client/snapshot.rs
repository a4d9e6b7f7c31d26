//! The state of a mirror at one moment.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::ops::Bound;

use im::OrdSet;

use crate::model::{Cursor, Digest, Entry};

/// The state of a [`Mirror`](super::Mirror) at one cursor, which never changes.
///
/// To take one, or to clone it, costs the same however many keys there are: the entries are in a persistent B-tree,
/// and a snapshot shares with the mirror every node that neither has changed since. So an application can keep one
/// for as long as it likes, on any thread, while updates go on; it costs the memory of what has changed meanwhile.
#[derive(Debug, Default, Clone)]
pub struct MirrorSnapshot {
    entries: OrdSet<ByKey>,
    digest: Digest,
    cursor: Option<Cursor>,
}

impl MirrorSnapshot {
    /// The cursor of this state; `None` before the first snapshot of the daemon.
    pub fn cursor(&self) -> Option<Cursor> {
        self.cursor
    }

    /// The entry of a key.
    pub fn get(&self, key: &[u8]) -> Option<&Entry> {
        self.entries.get(key).map(|ByKey(entry)| entry)
    }

    /// All entries, in key order.
    pub fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter().map(|ByKey(entry)| entry)
    }

    /// The entries whose keys begin with `prefix`, in key order.
    pub fn iter_prefix(&self, prefix: &[u8]) -> impl Iterator<Item = &Entry> {
        let from = self.entries.range::<_, [u8]>((Bound::Included(prefix), Bound::Unbounded));
        from.map(|ByKey(entry)| entry).take_while(move |entry| entry.key().starts_with(prefix))
    }

    /// Number of keys.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is no key.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Digest of the state.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// Sets a key; returns the entry that it replaces.
    pub(super) fn insert(&mut self, entry: Entry) -> Option<Entry> {
        self.digest.add(&entry);
        let ByKey(old) = self.entries.insert(ByKey(entry))?;
        self.digest.remove(&old);
        Some(old)
    }

    /// Removes a key; returns its entry.
    pub(super) fn remove(&mut self, key: &[u8]) -> Option<Entry> {
        let ByKey(old) = self.entries.remove(key)?;
        self.digest.remove(&old);
        Some(old)
    }

    pub(super) fn move_to(&mut self, cursor: Cursor) {
        self.cursor = Some(cursor);
    }
}

/// An entry that is found by its key. The key is not stored a second time: eight bytes a key in the tree.
#[derive(Debug, Clone)]
struct ByKey(Entry);

impl Borrow<[u8]> for ByKey {
    fn borrow(&self) -> &[u8] {
        self.0.key()
    }
}

impl Ord for ByKey {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.key().cmp(other.0.key())
    }
}

impl PartialOrd for ByKey {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for ByKey {
    fn eq(&self, other: &Self) -> bool {
        self.0.key() == other.0.key()
    }
}

impl Eq for ByKey {}
