//! Iterators over the entries.

use std::slice;

use super::node::Node;
use crate::model::Entry;

/// The entries of a table.
pub(in crate::cache) struct Iter<'a> {
    pub(super) entries: Entries<'a>,
    pub(super) left: usize,
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
pub(super) struct Entries<'a> {
    leaf: slice::Iter<'a, Entry>,
    /// The unvisited children of each branch above the leaf.
    above: Vec<slice::Iter<'a, Node>>,
}

impl<'a> Entries<'a> {
    pub(super) fn of(node: &'a Node) -> Self {
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
