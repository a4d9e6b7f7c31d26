//! The numbers that order things: revision, history, sequence.

use std::fmt;
use std::str::FromStr;
use std::time::Instant;

use xxhash_rust::xxh3::xxh3_64;

/// Orders updates within one [`History`]. 0 is "before the first update".
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct Revision(pub u64);

impl Revision {
    /// The revision before any update.
    pub const ZERO: Self = Self(0);

    /// The highest that a feed may claim: 2^63 − 1, which is as far as etcd counts. Above it there is room to count
    /// on; after a claim of `u64::MAX` nothing could change any more.
    pub const MAX_CLAIM: Self = Self(i64::MAX as u64);

    /// The next one; saturates, so the order never wraps around.
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Counts the breadcrumbs of this process (1, 2, 3 …); it means nothing in another process.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct Sequence(pub u64);

impl fmt::Display for Sequence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Names the stream of revisions, that is: the upstream, not the process. 64 bits, written as 16 hex digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct History(u64);

impl History {
    /// Derived from what identifies the upstream, so that two daemons that follow it agree.
    pub fn derive(identity: &[u8]) -> Self {
        Self(xxh3_64(identity))
    }

    /// One of a family: the upper half comes from what all of the family share, the lower half from
    /// what tells this one from the others.
    pub fn derive_in_family(family: &[u8], member: &[u8]) -> Self {
        Self(xxh3_64(family) & Self::FAMILY | xxh3_64(member) & !Self::FAMILY)
    }

    /// Another one of the same family, which no other daemon has.
    pub fn random_relative(self) -> Self {
        Self(self.0 & Self::FAMILY | fastrand::u64(..) & !Self::FAMILY)
    }

    /// Whether both are of one family.
    pub fn is_relative_of(self, other: Self) -> bool {
        self.0 & Self::FAMILY == other.0 & Self::FAMILY
    }

    /// The bits that name the family.
    const FAMILY: u64 = 0xffff_ffff_0000_0000;

    /// A new one that no other daemon has, for upstreams without an identity of their own.
    pub fn random() -> Self {
        Self(fastrand::u64(..))
    }
}

impl fmt::Display for History {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for History {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "History({self})")
    }
}

/// Not a history.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("a history is 16 lowercase hex digits, not {0:?}")]
pub struct HistoryError(pub String);

impl FromStr for History {
    type Err = HistoryError;

    fn from_str(text: &str) -> Result<Self, HistoryError> {
        let canonical =
            text.len() == 16 && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        match u64::from_str_radix(text, 16) {
            Ok(bits) if canonical => Ok(Self(bits)),
            _ => Err(HistoryError(text.chars().take(40).collect())),
        }
    }
}
/// The upstream's own revision, as it was at some moment after it was asked.
#[derive(Clone, Copy, Debug)]
pub struct Sighting {
    /// The revision.
    pub revision: Revision,
    /// When the question was sent.
    pub asked: Instant,
}
