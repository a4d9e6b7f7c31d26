//! Which keys are read, and whom a breadcrumb concerns.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use parking_lot::Mutex;

use crate::cache::{Breadcrumb, Delta};
use crate::model::{Key, Prefixes};
use crate::view::OwnedScope;

/// What somebody reads.
#[derive(Default)]
pub(super) struct Subjects {
    read: Mutex<Read>,
}

#[derive(Default)]
struct Read {
    /// The number of readers of each.
    readers: HashMap<OwnedScope, usize>,
    /// Whom the keys under a prefix concern; the empty prefix is every key.
    under: HashMap<Key, Vec<OwnedScope>>,
    /// How many prefixes there are by their length in bytes.
    lengths: BTreeMap<usize, usize>,
    /// Whether somebody publishes for them.
    published: bool,
}

/// A reader's presence; dropping it ends it.
pub(super) struct Entered {
    subjects: Arc<Subjects>,
    subject: OwnedScope,
}

/// Whom a breadcrumb concerns.
pub(super) enum Concerned {
    /// Everybody.
    All(Vec<OwnedScope>),
    /// These, and with what.
    Some(Vec<(OwnedScope, Vec<Delta>)>),
}

impl Subjects {
    /// Counts a reader; also says whether nobody publishes, which is then the caller's to do.
    pub(super) fn enter(subjects: &Arc<Self>, subject: &OwnedScope) -> (Entered, bool) {
        let mut read = subjects.read.lock();
        let readers = read.readers.entry(subject.clone()).or_default();
        *readers += 1;
        if *readers == 1 {
            prefixes(subject).iter().for_each(|prefix| read.add(prefix, subject));
        }
        let first = !std::mem::replace(&mut read.published, true);
        (Entered { subjects: Arc::clone(subjects), subject: subject.clone() }, first)
    }

    /// Whether there is still somebody to publish for. If not, the caller shall end: the next who
    /// enters will be told to begin.
    pub(super) fn goes_on(&self) -> bool {
        let mut read = self.read.lock();
        read.published = !read.readers.is_empty();
        read.published
    }

    pub(super) fn all(&self) -> Vec<OwnedScope> {
        self.read.lock().readers.keys().cloned().collect()
    }

    /// Sorts out what concerns whom, unless that takes more than so many look-ups.
    pub(super) fn concerned(&self, breadcrumb: &Breadcrumb, max_lookups: usize) -> Concerned {
        let deltas = breadcrumb.deltas();
        let read = self.read.lock();
        if deltas.len().saturating_mul(read.lengths.len()) > max_lookups {
            return Concerned::All(read.readers.keys().cloned().collect());
        }
        // The status is everybody's, and so is every breadcrumb of who reads everything.
        let for_all = breadcrumb.from().status != breadcrumb.cursor().status;
        let told = read.readers.keys().filter(|subject| for_all || **subject == OwnedScope::All);
        let mut of: HashMap<&OwnedScope, Vec<Delta>> = told.map(|subject| (subject, Vec::new())).collect();
        for delta in deltas {
            let key = delta.entry.key();
            // Of the prefixes of a subject none begins with another: it gets a change once.
            let lengths = read.lengths.range(..=key.len()).map(|(length, _)| *length);
            for subject in lengths.filter_map(|length| read.under.get(&key[..length])).flatten() {
                of.entry(subject).or_default().push(delta.clone());
            }
        }
        Concerned::Some(of.into_iter().map(|(subject, deltas)| (subject.clone(), deltas)).collect())
    }
}

impl Read {
    fn add(&mut self, prefix: &Key, subject: &OwnedScope) {
        let concerned = self.under.entry(prefix.clone()).or_default();
        if concerned.is_empty() {
            *self.lengths.entry(prefix.as_bytes().len()).or_default() += 1;
        }
        concerned.push(subject.clone());
    }

    fn remove(&mut self, prefix: &Key, subject: &OwnedScope) {
        let Some(concerned) = self.under.get_mut(prefix) else { return };
        concerned.retain(|other| other != subject);
        if !concerned.is_empty() {
            return;
        }
        self.under.remove(prefix);
        let length = prefix.as_bytes().len();
        if let Some(count) = self.lengths.get_mut(&length) {
            *count -= 1;
            if *count == 0 {
                self.lengths.remove(&length);
            }
        }
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        let mut read = self.subjects.read.lock();
        let Some(readers) = read.readers.get_mut(&self.subject) else { return };
        *readers -= 1;
        if *readers == 0 {
            read.readers.remove(&self.subject);
            prefixes(&self.subject).iter().for_each(|prefix| read.remove(prefix, &self.subject));
        }
    }
}

fn prefixes(subject: &OwnedScope) -> Prefixes {
    match subject {
        OwnedScope::All => Prefixes::everything(),
        OwnedScope::Prefix(prefix) => Prefixes::new([prefix.clone()]),
        OwnedScope::Prefixes(prefixes) => prefixes.clone(),
    }
}
