//! What a breadcrumb keeps in memory beyond the newest state: the window's limit in bytes is about this.
//!
//! A breadcrumb holds its lists of deltas and steps for as long as it is kept. What it *replaced*, the old entries and the
//! old nodes of the tree, is held by the state of the breadcrumb before it, and is freed with that one. A new entry is
//! part of the current state, and weighs nothing until another breadcrumb replaces it.
//!
//! An estimate: within a fifth of what was measured, from 1,000 to a million keys and from 1 to 1,000 updates.

use super::breadcrumb::{Crumb, KnownPast, Step};
use crate::model::Entry;

/// What one updated key costs in copied tree nodes, in bytes: its leaf, and a branch for each level
/// that it does not share with the breadcrumb's other keys.
const LEAF_BYTES: usize = 100;
const BRANCH_BYTES: usize = 160;

/// What a tree costs for each of its keys, in bytes.
const TREE_BYTES: usize = 30;

/// What a breadcrumb costs beside its lists and nodes: its places on the trail and in the window.
const PLACE_BYTES: usize = 250;

/// What an entry costs beside its key and value.
const ENTRY_BYTES: usize = 64;

/// Of an entry with a value up to this size, who needs the key only takes a share; of a larger one it copies the key.
const SHARED_VALUE_BYTES: usize = 256;

/// An entry with the key of this one that keeps no large value in memory.
pub(super) fn key_holder(entry: &Entry) -> Entry {
    if entry.value().len() <= SHARED_VALUE_BYTES {
        return entry.clone();
    }
    let holder = Entry::new(entry.key(), b"", entry.ttl());
    entry.revision().map_or(holder.clone(), |revision| holder.at(revision))
}

/// What a breadcrumb's changes weigh.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Weight {
    /// Held by its lists.
    held: usize,
    /// Held by the state before.
    replaced: usize,
}

impl Weight {
    /// A key that had the one entry and has the other now.
    pub(super) fn replace(&mut self, before: Option<&Entry>, now: Option<&Entry>) {
        let Some(before) = before else { return };
        match now {
            Some(now) if now.same_allocation(before) => {}
            Some(_) => self.replaced += entry_bytes(before),
            // The delta of a deletion holds what it needs of the entry; only a large one is let go with the state before.
            None if before.value().len() > SHARED_VALUE_BYTES => {
                self.replaced += entry_bytes(before);
                self.held += ENTRY_BYTES + before.key().len();
            }
            None => self.held += entry_bytes(before),
        }
    }

    /// An entry that only a list holds.
    pub(super) fn hold(&mut self, entry: &Entry) {
        self.held += entry_bytes(entry);
    }

    /// The whole tree was replaced, of so many keys.
    pub(super) fn replace_tree(&mut self, keys: usize) {
        self.replaced += keys * TREE_BYTES;
    }

    /// What the breadcrumb holds itself.
    pub(super) fn held_by(self, crumb: &Crumb) -> usize {
        let lists = size_of_val(&*crumb.deltas) + size_of_val(&*crumb.steps);
        lists + size_of::<Crumb>() + PLACE_BYTES + self.held
    }

    /// What the state before it holds, of so many keys.
    pub(super) fn replaced_by(self, crumb: &Crumb, keys: usize) -> usize {
        // A key that is new has no leaf of its own before.
        let changed = crumb.deltas.len().min(keys);
        let levels = (keys / (8 * changed.max(1))).checked_ilog(8).unwrap_or(0) as usize;
        changed * (LEAF_BYTES + levels * BRANCH_BYTES) + self.replaced
    }
}

/// What a step of a known past weighs with this key.
pub(super) fn step_bytes(key: &[u8]) -> usize {
    size_of::<Step>() + ENTRY_BYTES + key.len()
}

impl KnownPast {
    /// What it weighs.
    pub(super) fn bytes(&self) -> usize {
        self.steps.iter().map(|step| step_bytes(step.entry.key())).sum()
    }
}

fn entry_bytes(entry: &Entry) -> usize {
    entry.payload_bytes() + ENTRY_BYTES
}
