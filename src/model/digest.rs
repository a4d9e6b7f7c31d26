//! The digest of a whole state, updated in O(1).

use std::fmt;
use std::str::FromStr;

use xxhash_rust::xxh3::xxh3_128;

use super::Entry;

/// The sum modulo 2^128 of XXH3-128 (seed 0) over `u32le(len(key)) ‖ key ‖ value` of every entry.
///
/// A sum does not depend on order, and entries can be subtracted again. So an update costs two hashes, and two daemons
/// have the same digest when they have the same state. The digest of the empty state is all zeros.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Digest(u128);

impl Digest {
    /// The 128 bits.
    pub(crate) fn bits(self) -> u128 {
        self.0
    }

    /// The digest with these bits.
    pub(crate) fn from_bits(bits: u128) -> Self {
        Self(bits)
    }

    /// The digest without this share.
    pub(crate) fn minus(self, share: Self) -> Self {
        Self(self.0.wrapping_sub(share.0))
    }

    /// The digest with this share.
    pub(crate) fn plus(self, share: Self) -> Self {
        Self(self.0.wrapping_add(share.0))
    }

    /// Adds the share of one entry.
    pub fn add(&mut self, entry: &Entry) {
        self.0 = self.0.wrapping_add(xxh3_128(entry.digest_input()));
    }

    /// Subtracts the share of one entry.
    pub fn remove(&mut self, entry: &Entry) {
        self.0 = self.0.wrapping_sub(xxh3_128(entry.digest_input()));
    }
}

impl<'a> FromIterator<&'a Entry> for Digest {
    fn from_iter<I: IntoIterator<Item = &'a Entry>>(entries: I) -> Self {
        let mut digest = Self::default();
        entries.into_iter().for_each(|entry| digest.add(entry));
        digest
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({self})")
    }
}

/// The error for a text that is not a digest.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("a digest is 32 lowercase hex digits, not {0:?}")]
pub struct DigestError(pub String);

impl FromStr for Digest {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, DigestError> {
        let canonical =
            text.len() == 32 && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        match u128::from_str_radix(text, 16) {
            Ok(bits) if canonical => Ok(Self(bits)),
            _ => Err(DigestError(text.chars().take(40).collect())),
        }
    }
}
