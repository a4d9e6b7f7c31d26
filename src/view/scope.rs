//! Which keys an answer is about.

use crate::model::{Key, Prefixes};

/// Which keys an answer is about: all of them, or those under prefixes. Where it is not all, the
/// number of keys and the digest of the whole state are left out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Scope<'a> {
    /// Every key.
    All,
    /// Those under one prefix.
    Prefix(&'a Key),
    /// Those under one of several.
    Prefixes(&'a Prefixes),
}

/// A scope that is kept: what a shared body is found by.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum OwnedScope {
    /// Every key.
    All,
    /// Those under one prefix.
    Prefix(Key),
    /// Those under one of several.
    Prefixes(Prefixes),
}

impl<'a> From<Option<&'a Key>> for Scope<'a> {
    fn from(prefix: Option<&'a Key>) -> Self {
        prefix.map_or(Self::All, Self::Prefix)
    }
}

impl<'a> From<&'a OwnedScope> for Scope<'a> {
    fn from(scope: &'a OwnedScope) -> Self {
        match scope {
            OwnedScope::All => Self::All,
            OwnedScope::Prefix(prefix) => Self::Prefix(prefix),
            OwnedScope::Prefixes(prefixes) => Self::Prefixes(prefixes),
        }
    }
}

impl From<Scope<'_>> for OwnedScope {
    fn from(scope: Scope<'_>) -> Self {
        match scope {
            Scope::All => Self::All,
            Scope::Prefix(prefix) => Self::Prefix(prefix.clone()),
            Scope::Prefixes(prefixes) => Self::Prefixes(prefixes.clone()),
        }
    }
}

/// The simplest scope that is these keys, so that whoever means the same shares the same bodies.
impl From<Prefixes> for OwnedScope {
    fn from(prefixes: Prefixes) -> Self {
        match prefixes.only() {
            Some(all) if all.as_bytes().is_empty() => Self::All,
            Some(one) => Self::Prefix(one.clone()),
            None => Self::Prefixes(prefixes),
        }
    }
}

impl Scope<'_> {
    /// Whether it is every key.
    pub fn is_all(self) -> bool {
        matches!(self, Self::All)
    }

    /// Whether the key is in it.
    pub fn holds(self, key: &[u8]) -> bool {
        match self {
            Self::All => true,
            Self::Prefix(prefix) => key.starts_with(prefix.as_bytes()),
            Self::Prefixes(prefixes) => prefixes.holds(key),
        }
    }
}

impl OwnedScope {
    /// About how many bytes it takes.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::All => 0,
            Self::Prefix(prefix) => prefix.as_bytes().len(),
            Self::Prefixes(prefixes) => prefixes.iter().map(|prefix| prefix.as_bytes().len()).sum(),
        }
    }
}
