//! A copy of the state, checked at every step.

use std::collections::HashMap;

use crate::model::{Cursor, Digest, Entry, Key};
use crate::wire::{End, PutKind, Record};

/// A copy of the daemon's state.
#[derive(Debug, Default, Clone)]
pub struct Mirror {
    entries: HashMap<Key, Entry>,
    digest: Digest,
    cursor: Option<Cursor>,
}

/// The mirror and the daemon disagree: a body was damaged, or one of them is wrong.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum MirrorError {
    /// The digest of the state is another.
    #[error("the digest of the state is {found}, the daemon says {expected}")]
    Digest {
        /// What the daemon says.
        expected: Digest,
        /// What the mirror has.
        found: Digest,
    },
    /// The number of keys is another.
    #[error("the state has {found} keys, the daemon says {expected}")]
    Count {
        /// What the daemon says.
        expected: u64,
        /// What the mirror has.
        found: u64,
    },
    /// A record is out of place.
    #[error("{0}")]
    Unexpected(String),
}

impl Mirror {
    /// Where the mirror stands; `None` before its first snapshot.
    pub fn cursor(&self) -> Option<Cursor> {
        self.cursor
    }

    /// Moves on over updates that did not concern this mirror.
    pub(super) fn move_to(&mut self, cursor: Cursor) {
        self.cursor = Some(cursor);
    }

    /// The entry of a key.
    pub fn get(&self, key: &[u8]) -> Option<&Entry> {
        self.entries.get(&Key::copy_from(key))
    }

    /// All entries, in no order.
    pub fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.entries.values()
    }

    /// Number of keys.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is no key.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Fingerprint of the state.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// Applies one record of a body.
    ///
    /// # Errors
    /// [`MirrorError`]; the mirror is then of no use any more.
    pub fn apply(&mut self, record: &Record) -> Result<(), MirrorError> {
        match record {
            Record::Put { kind, entry } => self.put(*kind, entry),
            Record::Deleted { key, .. } => match self.entries.remove(key) {
                Some(old) => {
                    self.digest.remove(&old);
                    Ok(())
                }
                None => Err(MirrorError::Unexpected(format!("key \"{key}\" is deleted but was not there"))),
            },
            Record::Snapshot(_) => {
                *self = Self::default();
                Ok(())
            }
            // Of a reset the snapshot is told next, and that replaces everything.
            Record::Status(_) | Record::Breadcrumb(_) | Record::Reset { .. } => Ok(()),
            Record::End(end) => self.end(end),
        }
    }

    fn put(&mut self, kind: PutKind, entry: &Entry) -> Result<(), MirrorError> {
        let old = self.entries.insert(entry.to_key(), entry.clone());
        self.digest.add(entry);
        old.iter().for_each(|old| self.digest.remove(old));
        match (kind, old) {
            (PutKind::New, Some(_)) | (PutKind::Updated, None) => Err(MirrorError::Unexpected(format!(
                "key \"{}\" comes as {}, which it is not",
                entry.to_key(),
                kind.as_str()
            ))),
            _ => Ok(()),
        }
    }

    fn end(&mut self, end: &End) -> Result<(), MirrorError> {
        let found = self.entries.len() as u64;
        if let Some(expected) = end.count.filter(|expected| *expected != found) {
            return Err(MirrorError::Count { expected, found });
        }
        if let Some(expected) = end.digest.filter(|expected| *expected != self.digest) {
            return Err(MirrorError::Digest { expected, found: self.digest });
        }
        self.cursor = end.cursor.or(self.cursor);
        Ok(())
    }
}
