//! The keys of a request, as etcd names them: one key, or all keys from one up to another.

use bytes::Bytes;

use crate::model::KeySelector;

/// One key, or a range of keys.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct KeyRange {
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

impl RangeEnd {
    /// Whether a range that begins at this key or before it has no gap to it.
    fn reaches(&self, key: &[u8]) -> bool {
        match self {
            Self::Single => false,
            Self::Unbounded => true,
            Self::Before(end) => &end[..] >= key,
        }
    }

    /// The later one of two ends of ranges.
    fn later(&self, other: Self) -> Self {
        match (self, other) {
            (Self::Before(one), Self::Before(other)) => Self::Before(one.max(&other).clone()),
            (Self::Single, other) => other,
            _ => Self::Unbounded,
        }
    }
}

impl KeyRange {
    /// The keys that `key` and `range_end` of a request name. An empty `range_end` is one key, a single zero byte is every
    /// key from `key` on.
    pub(crate) fn new(key: Bytes, range_end: Bytes) -> Self {
        let end = match &range_end[..] {
            [] => RangeEnd::Single,
            [0] => RangeEnd::Unbounded,
            _ => RangeEnd::Before(range_end),
        };
        Self { start: key, end }
    }

    /// Whether this key is among them.
    pub(crate) fn contains(&self, key: &[u8]) -> bool {
        match &self.end {
            RangeEnd::Single => key == &self.start[..],
            RangeEnd::Unbounded => key >= &self.start[..],
            RangeEnd::Before(end) => (&self.start[..]..&end[..]).contains(&key),
        }
    }

    /// The first key that may be in it.
    pub(crate) fn start(&self) -> &[u8] {
        &self.start
    }

    /// The key, if it is one.
    pub(crate) fn single(&self) -> Option<&Bytes> {
        (self.end == RangeEnd::Single).then_some(&self.start)
    }

    /// Whether no key can be in it.
    pub(crate) fn is_empty(&self) -> bool {
        matches!(&self.end, RangeEnd::Before(end) if end <= &self.start)
    }

    /// The same keys as ranges that do not overlap, in order. Ranges without keys are left out. No range is a single key.
    pub(crate) fn union(mut ranges: Vec<Self>) -> Vec<Self> {
        ranges.retain(|range| !range.is_empty());
        ranges.sort_unstable_by(|one, other| one.start.cmp(&other.start));
        let mut union: Vec<Self> = Vec::new();
        for range in ranges {
            match union.last_mut() {
                Some(last) if last.end.reaches(&range.start) => last.end = last.end.later(range.end),
                _ => union.push(range),
            }
        }
        union
    }

    /// Whether one of the ranges of a [`union`](Self::union) has this key.
    pub(crate) fn any_contains(union: &[Self], key: &[u8]) -> bool {
        let after = union.partition_point(|range| &range.start[..] <= key);
        union[..after].last().is_some_and(|range| range.contains(key))
    }

    /// The longest prefix of all its keys.
    pub(crate) fn common_prefix(&self) -> Bytes {
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
    pub(crate) fn is_within(&self, keys: &KeySelector) -> bool {
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
    fn a_union_has_the_keys_of_all_its_ranges() {
        let all = [
            vec![range(b"d", b"f"), range(b"a", b"c"), range(b"b", b"d"), range(b"x", b"a")],
            vec![range(b"m", b"\0"), range(b"p", b"q"), range(b"a", b"b")],
            vec![range(b"a", b"z"), range(b"b", b"c"), range(b"y", b"zz")],
            vec![],
        ];
        for (ranges, left) in all.into_iter().zip([1, 2, 1, 0]) {
            let union = KeyRange::union(ranges.clone());
            assert_eq!(union.len(), left, "{ranges:?}");
            for key in ["", "a", "az", "b", "c", "d", "e", "f", "m", "p", "q", "y", "z", "zy", "zz"] {
                let expected = ranges.iter().any(|range| range.contains(key.as_bytes()));
                assert_eq!(KeyRange::any_contains(&union, key.as_bytes()), expected, "{key} in {ranges:?}");
            }
        }
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
