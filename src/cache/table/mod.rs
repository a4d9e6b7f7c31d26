//! A persistent hash table: a clone is O(1) and never sees later changes.
//!
//! # The algorithm
//!
//! A tree, eight wide. A key's hash says where it lies: three bits a level, the lowest first. A
//! *leaf* is one allocation with up to sixteen entries and a byte of each one's hash, so that a
//! lookup touches no entry but the right one; a leaf that would grow beyond that becomes a branch
//! of eight, and a branch whose leaves would fit into half of one becomes a leaf again. Once the
//! hash is used up (21 levels; it takes 17 keys with the same 63 bits) a leaf grows without bound.
//!
//! A change copies the nodes from the root to one leaf, except those that nobody else holds. What
//! that costs is the reference counts: a copied node counts up each of its children, and at a
//! million keys each of those is a cache miss, once more when the old node is dropped. Hence the
//! narrow nodes: per update about ten such misses.
//!
//! # Why not `im`
//!
//! imbl's map is 32 wide and keeps room for 16 or 32 pairs of 16 bytes in each leaf, whatever is in
//! it. The same updates of the same entries, 100 to a snapshot (2 cores, mimalloc):
//!
//! | keys | imbl 7 | this |
//! |---|---|---|
//! | 100,000 | 0.87M/s, 98 bytes a key | 1.35M/s, 20 bytes |
//! | 1,000,000 | 0.43M/s, 78 bytes a key | 0.81M/s, 25 bytes |
//!
//! How full imbl's leaves are depends on the number of keys: 33 bytes at 500,000, 107 at two million.

mod entries;
mod node;
#[cfg(test)]
mod tests;

use std::hash::{BuildHasher, RandomState};
use std::panic::resume_unwind;
use std::thread;

use triomphe::Arc;

use crate::model::Entry;
use entries::Entries;
pub(super) use entries::Iter;
use node::{
    BITS, LEAF_CAPACITY, MAX_DEPTH, Node, WIDTH, build_node, child, find, grow, leaf_of, remove, replace,
    split,
};

/// Entries by their keys. The hasher is the standard library's, seeded per table: keys come from
/// outside.
#[derive(Clone)]
pub(super) struct Table<S = RandomState> {
    root: Node,
    len: usize,
    hasher: S,
}

/// Entries for a table that is built at once, grouped by the root's children.
#[derive(Default)]
pub(super) struct Part {
    groups: [Vec<(u64, Entry)>; WIDTH],
}

impl Part {
    /// The hasher must be the table's.
    pub(super) fn add(&mut self, entry: Entry, hasher: &impl BuildHasher) {
        let hash = hasher.hash_one(entry.key());
        self.groups[child(hash)].push((hash, entry));
    }
}

impl Table {
    pub(super) fn new() -> Self {
        Self::with_hasher(RandomState::new())
    }
}

impl<S: BuildHasher> Table<S> {
    fn with_hasher(hasher: S) -> Self {
        Self { root: Node::Empty, len: 0, hasher }
    }

    /// A table of all these entries, built by one thread per child of the root. Of several entries with the same key the
    /// last one stays.
    pub(super) fn of_parts(hasher: S, parts: Vec<Part>) -> Self {
        let mut groups: [Vec<(u64, Entry)>; WIDTH] = Default::default();
        for part in parts {
            groups.iter_mut().zip(part.groups).for_each(|(group, mut more)| group.append(&mut more));
        }
        if groups.iter().map(Vec::len).sum::<usize>() <= LEAF_CAPACITY {
            let (root, len) = build_node(groups.into_iter().flatten().collect(), 0);
            return Self { root, len, hasher };
        }
        let build = |group| move || build_node(group, 1);
        let children = thread::scope(|scope| {
            let threads = groups.map(|group| scope.spawn(build(group)));
            threads.map(|thread| thread.join().unwrap_or_else(|panic| resume_unwind(panic)))
        });
        let len = children.iter().map(|(_, len)| len).sum();
        Self { root: Node::Branch(Arc::new(children.map(|(node, _)| node))), len, hasher }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn get(&self, key: &[u8]) -> Option<&Entry> {
        let hash = self.hasher.hash_one(key);
        let (mut node, mut path) = (&self.root, hash);
        loop {
            match node {
                Node::Empty => return None,
                Node::Leaf(leaf) => return find(leaf, hash, key).map(|at| &leaf.slice[at]),
                Node::Branch(children) => {
                    node = &children[child(path)];
                    path >>= BITS;
                }
            }
        }
    }

    /// Sets the entry of its key, and returns the one that it replaces.
    pub(super) fn insert(&mut self, entry: Entry) -> Option<Entry> {
        let hash = self.hasher.hash_one(entry.key());
        let (mut node, mut depth) = (&mut self.root, 0);
        while let Node::Branch(children) = node {
            node = &mut Arc::make_mut(children)[child(hash >> (depth * BITS))];
            depth += 1;
        }
        let Node::Leaf(leaf) = node else {
            *node = leaf_of([(hash, entry)].into_iter());
            self.len += 1;
            return None;
        };
        if let Some(at) = find(leaf, hash, entry.key()) {
            return Some(replace(leaf, at, entry));
        }
        self.len += 1;
        if leaf.slice.len() < LEAF_CAPACITY || depth == MAX_DEPTH {
            *leaf = grow(leaf, hash, entry);
        } else {
            *node = split(node, depth, hash, entry, &self.hasher);
        }
        None
    }

    /// Removes the entry of a key.
    pub(super) fn remove(&mut self, key: &[u8]) -> Option<Entry> {
        let hash = self.hasher.hash_one(key);
        // Removing an absent key must not copy any node.
        self.get(key)?;
        let removed = remove(&mut self.root, hash, hash, key, &self.hasher)?;
        self.len -= 1;
        Some(removed)
    }

    /// All entries, in no order that means anything.
    pub(super) fn iter(&self) -> Iter<'_> {
        Iter { entries: Entries::of(&self.root), left: self.len }
    }
}
