//! The pages of a breadcrumb, and their way to another breadcrumb.

use crate::cache::{self, Breadcrumb, Position, Snapshot};
use crate::model::Entry;

use super::idle_bytes::IdleBytes;
use super::page_tree::{Change, PageTree};
use crate::view::answer::BreadcrumbInfo;

/// The pages of a breadcrumb, and its header fields.
///
/// It does not hold the breadcrumb itself, which would keep all later ones in memory. The breadcrumb is located again
/// when the pages advance.
#[derive(Clone)]
pub(in crate::view) struct Version {
    pub(in crate::view) info: BreadcrumbInfo,
    pub(in crate::view) pages: PageTree,
}

impl Version {
    /// The newest version: the older one advanced if its breadcrumb is still kept, else a new one.
    /// The encoded bytes of a new one are counted in `idle`.
    pub(super) fn newest(cache: &cache::Reader, older: Option<Self>, idle: IdleBytes) -> Self {
        let advanced = older.and_then(|older| older.advance(cache));
        advanced.unwrap_or_else(|| Self::new(&cache.current_breadcrumb(), idle))
    }

    fn new(crumb: &Breadcrumb, idle: IdleBytes) -> Self {
        Self { info: BreadcrumbInfo::of(crumb), pages: PageTree::of(crumb.kvs(), idle) }
    }

    fn advance(mut self, cache: &cache::Reader) -> Option<Self> {
        let Position::At(base) = cache.locate(self.info.cursor) else { return None };
        if !self.info.is_state_of(base.kvs()) {
            return None;
        }
        let mut newest = base.clone();
        let mut touched = Touched::default();
        for crumb in base.later() {
            touched.add(&crumb)?;
            newest = crumb;
        }
        self.pages.apply(&touched.changes(newest.kvs()));
        self.info = BreadcrumbInfo::of(&newest);
        self.has_count_of(newest.kvs()).then_some(self)
    }

    /// The pages of an older breadcrumb, with the changes since then reverted.
    pub(super) fn reverted_to(&self, crumb: &Breadcrumb) -> PageTree {
        self.try_revert_to(crumb).unwrap_or_else(|| PageTree::of(crumb.kvs(), self.pages.idle().clone()))
    }

    fn try_revert_to(&self, crumb: &Breadcrumb) -> Option<PageTree> {
        let mut touched = Touched::default();
        let mut last = crumb.clone();
        for later in crumb.later().take_while(|later| later.sequence() <= self.info.sequence) {
            touched.add(&later)?;
            last = later;
        }
        if !self.info.is_state_of(last.kvs()) {
            return None;
        }
        let mut reverted = self.clone();
        reverted.pages.apply(&touched.changes(crumb.kvs()));
        reverted.has_count_of(crumb.kvs()).then_some(reverted.pages)
    }

    /// Whether the pages have as many keys as the state. This always holds. It is checked in production too, because
    /// the pages are derived from deltas alone.
    fn has_count_of(&self, state: &Snapshot) -> bool {
        let same = self.pages.len() == state.len();
        if !same {
            debug_assert!(false, "{} keys in the pages of {}", self.pages.len(), state.len());
            tracing::error!(
                pages = self.pages.len(),
                state = state.len(),
                "the snapshot pages do not match the state and are rebuilt"
            );
        }
        same
    }
}

/// The keys that breadcrumbs changed, with repeats.
#[derive(Default)]
struct Touched(Vec<Entry>);

impl Touched {
    /// Adds the keys of a breadcrumb; `None` if it begins another history.
    fn add(&mut self, crumb: &Breadcrumb) -> Option<()> {
        if crumb.from().history != crumb.kvs().history() {
            return None;
        }
        self.0.extend(crumb.deltas().iter().map(|delta| delta.entry.clone()));
        Some(())
    }

    /// The changes that lead to this state, in key order.
    fn changes(mut self, state: &Snapshot) -> Vec<Change> {
        self.0.sort_unstable_by(|a, b| a.key().cmp(b.key()));
        self.0.dedup_by(|a, b| a.key() == b.key());
        let change = |key: Entry| Change { now: state.get(key.key()).cloned(), key };
        self.0.into_iter().map(change).collect()
    }
}
