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

use std::collections::HashSet;
use std::sync::Arc;

use super::weight::key_holder;
use super::{Delta, DeltaKind, RefusedKeys, Snapshot};
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
    /// The refused keys before it, to go back to.
    pub(super) refused: Arc<RefusedKeys>,
    /// Which reading this is to them.
    pub(super) reading: u64,
    /// The keys of `before` that it has named as gone, by the addresses of their entries there.
    pub(super) gone: HashSet<usize>,
    /// Those of the reload around it as it began, to go back to.
    pub(super) gone_around: HashSet<usize>,
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
        let resync = Self {
            before,
            whole_at,
            reload: history.is_some(),
            lossy,
            contradicts: false,
            status: None,
            refused: Arc::default(),
            reading: 0,
            gone: HashSet::default(),
            gone_around: HashSet::default(),
        };
        (resync, fresh)
    }

    /// It has told of a key: that it is there, or that it is gone.
    pub(super) fn note(&mut self, key: &[u8], is_there: bool) {
        if is_there && self.gone.is_empty() {
            return;
        }
        let Some(address) = self.before.get(key).map(Entry::address) else { return };
        match is_there {
            true => self.gone.remove(&address),
            false => self.gone.insert(address),
        };
    }

    /// The entries of the state before that it has not named as gone.
    pub(super) fn unread(&self) -> impl Iterator<Item = &Entry> {
        self.before.iter().filter(|entry| !self.gone.contains(&entry.address()))
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

/// How `new` differs from `old`: each key's entry before and now. In one history another revision is a difference
/// too; across two it says nothing.
pub(super) fn differences<'a>(
    old: &'a Snapshot,
    new: &'a Snapshot,
) -> impl Iterator<Item = (Option<&'a Entry>, Option<&'a Entry>)> {
    let one_history = old.history == new.history;
    let is_same = move |before: &Entry, now: &Entry| {
        before.same_content(now) && (!one_history || before.revision() == now.revision())
    };
    let both = new.iter().map(|now| (old.get(now.key()), Some(now)));
    let changed = both.filter(move |(before, now)| !before.zip(*now).is_some_and(|(b, n)| is_same(b, n)));
    let gone = old.iter().filter(|entry| new.get(entry.key()).is_none());
    changed.chain(gone.map(|entry| (Some(entry), None)))
}

/// The change of one key as a delta.
pub(super) fn delta(before: Option<&Entry>, now: Option<&Entry>, revision: Revision) -> Option<Delta> {
    let (kind, entry) = match (before, now) {
        (None, Some(now)) => (DeltaKind::New, now.clone()),
        (Some(_), Some(now)) => (DeltaKind::Updated, now.clone()),
        (Some(before), None) => (DeltaKind::Deleted, key_holder(before)),
        (None, None) => return None,
    };
    Some(Delta { kind, entry, revision })
}
