//! The breadcrumb under construction: which keys were touched, and how they stood before.
//!
//! Whether a key was touched already is asked for every update, so it must not cost a hash of the
//! key, which the map has hashed already. An entry that the map holds is found by its address: it
//! is the one that the last touch of its key put there, or this is the first touch.

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
    /// When it was touched last.
    revision: Revision,
}

impl Pending {
    /// Notes that the map's entry of a key changed at this revision, from `old` to `new`, and how
    /// the state looks since; at least one of the entries is there.
    pub(super) fn touch(&mut self, old: Option<Entry>, new: Option<Entry>, revision: Revision, check: Check) {
        let Some(key) = new.as_ref().or(old.as_ref()) else { return };
        self.updates += 1;
        let first = *self.first_revision.get_or_insert(revision);
        self.several_revisions |= first != revision;
        self.steps.push(Step { revision, entry: key.clone(), existed: old.is_some(), check: Some(check) });
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
                touched.revision = revision;
            }
            None => self.touched.push(Touched { before: old, now: new, revision }),
        }
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

    /// The net changes from the breadcrumb before.
    pub(super) fn deltas(&self) -> Box<[Delta]> {
        let net = |touched: &Touched| {
            let (kind, entry) = match (&touched.before, &touched.now) {
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
        let several = std::mem::take(&mut self.several_revisions);
        let steps = if several { self.steps.drain(..).collect() } else { Box::default() };
        self.steps.clear();
        self.touched.clear();
        self.present.clear();
        self.absent.clear();
        self.steps.shrink_to(KEPT_CAPACITY);
        self.touched.shrink_to(KEPT_CAPACITY);
        self.present.shrink_to(KEPT_CAPACITY);
        self.absent.shrink_to(KEPT_CAPACITY);
        self.first_revision = None;
        self.updates = 0;
        steps
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
