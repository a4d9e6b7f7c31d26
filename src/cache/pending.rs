//! The breadcrumb under construction: which keys were touched, and how they stood before.

use std::collections::HashMap;

use super::breadcrumb::{Delta, DeltaKind, Step};
use super::snapshot::{Keyed, Snapshot};
use crate::model::{Check, Entry, Revision};

#[derive(Default)]
pub(super) struct Pending {
    /// In order of first touch.
    touched: Vec<Touched>,
    /// Where a key stands in `touched`.
    index: HashMap<Keyed, usize>,
    steps: Vec<Step>,
    first_revision: Option<Revision>,
    several_revisions: bool,
    updates: usize,
}

struct Touched {
    /// Any entry with the key.
    key: Entry,
    /// The entry in the breadcrumb before.
    before: Option<Entry>,
    /// When it was touched last.
    revision: Revision,
}

impl Pending {
    /// Notes that a key changed at this revision from `old`, and how the state looks since; `key` is any
    /// entry with that key.
    pub(super) fn touch(&mut self, key: Entry, old: Option<Entry>, revision: Revision, check: Check) {
        self.updates += 1;
        let first = *self.first_revision.get_or_insert(revision);
        self.several_revisions |= first != revision;
        self.steps.push(Step { revision, entry: key.clone(), existed: old.is_some(), check: Some(check) });
        let position = *self.index.entry(Keyed(key.clone())).or_insert_with(|| {
            self.touched.push(Touched { key, before: old, revision });
            self.touched.len() - 1
        });
        self.touched[position].revision = revision;
    }

    /// Updates noted so far.
    pub(super) fn len(&self) -> usize {
        self.updates
    }

    /// Whether it spans several revisions, so that another process may have cut a breadcrumb inside it.
    pub(super) fn spans_revisions(&self) -> bool {
        self.several_revisions
    }

    /// The revision of the first change.
    pub(super) fn first_revision(&self) -> Option<Revision> {
        self.first_revision
    }

    /// The net changes from the breadcrumb before to `now`.
    pub(super) fn deltas(&self, now: &Snapshot) -> Box<[Delta]> {
        let net = |touched: &Touched| {
            let (kind, entry) = match (&touched.before, now.get(touched.key.key())) {
                (None, Some(entry)) => (DeltaKind::New, entry),
                (Some(old), Some(entry)) if !old.same_content(entry) => (DeltaKind::Updated, entry),
                (Some(old), None) => (DeltaKind::Deleted, old),
                // Back to what it was: nothing for the followers of this process.
                (Some(_), Some(_)) | (None, None) => return None,
            };
            Some(Delta { kind, entry: entry.clone(), revision: touched.revision })
        };
        self.touched.iter().filter_map(net).collect()
    }

    /// The single steps, where they say more than the deltas. The next breadcrumb begins.
    pub(super) fn finish(&mut self) -> Box<[Step]> {
        let steps = std::mem::take(&mut self.steps);
        let several = std::mem::take(&mut self.several_revisions);
        self.touched.clear();
        self.index.clear();
        self.first_revision = None;
        self.updates = 0;
        if several { steps.into_boxed_slice() } else { Box::default() }
    }
}
