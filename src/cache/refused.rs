//! The keys that are absent because the upstream's value was refused.
//!
//! A key whose value is too large or unreadable is absent on every replica, because the old value would be wrong. This
//! list shows such keys, with the reason, until the upstream sets an acceptable value or deletes the key. It is bounded:
//! the first [`MAX_NAMED_KEYS`] are listed by name, cut to a readable length. Up to [`MAX_TRACKED_KEYS`] are counted
//! exactly. More are not counted.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::time::SystemTime;

use crate::model::{Key, Revision, StateLimit};

/// The most keys listed by name.
const MAX_NAMED_KEYS: usize = 100;

/// The most keys tracked by their hash, at 24 bytes each.
const MAX_TRACKED_KEYS: usize = 16_384;

/// The most bytes of a key that are listed.
const SHOWN_KEY_BYTES: usize = 256;

/// The most bytes of a reason that are listed.
const SHOWN_REASON_BYTES: usize = 400;

/// One refused key.
#[derive(Clone, Debug)]
pub struct RefusedKey {
    hash: u64,
    /// The key, cut to a readable length.
    pub key: Key,
    /// The bytes of the whole key.
    pub key_bytes: usize,
    /// The reason, as a sentence without the key.
    pub reason: String,
    /// The upstream's revision of the last refused value.
    pub revision: Revision,
    /// The time since which the key has been refused.
    pub since: SystemTime,
}

/// The refused keys of one state.
#[derive(Clone, Default, Debug)]
pub struct RefusedKeys {
    named: Vec<RefusedKey>,
    /// The refused keys by their hashes.
    known: HashMap<u64, Known>,
    /// How many of them are refused for each of [`StateLimit::FLAGS`].
    without_room: [usize; StateLimit::FLAGS.len()],
    hasher: RandomState,
    /// The number of the newest full read.
    full_read: u64,
    /// The last full read in which a key was not tracked because there were too many.
    overflowed: Option<u64>,
    /// The same for keys that are refused for each of [`StateLimit::FLAGS`].
    overflowed_without_room: [Option<u64>; StateLimit::FLAGS.len()],
}

/// What is known of a refused key.
#[derive(Clone, Copy, Debug)]
struct Known {
    /// The number of the full read in which it was last refused.
    full_read: u64,
    /// The limit for which it was, as an index of [`StateLimit::FLAGS`].
    limit: Option<usize>,
}

impl RefusedKeys {
    /// The keys listed by name, in the order in which they were refused.
    pub fn named(&self) -> &[RefusedKey] {
        &self.named
    }

    /// The number of refused keys, or a lower bound if [`RefusedKeys::is_exact`] is false.
    pub fn len(&self) -> usize {
        self.known.len()
    }

    /// Whether no key is refused.
    pub fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    /// Whether [`RefusedKeys::len`] is exact.
    pub fn is_exact(&self) -> bool {
        self.overflowed.is_none()
    }

    /// Whether keys are refused because this flag leaves no room for them.
    pub fn lacks_room(&self, flag: &str) -> bool {
        self.lacking_room().any(|lacking| lacking == flag)
    }

    /// The flags that leave no room for some keys.
    pub fn lacking_room(&self) -> impl Iterator<Item = &'static str> {
        let lacks = |limit: &usize| {
            self.without_room.get(*limit).is_some_and(|keys| *keys > 0)
                || self.overflowed_without_room.get(*limit).is_some_and(Option::is_some)
        };
        (0..StateLimit::FLAGS.len()).filter(lacks).map(|limit| StateLimit::FLAGS[limit])
    }

    /// Adds a key or updates its reason. `limit` is that of the state, if that is the reason. Returns whether it was added.
    pub(super) fn add(
        &mut self,
        key: &[u8],
        reason: &str,
        revision: Revision,
        limit: Option<StateLimit>,
    ) -> bool {
        let limit = limit.and_then(|limit| StateLimit::FLAGS.iter().position(|flag| *flag == limit.flag()));
        let hash = self.hasher.hash_one(key);
        if !self.known.contains_key(&hash) && !self.make_room() {
            self.overflowed = Some(self.full_read);
            if let Some(overflowed) = limit.and_then(|limit| self.overflowed_without_room.get_mut(limit)) {
                *overflowed = Some(self.full_read);
            }
            return false;
        }
        let before = self.known.insert(hash, Known { full_read: self.full_read, limit });
        self.count(before, false);
        self.count(Some(Known { full_read: self.full_read, limit }), true);
        let is_new = before.is_none();
        let reason = beginning(reason, SHOWN_REASON_BYTES).to_owned();
        if let Some(named) = self.named.iter_mut().find(|named| named.hash == hash) {
            (named.reason, named.revision) = (reason, revision);
        } else if self.named.len() < MAX_NAMED_KEYS {
            let (since, key_bytes, key) = (SystemTime::now(), key.len(), readable(key));
            self.named.push(RefusedKey { hash, key, key_bytes, reason, revision, since });
        }
        is_new
    }

    /// Whether nothing would change by adding this key: too many are tracked, and that is known.
    pub(super) fn is_full_for(&self, key: &[u8], limit: Option<StateLimit>) -> bool {
        let is_known = match limit {
            None => true,
            Some(limit) => StateLimit::FLAGS
                .iter()
                .zip(self.overflowed_without_room)
                .any(|(flag, overflowed)| *flag == limit.flag() && overflowed == Some(self.full_read)),
        };
        is_known
            && self.overflowed == Some(self.full_read)
            && self.known.len() >= MAX_TRACKED_KEYS
            && !self.contains(key)
    }

    /// Makes room for one more key, if possible by dropping keys of earlier full reads. Returns whether there is room.
    fn make_room(&mut self) -> bool {
        // After the first key that found no room, all tracked ones are of this full read.
        if self.known.len() >= MAX_TRACKED_KEYS && self.overflowed != Some(self.full_read) {
            let (before, counted) = (self.known.len(), self.without_room);
            self.remove_before(self.full_read);
            if self.known.len() < before {
                let before = self.full_read.checked_sub(1);
                self.overflowed = self.overflowed.max(before);
                for (limit, overflowed) in self.overflowed_without_room.iter_mut().enumerate() {
                    // Of those that make room, it is not known for which limit they were refused.
                    if counted.get(limit).is_some_and(|keys| *keys > 0) {
                        *overflowed = (*overflowed).max(before);
                    }
                }
            }
        }
        self.known.len() < MAX_TRACKED_KEYS
    }

    fn remove_before(&mut self, full_read: u64) {
        self.known.retain(|_, known| known.full_read >= full_read);
        let count = |limit| self.known.values().filter(|known| known.limit == Some(limit)).count();
        self.without_room = std::array::from_fn(count);
        self.named.retain(|named| self.known.contains_key(&named.hash));
    }

    /// Removes a key that is no longer refused. Returns whether it was there.
    pub(super) fn remove(&mut self, key: &[u8]) -> bool {
        let hash = self.hasher.hash_one(key);
        let known = self.known.remove(&hash);
        let was_refused = known.is_some();
        self.count(known, false);
        if was_refused {
            self.named.retain(|named| named.hash != hash);
        }
        was_refused
    }

    /// Counts a key in, or out, that is refused for want of room.
    fn count(&mut self, known: Option<Known>, is_in: bool) {
        let limit = known.and_then(|known| known.limit);
        if let Some(keys) = limit.and_then(|limit| self.without_room.get_mut(limit)) {
            *keys = if is_in { *keys + 1 } else { keys.saturating_sub(1) };
        }
    }

    /// Whether the key is tracked.
    pub(super) fn contains(&self, key: &[u8]) -> bool {
        !self.known.is_empty() && self.known.contains_key(&self.hasher.hash_one(key))
    }

    /// Begins a full read of the state, and returns its number. Keys refused from now on belong to it.
    pub(super) fn begin_full_read(&mut self) -> u64 {
        self.full_read += 1;
        self.full_read
    }

    /// Ends a full read. Keys that were last refused before it are removed.
    pub(super) fn end_full_read(&mut self, full_read: u64) {
        self.remove_before(full_read);
        let counts = |overflowed: &u64| *overflowed >= full_read;
        self.overflowed = self.overflowed.filter(counts);
        self.overflowed_without_room =
            self.overflowed_without_room.map(|overflowed| overflowed.filter(counts));
    }
}

/// The key, cut to a readable length; text is cut between characters.
fn readable(key: &[u8]) -> Key {
    match std::str::from_utf8(key) {
        Ok(text) => Key::from(beginning(text, SHOWN_KEY_BYTES)),
        Err(_) => Key::copy_from(&key[..key.len().min(SHOWN_KEY_BYTES)]),
    }
}

/// The beginning of a text, of at most `bytes` bytes.
fn beginning(text: &str, bytes: usize) -> &str {
    &text[..text.floor_char_boundary(bytes)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_bounded_whatever_the_number_and_length_of_keys() {
        let mut refused = RefusedKeys::default();
        let key = |n: usize| format!("{n}/{}", "é".repeat(30_000));
        for n in 0..MAX_TRACKED_KEYS {
            assert!(refused.add(format!("{n}").as_bytes(), "too large", Revision(1), None));
        }
        assert_eq!(
            (refused.len(), refused.is_exact(), refused.named().len()),
            (MAX_TRACKED_KEYS, true, MAX_NAMED_KEYS)
        );
        assert!(!refused.add(key(0).as_bytes(), "too large", Revision(2), None));
        assert_eq!((refused.len(), refused.is_exact()), (MAX_TRACKED_KEYS, false));
        let full_read = refused.begin_full_read();
        for n in 0..2 * MAX_NAMED_KEYS {
            assert!(refused.add(key(n).as_bytes(), &"why ".repeat(1000), Revision(3), None));
        }
        refused.end_full_read(full_read);
        assert_eq!(
            (refused.len(), refused.is_exact(), refused.named().len()),
            (2 * MAX_NAMED_KEYS, true, MAX_NAMED_KEYS)
        );
        for named in refused.named() {
            assert!(
                named.key.as_bytes().len() <= SHOWN_KEY_BYTES && named.reason.len() <= SHOWN_REASON_BYTES
            );
            assert!(std::str::from_utf8(named.key.as_bytes()).is_ok(), "cut between characters");
        }
    }

    #[test]
    fn a_key_is_listed_until_it_is_removed_with_the_time_of_its_first_refusal() {
        let mut refused = RefusedKeys::default();
        assert!(refused.add(b"a", "first", Revision(1), None));
        let since = refused.named()[0].since;
        assert!(!refused.add(b"a", "second", Revision(2), None));
        let named = &refused.named()[0];
        assert_eq!((named.reason.as_str(), named.revision, named.since), ("second", Revision(2), since));
        assert!(refused.contains(b"a") && refused.remove(b"a") && !refused.remove(b"a"));
        assert!(refused.is_empty() && refused.named().is_empty());
    }
}
