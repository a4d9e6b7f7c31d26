//! The breadcrumb under construction: the touched keys and their entries before it.
//!
//! Every update looks its key up among the touched keys. That must not hash the key, since the map has just done so.
//! So an entry that the map holds is found by its address: either the last touch of the key put it there, or this is
//! the key's first touch.
//!
//! The entry that a key had before the revision that is being applied is remembered until the revision ends. A key
//! that the revision sets back keeps that entry, and with it the published revision.

use std::borrow::Borrow;
use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasherDefault, Hash, Hasher};

use super::breadcrumb::{Delta, DeltaKind, Step, StepWrite};
use super::weight::{Weight, key_only};
use crate::model::{Check, Entry, KeyStep, Revision};

/// The capacity retained for the next breadcrumb. A first load may touch millions of keys at once.
const RETAINED_CAPACITY: usize = 4096;

#[derive(Default)]
pub(super) struct Pending {
    /// In order of first touch.
    touched: Vec<Touched>,
    /// The index in `touched` of each touched key that is present, by the address of its entry.
    present: HashMap<usize, usize, BuildHasherDefault<AddressHasher>>,
    /// The index in `touched` of each touched key that is absent.
    absent: HashMap<ByKey, usize>,
    /// The indexes in `touched` of the keys that the current revision has touched.
    group: Vec<usize>,
    /// Writes of the current revision that a later one of it has undone: the index of the key, and its entry in between. Only
    /// where every write is kept.
    undone: Vec<(usize, Option<Entry>)>,
    /// Each with the index of its key in `touched`.
    steps: Vec<(usize, Step)>,
    first_revision: Option<Revision>,
    several_revisions: bool,
    updates: usize,
    /// See [`CacheConfig::keep_every_write`](super::CacheConfig::keep_every_write).
    keeps_every_write: bool,
}

struct Touched {
    /// The entry in the breadcrumb before.
    before: Option<Entry>,
    /// The entry now.
    now: Option<Entry>,
    /// The revision of its last change.
    revision: Revision,
    /// The entry before the current revision, if that has touched the key.
    in_group: Option<Option<Entry>>,
}

impl Touched {
    /// Whether the current revision leaves the key unchanged so far.
    fn is_set_back(&self) -> bool {
        match (&self.in_group, &self.now) {
            (Some(Some(old)), Some(now)) => old.same_allocation(now),
            (Some(old), now) => old.is_none() && now.is_none(),
            (None, _) => true,
        }
    }
}

impl Pending {
    pub(super) fn new(keeps_every_write: bool) -> Self {
        Self { keeps_every_write, ..Self::default() }
    }

    /// Notes that the map's entry of a key changed from `old` to `new`. At least one of them is `Some`.
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
            None => _ = self.absent.insert(ByKey(key.clone()), position),
        }
        match self.touched.get_mut(position) {
            Some(touched) => {
                let between = std::mem::replace(&mut touched.now, new);
                if touched.in_group.is_none() {
                    touched.in_group = Some(old);
                    self.group.push(position);
                } else if self.keeps_every_write && between.is_some() != touched.now.is_some() {
                    self.undone.push((position, between));
                }
            }
            None => {
                let (revision, in_group) = (Revision::ZERO, Some(old.clone()));
                self.touched.push(Touched { before: old, now: new, revision, in_group });
                self.group.push(position);
            }
        }
    }

    /// The entry that the key had before the current revision, if that revision has changed it and `content` sets it
    /// back. `old` is the key's entry now.
    pub(super) fn entry_set_back_to(&self, content: &Entry, old: Option<&Entry>) -> Option<&Entry> {
        // A write that is told of has its own revision.
        let is_told = self.keeps_every_write && content.write_info().is_some();
        if self.group.is_empty() || is_told {
            return None;
        }
        let position = match old {
            Some(old) => self.present.get(&old.address()),
            None => self.absent.get(content.key()),
        };
        let before = self.touched.get(*position?)?.in_group.as_ref()?.as_ref();
        before.filter(|before| before.same_content(content))
    }

    /// Ends the current revision, with the check of the state after it. Returns the number of keys that it changed,
    /// without those that it set back.
    pub(super) fn end_group(&mut self, revision: Revision, check: Check) -> usize {
        let mut changed = 0;
        let set_and_deleted = self.end_undone(revision, check);
        for position in self.group.drain(..) {
            let Some(touched) = self.touched.get_mut(position) else { continue };
            let undone = set_and_deleted.get(&position);
            let set_back = touched.is_set_back() && undone.is_none();
            let old = touched.in_group.take().flatten();
            let entry = touched.now.as_ref().or(old.as_ref()).or(undone).filter(|_| !set_back);
            let Some(entry) = entry else { continue };
            changed += 1;
            touched.revision = revision;
            let (entry, check) = (entry.clone(), Some(check));
            let write = match &touched.now {
                _ if !self.keeps_every_write => StepWrite::NotKept,
                Some(_) => StepWrite::Put,
                None => StepWrite::Deleted,
            };
            let existed = if undone.is_some() { touched.now.is_none() } else { old.is_some() };
            self.steps.push((position, Step { revision, entry, existed, check, write }));
        }
        if changed > 0 {
            let first = *self.first_revision.get_or_insert(revision);
            self.several_revisions |= first != revision;
        }
        changed
    }

    /// Makes steps of what the current revision has done and undone. Returns the indexes of those keys, each with an entry of
    /// the key.
    fn end_undone(&mut self, revision: Revision, check: Check) -> HashMap<usize, Entry> {
        let mut positions = HashMap::new();
        for (position, between) in self.undone.drain(..) {
            let Some(touched) = self.touched.get(position) else { continue };
            let before = touched.in_group.as_ref().and_then(Option::as_ref);
            let is_first = !positions.contains_key(&position);
            let existed = between.is_none() || is_first && before.is_some();
            let write = if between.is_some() { StepWrite::Put } else { StepWrite::Deleted };
            let Some(entry) = between.as_ref().or(before).or(touched.now.as_ref()).cloned() else { continue };
            positions.insert(position, entry.clone());
            self.steps.push((position, Step { revision, entry, existed, check: Some(check), write }));
        }
        // Only steps say that a revision did more than one thing to a key.
        self.several_revisions |= !positions.is_empty();
        positions
    }

    /// Replaces the steps by these, which are in order of revision and say more: they have the changes that later ones undid.
    pub(super) fn replace_steps(&mut self, steps: Vec<KeyStep>) {
        let touched = self.touched.iter().enumerate().filter_map(|(position, touched)| {
            let entry = touched.now.as_ref().or(touched.before.as_ref())?;
            Some((entry.key(), position))
        });
        let positions: HashMap<&[u8], usize> = touched.collect();
        // A revision that did several things to a key leaves only the last one known.
        let mut told = HashSet::new();
        let step = |step: KeyStep| {
            // A key that came and went has no position.
            let position = positions.get(step.key.as_bytes()).copied().unwrap_or(usize::MAX);
            let is_last = |touched: &&Touched| touched.revision == step.revision;
            let last_write = self.touched.get(position).filter(is_last).filter(|_| told.insert(position));
            let step = Step::from(step);
            match last_write.map(|touched| &touched.now).filter(|_| self.keeps_every_write) {
                Some(Some(now)) => (position, Step { entry: now.clone(), write: StepWrite::Put, ..step }),
                Some(None) => (position, Step { write: StepWrite::Deleted, ..step }),
                None => (position, step),
            }
        };
        self.steps = steps.into_iter().rev().map(step).collect();
        self.steps.reverse();
        let first = self.steps.first().map(|(_, step)| step.revision);
        self.first_revision = first.or(self.first_revision);
        self.several_revisions = true;
    }

    /// Discards the few touched keys.
    pub(super) fn clear(&mut self) {
        for touched in self.touched.drain(..) {
            match (touched.now, touched.before) {
                (Some(now), _) => _ = self.present.remove(&now.address()),
                (None, Some(before)) => _ = self.absent.remove(before.key()),
                (None, None) => self.absent.clear(),
            }
        }
        self.finish();
    }

    /// The number of updates noted so far.
    pub(super) fn len(&self) -> usize {
        self.updates
    }

    /// Whether it spans several revisions, so that another process may have ended a breadcrumb inside it.
    pub(super) fn spans_revisions(&self) -> bool {
        self.several_revisions
    }

    /// The revision of the first change.
    pub(super) fn first_revision(&self) -> Option<Revision> {
        self.first_revision
    }

    /// The net changes since the breadcrumb before. A key that one revision changed and a later one set back counts as
    /// updated, because its entry has a new revision.
    pub(super) fn deltas(&self) -> Box<[Delta]> {
        self.touched.iter().filter_map(Touched::net).collect()
    }

    /// The steps, if they say more than the deltas, and the bytes of the breadcrumb. Starts the next breadcrumb.
    pub(super) fn finish(&mut self) -> (Box<[Step]>, Weight) {
        let several = std::mem::take(&mut self.several_revisions);
        let mut weight = Weight::default();
        self.touched.iter().for_each(|touched| weight.replace(touched.before.as_ref(), touched.now.as_ref()));
        let steps = if several { self.published_steps(&mut weight) } else { Box::default() };
        self.steps.clear();
        self.group.clear();
        self.undone.clear();
        self.touched.clear();
        self.present.clear();
        self.absent.clear();
        self.steps.shrink_to(RETAINED_CAPACITY);
        self.group.shrink_to(RETAINED_CAPACITY);
        self.touched.shrink_to(RETAINED_CAPACITY);
        self.present.shrink_to(RETAINED_CAPACITY);
        self.absent.shrink_to(RETAINED_CAPACITY);
        self.first_revision = None;
        self.updates = 0;
        (steps, weight)
    }
}

impl Pending {
    /// The steps. Unless every write is kept, they are without values that neither the state nor a delta keeps in memory.
    fn published_steps(&mut self, weight: &mut Weight) -> Box<[Step]> {
        let published = |(position, step): (usize, Step)| {
            let touched = self.touched.get(position);
            let entry = match touched.and_then(|touched| touched.now.as_ref()) {
                _ if step.write == StepWrite::Put => {
                    let is_current = touched
                        .and_then(|touched| touched.now.as_ref())
                        .is_some_and(|now| now.same_allocation(&step.entry));
                    if !is_current {
                        weight.hold(&step.entry);
                    }
                    step.entry
                }
                Some(now) => now.clone(),
                None => {
                    let entry = key_only(&step.entry);
                    weight.hold(&entry);
                    entry
                }
            };
            Step { entry, ..step }
        };
        self.steps.drain(..).map(published).collect()
    }
}

impl Touched {
    fn net(&self) -> Option<Delta> {
        let (kind, entry) = match (&self.before, &self.now) {
            (None, Some(entry)) => (DeltaKind::New, entry.clone()),
            (Some(old), Some(entry)) if !old.same_allocation(entry) => (DeltaKind::Updated, entry.clone()),
            (Some(old), None) => (DeltaKind::Deleted, key_only(old)),
            // Unchanged, or present only in between: no change for followers.
            (Some(_), Some(_)) | (None, None) => return None,
        };
        Some(Delta { kind, entry, revision: self.revision })
    }
}

/// An entry that is hashed and compared by its key alone.
struct ByKey(Entry);

impl Hash for ByKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.key().hash(state);
    }
}

impl PartialEq for ByKey {
    fn eq(&self, other: &Self) -> bool {
        self.0.key() == other.0.key()
    }
}

impl Eq for ByKey {}

impl Borrow<[u8]> for ByKey {
    fn borrow(&self) -> &[u8] {
        self.0.key()
    }
}

/// A hasher for addresses. They come from the allocator, so nobody can choose colliding ones.
#[derive(Default)]
struct AddressHasher(u64);

impl Hasher for AddressHasher {
    fn write_usize(&mut self, address: usize) {
        // Fibonacci hashing: 2^64 divided by the golden ratio.
        self.0 = (address as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(32);
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_usize(self.0 as usize ^ usize::from(*byte)));
    }

    fn finish(&self) -> u64 {
        self.0
    }
}
