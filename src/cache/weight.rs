//! The memory that a breadcrumb holds beyond the newest state, which the window's limit in bytes bounds.
//!
//! A breadcrumb holds its lists of deltas and steps for as long as it is in the window. The entries and tree nodes that it
//! *replaced* are held by the state of the breadcrumb before it, and are freed with that one. A new entry is part of the
//! current state, and weighs nothing until another breadcrumb replaces it.
//!
//! The figures are estimates: within a fifth of the measured bytes, from 1,000 to a million keys and from 1 to 1,000
//! updates.

use super::breadcrumb::{BreadcrumbData, KnownPast, Step};
use crate::model::Entry;

/// The copied tree nodes of one updated key, in bytes: its leaf, and a branch for each level that it does not share with
/// the breadcrumb's other keys.
const LEAF_BYTES: usize = 100;
const BRANCH_BYTES: usize = 160;

/// The tree nodes of a whole state, in bytes per key.
const TREE_BYTES_PER_KEY: usize = 30;

/// The fixed bytes of a breadcrumb: its item of the trail and its entry of the window.
const LINK_BYTES: usize = 250;

/// The bytes of an entry beside its key and value.
const ENTRY_BYTES: usize = 64;

/// The largest value, in bytes, that a deletion's delta keeps alive. The key of an entry with a larger value is copied.
const SHARED_VALUE_BYTES: usize = 256;

/// An entry with the same key and revision that keeps no large value in memory.
pub(super) fn key_only(entry: &Entry) -> Entry {
    if entry.value().len() <= SHARED_VALUE_BYTES {
        return entry.clone();
    }
    let copy = Entry::new(entry.key(), b"", entry.ttl());
    entry.revision().map_or(copy.clone(), |revision| copy.at(revision))
}

/// The bytes of a breadcrumb's changes.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Weight {
    /// Bytes held by the breadcrumb's lists.
    held: usize,
    /// Bytes held by the state of the breadcrumb before.
    replaced: usize,
}

impl Weight {
    /// Counts the change of a key from one entry to another.
    pub(super) fn replace(&mut self, before: Option<&Entry>, now: Option<&Entry>) {
        let Some(before) = before else { return };
        match now {
            Some(now) if now.same_allocation(before) => {}
            Some(_) => self.replaced += entry_bytes(before),
            // The delta of a deletion keeps a small entry alive, and of a large one only a copy of the key.
            None if before.value().len() > SHARED_VALUE_BYTES => {
                self.replaced += entry_bytes(before);
                self.held += ENTRY_BYTES + before.key().len();
            }
            None => self.held += entry_bytes(before),
        }
    }

    /// Counts an entry that only a list holds.
    pub(super) fn hold(&mut self, entry: &Entry) {
        self.held += entry_bytes(entry);
    }

    /// Counts the replacement of a whole tree with `keys` keys.
    pub(super) fn replace_tree(&mut self, keys: usize) {
        self.replaced += keys * TREE_BYTES_PER_KEY;
    }

    /// The bytes that the breadcrumb itself holds.
    pub(super) fn held_by(self, crumb: &BreadcrumbData) -> usize {
        let lists = size_of_val(&*crumb.deltas) + size_of_val(&*crumb.steps);
        lists + size_of::<BreadcrumbData>() + LINK_BYTES + self.held
    }

    /// The bytes that the state before it, with `keys` keys, holds because of it.
    pub(super) fn replaced_by(self, crumb: &BreadcrumbData, keys: usize) -> usize {
        // There is no more to replace than the old keys.
        let changed = crumb.deltas.len().min(keys);
        let levels = (keys / (8 * changed.max(1))).checked_ilog(8).unwrap_or(0) as usize;
        changed * (LEAF_BYTES + levels * BRANCH_BYTES) + self.replaced
    }
}

/// The bytes of a step with this key.
pub(super) fn step_bytes(key: &[u8]) -> usize {
    size_of::<Step>() + ENTRY_BYTES + key.len()
}

impl KnownPast {
    /// The bytes of its steps.
    pub(super) fn bytes(&self) -> usize {
        self.steps.iter().map(|step| step_bytes(step.entry.key()) + step.entry.value().len()).sum()
    }
}

fn entry_bytes(entry: &Entry) -> usize {
    entry.payload_bytes() + ENTRY_BYTES
}
