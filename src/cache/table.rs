//! A persistent hash table: a clone is O(1), and whoever holds one sees no later change.
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

use std::hash::{BuildHasher, RandomState};
use std::mem;
use std::panic::resume_unwind;
use std::slice;
use std::thread;

use triomphe::{Arc, ThinArc};

use crate::model::Entry;

/// Bits of the hash that choose a child.
const BITS: u32 = 3;

const WIDTH: usize = 1 << BITS;

/// Branches above a leaf, at most: the hash has no more bits to tell its entries apart.
const MAX_DEPTH: u32 = u64::BITS / BITS;

/// Most entries in a leaf, as long as the hash can tell them apart.
const LEAF: usize = 16;

/// Entries by their keys. The hasher is the standard library's, seeded per table: keys come from
/// outside.
#[derive(Clone)]
pub(super) struct Table<S = RandomState> {
    root: Node,
    len: usize,
    hasher: S,
}

#[derive(Clone)]
enum Node {
    Empty,
    Leaf(Leaf),
    Branch(Arc<[Node; WIDTH]>),
}

/// Entries for a table that is built at once, by the root's child to which they belong.
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

/// Entries, and the highest byte of the hash of each of the first sixteen.
type Leaf = ThinArc<[u8; LEAF], Entry>;

impl Table {
    pub(super) fn new() -> Self {
        Self::with_hasher(RandomState::new())
    }
}

impl<S: BuildHasher> Table<S> {
    fn with_hasher(hasher: S) -> Self {
        Self { root: Node::Empty, len: 0, hasher }
    }

    /// A table of all these entries, built by a thread for each of the root's children. Where several have
    /// the same key, the last one stays.
    pub(super) fn of_parts(hasher: S, parts: Vec<Part>) -> Self {
        let mut groups: [Vec<(u64, Entry)>; WIDTH] = Default::default();
        for part in parts {
            groups.iter_mut().zip(part.groups).for_each(|(group, mut more)| group.append(&mut more));
        }
        if groups.iter().map(Vec::len).sum::<usize>() <= LEAF {
            let (root, len) = built(groups.into_iter().flatten().collect(), 0);
            return Self { root, len, hasher };
        }
        let build = |group| move || built(group, 1);
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
        if leaf.slice.len() < LEAF || depth == MAX_DEPTH {
            *leaf = grown(leaf, hash, entry);
        } else {
            *node = split(node, depth, hash, entry, &self.hasher);
        }
        None
    }

    /// Removes the entry of a key.
    pub(super) fn remove(&mut self, key: &[u8]) -> Option<Entry> {
        let hash = self.hasher.hash_one(key);
        // A key that is not there must not copy the way to where it would be.
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

fn child(path: u64) -> usize {
    path as usize % WIDTH
}

fn tag(hash: u64) -> u8 {
    hash.to_be_bytes()[0]
}

fn find(leaf: &Leaf, hash: u64, key: &[u8]) -> Option<usize> {
    let tags = &leaf.header.header;
    let may_be = |at: usize| at >= LEAF || tags[at] == tag(hash);
    leaf.slice.iter().enumerate().position(|(at, entry)| may_be(at) && entry.key() == key)
}

fn leaf_of(entries: impl ExactSizeIterator<Item = (u64, Entry)>) -> Node {
    let mut tags = [0; LEAF];
    // The header is written before the entries are known, so they are looked at twice.
    let entries: Vec<_> = entries.collect();
    entries.iter().zip(&mut tags).for_each(|((hash, _), into)| *into = tag(*hash));
    Node::Leaf(Leaf::from_header_and_iter(tags, entries.into_iter().map(|(_, entry)| entry)))
}

/// A node of all these entries at this depth, and how many they are without repetitions.
fn built(mut entries: Vec<(u64, Entry)>, depth: u32) -> (Node, usize) {
    if entries.len() > LEAF && depth < MAX_DEPTH {
        let mut groups: [Vec<(u64, Entry)>; WIDTH] = Default::default();
        for (hash, entry) in entries {
            groups[child(hash >> (depth * BITS))].push((hash, entry));
        }
        let mut len = 0;
        let children = groups.map(|group| {
            let (node, below) = built(group, depth + 1);
            len += below;
            node
        });
        return (Node::Branch(Arc::new(children)), len);
    }
    let same = |one: &(u64, Entry), other: &(u64, Entry)| one.0 == other.0 && one.1.key() == other.1.key();
    for at in (0..entries.len()).rev() {
        if entries[at + 1..].iter().any(|later| same(&entries[at], later)) {
            entries.remove(at);
        }
    }
    match entries.len() {
        0 => (Node::Empty, 0),
        len => (leaf_of(entries.into_iter()), len),
    }
}

/// A full leaf and one entry more, as a branch.
fn split(full: &Node, depth: u32, hash: u64, entry: Entry, hasher: &impl BuildHasher) -> Node {
    let mut groups: [Vec<(u64, Entry)>; WIDTH] = Default::default();
    let old = Entries::of(full).map(|old| (hasher.hash_one(old.key()), old.clone()));
    for (hash, entry) in old.chain([(hash, entry)]) {
        groups[child(hash >> (depth * BITS))].push((hash, entry));
    }
    let overfull = groups.iter().position(|group| group.len() > LEAF && depth + 1 < MAX_DEPTH);
    let last = overfull.and_then(|at| Some((at, groups[at].pop()?)));
    let mut children = groups.map(|group| match group.is_empty() {
        true => Node::Empty,
        false => leaf_of(group.into_iter()),
    });
    if let Some((at, (hash, entry))) = last {
        // All sixteen went the same way, and the new one too.
        children[at] = split(&children[at], depth + 1, hash, entry, hasher);
    }
    Node::Branch(Arc::new(children))
}

/// Puts the entry in the place of another one with the same key, and so with the same hash.
fn replace(leaf: &mut Leaf, at: usize, entry: Entry) -> Entry {
    let mut entry = Some(entry);
    let in_place = leaf.with_arc_mut(|shared| {
        let slots = Arc::get_mut(shared)?.slice_mut();
        Some(mem::replace(&mut slots[at], entry.take()?))
    });
    if let Some(old) = in_place {
        return old;
    }
    let old = leaf.slice[at].clone();
    let slots = leaf.slice.iter().enumerate();
    let entries = slots.map(|(i, other)| match i == at {
        true => entry.take().unwrap_or_else(|| other.clone()),
        false => other.clone(),
    });
    *leaf = Leaf::from_header_and_iter(leaf.header.header, entries);
    old
}

fn grown(leaf: &Leaf, hash: u64, entry: Entry) -> Leaf {
    let (mut tags, len) = (leaf.header.header, leaf.slice.len());
    if let Some(free) = tags.get_mut(len) {
        *free = tag(hash);
    }
    let entries = (0..len + 1).map(|at| leaf.slice.get(at).unwrap_or(&entry).clone());
    Leaf::from_header_and_iter(tags, entries)
}

/// Removes a key that is there.
fn remove(node: &mut Node, hash: u64, path: u64, key: &[u8], hasher: &impl BuildHasher) -> Option<Entry> {
    match node {
        Node::Empty => None,
        Node::Leaf(leaf) => {
            let at = find(leaf, hash, key)?;
            let removed = leaf.slice[at].clone();
            *node = shrunk(leaf, at, hasher);
            Some(removed)
        }
        Node::Branch(children) => {
            let removed = remove(&mut Arc::make_mut(children)[child(path)], hash, path >> BITS, key, hasher);
            if let Some(few) = few_entries(children) {
                *node = leaf_of(few.into_iter().map(|entry| (hasher.hash_one(entry.key()), entry)));
            }
            removed
        }
    }
}

fn shrunk(leaf: &Leaf, at: usize, hasher: &impl BuildHasher) -> Node {
    let rest = leaf.slice.iter().enumerate().filter(|(i, _)| *i != at).map(|(_, entry)| entry);
    match leaf.slice.len() {
        1 => Node::Empty,
        2..=LEAF => {
            let mut tags = leaf.header.header;
            tags.copy_within(at + 1.., at);
            let rest: Vec<_> = rest.cloned().collect();
            Node::Leaf(Leaf::from_header_and_iter(tags, rest.into_iter()))
        }
        // Entries without a tag move to places with one.
        _ => {
            let rest: Vec<_> = rest.map(|entry| (hasher.hash_one(entry.key()), entry.clone())).collect();
            leaf_of(rest.into_iter())
        }
    }
}

/// The entries below a branch, if they are so few that they should be one leaf.
fn few_entries(children: &[Node; WIDTH]) -> Option<Vec<Entry>> {
    let mut sum = 0;
    for node in children {
        match node {
            Node::Empty => {}
            Node::Leaf(leaf) => sum += leaf.slice.len(),
            Node::Branch(_) => return None,
        }
        if sum > LEAF / 2 {
            return None;
        }
    }
    Some(children.iter().flat_map(Entries::of).cloned().collect())
}

/// The entries of a table.
pub(super) struct Iter<'a> {
    entries: Entries<'a>,
    left: usize,
}

impl<'a> Iterator for Iter<'a> {
    type Item = &'a Entry;

    fn next(&mut self) -> Option<&'a Entry> {
        let entry = self.entries.next()?;
        self.left -= 1;
        Some(entry)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for Iter<'_> {}

/// The entries below a node.
struct Entries<'a> {
    leaf: slice::Iter<'a, Entry>,
    /// What is left of the branches above the leaf.
    above: Vec<slice::Iter<'a, Node>>,
}

impl<'a> Entries<'a> {
    fn of(node: &'a Node) -> Self {
        Self { leaf: [].iter(), above: vec![slice::from_ref(node).iter()] }
    }
}

impl<'a> Iterator for Entries<'a> {
    type Item = &'a Entry;

    fn next(&mut self) -> Option<&'a Entry> {
        loop {
            if let Some(entry) = self.leaf.next() {
                return Some(entry);
            }
            match self.above.last_mut()?.next() {
                Some(Node::Empty) => {}
                Some(Node::Leaf(leaf)) => self.leaf = leaf.slice.iter(),
                Some(Node::Branch(children)) => self.above.push(children.iter()),
                None => _ = self.above.pop(),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::hash::{BuildHasherDefault, Hasher};

    use proptest::prelude::*;

    use super::*;

    /// Keeps only a few bits, or none, so that leaves overflow at every depth.
    #[derive(Default)]
    struct Poor<const MASK: u64>(u64);

    impl<const MASK: u64> Hasher for Poor<MASK> {
        fn write(&mut self, bytes: &[u8]) {
            for byte in bytes {
                self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
            }
        }

        fn finish(&self) -> u64 {
            self.0 & MASK
        }
    }

    type Model = BTreeMap<Vec<u8>, Vec<u8>>;

    fn check<S: BuildHasher>(table: &Table<S>, model: &Model) {
        let mut found: Vec<_> = table.iter().map(|entry| (entry.key(), entry.value())).collect();
        assert_eq!((table.len(), table.iter().len(), found.len()), (model.len(), model.len(), model.len()));
        found.sort_unstable();
        assert!(found.into_iter().eq(model.iter().map(|(key, value)| (&key[..], &value[..]))));
    }

    fn run<S: BuildHasher + Default + Clone>(changes: &[(u16, Option<u8>)], snapshot_every: usize) {
        let (mut table, mut model) = (Table::with_hasher(S::default()), Model::new());
        let mut held = Vec::new();
        for (i, (key, value)) in changes.iter().enumerate() {
            let key = key.to_le_bytes().to_vec();
            let (old, expected) = match value {
                Some(value) => {
                    (table.insert(Entry::new(&key, &[*value], None)), model.insert(key.clone(), vec![*value]))
                }
                None => (table.remove(&key), model.remove(&key)),
            };
            assert_eq!(old.map(|entry| entry.value().to_vec()), expected);
            assert_eq!(table.get(&key).map(|entry| entry.value().to_vec()), model.get(&key).cloned());
            assert_eq!(table.len(), model.len());
            if i % snapshot_every == 0 {
                held.push((table.clone(), model.clone()));
            }
        }
        check(&table, &model);
        held.iter().for_each(|(table, model)| check(table, model));
        for key in model.keys() {
            assert!(table.remove(key).is_some());
        }
        assert!(table.len() == 0 && matches!(table.root, Node::Empty), "an empty table holds nothing");
        held.iter().for_each(|(table, model)| check(table, model));
    }

    /// A table that is built at once is the one that the same entries make one by one, and goes on like it.
    fn build<S: BuildHasher + Default + Clone>(changes: &[(u16, Option<u8>)], parts: usize) {
        let hasher = S::default();
        let mut model = Model::new();
        let mut all: Vec<Part> = (0..parts).map(|_| Part::default()).collect();
        for (i, (key, value)) in changes.iter().enumerate() {
            let (key, value) = (key.to_le_bytes().to_vec(), vec![value.unwrap_or_default()]);
            // The same key in several parts: the last part's stays.
            if model.contains_key(&key) && i % 3 > 0 {
                continue;
            }
            let part = model.len() * parts / (changes.len() + 1);
            all[part].add(Entry::new(&key, &value, None), &hasher);
            model.insert(key, value);
        }
        let mut table = Table::of_parts(hasher, all);
        check(&table, &model);
        for (key, value) in changes {
            let key = key.to_le_bytes().to_vec();
            match value {
                Some(value) => {
                    table.insert(Entry::new(&key, &[*value], None));
                    model.insert(key, vec![*value]);
                }
                None => {
                    table.remove(&key);
                    model.remove(&key);
                }
            }
        }
        check(&table, &model);
    }

    fn changes() -> impl Strategy<Value = Vec<(u16, Option<u8>)>> {
        let keys = prop_oneof![Just(20u16), Just(300), Just(u16::MAX)];
        let change = |most| (0..most, prop::option::weighted(0.7, any::<u8>()));
        keys.prop_flat_map(move |most| prop::collection::vec(change(most), 0..700))
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn a_table_is_a_map_and_a_clone_never_changes(changes in changes(), every in 1..300usize) {
            run::<RandomState>(&changes, every);
        }

        #[test]
        fn a_table_built_at_once_is_the_same_table(changes in changes(), parts in 1..4usize) {
            build::<RandomState>(&changes, parts);
            build::<BuildHasherDefault<Poor<0xff>>>(&changes, parts);
            build::<BuildHasherDefault<Poor<0>>>(&changes, parts);
        }

        #[test]
        fn keys_whose_hashes_collide_are_still_different_keys(changes in changes(), every in 1..300usize) {
            run::<BuildHasherDefault<Poor<0xff>>>(&changes, every);
            run::<BuildHasherDefault<Poor<{ 0xf << 58 }>>>(&changes, every);
            run::<BuildHasherDefault<Poor<0>>>(&changes, every);
        }
    }
}
