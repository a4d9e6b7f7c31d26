//! Restoring a stored state at a warm start.
//!
//! Sending a million entries through the ingest task would take more than a second: each is looked up in a growing
//! table, and in the end all are compared with the empty state before. So several threads collect the entries, and the
//! table is built from them at once.

use std::hash::RandomState;
use std::time::SystemTime;

use super::publish::Draft;
use super::table::{self, Table};
use super::weight::{Weight, key_only};
use super::{Delta, DeltaKind, Snapshot, Step, StepWrite};
use crate::model::{Digest, Entry, History, Key, KeyStep, Revision, SyncStatus};

/// A builder for a snapshot whose entries are added by several threads.
pub(crate) struct SnapshotBuilder {
    hasher: RandomState,
    history: History,
    revision: Revision,
}

/// The entries that one thread adds.
pub(crate) struct SnapshotPart {
    entries: table::Part,
    hasher: RandomState,
    revision: Revision,
    digest: Digest,
    payload_bytes: u64,
    newest: Option<Entry>,
}

impl SnapshotBuilder {
    /// A builder for the state at this revision.
    pub(crate) fn new(history: History, revision: Revision) -> Self {
        Self { hasher: RandomState::new(), history, revision }
    }

    /// An empty part, for one thread.
    pub(crate) fn part(&self) -> SnapshotPart {
        SnapshotPart {
            entries: table::Part::default(),
            hasher: self.hasher.clone(),
            revision: self.revision,
            digest: Digest::default(),
            payload_bytes: 0,
            newest: None,
        }
    }

    /// The state, and the entry in it that was set last. Of several entries with the same key only one stays: the count
    /// and digest are wrong then, and the caller must compare them with the stored ones.
    pub(crate) fn finish(self, parts: Vec<SnapshotPart>) -> (Snapshot, Option<Entry>) {
        let Self { hasher, history, revision } = self;
        let (mut digest, mut payload_bytes) = (Digest::default(), 0);
        let mut newest: Option<Entry> = None;
        let mut entries = Vec::with_capacity(parts.len());
        for part in parts {
            digest = digest.plus(part.digest);
            payload_bytes += part.payload_bytes;
            newest = newest.into_iter().chain(part.newest).max_by_key(Entry::revision);
            entries.push(part.entries);
        }
        let table = Table::of_parts(hasher, entries);
        (Snapshot { table, digest, payload_bytes, revision, history }, newest)
    }
}

impl SnapshotPart {
    /// Adds one entry.
    pub(crate) fn add(&mut self, entry: Entry) {
        let entry = if entry.revision().is_some() { entry } else { entry.at(self.revision) };
        self.digest.add(&entry);
        self.payload_bytes += entry.payload_bytes() as u64;
        if self.newest.as_ref().is_none_or(|newest| entry.revision() > newest.revision()) {
            self.newest = Some(entry.clone());
        }
        self.entries.add(entry, &self.hasher);
    }
}

/// A stored breadcrumb of an earlier process.
#[derive(Clone, Debug)]
pub struct RestoredBreadcrumb {
    /// The revision of the state after it.
    pub revision: Revision,
    /// The revision of its first change.
    pub first_revision: Revision,
    /// The time at which it was made.
    pub timestamp: SystemTime,
    /// The digest of the state after it.
    pub digest: Digest,
    /// The number of keys in the state after it.
    pub count: u64,
    /// Its deltas.
    pub changes: Vec<RestoredChange>,
    /// Its changes one revision at a time, when the deltas span several revisions.
    pub steps: Vec<Step>,
}

impl RestoredBreadcrumb {
    /// Forgets what only a cache that keeps every write knows of them.
    pub(crate) fn forget_writes(&mut self) {
        for change in &mut self.changes {
            if let RestoredChange::Put(entry, _) = change
                && entry.write_info().is_some()
            {
                *entry = entry.without_write_info();
            }
        }
        for step in &mut self.steps {
            if step.write != StepWrite::NotKept {
                *step = Step::from(KeyStep::from(&*step));
            }
        }
    }

    /// The entries that it sets keys to.
    pub(crate) fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.changes.iter().filter_map(|change| match change {
            RestoredChange::Put(entry, _) => Some(entry),
            RestoredChange::Deleted(..) => None,
        })
    }
}

/// A stored change of one key, with its revision.
#[derive(Clone, Debug)]
pub enum RestoredChange {
    /// The key has this entry now, with its own revision.
    Put(Entry, Revision),
    /// The key is gone.
    Deleted(Key, Revision),
}

/// The reason why a stored breadcrumb does not follow the state before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RestoreError {
    /// Its revision is not greater than that of the state.
    #[error(
        "the stored breadcrumb of revision {revision} cannot follow revision {before}: revisions must increase"
    )]
    NotAfter {
        /// The breadcrumb's revision.
        revision: Revision,
        /// The state's revision.
        before: Revision,
    },
    /// The count or digest of the state after it is not the stored one.
    #[error(
        "the stored changes up to revision {revision} give {count} keys with digest {digest}, but \
         {expected_count} keys with digest {expected_digest} were stored with them"
    )]
    OtherState {
        /// The breadcrumb's revision.
        revision: Revision,
        /// The number of keys after its changes.
        count: u64,
        /// The digest after its changes.
        digest: Digest,
        /// The stored number of keys.
        expected_count: u64,
        /// The stored digest.
        expected_digest: Digest,
    },
}

impl RestoredBreadcrumb {
    /// The breadcrumb to publish after the state `before`. It is never in sync: only the feed can claim that again.
    pub(super) fn after(self, before: &Snapshot) -> Result<Draft, RestoreError> {
        if self.revision <= before.revision {
            return Err(RestoreError::NotAfter { revision: self.revision, before: before.revision });
        }
        let mut state = before.clone();
        state.revision = self.revision;
        let mut weight = Weight::default();
        let changes = self.changes.into_iter();
        let deltas: Box<[Delta]> =
            changes.filter_map(|change| change.apply(&mut state, &mut weight)).collect();
        let is_current = |entry: &Entry| state.get(entry.key()).is_some_and(|now| now.same_allocation(entry));
        let replaced =
            self.steps.iter().filter(|step| step.write == StepWrite::Put && !is_current(&step.entry));
        replaced.for_each(|step| weight.hold(&step.entry));
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
            weight,
            gap: false,
            provisional: false,
        })
    }
}

impl RestoredChange {
    fn apply(self, state: &mut Snapshot, weight: &mut Weight) -> Option<Delta> {
        match self {
            Self::Put(entry, revision) => {
                let old = state.get(entry.key()).cloned();
                state.put(entry.clone(), old.as_ref());
                weight.replace(old.as_ref(), Some(&entry));
                let kind = if old.is_some() { DeltaKind::Updated } else { DeltaKind::New };
                Some(Delta { kind, entry, revision })
            }
            Self::Deleted(key, revision) => {
                let entry = state.get(key.as_bytes()).cloned()?;
                state.remove(&entry);
                weight.replace(Some(&entry), None);
                Some(Delta { kind: DeltaKind::Deleted, entry: key_only(&entry), revision })
            }
        }
    }
}
