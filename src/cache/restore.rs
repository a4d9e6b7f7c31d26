//! A state that is there as a whole, as a cache begins with it after a warm start.
//!
//! To go through the ingest task entry by entry would take a second and more for a million keys: each
//! is looked up in a growing table, and at the end all are compared with the state before, which is empty.
//! So several threads take the entries, whichever come to each, and the table is built of them at once.

use std::hash::RandomState;
use std::time::SystemTime;

use super::publish::Draft;
use super::table::{self, Table};
use super::{Delta, DeltaKind, Snapshot, Step};
use crate::model::{Digest, Entry, History, Key, Revision, SyncStatus};

/// Makes a snapshot of entries that several threads bring.
pub struct SnapshotBuilder {
    hasher: RandomState,
    history: History,
    revision: Revision,
}

/// What one thread brings.
pub struct SnapshotPart {
    entries: table::Part,
    hasher: RandomState,
    revision: Revision,
    digest: Digest,
    payload_bytes: u64,
    newest: Option<Entry>,
}

impl SnapshotBuilder {
    /// For the state at this revision.
    pub fn new(history: History, revision: Revision) -> Self {
        Self { hasher: RandomState::new(), history, revision }
    }

    /// One thread's part, empty.
    pub fn part(&self) -> SnapshotPart {
        SnapshotPart {
            entries: table::Part::default(),
            hasher: self.hasher.clone(),
            revision: self.revision,
            digest: Digest::default(),
            payload_bytes: 0,
            newest: None,
        }
    }

    /// The state, and the entry in it that was set last. Of entries with the same key one stays; then count and digest
    /// are not those of the state, and the caller who knows them finds out.
    pub fn finish(self, parts: Vec<SnapshotPart>) -> (Snapshot, Option<Entry>) {
        let Self { hasher, history, revision } = self;
        let (mut digest, mut payload_bytes) = (Digest::default(), 0);
        let mut newest: Option<Entry> = None;
        let mut entries = Vec::with_capacity(parts.len());
        for part in parts {
            digest.merge(part.digest);
            payload_bytes += part.payload_bytes;
            newest = newest.into_iter().chain(part.newest).max_by_key(Entry::revision);
            entries.push(part.entries);
        }
        let table = Table::of_parts(hasher, entries);
        (Snapshot { table, digest, payload_bytes, revision, history }, newest)
    }
}

impl SnapshotPart {
    /// Takes one entry.
    pub fn add(&mut self, entry: Entry) {
        let entry = if entry.revision().is_some() { entry } else { entry.at(self.revision) };
        self.digest.add(&entry);
        self.payload_bytes += entry.payload_bytes() as u64;
        if self.newest.as_ref().is_none_or(|newest| entry.revision() > newest.revision()) {
            self.newest = Some(entry.clone());
        }
        self.entries.add(entry, &self.hasher);
    }
}

/// A breadcrumb that an earlier process published, as it was kept.
#[derive(Clone, Debug)]
pub struct RestoredBreadcrumb {
    /// The revision of the state after it.
    pub revision: Revision,
    /// The revision of its first change.
    pub first_revision: Revision,
    /// When it was made.
    pub timestamp: SystemTime,
    /// Fingerprint of the state after it.
    pub digest: Digest,
    /// Keys in the state after it.
    pub count: u64,
    /// Its deltas.
    pub changes: Vec<RestoredChange>,
    /// Its changes one revision at a time, where the deltas span several.
    pub steps: Vec<Step>,
}

/// One key's change in it, and the revision of that.
#[derive(Clone, Debug)]
pub enum RestoredChange {
    /// The key has this entry now, with its own revision.
    Put(Entry, Revision),
    /// The key is gone.
    Deleted(Key, Revision),
}

/// A kept breadcrumb does not fit the state before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RestoreError {
    /// Its revision is not after that of the state.
    #[error("revision {revision} is said to follow revision {before}")]
    NotAfter {
        /// Its revision.
        revision: Revision,
        /// That of the state.
        before: Revision,
    },
    /// Count or digest of the state after it are not what was kept with it.
    #[error(
        "the changes up to revision {revision} lead to {count} keys with digest {digest}, and not to the \
         {expected_count} keys with digest {expected_digest} that were written"
    )]
    OtherState {
        /// Its revision.
        revision: Revision,
        /// The number of keys that it leads to.
        count: u64,
        /// The digest that it leads to.
        digest: Digest,
        /// The number of keys that was kept.
        expected_count: u64,
        /// The digest that was kept.
        expected_digest: Digest,
    },
}

impl RestoredBreadcrumb {
    /// The breadcrumb again, after the state before it. It is not in-sync, whatever it was: of that nobody
    /// can be sure until the feed has said so.
    pub(super) fn after(self, before: &Snapshot) -> Result<Draft, RestoreError> {
        if self.revision <= before.revision {
            return Err(RestoreError::NotAfter { revision: self.revision, before: before.revision });
        }
        let mut state = before.clone();
        state.revision = self.revision;
        let deltas: Box<[Delta]> =
            self.changes.into_iter().filter_map(|change| change.apply(&mut state)).collect();
        let (count, digest) = (state.len() as u64, state.digest());
        if (count, digest) != (self.count, self.digest) {
            return Err(RestoreError::OtherState {
                revision: self.revision,
                count,
                digest,
                expected_count: self.count,
                expected_digest: self.digest,
            });
        }
        Ok(Draft {
            state,
            status: SyncStatus::WaitForDatastore,
            deltas,
            steps: self.steps.into(),
            first_revision: Some(self.first_revision),
            blind: false,
            provisional: false,
        })
    }
}

impl RestoredChange {
    fn apply(self, state: &mut Snapshot) -> Option<Delta> {
        match self {
            Self::Put(entry, revision) => {
                let old = state.get(entry.key()).cloned();
                state.put(entry.clone(), old.as_ref());
                let kind = if old.is_some() { DeltaKind::Updated } else { DeltaKind::New };
                Some(Delta { kind, entry, revision })
            }
            Self::Deleted(key, revision) => {
                let entry = state.get(key.as_bytes()).cloned()?;
                state.remove(&entry);
                Some(Delta { kind: DeltaKind::Deleted, entry, revision })
            }
        }
    }
}
