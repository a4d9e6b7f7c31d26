//! Which keys: those that begin in one of several ways.

use std::sync::Arc;

use super::Key;

/// A set of keys, told by prefixes. The empty prefix is every key; without any prefix there is no key.
///
/// The prefixes are in order and none begins with another, so each key is under one of them at the
/// most, and the keys under one come before those under the next. Clones share the prefixes.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct Prefixes(Arc<[Key]>);

impl Prefixes {
    /// The keys under any of these.
    pub fn new(prefixes: impl IntoIterator<Item = Key>) -> Self {
        let mut all: Vec<Key> = prefixes.into_iter().collect();
        all.sort_unstable();
        // What begins with a prefix follows it directly, but for others that begin with it too.
        all.dedup_by(|later, kept| later.as_bytes().starts_with(kept.as_bytes()));
        Self(all.into())
    }

    /// Every key.
    pub fn everything() -> Self {
        Self::new([Key::default()])
    }

    /// Whether no key is in it.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether every key is in it.
    pub fn is_everything(&self) -> bool {
        self.holds_all_under(&[])
    }

    /// Whether the key is in it.
    pub fn holds(&self, key: &[u8]) -> bool {
        // The only one that can be its beginning is the last that is not greater.
        let after = self.0.partition_point(|prefix| prefix.as_bytes() <= key);
        self.0[..after].last().is_some_and(|prefix| key.starts_with(prefix.as_bytes()))
    }

    /// Whether every key that begins so is in it.
    pub fn holds_all_under(&self, prefix: &[u8]) -> bool {
        self.holds(prefix)
    }

    /// Those of its keys that begin so.
    pub fn under(&self, prefix: &[u8]) -> Self {
        if self.holds_all_under(prefix) {
            return Self::new([Key::copy_from(prefix)]);
        }
        Self(self.0.iter().filter(|own| own.as_bytes().starts_with(prefix)).cloned().collect())
    }

    /// The prefixes, in order.
    pub fn iter(&self) -> impl Iterator<Item = &Key> {
        self.0.iter()
    }

    /// The prefix, if there is just one.
    pub fn only(&self) -> Option<&Key> {
        self.0.first().filter(|_| self.0.len() == 1)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text() -> impl Strategy<Value = Vec<u8>> {
        prop::collection::vec(prop_oneof![Just(b'a'), Just(b'b'), Just(0xff)], 0..4)
    }

    proptest! {
        #[test]
        fn they_hold_what_begins_with_one_of_them(
            prefixes in prop::collection::vec(text(), 0..6), key in text(), under in text(),
        ) {
            let set = Prefixes::new(prefixes.iter().map(|prefix| Key::copy_from(prefix)));
            let holds = |key: &[u8]| prefixes.iter().any(|prefix| key.starts_with(prefix));
            prop_assert_eq!(set.holds(&key), holds(&key));
            let narrowed = set.under(&under);
            prop_assert_eq!(narrowed.holds(&key), holds(&key) && key.starts_with(&under));
            prop_assert_eq!(set.holds_all_under(&under), holds(&under));
            prop_assert!(set.iter().is_sorted());
            prop_assert_eq!(set.is_empty(), prefixes.is_empty());
            prop_assert_eq!(set.is_everything(), prefixes.iter().any(Vec::is_empty));
        }
    }
}
