//! From one state to another: which keys, and how.

use std::collections::HashMap;

use super::KeySelector;
use crate::cache::{Breadcrumb, Delta, DeltaKind, Snapshot, Step};
use crate::model::{Cursor, Entry, Revision};
use crate::wire::{BodyWriter, PutKind};

/// What was touched on the way, by key: an entry with that key, when it was touched last, and
/// whether the key existed at the start where the start is no breadcrumb of ours.
struct Touched<'a> {
    revision: Revision,
    existed: Option<&'a Entry>,
    known: Start,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Start {
    /// `existed` is the entry there was.
    State,
    /// There was one, with a value that we do not know.
    Existed,
    /// There was none.
    Absent,
}

/// The squashed changes that lead from the state of `base` to that of `to`, whichever is newer;
/// `between` are the breadcrumbs after the older one up to and with the newer one.
pub(super) fn between_states(
    base: &Breadcrumb,
    to: &Breadcrumb,
    between: &[Breadcrumb],
    keys: &KeySelector,
) -> Vec<Delta> {
    let mut touched = HashMap::new();
    for delta in between.iter().flat_map(|crumb| crumb.deltas()).filter(|d| is_inside(d, keys)) {
        let key = delta.entry.key();
        let existed = base.kvs().get(key);
        let known = Start::State;
        touched.insert(key, Touched { revision: delta.revision, existed, known });
    }
    net(touched, to.kvs())
}

/// The squashed changes from a cursor that lies among the `steps` on the way to `within`, to the
/// newest of `later` (which follow `within`), or to `within` itself when there are none.
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
        // The first missed step of a key tells how the key stood at the cursor.
        let known = if step.existed { Start::Existed } else { Start::Absent };
        let first = Touched { revision: step.revision, existed: None, known };
        touched.entry(step.entry.key()).or_insert(first).revision = step.revision;
    }
    for delta in later.iter().flat_map(|crumb| crumb.deltas()).filter(|d| is_inside(d, keys)) {
        // A key that only later breadcrumbs touch stood at the cursor as it stands in `within`.
        let key = delta.entry.key();
        touched
            .entry(key)
            .or_insert_with(|| Touched {
                revision: delta.revision,
                existed: within.kvs().get(key),
                known: Start::State,
            })
            .revision = delta.revision;
    }
    net(touched, later.last().unwrap_or(within).kvs())
}

fn is_inside(delta: &Delta, keys: &KeySelector) -> bool {
    keys.matches(delta.entry.key())
}

/// A value that was changed and set back is another one: it was set later, and who asks for it sees that.
fn is_same(old: &Entry, new: &Entry) -> bool {
    old.revision() == new.revision() && old.same_content(new)
}

/// What remains of the touched keys in the end, in key order.
fn net(touched: HashMap<&[u8], Touched<'_>>, to: &Snapshot) -> Vec<Delta> {
    let change = |(key, start): (&[u8], Touched<'_>)| {
        let existed = start.existed.is_some() || start.known == Start::Existed;
        let (kind, entry) = match (existed, to.get(key)) {
            (false, Some(entry)) => (DeltaKind::New, entry.clone()),
            (true, Some(entry)) if start.existed.is_some_and(|old| is_same(old, entry)) => return None,
            (true, Some(entry)) => (DeltaKind::Updated, entry.clone()),
            (true, None) => {
                let old = start.existed.cloned();
                (DeltaKind::Deleted, old.unwrap_or_else(|| Entry::new(key, b"", None)))
            }
            (false, None) => return None,
        };
        Some(Delta { kind, entry, revision: start.revision })
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
