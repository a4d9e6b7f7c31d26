//! Keeps pages and groups neither too small nor too large.
//!
//! The new sequence is written from left to right, out of groups that nobody touched, pages that
//! nobody touched, and entries. What has become too small waits, *underfull*, and is joined with what
//! comes next, or at an end with what came before; what has become too large is cut evenly. An
//! untouched group that has nothing too small beside it goes through as it is.

use std::sync::Arc;

use super::page::{FILL_WEIGHT, MAX_WEIGHT, MIN_WEIGHT, Page, weight_of};
use super::page_tree::Group;
use crate::model::Entry;

/// More pages than this are several groups, of about [`FILL_PAGES`].
pub(super) const MAX_PAGES: usize = 64;

/// A change copies the lists of a group, one a format, and in gzip adds up its checksums.
const FILL_PAGES: usize = 32;

/// A group with fewer is joined with a neighbour.
pub(super) const MIN_PAGES: usize = 8;

#[derive(Default)]
pub(super) struct Rebalance {
    groups: Vec<Arc<Group>>,
    /// Of the group that is being made.
    pages: Vec<Arc<Page>>,
    /// Less than a page.
    underfull: Vec<Entry>,
    underfull_weight: usize,
}

impl Rebalance {
    /// A group that nobody touched.
    pub(super) fn group(&mut self, group: Arc<Group>) {
        self.close_group();
        if self.underfull.is_empty() && self.pages.is_empty() {
            self.groups.push(group);
        } else {
            group.into_pages().into_iter().for_each(|page| self.page(page));
        }
    }

    /// A page that nobody touched.
    pub(super) fn page(&mut self, page: Arc<Page>) {
        if self.underfull.is_empty() {
            self.pages.push(page);
        } else {
            let (entries, weight) = page.into_entries();
            self.entries(entries, weight);
        }
    }

    /// Entries of this weight.
    pub(super) fn entries(&mut self, mut entries: Vec<Entry>, weight: usize) {
        if self.underfull.is_empty() {
            self.underfull = entries;
        } else {
            self.underfull.append(&mut entries);
        }
        self.underfull_weight += weight;
        if self.underfull_weight >= MIN_WEIGHT {
            self.cut_underfull();
        }
    }

    /// What is underfull is better joined with its own group than with the next one.
    pub(super) fn end_of_group(&mut self) {
        self.join_last_page();
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
        self.join_last_page();
        if !self.underfull.is_empty() {
            // All there is.
            self.cut_underfull();
        }
        self.cut_pages();
        self.groups
    }

    fn join_last_page(&mut self) {
        if self.underfull.is_empty() {
            return;
        }
        if let Some(last) = self.pages.pop() {
            let (mut entries, weight) = last.into_entries();
            entries.append(&mut self.underfull);
            self.underfull = entries;
            self.underfull_weight += weight;
            self.cut_underfull();
        }
    }

    fn close_group(&mut self) {
        if self.underfull.is_empty() && self.pages.len() >= MIN_PAGES {
            self.cut_pages();
        }
    }

    /// Makes groups of the pages.
    fn cut_pages(&mut self) {
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

    /// Makes pages of the underfull entries, evenly.
    fn cut_underfull(&mut self) {
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
                // One heavy entry may be worth several pages.
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
