//! The squashed changes between two states.

use std::collections::HashMap;

use super::KeySelector;
use crate::cache::{Breadcrumb, Delta, DeltaKind, Snapshot, Step};
use crate::model::{Cursor, Entry, Revision};
use crate::wire::{BodyWriter, PutKind};

/// A key that changed: the revision of its last change, and what is known of the key before the first one.
struct Touched<'a> {
    revision: Revision,
    before: Before<'a>,
}

/// A key in the state from which the changes lead.
#[derive(Clone, Copy)]
enum Before<'a> {
    /// It had this entry.
    Entry(&'a Entry),
    /// It existed with an unknown value.
    Existed,
    /// It was absent.
    Absent,
}

impl<'a> Before<'a> {
    fn of(key: &[u8], state: &'a Snapshot) -> Self {
        state.get(key).map_or(Self::Absent, Self::Entry)
    }
}

/// The squashed changes from the state of `base` to that of `to`; either may be the newer one.
/// `between` are the breadcrumbs after the older one up to and including the newer one.
pub(super) fn between_states(
    base: &Breadcrumb,
    to: &Breadcrumb,
    between: &[Breadcrumb],
    keys: &KeySelector,
) -> Vec<Delta> {
    let mut touched = HashMap::new();
    for delta in between.iter().flat_map(|crumb| crumb.deltas()).filter(|d| is_selected(d, keys)) {
        let key = delta.entry.key();
        touched.insert(key, Touched { revision: delta.revision, before: Before::of(key, base.kvs()) });
    }
    squash(touched, to.kvs())
}

/// The squashed changes from a cursor between the `steps` of `within` to the newest of `later`, which follow `within`,
/// or to `within` itself if there are none.
pub(super) fn from_inside(
    cursor: Cursor,
    steps: &[Step],
    within: &Breadcrumb,
    later: &[Breadcrumb],
    keys: &KeySelector,
) -> Vec<Delta> {
    let mut touched: HashMap<&[u8], Touched<'_>> = HashMap::new();
    let missed = steps.iter().filter(|step| step.revision > cursor.revision);
    for step in missed.filter(|step| keys.matches(step.entry.key())) {
        // The first missed step of a key says whether the key existed at the cursor.
        let before = if step.existed { Before::Existed } else { Before::Absent };
        let first = Touched { revision: step.revision, before };
        touched.entry(step.entry.key()).or_insert(first).revision = step.revision;
    }
    for delta in later.iter().flat_map(|crumb| crumb.deltas()).filter(|d| is_selected(d, keys)) {
        // A key that only later breadcrumbs change was at the cursor as it is in `within`.
        let key = delta.entry.key();
        let first = || Touched { revision: delta.revision, before: Before::of(key, within.kvs()) };
        touched.entry(key).or_insert_with(first).revision = delta.revision;
    }
    squash(touched, later.last().unwrap_or(within).kvs())
}

fn is_selected(delta: &Delta, keys: &KeySelector) -> bool {
    keys.matches(delta.entry.key())
}

/// Whether nothing changed. A value that was changed and set back has a newer revision, so it has changed.
fn is_same(old: &Entry, new: &Entry) -> bool {
    old.revision() == new.revision() && old.same_content(new)
}

/// One delta for each key that differs in the end, in key order.
fn squash(touched: HashMap<&[u8], Touched<'_>>, to: &Snapshot) -> Vec<Delta> {
    let change = |(key, Touched { revision, before }): (&[u8], Touched<'_>)| {
        let (kind, entry) = match (before, to.get(key)) {
            (Before::Absent, None) => return None,
            (Before::Absent, Some(entry)) => (DeltaKind::New, entry.clone()),
            (Before::Entry(old), Some(entry)) if is_same(old, entry) => return None,
            (Before::Entry(_) | Before::Existed, Some(entry)) => (DeltaKind::Updated, entry.clone()),
            (Before::Entry(old), None) => (DeltaKind::Deleted, old.clone()),
            (Before::Existed, None) => (DeltaKind::Deleted, Entry::new(key, b"", None)),
        };
        Some(Delta { kind, entry, revision })
    };
    let mut deltas: Vec<Delta> = touched.into_iter().filter_map(change).collect();
    deltas.sort_unstable_by(|a, b| a.entry.key().cmp(b.entry.key()));
    deltas
}

/// Writes changes into a body.
pub(super) fn write(writer: &mut BodyWriter, deltas: &[Delta]) {
    for delta in deltas {
        match delta.kind {
            DeltaKind::New => writer.put(PutKind::New, &delta.entry),
            DeltaKind::Updated => writer.put(PutKind::Updated, &delta.entry),
            DeltaKind::Deleted => writer.deleted(delta.entry.key(), Some(delta.revision)),
        }
    }
}

/// About how many bytes the changes take in a body.
pub(super) fn size_hint(deltas: &[Delta]) -> usize {
    deltas.iter().map(|delta| delta.entry.payload_bytes() + 80).sum()
}
