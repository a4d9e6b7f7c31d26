//! A state that is there as a whole, as a cache begins with it after a warm start.
//!
//! To go through the ingest task entry by entry would take a second and more for a million keys: each
//! is looked up in a growing table, and at the end all are compared with the state before, which is empty.
//! So several threads take the entries, whichever come to each, and the table is built of them at once.

use std::hash::RandomState;

use super::Snapshot;
use super::table::{self, Table};
use crate::model::{Digest, Entry, History, Revision};

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
