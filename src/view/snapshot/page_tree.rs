//! All entries of a state in key order, as a persistent sequence of pages.
//!
//! ```text
//! PageTree ── group ── page ── entries
//!       │        ├─ page
//!       │        └─ page …        8 to 64 pages a group
//!       └─ group …                a clone of PageTree is one reference count
//! ```
//!
//! A change of `d` keys replaces at most `d` pages and their groups; what is not replaced is shared
//! with all other versions, and so is what was encoded of it. Two levels are enough: a million keys
//! are thirty thousand pages in a thousand groups, and to replace one page copies the list of
//! groups and that of one group's pages.

use std::ops::Range;
use std::sync::Arc;

use super::encoded::Encoded;
use super::page::{Encoder, Page, weight_of};
use super::rebalance::Rebalance;
use crate::cache::Snapshot;
use crate::model::Entry;
use crate::view::Format;
use crate::view::body::Run;
use crate::wire::{Checksum, WireError};

/// A key that was touched, and what became of it.
pub(super) struct Change {
    /// Some entry with the key.
    pub(super) key: Entry,
    /// The entry now.
    pub(super) now: Option<Entry>,
}

/// A state's entries in key order. A clone is O(1) and never changes.
#[derive(Clone, Default)]
pub(in crate::view) struct PageTree {
    groups: Arc<Vec<Arc<Group>>>,
    /// Entries.
    len: usize,
}

/// PageTree that follow one another; at least one.
pub(super) struct Group {
    pages: Vec<Arc<Page>>,
    runs: Encoded<PieceRun>,
}

/// Encoded pages that follow one another.
pub(super) struct PieceRun {
    pub(super) parts: Run,
    /// Of all parts.
    pub(super) bytes: u64,
    pub(super) checksum: Checksum,
}

/// A place between two entries: before the entry with this number. In order of keys.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Place {
    pub(super) group: usize,
    pub(super) page: usize,
    pub(super) entry: usize,
}

impl PageTree {
    /// Sorts a whole state.
    pub(super) fn of(state: &Snapshot) -> Self {
        let mut entries: Vec<Entry> = state.iter().cloned().collect();
        entries.sort_unstable_by(|a, b| a.key().cmp(b.key()));
        Self::of_sorted(entries)
    }

    pub(super) fn of_sorted(entries: Vec<Entry>) -> Self {
        let len = entries.len();
        let mut rebalance = Rebalance::default();
        let weight = entries.iter().map(weight_of).sum();
        rebalance.entries(entries, weight);
        Self { groups: Arc::new(rebalance.finish()), len }
    }

    /// Number of entries.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn groups(&self) -> &[Arc<Group>] {
        &self.groups
    }

    /// Applies changes, which are in key order and each key once.
    pub(super) fn apply(&mut self, changes: &[Change]) {
        if changes.is_empty() {
            return;
        }
        let touched = by_place(&self.groups, changes, |group| group.first_key());
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
        let touched = by_place(&group.pages, changes, |page| page.first_key());
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

    /// Merges entries with the changes that fall among them.
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

    /// The place of the first entry whose key is not `before` it; keys that are come first.
    pub(super) fn place(&self, before: impl Fn(&[u8]) -> bool) -> Place {
        let number = |past: usize| past.saturating_sub(1);
        let group = number(self.groups.partition_point(|group| before(group.first_key())));
        let start = Place { group, page: 0, entry: 0 };
        let Some(pages) = self.groups.get(group).map(|group| &group.pages) else { return start };
        let page = number(pages.partition_point(|page| before(page.first_key())));
        let Some(entries) = pages.get(page).map(|page| page.entries()) else { return start };
        let entry = entries.partition_point(|entry| before(entry.key()));
        // The end of a page, or of a group, is the beginning of the next.
        match (entry < entries.len(), page + 1 < pages.len()) {
            (true, _) => Place { group, page, entry },
            (false, true) => Place { group, page: page + 1, entry: 0 },
            (false, false) => Place { group: group + 1, page: 0, entry: 0 },
        }
    }

    /// Where the keys with this prefix are.
    pub(super) fn with_prefix(&self, prefix: &[u8]) -> Range<Place> {
        self.place(|key| key < prefix)..self.place(|key| key < prefix || key.starts_with(prefix))
    }

    pub(super) fn page(&self, place: Place) -> Option<&Arc<Page>> {
        self.groups.get(place.group)?.pages.get(place.page)
    }

    /// The entries with this prefix and, when it is given, after this key; in key order.
    pub(in crate::view) fn list<'a>(
        &'a self,
        prefix: &'a [u8],
        after: Option<&[u8]>,
    ) -> impl Iterator<Item = &'a Entry> {
        let start = match after {
            Some(after) if after >= prefix => self.place(|key| key <= after),
            _ => self.place(|key| key < prefix),
        };
        self.from(start).take_while(move |entry| entry.key().starts_with(prefix))
    }

    fn from(&self, place: Place) -> impl Iterator<Item = &Entry> {
        let pages = self.groups.get(place.group..).unwrap_or_default().iter().flat_map(|group| &group.pages);
        pages.skip(place.page).flat_map(|page| page.entries()).skip(place.entry)
    }

    /// Forgets what was encoded in formats that are not wanted.
    pub(super) fn keep(&self, wanted: impl Fn(Format) -> bool) {
        for group in self.groups.iter() {
            group.runs.keep(&wanted);
            group.pages.iter().for_each(|page| page.keep(&wanted));
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

    /// The pages; their list is copied only when somebody else holds the group.
    pub(super) fn into_pages(self: Arc<Self>) -> Vec<Arc<Page>> {
        Arc::try_unwrap(self).map_or_else(|shared| shared.pages.clone(), |group| group.pages)
    }

    /// All pages of the group.
    pub(super) fn run(&self, encoder: &mut Encoder) -> Result<Arc<PieceRun>, WireError> {
        self.runs.get_or_make(encoder.format, || PieceRun::of(&self.pages, encoder))
    }
}

impl PieceRun {
    pub(super) fn of(pages: &[Arc<Page>], encoder: &mut Encoder) -> Result<Self, WireError> {
        let (mut parts, mut bytes) = (Vec::with_capacity(pages.len()), 0);
        let mut checksum = Checksum::default();
        for page in pages {
            let piece = page.piece(encoder)?;
            bytes += piece.bytes.len() as u64;
            checksum.append(&piece.checksum);
            parts.push(piece.bytes.clone());
        }
        Ok(Self { parts: parts.into(), bytes, checksum })
    }
}

/// Which of the items each change falls into; the items without any are left out. What comes
/// before the first item falls into the first.
fn by_place<'c, T>(
    items: &[T],
    changes: &'c [Change],
    first_key: impl Fn(&T) -> &[u8],
) -> Vec<(usize, &'c [Change])> {
    let (mut places, mut rest) = (Vec::new(), changes);
    while let Some(change) = rest.first().filter(|_| !items.is_empty()) {
        let at = items.partition_point(|item| first_key(item) <= change.key.key()).saturating_sub(1);
        let fall_here = items.get(at + 1).map_or(rest.len(), |next| {
            let next = first_key(next);
            rest.partition_point(|change| change.key.key() < next)
        });
        let (here, later) = rest.split_at(fall_here);
        places.push((at, here));
        rest = later;
    }
    places
}
