//! A resync: reading the whole state again while the old one is still served.
//!
//! A resync builds a second map from empty. Unchanged entries share the old allocations, so the second map costs only its
//! nodes, and the difference at the end is found by comparing addresses. Keys that did not come again are deleted. Nothing
//! is published before the end, so aborting a resync means dropping the second map.
//!
//! A *reload* is a resync that begins another history. Its revisions start from zero and must count exactly as after a
//! restart of the process. So a `snapshot` … `end` inside a reload is handled as outside: resyncs nest, one deep.

use std::collections::HashSet;
use std::sync::Arc;

use super::store::room::Unread;
use super::weight::key_only;
use super::{Delta, DeltaKind, RefusedKeys, Snapshot};
use crate::model::{Comparison, Entry, History, Revision, SyncStatus};

/// A resync under way.
pub(super) struct Resync {
    /// The state before it, to compare the result with and to restore on abort.
    pub(super) before: Snapshot,
    /// The revision of the new state, when all of it is one revision.
    pub(super) whole_at: Option<Revision>,
    /// Whether it began another history.
    pub(super) reload: bool,
    /// Whether the changes between `before` and its end are unknown.
    pub(super) lossy: bool,
    /// The keys of `before` that hold room until they are read.
    pub(super) unread: Unread,
    /// Whether `before` may lack keys for want of room.
    pub(super) lacked_keys: bool,
    /// Whether an entry came that was set at or before the revision of `before` and is not in it. Then this cannot be a
    /// later state of the same upstream.
    is_other_state: bool,
    /// An `in-sync` that came before the end. It is published with the data, not before it.
    pub(super) status: Option<SyncStatus>,
    /// The refused keys before it, to restore on abort.
    pub(super) refused: Arc<RefusedKeys>,
    /// Its number in [`RefusedKeys::begin_full_read`].
    pub(super) full_read: u64,
    /// The keys of `before` that it has deleted, by the addresses of their entries there.
    pub(super) deleted: HashSet<usize>,
    /// The `deleted` of the enclosing reload at its begin, to restore on abort.
    pub(super) outer_deleted: HashSet<usize>,
}

impl Resync {
    /// A new resync, and the empty state to build.
    pub(super) fn begin(
        before: Snapshot,
        history: Option<History>,
        claimed: Option<Revision>,
        lossy: bool,
    ) -> (Self, Snapshot) {
        let mut fresh = Snapshot::empty(history.unwrap_or(before.history));
        if history.is_none() {
            fresh.revision = before.revision;
        }
        let current = fresh.revision;
        let whole_at = claimed.map(|claimed| if claimed > current { claimed } else { current.next() });
        let resync = Self {
            before,
            whole_at,
            reload: history.is_some(),
            lossy,
            unread: Unread::default(),
            lacked_keys: false,
            is_other_state: false,
            status: None,
            refused: Arc::default(),
            full_read: 0,
            deleted: HashSet::default(),
            outer_deleted: HashSet::default(),
        };
        (resync, fresh)
    }

    /// Notes that the feed named a key, as present or as deleted.
    pub(super) fn note_key(&mut self, key: &[u8], is_present: bool) {
        if is_present && self.deleted.is_empty() {
            return;
        }
        let Some(address) = self.before.get(key).map(Entry::address) else { return };
        match is_present {
            true => self.deleted.remove(&address),
            false => self.deleted.insert(address),
        };
    }

    /// The entries of the state before that it has not deleted.
    pub(super) fn unread(&self) -> impl Iterator<Item = &Entry> {
        self.before.iter().filter(|entry| !self.deleted.contains(&entry.address()))
    }

    /// The old entry with the same content, so that both states share it. Entries of another history are not shared,
    /// because their revisions mean nothing in this one. `set_at` is the revision at which the upstream set the key. `same_write`
    /// wants an entry of the same write.
    pub(super) fn shared(
        &mut self,
        entry: &Entry,
        set_at: Option<Revision>,
        same_write: bool,
    ) -> Option<Entry> {
        if self.reload {
            return None;
        }
        let old = self.before.get(entry.key());
        let by_then = set_at.is_some_and(|set_at| set_at <= self.before.revision);
        // A key that is new here may have been there for long, without room.
        self.is_other_state |= by_then && old.map_or(!self.lacked_keys, |old| old.value() != entry.value());
        let is_same_write = |old: &Entry| {
            entry.write_info().is_none_or(|info| old.write_info() == Some(info) && old.revision() == set_at)
        };
        old.filter(|old| old.same_content(entry) && (!same_write || is_same_write(old))).cloned()
    }

    /// Whether a log is read from its start, under another history: each record is a change of its own.
    pub(super) fn is_of_log(&self) -> bool {
        self.reload && self.whole_at.is_none()
    }

    /// Whether the state read so far is the state before.
    pub(super) fn has_read_the_same(&self, read: &Snapshot) -> bool {
        self.before.len() == read.len() && self.before.digest == read.digest
    }

    /// The comparison of the state read so far with the state before. Keys for which that had no room are no difference.
    pub(super) fn comparison(&self, read: &Snapshot) -> Comparison {
        let is_there = |old: &Entry| read.get(old.key()).is_some_and(|now| now.value() == old.value());
        match &self.before {
            _ if self.has_read_the_same(read) => Comparison::Same,
            before if self.lacked_keys && before.iter().all(is_there) => Comparison::Same,
            _ if self.is_other_state => Comparison::Other,
            _ => Comparison::Later,
        }
    }
}

/// The differences between two states: each key's entry before and now. Within one history another revision is a
/// difference too; across two histories revisions are not compared.
pub(super) fn differences<'a>(
    old: &'a Snapshot,
    new: &'a Snapshot,
) -> impl Iterator<Item = (Option<&'a Entry>, Option<&'a Entry>)> {
    let one_history = old.history == new.history;
    let is_same = move |before: &Entry, now: &Entry| {
        before.same_content(now) && (!one_history || before.revision() == now.revision())
    };
    let both = new.iter().map(|now| (old.get(now.key()), Some(now)));
    let changed = both.filter(move |(before, now)| !before.zip(*now).is_some_and(|(b, n)| is_same(b, n)));
    let gone = old.iter().filter(|entry| new.get(entry.key()).is_none());
    changed.chain(gone.map(|entry| (Some(entry), None)))
}

/// The change of one key as a delta.
pub(super) fn delta(before: Option<&Entry>, now: Option<&Entry>, revision: Revision) -> Option<Delta> {
    let (kind, entry) = match (before, now) {
        (None, Some(now)) => (DeltaKind::New, now.clone()),
        (Some(_), Some(now)) => (DeltaKind::Updated, now.clone()),
        (Some(before), None) => (DeltaKind::Deleted, key_only(before)),
        (None, None) => return None,
    };
    Some(Delta { kind, entry, revision })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // a test may unwrap
mod tests {
    use super::*;
    use crate::cache::SnapshotBuilder;
    use crate::model::{Digest, WriteInfo};

    fn entry(version: u64) -> Entry {
        let info = WriteInfo { created: Revision(3), version, lease: 4 };
        Entry::of_write(b"k", b"value", None, info)
    }

    #[test]
    fn the_same_write_is_one_entry_in_both_states() {
        let builder = SnapshotBuilder::new(History::random(), Revision(9));
        let mut part = builder.part();
        part.add(entry(2).at(Revision(7)));
        let (before, _) = builder.finish(vec![part]);
        let stored = before.get(b"k").unwrap().clone();
        let (mut resync, mut read) = Resync::begin(before, None, Some(Revision(9)), false);
        let mut shared = |entry: &Entry, set_at: u64| resync.shared(entry, Some(Revision(set_at)), true);
        assert!(shared(&entry(3), 7).is_none() && shared(&entry(2), 8).is_none(), "other writes");
        let again = shared(&entry(2), 7).unwrap();
        assert!(again.same_allocation(&stored) && again.write_info() == stored.write_info());
        read.put(again, None);
        assert_eq!(read.digest(), [&stored].into_iter().collect::<Digest>());
        assert_eq!(resync.comparison(&read), Comparison::Same);
    }
}
