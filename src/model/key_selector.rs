//! A set of keys: all, one, or those with some prefixes.

use std::sync::Arc;

use super::Key;

/// A set of keys: every key, one key, or the keys that begin with one of several prefixes.
///
/// Two selectors of the same keys by prefixes are equal, so that requests for the same keys share encoded bodies. Clones
/// share the prefixes.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct KeySelector(Kind);

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
enum Kind {
    All,
    Key(Key),
    /// Sorted, non-empty prefixes, none of which begins with another. So a key matches at most one of them, and the
    /// keys of one sort before those of the next.
    Prefixes(Arc<[Key]>),
}

/// The empty prefix, with which every key begins.
static EVERY_KEY: Key = Key::EMPTY;

impl KeySelector {
    /// Every key.
    pub const ALL: Self = Self(Kind::All);

    /// Exactly this key.
    pub fn key(key: Key) -> Self {
        Self(Kind::Key(key))
    }

    /// The keys with this prefix; all keys if it is empty.
    pub fn prefix(prefix: Key) -> Self {
        Self::prefixes([prefix])
    }

    /// The keys with one of these prefixes; no key if there is no prefix.
    pub fn prefixes(prefixes: impl IntoIterator<Item = Key>) -> Self {
        let mut all: Vec<Key> = prefixes.into_iter().collect();
        all.sort_unstable();
        if all.first().is_some_and(|first| first.as_bytes().is_empty()) {
            return Self::ALL;
        }
        // Keys that begin with a prefix are adjacent to it in sorted order.
        all.dedup_by(|later, kept| later.as_bytes().starts_with(kept.as_bytes()));
        Self(Kind::Prefixes(all.into()))
    }

    /// Whether every key is selected.
    pub fn is_all(&self) -> bool {
        matches!(self.0, Kind::All)
    }

    /// Whether no key is selected.
    pub fn is_empty(&self) -> bool {
        matches!(&self.0, Kind::Prefixes(prefixes) if prefixes.is_empty())
    }

    /// Whether the key is selected.
    pub fn matches(&self, key: &[u8]) -> bool {
        match &self.0 {
            Kind::All => true,
            Kind::Key(own) => own.as_bytes() == key,
            Kind::Prefixes(_) => self.covers_prefix(key),
        }
    }

    /// Whether every key with this prefix is selected.
    pub(crate) fn covers_prefix(&self, prefix: &[u8]) -> bool {
        match &self.0 {
            Kind::All => true,
            Kind::Key(_) => false,
            Kind::Prefixes(all) => {
                // Only the last prefix that is not greater can be its beginning.
                let after = all.partition_point(|own| own.as_bytes() <= prefix);
                all[..after].last().is_some_and(|own| prefix.starts_with(own.as_bytes()))
            }
        }
    }

    /// Whether every key that the other selects is selected.
    pub(crate) fn covers(&self, other: &Self) -> bool {
        match &other.0 {
            Kind::Key(key) => self.matches(key.as_bytes()),
            Kind::All | Kind::Prefixes(_) => other.iter().all(|prefix| self.covers_prefix(prefix.as_bytes())),
        }
    }

    /// The selected keys with this prefix.
    pub(crate) fn narrowed_to(&self, prefix: &[u8]) -> Self {
        if self.covers_prefix(prefix) {
            return Self::prefix(Key::copy_from(prefix));
        }
        match &self.0 {
            Kind::Prefixes(all) => Self(Kind::Prefixes(
                all.iter().filter(|own| own.as_bytes().starts_with(prefix)).cloned().collect(),
            )),
            Kind::Key(key) if key.as_bytes().starts_with(prefix) => self.clone(),
            Kind::All | Kind::Key(_) => Self::prefixes([]),
        }
    }

    /// The keys that both select; `asked` selects by prefixes.
    pub(crate) fn narrowed_to_all(&self, asked: &Self) -> Self {
        match asked.only_prefix() {
            Some(prefix) => self.narrowed_to(prefix.as_bytes()),
            None => {
                let both: Vec<Self> =
                    asked.iter().map(|prefix| self.narrowed_to(prefix.as_bytes())).collect();
                Self::prefixes(both.iter().flat_map(Self::iter).cloned())
            }
        }
    }

    /// The only prefix, if there is exactly one; the empty prefix for all keys.
    pub(crate) fn only_prefix(&self) -> Option<&Key> {
        match &self.0 {
            Kind::All => Some(&EVERY_KEY),
            Kind::Prefixes(all) => all.first().filter(|_| all.len() == 1),
            Kind::Key(_) => None,
        }
    }

    /// The key, if exactly one key is selected.
    pub(crate) fn only_key(&self) -> Option<&Key> {
        match &self.0 {
            Kind::Key(key) => Some(key),
            Kind::All | Kind::Prefixes(_) => None,
        }
    }

    /// The prefixes in sorted order: the empty one for all keys, and for one key the key itself.
    pub fn iter(&self) -> std::slice::Iter<'_, Key> {
        match &self.0 {
            Kind::All => std::slice::from_ref(&EVERY_KEY).iter(),
            Kind::Key(key) => std::slice::from_ref(key).iter(),
            Kind::Prefixes(all) => all.iter(),
        }
    }

    /// The bytes of all prefixes.
    pub(crate) fn bytes(&self) -> usize {
        self.iter().map(|prefix| prefix.as_bytes().len()).sum()
    }
}

/// No key.
impl Default for KeySelector {
    fn default() -> Self {
        Self::prefixes([])
    }
}

impl<'a> IntoIterator for &'a KeySelector {
    type Item = &'a Key;
    type IntoIter = std::slice::Iter<'a, Key>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
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
        fn prefixes_select_the_keys_that_begin_with_one_of_them(
            prefixes in prop::collection::vec(text(), 0..6), key in text(), under in text(),
        ) {
            let set = KeySelector::prefixes(prefixes.iter().map(|prefix| Key::copy_from(prefix)));
            let matches = |key: &[u8]| prefixes.iter().any(|prefix| key.starts_with(prefix));
            prop_assert_eq!(set.matches(&key), matches(&key));
            let narrowed = set.narrowed_to(&under);
            prop_assert_eq!(narrowed.matches(&key), matches(&key) && key.starts_with(&under));
            prop_assert_eq!(set.covers_prefix(&under), matches(&under));
            prop_assert!(set.iter().is_sorted());
            prop_assert_eq!(set.is_empty(), prefixes.is_empty());
            prop_assert_eq!(set.is_all(), prefixes.iter().any(Vec::is_empty));
            prop_assert_eq!(set.covers(&KeySelector::key(Key::copy_from(&key))), set.matches(&key));
            prop_assert_eq!(set.covers(&KeySelector::ALL), set.is_all());
            prop_assert!(set.covers(&set) && set.covers(&narrowed));
            prop_assert_eq!(narrowed.covers(&set), set.iter().all(|prefix| prefix.as_bytes().starts_with(&under)));
        }

        #[test]
        fn a_key_selects_itself_only(own in text(), key in text(), under in text()) {
            let one = KeySelector::key(Key::copy_from(&own));
            prop_assert_eq!(one.matches(&key), own == key);
            prop_assert_eq!(one.narrowed_to(&under).matches(&key), own == key && key.starts_with(&under));
            prop_assert!(!one.covers_prefix(&under) && !one.is_all() && !one.is_empty());
        }
    }
}
