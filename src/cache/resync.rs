//! A resync: the feed reads everything again while the old state is still served.

use std::collections::HashSet;

use super::Snapshot;
use crate::model::{Entry, Revision, SyncStatus};

/// What is remembered between the begin and the end of a resync.
///
/// Meanwhile the store's map already holds the new values; what is served is the last
/// breadcrumb's state, which `rollback` still is.
pub(super) struct Resync {
    /// The state to go back to when the feed begins anew or is cut off.
    pub(super) rollback: Snapshot,
    /// The revision of everything up to the end, when all is one revision.
    pub(super) whole_at: Option<Revision>,
    /// The revision that `whole_at` turned into with the first change.
    pub(super) assigned: Option<Revision>,
    /// `in-sync` that came before the end: it is seen with the data, not before it.
    pub(super) status: Option<SyncStatus>,
    /// Addresses of the entries in the store's map that the feed has named again: 8 bytes a key
    /// instead of a second map. An address leaves the set when its entry leaves the map, so it is
    /// never mistaken for a later entry in the same place.
    seen: HashSet<usize>,
}

impl Resync {
    pub(super) fn begin(rollback: Snapshot, whole_at: Option<Revision>) -> Self {
        let seen = HashSet::with_capacity(rollback.len());
        Self { rollback, whole_at, assigned: None, status: None, seen }
    }

    pub(super) fn saw(&mut self, entry: &Entry) {
        self.seen.insert(entry.address());
    }

    pub(super) fn lost(&mut self, entry: &Entry) {
        self.seen.remove(&entry.address());
    }

    /// The entries that did not come again.
    pub(super) fn unseen(&self, now: &Snapshot) -> Vec<Entry> {
        if self.seen.len() == now.len() {
            return Vec::new();
        }
        now.iter().filter(|entry| !self.seen.contains(&entry.address())).cloned().collect()
    }
}
