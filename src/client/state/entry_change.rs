//! One change of the state.

use crate::model::{Entry, Revision};
use crate::wire::{PutKind, Record};

/// One change of the state, as the application sees it: always true against what it was told before, also where the
/// whole state was read again.
#[derive(Clone, Debug)]
pub enum EntryChange {
    /// A key that was not there.
    New(Entry),
    /// A key with another value.
    Updated {
        /// What it was.
        old: Entry,
        /// What it is.
        new: Entry,
    },
    /// A key that is gone.
    Deleted {
        /// What it was.
        old: Entry,
        /// The revision of the deletion, or of the state in which the key is missing.
        revision: Option<Revision>,
    },
}

impl EntryChange {
    /// The key that has changed.
    pub fn key(&self) -> &[u8] {
        match self {
            Self::New(entry) | Self::Updated { new: entry, .. } | Self::Deleted { old: entry, .. } => {
                entry.key()
            }
        }
    }

    /// The entry before; `None` for a new key.
    pub fn before(&self) -> Option<&Entry> {
        match self {
            Self::New(_) => None,
            Self::Updated { old, .. } | Self::Deleted { old, .. } => Some(old),
        }
    }

    /// The entry now; `None` for a deleted key.
    pub fn after(&self) -> Option<&Entry> {
        match self {
            Self::New(new) | Self::Updated { new, .. } => Some(new),
            Self::Deleted { .. } => None,
        }
    }

    /// The record that says so.
    pub fn to_record(&self) -> Record {
        match self {
            Self::New(entry) => Record::Put { kind: PutKind::New, entry: entry.clone() },
            Self::Updated { new, .. } => Record::Put { kind: PutKind::Updated, entry: new.clone() },
            Self::Deleted { old, revision } => Record::Deleted { key: old.to_key(), revision: *revision },
        }
    }
}
