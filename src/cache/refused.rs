//! The keys that are absent because what the upstream has for them was refused.
//!
//! A key whose value is too large, or cannot be read, is absent on every replica: the old value would be a false one.
//! That must be seen, so this list says which keys and why, until the upstream has something for them that can be
//! kept, or deletes them. It is bounded: the first [`NAMED`] are named, with as much of each key as a person reads;
//! of the next ones it is known only that they are refused, and beyond [`TOLD_APART`] not even which.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::time::SystemTime;

use crate::model::{Key, Revision};

/// Keys that are named at a time.
const NAMED: usize = 100;

/// Keys that are told apart at a time, in 24 bytes each.
const TOLD_APART: usize = 16_384;

/// Bytes of a key that are kept of it.
const SHOWN_KEY_BYTES: usize = 256;

/// Bytes of a reason that are kept of it.
const SHOWN_REASON_BYTES: usize = 400;

/// One refused key.
#[derive(Clone, Debug)]
pub struct RefusedKey {
    hash: u64,
    /// The key, or the beginning of a long one.
    pub key: Key,
    /// Bytes of the whole key.
    pub key_bytes: usize,
    /// What is wrong with what the upstream has for it, as a sentence without the key.
    pub reason: String,
    /// The upstream's revision of what was refused last.
    pub revision: Revision,
    /// When the key was first refused, of the times that follow each other.
    pub since: SystemTime,
}

/// The refused keys of one state.
#[derive(Clone, Default, Debug)]
pub struct RefusedKeys {
    named: Vec<RefusedKey>,
    /// By the hash of the key: in which reading of the whole state it was refused last.
    known: HashMap<u64, u64>,
    hasher: RandomState,
    /// Counts the readings of the whole state.
    reading: u64,
    /// In which reading a key was last left out because there were too many.
    overflowed: Option<u64>,
}

impl RefusedKeys {
    /// Those of which more than the number is known, in the order in which they were refused.
    pub fn named(&self) -> &[RefusedKey] {
        &self.named
    }

    /// How many there are; at least so many where [`RefusedKeys::is_exact`] is false.
    pub fn len(&self) -> usize {
        self.known.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    /// Whether there are just as many as [`RefusedKeys::len`] says.
    pub fn is_exact(&self) -> bool {
        self.overflowed.is_none()
    }

    /// Notes a key, and says whether it was none of them before.
    pub(super) fn add(&mut self, key: &[u8], reason: &str, revision: Revision) -> bool {
        let hash = self.hasher.hash_one(key);
        if !self.known.contains_key(&hash) && !self.make_room() {
            self.overflowed = Some(self.reading);
            return false;
        }
        let is_new = self.known.insert(hash, self.reading).is_none();
        let reason = beginning(reason, SHOWN_REASON_BYTES).to_owned();
        if let Some(named) = self.named.iter_mut().find(|named| named.hash == hash) {
            (named.reason, named.revision) = (reason, revision);
        } else if self.named.len() < NAMED {
            let (since, key_bytes, key) = (SystemTime::now(), key.len(), shown(key));
            self.named.push(RefusedKey { hash, key, key_bytes, reason, revision, since });
        }
        is_new
    }

    /// Whether there is room for one more, perhaps in place of those that were not read again so far.
    fn make_room(&mut self) -> bool {
        if self.known.len() >= TOLD_APART {
            let before = self.known.len();
            self.forget_before(self.reading);
            if self.known.len() < before {
                self.overflowed = self.overflowed.max(self.reading.checked_sub(1));
            }
        }
        self.known.len() < TOLD_APART
    }

    fn forget_before(&mut self, reading: u64) {
        self.known.retain(|_, refused_in| *refused_in >= reading);
        self.named.retain(|named| self.known.contains_key(&named.hash));
    }

    /// The upstream has something good for the key now, or nothing. Says whether it was refused before.
    pub(super) fn remove(&mut self, key: &[u8]) -> bool {
        let hash = self.hasher.hash_one(key);
        let was_refused = self.known.remove(&hash).is_some();
        if was_refused {
            self.named.retain(|named| named.hash != hash);
        }
        was_refused
    }

    /// Whether the key is one of those that are told apart.
    pub(super) fn holds(&self, key: &[u8]) -> bool {
        !self.known.is_empty() && self.known.contains_key(&self.hasher.hash_one(key))
    }

    /// The whole state is read again: what is refused in it belongs to this reading.
    pub(super) fn begin_reading(&mut self) -> u64 {
        self.reading += 1;
        self.reading
    }

    /// Everything was read again: what was refused before this reading only is not there any more.
    pub(super) fn end_reading(&mut self, reading: u64) {
        self.forget_before(reading);
        self.overflowed = self.overflowed.filter(|overflowed| *overflowed >= reading);
    }
}

/// As much of a key as is shown, cut between characters where it is text.
fn shown(key: &[u8]) -> Key {
    match std::str::from_utf8(key) {
        Ok(text) => Key::from(beginning(text, SHOWN_KEY_BYTES)),
        Err(_) => Key::copy_from(&key[..key.len().min(SHOWN_KEY_BYTES)]),
    }
}

/// The beginning of a text, of so many bytes at the most.
fn beginning(text: &str, bytes: usize) -> &str {
    &text[..text.floor_char_boundary(bytes)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn however_many_and_long_the_keys_are_the_list_is_bounded_and_the_number_is_right() {
        let mut refused = RefusedKeys::default();
        let key = |n: usize| format!("{n}/{}", "é".repeat(30_000));
        for n in 0..TOLD_APART {
            assert!(refused.add(format!("{n}").as_bytes(), "too large", Revision(1)));
        }
        assert_eq!((refused.len(), refused.is_exact(), refused.named().len()), (TOLD_APART, true, NAMED));
        assert!(!refused.add(key(0).as_bytes(), "too large", Revision(2)));
        assert_eq!((refused.len(), refused.is_exact()), (TOLD_APART, false));
        let reading = refused.begin_reading();
        for n in 0..2 * NAMED {
            assert!(refused.add(key(n).as_bytes(), &"why ".repeat(1000), Revision(3)));
        }
        refused.end_reading(reading);
        assert_eq!((refused.len(), refused.is_exact(), refused.named().len()), (2 * NAMED, true, NAMED));
        for named in refused.named() {
            assert!(
                named.key.as_bytes().len() <= SHOWN_KEY_BYTES && named.reason.len() <= SHOWN_REASON_BYTES
            );
            assert!(std::str::from_utf8(named.key.as_bytes()).is_ok(), "cut between characters");
        }
    }

    #[test]
    fn a_key_is_named_until_it_is_good_or_gone_and_since_the_first_time() {
        let mut refused = RefusedKeys::default();
        assert!(refused.add(b"a", "first", Revision(1)));
        let since = refused.named()[0].since;
        assert!(!refused.add(b"a", "second", Revision(2)));
        let named = &refused.named()[0];
        assert_eq!((named.reason.as_str(), named.revision, named.since), ("second", Revision(2), since));
        assert!(refused.holds(b"a") && refused.remove(b"a") && !refused.remove(b"a"));
        assert!(refused.is_empty() && refused.named().is_empty());
    }
}
