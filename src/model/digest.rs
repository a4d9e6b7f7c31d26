//! The fingerprint of a whole state, kept in O(1) per update.

use std::fmt;
use std::str::FromStr;

use xxhash_rust::xxh3::xxh3_128;

use super::Entry;

/// The sum modulo 2^128 of XXH3-128 (seed 0) over `u32le(len(key)) ‖ key ‖ value` of every entry.
///
/// A sum does not depend on order and can be undone, so an update costs one hash in and one hash
/// out, and two daemons agree exactly when their states do. The empty state is all zeros.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Digest(u128);

impl Digest {
    /// Its 128 bits.
    pub fn bits(self) -> u128 {
        self.0
    }

    /// The digest with these bits.
    pub fn from_bits(bits: u128) -> Self {
        Self(bits)
    }

    /// The digest before a change, given the one after it and what the change added.
    pub fn before(self, change: Self) -> Self {
        Self(self.0.wrapping_sub(change.0))
    }

    /// Counts in what another one has counted.
    pub fn merge(&mut self, other: Self) {
        self.0 = self.0.wrapping_add(other.0);
    }

    /// Counts one entry in.
    pub fn add(&mut self, entry: &Entry) {
        self.0 = self.0.wrapping_add(xxh3_128(entry.fingerprinted()));
    }

    /// Counts one entry out again.
    pub fn remove(&mut self, entry: &Entry) {
        self.0 = self.0.wrapping_sub(xxh3_128(entry.fingerprinted()));
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

/// Not a digest.
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
