//! A copy of the state, checked at every step.

use super::MirrorSnapshot;
use crate::model::{Cursor, Digest, Entry};
use crate::wire::{End, PutKind, Record};

/// A copy of the daemon's state.
#[derive(Debug, Default, Clone)]
pub struct Mirror {
    state: MirrorSnapshot,
}

/// The mirror and the daemon disagree: a body was damaged, or one of them has a fault.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum MirrorError {
    /// The digests differ.
    #[error("the digest of the state is {found}, the daemon says {expected}")]
    Digest {
        /// The daemon's.
        expected: Digest,
        /// The mirror's.
        found: Digest,
    },
    /// The numbers of keys differ.
    #[error("the state has {found} keys, the daemon says {expected}")]
    Count {
        /// The daemon's.
        expected: u64,
        /// The mirror's.
        found: u64,
    },
    /// A record is out of place.
    #[error("{0}")]
    Unexpected(String),
}

impl Mirror {
    /// The state as it is now, to be kept while the mirror moves on: O(1), whatever its size.
    ///
    /// Between the header and the end of a body the state is that of no cursor, and nothing has checked it. The mirror
    /// of a [`Follower`](super::Follower) or [`StreamFollower`](super::StreamFollower) only ever holds whole bodies.
    pub fn snapshot(&self) -> MirrorSnapshot {
        self.state.clone()
    }

    /// The cursor of the state; `None` before the first snapshot of the daemon.
    pub fn cursor(&self) -> Option<Cursor> {
        self.state.cursor()
    }

    /// Advances over updates that did not concern this mirror.
    pub(super) fn move_to(&mut self, cursor: Cursor) {
        self.state.move_to(cursor);
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

    /// Applies one record of a body.
    ///
    /// # Errors
    /// [`MirrorError`]; the mirror must not be used any more.
    pub fn apply(&mut self, record: &Record) -> Result<(), MirrorError> {
        match record {
            Record::Put { kind, entry } => self.put(*kind, entry),
            Record::Deleted { key, .. } => match self.state.remove(key.as_bytes()) {
                Some(_) => Ok(()),
                None => Err(MirrorError::Unexpected(format!("key \"{key}\" is deleted but was not there"))),
            },
            Record::Snapshot(_) => {
                *self = Self::default();
                Ok(())
            }
            // After a reset comes a snapshot, which replaces everything.
            Record::Status(_) | Record::Breadcrumb(_) | Record::Reset { .. } | Record::Step(_) => Ok(()),
            Record::End(end) => self.end(end),
        }
    }

    fn put(&mut self, kind: PutKind, entry: &Entry) -> Result<(), MirrorError> {
        match (kind, self.state.insert(entry.clone())) {
            (PutKind::New, Some(_)) | (PutKind::Updated, None) => Err(MirrorError::Unexpected(format!(
                "key \"{}\" comes as {}, which it is not",
                entry.to_key(),
                kind.as_str()
            ))),
            _ => Ok(()),
        }
    }

    fn end(&mut self, end: &End) -> Result<(), MirrorError> {
        let found = self.state.len() as u64;
        if let Some(expected) = end.count.filter(|expected| *expected != found) {
            return Err(MirrorError::Count { expected, found });
        }
        let found = self.state.digest();
        if let Some(expected) = end.digest.filter(|expected| *expected != found) {
            return Err(MirrorError::Digest { expected, found });
        }
        end.cursor.into_iter().for_each(|cursor| self.state.move_to(cursor));
        Ok(())
    }
}
