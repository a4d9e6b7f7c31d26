//! The pages of one breadcrumb, and how they become those of another.

use crate::cache::{self, Breadcrumb, Position, Snapshot};
use crate::model::Entry;

use super::page_tree::{Change, PageTree};
use crate::view::answer::BreadcrumbInfo;

/// A state in pages, and what a header says of it.
///
/// It does not hold the breadcrumb, which would keep everything that comes after it in memory: the
/// breadcrumb is located again when the pages are to move on.
#[derive(Clone)]
pub(in crate::view) struct Version {
    pub(in crate::view) info: BreadcrumbInfo,
    pub(in crate::view) pages: PageTree,
}

impl Version {
    /// The newest state there is, made from this older one where the way between is still kept.
    pub(super) fn newest(cache: &cache::Reader, older: Option<Self>) -> Self {
        older.and_then(|older| older.follow(cache)).unwrap_or_else(|| Self::anew(&cache.current_breadcrumb()))
    }

    fn anew(crumb: &Breadcrumb) -> Self {
        Self { info: BreadcrumbInfo::of(crumb), pages: PageTree::of(crumb.kvs()) }
    }

    fn follow(mut self, cache: &cache::Reader) -> Option<Self> {
        let Position::At(base) = cache.locate(self.info.cursor) else { return None };
        if !self.info.is_state_of(base.kvs()) {
            return None;
        }
        let mut newest = base.clone();
        let mut touched = Touched::default();
        for crumb in base.later() {
            touched.by(&crumb)?;
            newest = crumb;
        }
        self.pages.apply(&touched.changes(newest.kvs()));
        self.info = BreadcrumbInfo::of(&newest);
        self.is_true(newest.kvs()).then_some(self)
    }

    /// The pages of an older breadcrumb: what has happened since is taken back.
    pub(super) fn back_to(&self, crumb: &Breadcrumb) -> PageTree {
        self.way_back(crumb).unwrap_or_else(|| PageTree::of(crumb.kvs()))
    }

    fn way_back(&self, crumb: &Breadcrumb) -> Option<PageTree> {
        let mut touched = Touched::default();
        let mut last = crumb.clone();
        for later in crumb.later().take_while(|later| later.sequence() <= self.info.sequence) {
            touched.by(&later)?;
            last = later;
        }
        if !self.info.is_state_of(last.kvs()) {
            return None;
        }
        let mut back = self.clone();
        back.pages.apply(&touched.changes(crumb.kvs()));
        back.is_true(crumb.kvs()).then_some(back.pages)
    }

    /// Whether the pages hold as many keys as the state. They always do: what they hold otherwise
    /// is made of the breadcrumbs' word alone, so it is looked at, and not only in tests.
    fn is_true(&self, state: &Snapshot) -> bool {
        let same = self.pages.len() == state.len();
        if !same {
            debug_assert!(false, "{} keys in pages of {}", self.pages.len(), state.len());
            tracing::error!(pages = self.pages.len(), state = state.len(), "wrong pages are made anew");
        }
        same
    }
}

/// The keys that breadcrumbs touched; each may be here many times.
#[derive(Default)]
struct Touched(Vec<Entry>);

impl Touched {
    /// Refuses where another history begins: it is no continuation.
    fn by(&mut self, crumb: &Breadcrumb) -> Option<()> {
        if crumb.from().history != crumb.kvs().history() {
            return None;
        }
        self.0.extend(crumb.deltas().iter().map(|delta| delta.entry.clone()));
        Some(())
    }

    /// How they info in this state, in key order.
    fn changes(mut self, state: &Snapshot) -> Vec<Change> {
        self.0.sort_unstable_by(|a, b| a.key().cmp(b.key()));
        self.0.dedup_by(|a, b| a.key() == b.key());
        let change = |key: Entry| Change { now: state.get(key.key()).cloned(), key };
        self.0.into_iter().map(change).collect()
    }
}
