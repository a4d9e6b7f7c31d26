//! Revision, history and sequence number.

use std::fmt;
use std::str::FromStr;
use std::time::Instant;

use xxhash_rust::xxh3::xxh3_64;

/// The number of an update in one [`History`]. 0 is "before the first update".
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct Revision(pub u64);

impl Revision {
    /// The revision before any update.
    pub const ZERO: Self = Self(0);

    /// The highest revision that a feed may claim: 2^63 − 1, the highest of etcd. The revisions above it are reserved for
    /// counting on: after a claim of `u64::MAX` no later revision would exist.
    pub const MAX_CLAIM: Self = Self(i64::MAX as u64);

    /// The revision of a whole state that is named only at its end. No feed claims it.
    pub(crate) const NAMED_AT_THE_END: Self = Self::MAX_CLAIM;

    /// The next revision; saturates, so that the order never wraps around.
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The number of a breadcrumb in this process (1, 2, 3 …). It means nothing in another process.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct Sequence(pub u64);

impl fmt::Display for Sequence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The id of a stream of revisions. It identifies the upstream, not the process. 64 bits, written as 16 hex digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct History(u64);

impl History {
    /// A history derived from the identity of the upstream, so that all daemons that follow it agree.
    pub fn derive(identity: &[u8]) -> Self {
        Self(xxh3_64(identity))
    }

    /// A history of a family: the upper half is derived from the family's identity, the lower half from
    /// the member's.
    pub(crate) fn derive_in_family(family: &[u8], member: &[u8]) -> Self {
        Self(xxh3_64(family) & Self::FAMILY | xxh3_64(member) & !Self::FAMILY)
    }

    /// A random history of the same family.
    pub(crate) fn random_relative(self) -> Self {
        Self(self.0 & Self::FAMILY | fastrand::u64(..) & !Self::FAMILY)
    }

    /// Whether both are of one family.
    pub(crate) fn is_relative_of(self, other: Self) -> bool {
        self.0 & Self::FAMILY == other.0 & Self::FAMILY
    }

    /// The bits that name the family.
    const FAMILY: u64 = 0xffff_ffff_0000_0000;

    /// A random history, for upstreams without an identity.
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

/// The error for a text that is not a history.
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

/// The upstream's own revision, read at some time after `asked`.
#[derive(Clone, Copy, Debug)]
pub struct Sighting {
    /// The revision.
    pub revision: Revision,
    /// The time at which the request was sent.
    pub asked: Instant,
}
