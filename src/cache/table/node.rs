//! Nodes: full leaves are split into branches, underfull branches are merged into leaves.

use std::hash::BuildHasher;
use std::mem;

use triomphe::{Arc, ThinArc};

use super::entries::Entries;
use crate::model::Entry;

/// The bits of the hash that choose a child.
pub(super) const BITS: u32 = 3;

pub(super) const WIDTH: usize = 1 << BITS;

/// The most branches above a leaf; the hash has no more bits to distinguish entries.
pub(super) const MAX_DEPTH: u32 = u64::BITS / BITS;

/// The most entries in a leaf above [`MAX_DEPTH`].
pub(super) const LEAF_CAPACITY: usize = 16;

#[derive(Clone)]
pub(super) enum Node {
    Empty,
    Leaf(Leaf),
    Branch(Arc<[Node; WIDTH]>),
}

/// Entries, and the highest byte of the hash of each of the first sixteen.
pub(super) type Leaf = ThinArc<[u8; LEAF_CAPACITY], Entry>;

pub(super) fn child(path: u64) -> usize {
    path as usize % WIDTH
}

fn tag(hash: u64) -> u8 {
    hash.to_be_bytes()[0]
}

pub(super) fn find(leaf: &Leaf, hash: u64, key: &[u8]) -> Option<usize> {
    let tags = &leaf.header.header;
    let may_be = |at: usize| at >= LEAF_CAPACITY || tags[at] == tag(hash);
    leaf.slice.iter().enumerate().position(|(at, entry)| may_be(at) && entry.key() == key)
}

pub(super) fn leaf_of(entries: impl ExactSizeIterator<Item = (u64, Entry)>) -> Node {
    let mut tags = [0; LEAF_CAPACITY];
    // The header is written before the entries, so they are iterated twice.
    let entries: Vec<_> = entries.collect();
    entries.iter().zip(&mut tags).for_each(|((hash, _), into)| *into = tag(*hash));
    Node::Leaf(Leaf::from_header_and_iter(tags, entries.into_iter().map(|(_, entry)| entry)))
}

/// A node of all these entries at this depth, and the number of their keys.
pub(super) fn build_node(mut entries: Vec<(u64, Entry)>, depth: u32) -> (Node, usize) {
    if entries.len() > LEAF_CAPACITY && depth < MAX_DEPTH {
        let mut groups: [Vec<(u64, Entry)>; WIDTH] = Default::default();
        for (hash, entry) in entries {
            groups[child(hash >> (depth * BITS))].push((hash, entry));
        }
        let mut len = 0;
        let children = groups.map(|group| {
            let (node, below) = build_node(group, depth + 1);
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

/// A branch with the entries of a full leaf and one more.
pub(super) fn split(full: &Node, depth: u32, hash: u64, entry: Entry, hasher: &impl BuildHasher) -> Node {
    let mut groups: [Vec<(u64, Entry)>; WIDTH] = Default::default();
    let old = Entries::of(full).map(|old| (hasher.hash_one(old.key()), old.clone()));
    for (hash, entry) in old.chain([(hash, entry)]) {
        groups[child(hash >> (depth * BITS))].push((hash, entry));
    }
    let overfull = groups.iter().position(|group| group.len() > LEAF_CAPACITY && depth + 1 < MAX_DEPTH);
    let last = overfull.and_then(|at| Some((at, groups[at].pop()?)));
    let mut children = groups.map(|group| match group.is_empty() {
        true => Node::Empty,
        false => leaf_of(group.into_iter()),
    });
    if let Some((at, (hash, entry))) = last {
        // All of them belong to the same child.
        children[at] = split(&children[at], depth + 1, hash, entry, hasher);
    }
    Node::Branch(Arc::new(children))
}

/// Replaces an entry by another one with the same key, and returns the old one.
pub(super) fn replace(leaf: &mut Leaf, at: usize, entry: Entry) -> Entry {
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

pub(super) fn grow(leaf: &Leaf, hash: u64, entry: Entry) -> Leaf {
    let (mut tags, len) = (leaf.header.header, leaf.slice.len());
    if let Some(free) = tags.get_mut(len) {
        *free = tag(hash);
    }
    let entries = (0..len + 1).map(|at| leaf.slice.get(at).unwrap_or(&entry).clone());
    Leaf::from_header_and_iter(tags, entries)
}

/// Removes a key that is present.
pub(super) fn remove(
    node: &mut Node,
    hash: u64,
    path: u64,
    key: &[u8],
    hasher: &impl BuildHasher,
) -> Option<Entry> {
    match node {
        Node::Empty => None,
        Node::Leaf(leaf) => {
            let at = find(leaf, hash, key)?;
            let removed = leaf.slice[at].clone();
            *node = shrink(leaf, at, hasher);
            Some(removed)
        }
        Node::Branch(children) => {
            let removed = remove(&mut Arc::make_mut(children)[child(path)], hash, path >> BITS, key, hasher);
            if let Some(few) = underfull_entries(children) {
                *node = leaf_of(few.into_iter().map(|entry| (hasher.hash_one(entry.key()), entry)));
            }
            removed
        }
    }
}

fn shrink(leaf: &Leaf, at: usize, hasher: &impl BuildHasher) -> Node {
    let rest = leaf.slice.iter().enumerate().filter(|(i, _)| *i != at).map(|(_, entry)| entry);
    match leaf.slice.len() {
        1 => Node::Empty,
        2..=LEAF_CAPACITY => {
            let mut tags = leaf.header.header;
            tags.copy_within(at + 1.., at);
            let rest: Vec<_> = rest.cloned().collect();
            Node::Leaf(Leaf::from_header_and_iter(tags, rest.into_iter()))
        }
        // Beyond the capacity entries have no tag; some of them get one now.
        _ => {
            let rest: Vec<_> = rest.map(|entry| (hasher.hash_one(entry.key()), entry.clone())).collect();
            leaf_of(rest.into_iter())
        }
    }
}

/// The entries below a branch, if they are few enough for one leaf.
fn underfull_entries(children: &[Node; WIDTH]) -> Option<Vec<Entry>> {
    let mut sum = 0;
    for node in children {
        match node {
            Node::Empty => {}
            Node::Leaf(leaf) => sum += leaf.slice.len(),
            Node::Branch(_) => return None,
        }
        if sum > LEAF_CAPACITY / 2 {
            return None;
        }
    }
    Some(children.iter().flat_map(Entries::of).cloned().collect())
}
