//! The page tree: all entries of a state in key order, as a persistent sequence of pages.
//!
//! ```text
//! PageTree ── group ── page ── entries
//!       │        ├─ page
//!       │        └─ page …        8 to 64 pages a group
//!       └─ group …                a clone of PageTree is one reference count
//! ```
//!
//! A change of `d` keys replaces at most `d` pages and their groups. All others are shared with the other versions,
//! together with their encoded bytes. Two levels are enough: a million keys are thirty thousand pages in a thousand
//! groups, and replacing a page copies the list of groups and the list of one group's pages.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use super::encoded::Encoded;
use super::idle_bytes::IdleBytes;
use super::page::{Encoder, Holders, Page, Piece, weight_of};
use super::rebalance::Rebalance;
use crate::cache::Snapshot;
use crate::model::Entry;
use crate::view::Format;
use crate::view::body::Run;
use crate::view::lease::SharedBytes;
use crate::wire::{Checksum, WireError};

/// A changed key and its new entry.
pub(super) struct Change {
    /// Any entry with the key.
    pub(super) key: Entry,
    /// The new entry; `None` if the key was deleted.
    pub(super) now: Option<Entry>,
}

/// A state's entries in key order. A clone is O(1) and never changes.
#[derive(Clone, Default)]
pub(in crate::view) struct PageTree {
    groups: Arc<Vec<Arc<Group>>>,
    /// The number of entries.
    len: usize,
    /// Counts the encoded bytes of all versions.
    idle: IdleBytes,
}

/// Consecutive pages; at least one.
pub(super) struct Group {
    pages: Vec<Arc<Page>>,
    runs: Encoded<PieceRun>,
}

/// Consecutive pages in one format.
pub(super) struct PieceRun {
    pub(super) parts: Run,
    pieces: Box<[Arc<Piece>]>,
    /// The bodies in flight that contain it.
    holders: Holders,
    /// The length of all parts.
    pub(super) bytes: u64,
    pub(super) checksum: Checksum,
}

/// The position right before an entry; ordered like the keys.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct TreePosition {
    pub(super) group: usize,
    pub(super) page: usize,
    pub(super) entry: usize,
}

impl PageTree {
    /// Sorts a whole state. The encoded bytes are counted in `idle`.
    pub(super) fn of(state: &Snapshot, idle: IdleBytes) -> Self {
        let mut entries: Vec<Entry> = state.iter().cloned().collect();
        entries.sort_unstable_by(|a, b| a.key().cmp(b.key()));
        Self::of_sorted(entries, idle)
    }

    pub(super) fn of_sorted(entries: Vec<Entry>, idle: IdleBytes) -> Self {
        let len = entries.len();
        let mut rebalance = Rebalance::default();
        let weight = entries.iter().map(weight_of).sum();
        rebalance.entries(entries, weight);
        Self { groups: Arc::new(rebalance.finish()), len, idle }
    }

    /// The number of entries.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn groups(&self) -> &[Arc<Group>] {
        &self.groups
    }

    /// Applies changes, which are in key order with each key once.
    pub(super) fn apply(&mut self, changes: &[Change]) {
        if changes.is_empty() {
            return;
        }
        let touched = changes_by_item(&self.groups, changes, |group| group.first_key());
        let groups = std::mem::take(&mut self.groups);
        let mut groups = Arc::try_unwrap(groups).unwrap_or_else(|shared| (*shared).clone()).into_iter();
        let mut rebalance = Rebalance::default();
        if groups.len() == 0 {
            self.edit(Vec::new(), 0, changes, &mut rebalance);
        }
        let mut done = 0;
        for (at, changes) in touched {
            groups.by_ref().take(at - done).for_each(|group| rebalance.group(group));
            groups.next().into_iter().for_each(|group| self.apply_within(group, changes, &mut rebalance));
            done = at + 1;
        }
        groups.for_each(|group| rebalance.group(group));
        self.groups = Arc::new(rebalance.finish());
    }

    fn apply_within(&mut self, group: Arc<Group>, changes: &[Change], rebalance: &mut Rebalance) {
        let touched = changes_by_item(&group.pages, changes, |page| page.first_key());
        let mut pages = group.into_pages().into_iter();
        let mut done = 0;
        for (at, changes) in touched {
            pages.by_ref().take(at - done).for_each(|page| rebalance.page(page));
            if let Some(page) = pages.next() {
                let (entries, weight) = page.into_entries();
                self.edit(entries, weight, changes, rebalance);
            }
            done = at + 1;
        }
        pages.for_each(|page| rebalance.page(page));
        rebalance.end_of_group();
    }

    /// Merges the changes into entries, and passes the result on.
    fn edit(
        &mut self,
        entries: Vec<Entry>,
        mut weight: usize,
        changes: &[Change],
        rebalance: &mut Rebalance,
    ) {
        self.len -= entries.len();
        let mut merged = Vec::with_capacity(entries.len() + changes.len());
        let mut rest = entries.into_iter();
        for Change { key, now } in changes {
            let before = rest.as_slice().partition_point(|entry| entry.key() < key.key());
            merged.extend(rest.by_ref().take(before));
            if rest.as_slice().first().is_some_and(|entry| entry.key() == key.key()) {
                weight -= rest.next().as_ref().map_or(0, weight_of);
            }
            if let Some(now) = now {
                weight += weight_of(now);
                merged.push(now.clone());
            }
        }
        merged.extend(rest);
        self.len += merged.len();
        rebalance.entries(merged, weight);
    }

    /// The position of the first entry for whose key `before` is false. `before` partitions the keys.
    pub(super) fn position(&self, before: impl Fn(&[u8]) -> bool) -> TreePosition {
        let number = |past: usize| past.saturating_sub(1);
        let group = number(self.groups.partition_point(|group| before(group.first_key())));
        let start = TreePosition { group, page: 0, entry: 0 };
        let Some(pages) = self.groups.get(group).map(|group| &group.pages) else { return start };
        let page = number(pages.partition_point(|page| before(page.first_key())));
        let Some(entries) = pages.get(page).map(|page| page.entries()) else { return start };
        let entry = entries.partition_point(|entry| before(entry.key()));
        // The end of a page or group is the start of the next one.
        match (entry < entries.len(), page + 1 < pages.len()) {
            (true, _) => TreePosition { group, page, entry },
            (false, true) => TreePosition { group, page: page + 1, entry: 0 },
            (false, false) => TreePosition { group: group + 1, page: 0, entry: 0 },
        }
    }

    /// The range of the keys with this prefix.
    pub(super) fn prefix_range(&self, prefix: &[u8]) -> Range<TreePosition> {
        self.position(|key| key < prefix)..self.position(|key| key < prefix || key.starts_with(prefix))
    }

    pub(super) fn page(&self, at: TreePosition) -> Option<&Arc<Page>> {
        self.groups.get(at.group)?.pages.get(at.page)
    }

    /// The entries with this prefix, and after this key if one is given, in key order.
    pub(in crate::view) fn list<'a>(
        &'a self,
        prefix: &'a [u8],
        after: Option<&[u8]>,
    ) -> impl Iterator<Item = &'a Entry> {
        let start = match after {
            Some(after) if after >= prefix => self.position(|key| key <= after),
            _ => self.position(|key| key < prefix),
        };
        self.iter_from(start).take_while(move |entry| entry.key().starts_with(prefix))
    }

    /// The entries from this key on, in key order.
    #[cfg(feature = "etcd")]
    pub(in crate::view) fn from(&self, start: &[u8]) -> impl Iterator<Item = &Entry> {
        self.iter_from(self.position(|key| key < start))
    }

    fn iter_from(&self, start: TreePosition) -> impl Iterator<Item = &Entry> {
        let pages = self.groups.get(start.group..).unwrap_or_default().iter().flat_map(|group| &group.pages);
        pages.skip(start.page).flat_map(|page| page.entries()).skip(start.entry)
    }

    pub(super) fn idle(&self) -> &IdleBytes {
        &self.idle
    }

    /// How many encoded bytes of this version no request is sending, by format.
    pub(super) fn idle_by_format(&self) -> HashMap<Format, u64> {
        let mut by_format = HashMap::new();
        for page in self.groups.iter().flat_map(|group| &group.pages) {
            page.idle_by_format(|format, bytes| *by_format.entry(format).or_default() += bytes);
        }
        by_format
    }

    /// Drops the encoded bytes of the other formats, except those that are being sent.
    pub(super) fn retain_formats(&self, retain: impl Fn(Format) -> bool) {
        for group in self.groups.iter() {
            group.runs.retain(|format, run| retain(format) || run.holders.any());
            group.pages.iter().for_each(|page| page.retain_formats(&retain));
        }
    }
}

impl Group {
    pub(super) fn new(pages: Vec<Arc<Page>>) -> Arc<Self> {
        debug_assert!(!pages.is_empty());
        Arc::new(Self { pages, runs: Encoded::new() })
    }

    pub(super) fn pages(&self) -> &[Arc<Page>] {
        &self.pages
    }

    fn first_key(&self) -> &[u8] {
        self.pages.first().map_or(&[], |page| page.first_key())
    }

    /// The pages; their list is copied only if the group is shared.
    pub(super) fn into_pages(self: Arc<Self>) -> Vec<Arc<Page>> {
        Arc::try_unwrap(self).map_or_else(|shared| shared.pages.clone(), |group| group.pages)
    }

    /// About how many bytes the pages would add to those in flight.
    pub(super) fn unheld_bytes(&self, pages: Range<usize>, format: Format) -> u64 {
        match self.runs.get(format) {
            Some(run) if run.holders.any() => 0,
            _ => self.pages[pages].iter().map(|page| page.unheld_bytes(format)).sum(),
        }
    }

    /// All pages of the group, encoded.
    pub(super) fn run(&self, encoder: &mut Encoder) -> Result<Arc<PieceRun>, WireError> {
        self.runs.get_or_encode(encoder.format, || PieceRun::of(&self.pages, encoder))
    }
}

impl PieceRun {
    pub(super) fn of(pages: &[Arc<Page>], encoder: &mut Encoder) -> Result<Self, WireError> {
        let mut checksum = Checksum::default();
        let mut pieces = Vec::with_capacity(pages.len());
        for page in pages {
            let piece = page.piece(encoder)?;
            checksum.append(&piece.checksum);
            pieces.push(piece);
        }
        let parts = pieces.iter().map(|piece| piece.bytes.clone()).collect();
        let bytes = length(&pieces, |_| true);
        Ok(Self { parts, pieces: pieces.into(), holders: Holders::default(), bytes, checksum })
    }

    /// The count of its pieces' bytes.
    fn idle(&self) -> Option<&IdleBytes> {
        self.pieces.first().map(|piece| &piece.idle)
    }
}

/// A run counts its pieces while a body in flight contains it. A piece may be in several runs, and is counted once.
impl SharedBytes for PieceRun {
    fn hold(&self) -> u64 {
        let bytes = if self.holders.add() { length(&self.pieces, |piece| piece.holders.add()) } else { 0 };
        self.idle().into_iter().for_each(|idle| idle.remove(bytes));
        bytes
    }

    fn release(&self) -> u64 {
        let bytes =
            if self.holders.remove() { length(&self.pieces, |piece| piece.holders.remove()) } else { 0 };
        self.idle().into_iter().for_each(|idle| idle.add(bytes));
        bytes
    }

    fn unheld(&self) -> u64 {
        if self.holders.any() { 0 } else { length(&self.pieces, |piece| !piece.holders.any()) }
    }
}

/// The length of the selected pieces.
fn length(pieces: &[Arc<Piece>], selected: impl Fn(&Piece) -> bool) -> u64 {
    pieces.iter().filter(|piece| selected(piece)).map(|piece| piece.bytes.len() as u64).sum()
}

/// The changes of each item, by its index; items without changes are left out. Changes before the first item belong to
/// it.
fn changes_by_item<'c, T>(
    items: &[T],
    changes: &'c [Change],
    first_key: impl Fn(&T) -> &[u8],
) -> Vec<(usize, &'c [Change])> {
    let (mut by_item, mut rest) = (Vec::new(), changes);
    while let Some(change) = rest.first().filter(|_| !items.is_empty()) {
        let at = items.partition_point(|item| first_key(item) <= change.key.key()).saturating_sub(1);
        let count = items.get(at + 1).map_or(rest.len(), |next| {
            let next = first_key(next);
            rest.partition_point(|change| change.key.key() < next)
        });
        let (here, later) = rest.split_at(count);
        by_item.push((at, here));
        rest = later;
    }
    by_item
}
