//! The keys of a request, as etcd names them: one key, or all keys from one up to another.

use bytes::Bytes;

use crate::model::KeySelector;

/// One key, or a range of keys.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct KeyRange {
    start: Bytes,
    end: RangeEnd,
}

/// The end of a [`KeyRange`].
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
enum RangeEnd {
    /// The start is the only key.
    Single,
    /// Every key from the start on.
    Unbounded,
    /// The first key after the range.
    Before(Bytes),
}

impl KeyRange {
    /// The keys that `key` and `range_end` of a request name. An empty `range_end` is one key, a single zero byte is every
    /// key from `key` on.
    pub fn new(key: Bytes, range_end: Bytes) -> Self {
        let end = match &range_end[..] {
            [] => RangeEnd::Single,
            [0] => RangeEnd::Unbounded,
            _ => RangeEnd::Before(range_end),
        };
        Self { start: key, end }
    }

    /// Whether this key is among them.
    pub fn contains(&self, key: &[u8]) -> bool {
        match &self.end {
            RangeEnd::Single => key == &self.start[..],
            RangeEnd::Unbounded => key >= &self.start[..],
            RangeEnd::Before(end) => (&self.start[..]..&end[..]).contains(&key),
        }
    }

    /// The first key that may be in it.
    pub fn start(&self) -> &[u8] {
        &self.start
    }

    /// The key, if it is one.
    pub fn single(&self) -> Option<&Bytes> {
        (self.end == RangeEnd::Single).then_some(&self.start)
    }

    /// Whether no key can be in it.
    pub fn is_empty(&self) -> bool {
        matches!(&self.end, RangeEnd::Before(end) if end <= &self.start)
    }

    /// The longest prefix of all its keys.
    pub fn common_prefix(&self) -> Bytes {
        let common = match &self.end {
            RangeEnd::Single => self.start.len(),
            RangeEnd::Unbounded => 0,
            // "a/" to "a0" is the prefix "a/".
            RangeEnd::Before(end) if is_end_of_prefix(&self.start, end) => self.start.len(),
            RangeEnd::Before(end) => {
                self.start.iter().zip(end.iter()).take_while(|(start, end)| start == end).count()
            }
        };
        self.start.slice(..common)
    }

    /// Whether all its keys are selected.
    pub fn is_within(&self, keys: &KeySelector) -> bool {
        match self.single() {
            Some(key) => keys.matches(key),
            None => keys.covers_prefix(&self.common_prefix()),
        }
    }
}

/// Whether `end` is the first key after those that begin with `prefix`.
fn is_end_of_prefix(prefix: &[u8], end: &[u8]) -> bool {
    let kept = prefix.len() - prefix.iter().rev().take_while(|byte| **byte == u8::MAX).count();
    match prefix[..kept].split_last() {
        Some((last, before)) => end.split_last() == Some((&(last + 1), before)),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Key;

    fn range(key: &'static [u8], end: &'static [u8]) -> KeyRange {
        KeyRange::new(Bytes::from_static(key), Bytes::from_static(end))
    }

    #[test]
    fn a_range_has_the_keys_that_etcd_gives_it() {
        assert!(range(b"a", b"").contains(b"a") && !range(b"a", b"").contains(b"aa"));
        assert!(range(b"a", b"\0").contains(b"zz") && !range(b"a", b"\0").contains(b"A"));
        assert!(range(b"a/", b"a0").contains(b"a/x") && !range(b"a/", b"a0").contains(b"a0"));
        assert!(range(b"b", b"a").is_empty() && range(b"a", b"a").is_empty() && !range(b"a", b"").is_empty());
    }

    #[test]
    fn the_common_prefix_is_that_of_every_key() {
        for (key, end, prefix) in [
            (&b"a/"[..], &b"a0"[..], &b"a/"[..]),
            (b"a/\xff", b"a0", b"a/\xff"),
            (b"a/b", b"a/d", b"a/"),
            (b"a", b"c", b""),
            (b"a", b"\0", b""),
            (b"abc", b"", b"abc"),
            (b"\xff", b"\xff\xff", b"\xff"),
            (b"\0", b"\0", b""),
        ] {
            assert_eq!(range(key, end).common_prefix(), prefix, "{key:?} {end:?}");
        }
        let selected: KeySelector = KeySelector::prefix(Key::copy_from(b"a/"));
        assert!(range(b"a/", b"a0").is_within(&selected) && range(b"a/b", b"").is_within(&selected));
        assert!(!range(b"a", b"b").is_within(&selected) && !range(b"a/", b"\0").is_within(&selected));
        assert!(range(b"\0", b"\0").is_within(&KeySelector::ALL));
    }
}
