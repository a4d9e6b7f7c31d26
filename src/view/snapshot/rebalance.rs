//! Rebalancing: it keeps the sizes of pages and groups within their limits.
//!
//! The new sequence is built from left to right out of unchanged groups, unchanged pages, and changed entries. A page
//! that is too small is *underfull*: it is merged with the next entries, or at the end of a group with the previous
//! page. A page that is too large is split evenly. An unchanged group next to no underfull page is reused as it is.

use std::sync::Arc;

use super::page::{FILL_WEIGHT, MAX_WEIGHT, MIN_WEIGHT, Page, weight_of};
use super::page_tree::Group;
use crate::model::Entry;

/// A group with more pages is split into groups of about [`FILL_PAGES`].
pub(super) const MAX_PAGES: usize = 64;

/// The pages of a new group. A change in a group copies its lists of parts, and for gzip adds up its checksums.
const FILL_PAGES: usize = 32;

/// A group with fewer pages is merged with a neighbour.
pub(super) const MIN_PAGES: usize = 8;

#[derive(Default)]
pub(super) struct Rebalance {
    groups: Vec<Arc<Group>>,
    /// The pages of the group under construction.
    pages: Vec<Arc<Page>>,
    /// The entries of an underfull page.
    underfull: Vec<Entry>,
    underfull_weight: usize,
}

impl Rebalance {
    /// Appends an unchanged group.
    pub(super) fn group(&mut self, group: Arc<Group>) {
        self.close_group();
        if self.underfull.is_empty() && self.pages.is_empty() {
            self.groups.push(group);
        } else {
            group.into_pages().into_iter().for_each(|page| self.page(page));
        }
    }

    /// Appends an unchanged page.
    pub(super) fn page(&mut self, page: Arc<Page>) {
        if self.underfull.is_empty() {
            self.pages.push(page);
        } else {
            let (entries, weight) = page.into_entries();
            self.entries(entries, weight);
        }
    }

    /// Appends entries of this total weight.
    pub(super) fn entries(&mut self, mut entries: Vec<Entry>, weight: usize) {
        if self.underfull.is_empty() {
            self.underfull = entries;
        } else {
            self.underfull.append(&mut entries);
        }
        self.underfull_weight += weight;
        if self.underfull_weight >= MIN_WEIGHT {
            self.split_underfull();
        }
    }

    /// Ends a changed group. An underfull page is merged within its own group.
    pub(super) fn end_of_group(&mut self) {
        self.merge_last_page();
        self.close_group();
    }

    pub(super) fn finish(mut self) -> Vec<Arc<Group>> {
        let too_small = |pages: usize| pages < MIN_PAGES;
        if (!self.underfull.is_empty() || !self.pages.is_empty())
            && too_small(self.pages.len())
            && let Some(last) = self.groups.pop()
        {
            let mut pages = last.into_pages();
            pages.append(&mut self.pages);
            self.pages = pages;
        }
        self.merge_last_page();
        if !self.underfull.is_empty() {
            // The whole state is one underfull page.
            self.split_underfull();
        }
        self.split_pages();
        self.groups
    }

    fn merge_last_page(&mut self) {
        if self.underfull.is_empty() {
            return;
        }
        if let Some(last) = self.pages.pop() {
            let (mut entries, weight) = last.into_entries();
            entries.append(&mut self.underfull);
            self.underfull = entries;
            self.underfull_weight += weight;
            self.split_underfull();
        }
    }

    fn close_group(&mut self) {
        if self.underfull.is_empty() && self.pages.len() >= MIN_PAGES {
            self.split_pages();
        }
    }

    /// Splits the pages into groups.
    fn split_pages(&mut self) {
        let pages = std::mem::take(&mut self.pages);
        let count = match pages.len() {
            0 => return,
            1..=MAX_PAGES => 1,
            more => more.div_ceil(FILL_PAGES),
        };
        let total = pages.len();
        let mut pages = pages.into_iter();
        for number in 1..=count {
            let upto = total * number / count;
            let here = pages.len() - (total - upto);
            self.groups.push(Group::new(pages.by_ref().take(here).collect()));
        }
    }

    /// Splits the collected entries evenly into pages.
    fn split_underfull(&mut self) {
        let (entries, total) =
            (std::mem::take(&mut self.underfull), std::mem::take(&mut self.underfull_weight));
        if total <= MAX_WEIGHT {
            self.pages.push(Page::new(entries, total));
            return;
        }
        let count = total.div_ceil(FILL_WEIGHT);
        let (mut page, mut weight, mut before, mut number) = (Vec::new(), 0, 0, 1);
        let mut made: Vec<(Vec<Entry>, usize)> = Vec::new();
        for entry in entries {
            if weight >= MIN_WEIGHT && before >= total / count * number {
                made.push((std::mem::take(&mut page), std::mem::take(&mut weight)));
                // One large entry may weigh as much as several pages.
                number = before / (total / count) + 1;
            }
            let entry_weight = weight_of(&entry);
            weight += entry_weight;
            before += entry_weight;
            page.push(entry);
        }
        match made.last_mut() {
            Some((last, last_weight)) if weight < MIN_WEIGHT => {
                last.append(&mut page);
                *last_weight += weight;
            }
            _ => made.push((page, weight)),
        }
        self.pages.extend(made.into_iter().map(|(page, weight)| Page::new(page, weight)));
    }
}
