//! A copy of the state, checked at every step.

use super::{EntryChange, MirrorSnapshot};
use crate::model::{Digest, Entry, Key, OpaqueCursor, Revision};
use crate::wire::{End, Header, PutKind, Record};

/// A copy of the daemon's state, as the records of its answers make it.
#[derive(Debug, Default, Clone)]
pub struct CheckedState {
    state: MirrorSnapshot,
}

/// The copy and the daemon disagree: a body was damaged, or one of them has a fault.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum MismatchError {
    /// The digests differ.
    #[error("the digest of the state is {found}, the daemon says {expected}")]
    Digest {
        /// The daemon's.
        expected: Digest,
        /// The copy's.
        found: Digest,
    },
    /// The numbers of keys differ.
    #[error("the state has {found} keys, the daemon says {expected}")]
    Count {
        /// The daemon's.
        expected: u64,
        /// The copy's.
        found: u64,
    },
    /// A record is out of place.
    #[error("{0}")]
    Unexpected(String),
}

impl From<MirrorSnapshot> for CheckedState {
    fn from(state: MirrorSnapshot) -> Self {
        Self { state }
    }
}

impl CheckedState {
    /// The state as it is now, to be kept while the copy moves on: O(1), whatever its size.
    ///
    /// Between the header and the end of a body the state is that of no cursor, and nothing has checked it. A
    /// [`Follower`](crate::client::Follower) only ever shows whole bodies.
    pub fn snapshot(&self) -> MirrorSnapshot {
        self.state.clone()
    }

    /// The cursor of the state; `None` before the first snapshot of the daemon.
    pub fn cursor(&self) -> Option<OpaqueCursor> {
        self.state.cursor()
    }

    /// Advances over updates that did not concern this copy.
    pub(in crate::client) fn move_to(&mut self, cursor: OpaqueCursor) {
        self.state.move_to(cursor);
    }

    /// What the header of an answer says of the state after it.
    pub(in crate::client) fn describe(&mut self, header: &Header) {
        self.state.describe(header);
    }

    /// The entry of a key.
    pub fn get(&self, key: &[u8]) -> Option<&Entry> {
        self.state.get(key)
    }

    /// All entries, in key order.
    pub fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.state.iter()
    }

    /// The entries whose keys begin with `prefix`, in key order.
    pub fn iter_prefix(&self, prefix: &[u8]) -> impl Iterator<Item = &Entry> {
        self.state.iter_prefix(prefix)
    }

    /// Number of keys.
    pub fn len(&self) -> usize {
        self.state.len()
    }

    /// Whether there is no key.
    pub fn is_empty(&self) -> bool {
        self.state.is_empty()
    }

    /// Digest of the state.
    pub fn digest(&self) -> Digest {
        self.state.digest()
    }

    pub(in crate::client) fn under_rights(self, rights: Option<&str>) -> Self {
        Self { state: self.state.under_rights(rights) }
    }

    /// Applies one record of a body. Returns the change of the state that it makes, if it makes one.
    ///
    /// # Errors
    /// [`MismatchError`]; the copy must not be used any more.
    pub fn apply(&mut self, record: &Record) -> Result<Option<EntryChange>, MismatchError> {
        match record {
            Record::Put { kind, entry } => self.put(*kind, entry).map(Some),
            Record::Deleted { key, revision } => self.delete(key, *revision).map(Some),
            Record::Snapshot(header) => {
                *self = Self::default();
                self.state.describe(header);
                Ok(None)
            }
            Record::Breadcrumb(header) => {
                self.state.describe(header);
                Ok(None)
            }
            // After a reset comes a snapshot, which replaces everything.
            Record::Status(_) | Record::Reset { .. } | Record::Step(_) => Ok(None),
            Record::End(end) => self.end(end).map(|()| None),
        }
    }

    fn delete(&mut self, key: &Key, revision: Option<Revision>) -> Result<EntryChange, MismatchError> {
        let absent = || MismatchError::Unexpected(format!("key \"{key}\" is deleted but was not there"));
        let old = self.state.remove(key.as_bytes()).ok_or_else(absent)?;
        Ok(EntryChange::Deleted { old, revision })
    }

    fn put(&mut self, kind: PutKind, entry: &Entry) -> Result<EntryChange, MismatchError> {
        let change = match self.state.insert(entry.clone()) {
            None => EntryChange::New(entry.clone()),
            Some(old) => EntryChange::Updated { old, new: entry.clone() },
        };
        match (kind, &change) {
            (PutKind::New, EntryChange::Updated { .. }) | (PutKind::Updated, EntryChange::New(_)) => {
                let (key, kind) = (entry.to_key(), kind.as_str());
                Err(MismatchError::Unexpected(format!("key \"{key}\" comes as {kind}, which it is not")))
            }
            _ => Ok(change),
        }
    }

    fn end(&mut self, end: &End) -> Result<(), MismatchError> {
        let found = self.state.len() as u64;
        if let Some(expected) = end.count.filter(|expected| *expected != found) {
            return Err(MismatchError::Count { expected, found });
        }
        let found = self.state.digest();
        if let Some(expected) = end.digest.filter(|expected| *expected != found) {
            return Err(MismatchError::Digest { expected, found });
        }
        end.cursor.into_iter().for_each(|cursor| self.state.move_to(cursor));
        Ok(())
    }
}
