//! The state of a mirror at one moment.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::ops::Bound;
use std::sync::Arc;

use im::OrdMap;
use im::ordmap::DiffItem;

use super::EntryChange;
use crate::model::{Digest, Entry, OpaqueCursor, Revision, SyncStatus};
use crate::wire::Header;

/// The state of a [`Mirror`](crate::client::Mirror) or a [`Follower`](crate::client::Follower) at one cursor, which never
/// changes.
///
/// To take one, or to clone it, costs the same however many keys there are: the entries are in a persistent B-tree,
/// and a snapshot shares with the mirror every node that neither has changed since. So an application can keep one
/// for as long as it likes, on any thread, while updates go on; it costs the memory of what has changed meanwhile.
#[derive(Debug, Default, Clone)]
pub struct MirrorSnapshot {
    entries: OrdMap<ByKey, Content>,
    digest: Digest,
    cursor: Option<OpaqueCursor>,
    /// The revision that the last answer with a body led to.
    revision: Option<Revision>,
    status: Option<SyncStatus>,
    rights: Option<Arc<str>>,
}

impl MirrorSnapshot {
    /// A state that was kept, such as on disk, with the cursor and the rights that it was kept with: a follower can
    /// [resume](crate::client::FollowerBuilder::resume) from it. The caller vouches that it is the state at that cursor.
    /// Without a cursor the follower reads the state, and tells the difference to these entries.
    pub fn of(
        entries: impl IntoIterator<Item = Entry>,
        cursor: Option<OpaqueCursor>,
        rights: Option<&str>,
    ) -> Self {
        let mut snapshot = Self { cursor, rights: rights.map(Arc::from), ..Self::default() };
        entries.into_iter().for_each(|entry| _ = snapshot.insert(entry));
        snapshot
    }

    /// The same state with the status that it was kept with: an answer that nothing has changed does not repeat it.
    #[must_use]
    pub fn with_status(self, status: Option<SyncStatus>) -> Self {
        Self { status, ..self }
    }

    /// The cursor of this state; `None` before the first snapshot of the daemon.
    pub fn cursor(&self) -> Option<OpaqueCursor> {
        self.cursor
    }

    /// The status of the daemon's feed that came with this state; `None` before the first answer.
    pub fn status(&self) -> Option<SyncStatus> {
        self.status
    }

    /// The rights under which the state was read, as the daemon names them; `None` from a daemon without tokens.
    pub fn rights(&self) -> Option<&str> {
        self.rights.as_deref()
    }

    /// The entry of a key.
    pub fn get(&self, key: &[u8]) -> Option<&Entry> {
        self.entries.get(key).map(|Content(entry)| entry)
    }

    /// All entries, in key order.
    pub fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.entries.values().map(|Content(entry)| entry)
    }

    /// The entries whose keys begin with `prefix`, in key order.
    pub fn iter_prefix(&self, prefix: &[u8]) -> impl Iterator<Item = &Entry> {
        let from = self.entries.range::<_, [u8]>((Bound::Included(prefix), Bound::Unbounded));
        from.map(|(_, Content(entry))| entry).take_while(move |entry| entry.key().starts_with(prefix))
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

    /// The changes that lead from this state to another one, in key order. What the two share is not looked at: a later
    /// state of the same follower costs what has changed since, and one that was read anew costs every key.
    pub fn changes_to<'a>(&'a self, newer: &'a Self) -> impl Iterator<Item = EntryChange> + 'a {
        let revision = newer.revision;
        self.entries.diff(&newer.entries).map(move |difference| match difference {
            DiffItem::Add(_, Content(new)) => EntryChange::New(new.clone()),
            DiffItem::Update { old: (_, Content(old)), new: (_, Content(new)) } => {
                EntryChange::Updated { old: old.clone(), new: new.clone() }
            }
            DiffItem::Remove(_, Content(old)) => EntryChange::Deleted { old: old.clone(), revision },
        })
    }

    /// Sets a key; returns the entry that it replaces.
    pub(in crate::client) fn insert(&mut self, entry: Entry) -> Option<Entry> {
        self.digest.add(&entry);
        let Content(old) = self.entries.insert(ByKey(entry.clone()), Content(entry))?;
        self.digest.remove(&old);
        Some(old)
    }

    /// Removes a key; returns its entry.
    pub(in crate::client) fn remove(&mut self, key: &[u8]) -> Option<Entry> {
        let Content(old) = self.entries.remove(key)?;
        self.digest.remove(&old);
        Some(old)
    }

    pub(in crate::client) fn move_to(&mut self, cursor: OpaqueCursor) {
        self.cursor = Some(cursor);
    }

    /// What the header of an answer says of the state after it.
    pub(in crate::client) fn describe(&mut self, header: &Header) {
        self.revision = header.revision.or(self.revision);
        self.status = header.status.or(self.status);
    }

    /// These entries with the cursor and the rights of another state.
    pub(in crate::client) fn at_position_of(self, other: &Self) -> Self {
        Self { entries: self.entries, digest: self.digest, rights: other.rights.clone(), ..*other }
    }

    pub(in crate::client) fn under_rights(self, rights: Option<&str>) -> Self {
        Self { rights: rights.map(Arc::from), ..self }
    }
}

/// An entry that is found by its key, which is not stored a second time: sixteen bytes a key in the tree.
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

/// An entry that equals another one with the same content, so that differences are found.
#[derive(Debug, Clone)]
struct Content(Entry);

impl PartialEq for Content {
    fn eq(&self, other: &Self) -> bool {
        self.0.same_content(&other.0)
    }
}
