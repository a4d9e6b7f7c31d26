//! The breadcrumb under construction: which keys were touched, and how they stood before.
//!
//! Whether a key was touched already is asked for every update, so it must not cost a hash of the
//! key, which the map has hashed already. An entry that the map holds is found by its address: it
//! is the one that the last touch of its key put there, or this is the first touch.
//!
//! How a key stood before the revision that is being applied is kept too, until the revision ends: a key
//! that it sets back keeps the entry it had, and with it the revision that everybody was told.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hash, Hasher};

use super::breadcrumb::{Delta, DeltaKind, Step};
use crate::model::{Check, Entry, Revision};

/// Capacity that is kept for the next breadcrumb. A first load may touch millions of keys at once.
const KEPT_CAPACITY: usize = 4096;

#[derive(Default)]
pub(super) struct Pending {
    /// In order of first touch.
    touched: Vec<Touched>,
    /// Where a touched key that is there stands in `touched`, by the address of its entry.
    present: HashMap<usize, usize, BuildHasherDefault<AddressHasher>>,
    /// Where a touched key that is gone stands in `touched`.
    absent: HashMap<Keyed, usize>,
    /// Which of `touched` the revision that is being applied has touched.
    group: Vec<usize>,
    steps: Vec<Step>,
    first_revision: Option<Revision>,
    several_revisions: bool,
    updates: usize,
}

struct Touched {
    /// The entry in the breadcrumb before.
    before: Option<Entry>,
    /// The entry now.
    now: Option<Entry>,
    /// When it changed last.
    revision: Revision,
    /// The entry before the revision that is being applied, if that has touched the key.
    in_group: Option<Option<Entry>>,
}

impl Touched {
    /// Whether the revision that is being applied leaves the key as it found it.
    fn is_set_back(&self) -> bool {
        match (&self.in_group, &self.now) {
            (Some(Some(old)), Some(now)) => old.same_allocation(now),
            (Some(old), now) => old.is_none() && now.is_none(),
            (None, _) => true,
        }
    }
}

impl Pending {
    /// Notes that the map's entry of a key changed, from `old` to `new`; at least one of them is there.
    pub(super) fn touch(&mut self, old: Option<Entry>, new: Option<Entry>) {
        let Some(key) = new.as_ref().or(old.as_ref()) else { return };
        self.updates += 1;
        let known = match &old {
            Some(old) => self.present.remove(&old.address()),
            None if self.absent.is_empty() => None,
            None => self.absent.remove(key.key()),
        };
        let position = known.unwrap_or(self.touched.len());
        match &new {
            Some(new) => _ = self.present.insert(new.address(), position),
            None => _ = self.absent.insert(Keyed(key.clone()), position),
        }
        match self.touched.get_mut(position) {
            Some(touched) => {
                touched.now = new;
                if touched.in_group.is_none() {
                    touched.in_group = Some(old);
                    self.group.push(position);
                }
            }
            None => {
                let (revision, in_group) = (Revision::ZERO, Some(old.clone()));
                self.touched.push(Touched { before: old, now: new, revision, in_group });
                self.group.push(position);
            }
        }
    }

    /// The entry with this content that the key had before the revision that is being applied, where that has
    /// changed it meanwhile; `old` is its entry now.
    pub(super) fn set_back(&self, content: &Entry, old: Option<&Entry>) -> Option<&Entry> {
        if self.group.is_empty() {
            return None;
        }
        let position = match old {
            Some(old) => self.present.get(&old.address()),
            None => self.absent.get(content.key()),
        };
        let before = self.touched.get(*position?)?.in_group.as_ref()?.as_ref();
        before.filter(|before| before.same_content(content))
    }

    /// Everything of a revision was noted, and the state looks so since. Says how many keys it has changed: what it
    /// changed and set back never happened.
    pub(super) fn end_group(&mut self, revision: Revision, check: Check) -> usize {
        let mut changed = 0;
        for position in self.group.drain(..) {
            let Some(touched) = self.touched.get_mut(position) else { continue };
            let set_back = touched.is_set_back();
            let old = touched.in_group.take().flatten();
            let Some(entry) = touched.now.as_ref().or(old.as_ref()).filter(|_| !set_back) else { continue };
            changed += 1;
            touched.revision = revision;
            let (entry, check) = (entry.clone(), Some(check));
            self.steps.push(Step { revision, entry, existed: old.is_some(), check });
        }
        if changed > 0 {
            let first = *self.first_revision.get_or_insert(revision);
            self.several_revisions |= first != revision;
        }
        changed
    }

    /// Forgets what was noted, of which there is little.
    pub(super) fn forget(&mut self) {
        for touched in self.touched.drain(..) {
            match (touched.now, touched.before) {
                (Some(now), _) => _ = self.present.remove(&now.address()),
                (None, Some(before)) => _ = self.absent.remove(before.key()),
                (None, None) => self.absent.clear(),
            }
        }
        self.finish();
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

    /// The net changes from the breadcrumb before. A key that one revision changed and a later one set back is an
    /// update: its entry has another revision, and who asks for it sees that.
    pub(super) fn deltas(&self) -> Box<[Delta]> {
        self.touched.iter().filter_map(Touched::net).collect()
    }

    /// The single steps, where they say more than the deltas. The next breadcrumb begins.
    pub(super) fn finish(&mut self) -> Box<[Step]> {
        let several = std::mem::take(&mut self.several_revisions);
        let steps = if several { self.steps.drain(..).collect() } else { Box::default() };
        self.steps.clear();
        self.group.clear();
        self.touched.clear();
        self.present.clear();
        self.absent.clear();
        self.steps.shrink_to(KEPT_CAPACITY);
        self.group.shrink_to(KEPT_CAPACITY);
        self.touched.shrink_to(KEPT_CAPACITY);
        self.present.shrink_to(KEPT_CAPACITY);
        self.absent.shrink_to(KEPT_CAPACITY);
        self.first_revision = None;
        self.updates = 0;
        steps
    }
}

impl Touched {
    fn net(&self) -> Option<Delta> {
        let (kind, entry) = match (&self.before, &self.now) {
            (None, Some(entry)) => (DeltaKind::New, entry),
            (Some(old), Some(entry)) if !old.same_allocation(entry) => (DeltaKind::Updated, entry),
            (Some(old), None) => (DeltaKind::Deleted, old),
            // As it was, or there only in between: nothing for the followers of this process.
            (Some(_), Some(_)) | (None, None) => return None,
        };
        Some(Delta { kind, entry: entry.clone(), revision: self.revision })
    }
}

/// An entry that is found, and compared, by its key alone.
struct Keyed(Entry);

impl Hash for Keyed {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.key().hash(state);
    }
}

impl PartialEq for Keyed {
    fn eq(&self, other: &Self) -> bool {
        self.0.key() == other.0.key()
    }
}

impl Eq for Keyed {}

impl Borrow<[u8]> for Keyed {
    fn borrow(&self) -> &[u8] {
        self.0.key()
    }
}

/// Spreads the bits of an address. Addresses come from the allocator, not from outside.
#[derive(Default)]
struct AddressHasher(u64);

impl Hasher for AddressHasher {
    fn write_usize(&mut self, address: usize) {
        // An odd number whose bits are as good as random (2^64 over the golden ratio).
        self.0 = (address as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(32);
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_usize(self.0 as usize ^ usize::from(*byte)));
    }

    fn finish(&self) -> u64 {
        self.0
    }
}
