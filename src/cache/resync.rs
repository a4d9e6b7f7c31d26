//! Reading everything again while the old state is still served.
//!
//! A resync builds a second map from nothing. Entries that come back unchanged are the old
//! allocations, so a second map costs its nodes only, and the difference at the end is found by
//! comparing addresses: what did not come again is gone. Until then nothing of it is published,
//! and giving up a resync is dropping the second map.
//!
//! A *reload* is a resync that begins another history. Its revisions start from zero and must
//! count exactly as they would after a restart of the process, so everything in it, including a
//! `snapshot` … `end` inside of it, goes the same way as outside: that is why resyncs nest, one deep.

use super::{DeltaKind, Snapshot};
use crate::model::{Entry, History, Likeness, Revision, SyncStatus};

/// A resync under way.
pub(super) struct Resync {
    /// The state before it: what to go back to, and what the result is compared with.
    pub(super) before: Snapshot,
    /// The revision of everything in it, when all is one revision.
    pub(super) whole_at: Option<Revision>,
    /// Whether it began another history.
    pub(super) reload: bool,
    /// Whether what happened between `before` and the end of it stays unknown.
    pub(super) lossy: bool,
    /// Whether something came that was set by the revision of `before` and is not in it: then this is no later state
    /// of the same upstream.
    contradicts: bool,
    /// `in-sync` that came before the end: it is seen with the data, not before it.
    pub(super) status: Option<SyncStatus>,
}

impl Resync {
    /// Starts one, and returns it with the map to build.
    pub(super) fn begin(
        before: Snapshot,
        history: Option<History>,
        claimed: Option<Revision>,
        lossy: bool,
    ) -> (Self, Snapshot) {
        let mut fresh = Snapshot::empty(history.unwrap_or(before.history));
        if history.is_none() {
            fresh.revision = before.revision;
        }
        let current = fresh.revision;
        let whole_at = claimed.map(|claimed| if claimed > current { claimed } else { current.next() });
        (Self { before, whole_at, reload: history.is_some(), lossy, contradicts: false, status: None }, fresh)
    }

    /// The old entry with the same content, so that both states share it. Entries of another
    /// history are not shared: their revisions mean nothing in this one. `set_at`: when the upstream says that the
    /// key was set.
    pub(super) fn shared(&mut self, entry: &Entry, set_at: Option<Revision>) -> Option<Entry> {
        if self.reload {
            return None;
        }
        let old = self.before.get(entry.key());
        let by_then = set_at.is_some_and(|set_at| set_at <= self.before.revision);
        self.contradicts |= by_then && old.is_none_or(|old| old.value() != entry.value());
        old.filter(|old| old.same_content(entry)).cloned()
    }

    /// How what was read stands to the state before.
    pub(super) fn likeness(&self, read: &Snapshot) -> Likeness {
        match &self.before {
            before if before.len() == read.len() && before.digest == read.digest => Likeness::Same,
            _ if self.contradicts => Likeness::Other,
            _ => Likeness::Later,
        }
    }
}

/// How `new` differs from `old`: what happened to a key, and its new entry, or the old one of a key that is
/// gone. In one history another revision is a difference too; across two it says nothing.
pub(super) fn differences<'a>(
    old: &'a Snapshot,
    new: &'a Snapshot,
) -> impl Iterator<Item = (DeltaKind, Entry)> + 'a {
    let one_history = old.history == new.history;
    let changed = new.iter().filter_map(move |entry| match old.get(entry.key()) {
        None => Some((DeltaKind::New, entry.clone())),
        Some(before)
            if before.same_content(entry) && (!one_history || before.revision() == entry.revision()) =>
        {
            None
        }
        Some(_) => Some((DeltaKind::Updated, entry.clone())),
    });
    let gone = old.iter().filter(|entry| new.get(entry.key()).is_none());
    changed.chain(gone.map(|entry| (DeltaKind::Deleted, entry.clone())))
}
