//! One key with its value, in one allocation.

use std::fmt;
use std::num::NonZeroU64;

use bytes::Bytes;
use triomphe::ThinArc;

use super::{Encoding, Key, Revision};

/// The longest key, in bytes. The digest counts a key's length in 32 bits, and a key must fit in a URL.
pub const MAX_KEY_BYTES: usize = 64 * 1024;

/// Bytes of the key's length in front of the key.
const PREFIX: usize = 4;

/// Up to this many bytes an entry is put together on the stack, which saves an allocation.
const SMALL: usize = 512;

/// Up to this many bytes a value is copied rather than shared.
const COPIED_VALUE: usize = 512;

/// How long a key will live, in seconds, as the upstream says; crumbd carries it and does not enforce it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Ttl(pub u32);

/// An immutable key, its value and what is known of them, behind one thin shared pointer.
///
/// One allocation an entry and eight bytes a reference: with separate buffers for key and value
/// the same map takes three times the memory and updates run at two thirds of the speed
/// (DESIGN.md, "Measured"). The bytes are laid out as the digest reads them:
/// `u32le(len(key)) ‖ key ‖ value`.
#[derive(Clone)]
pub struct Entry(ThinArc<Meta, u8>);

/// 16 bytes of every entry; an `Option<Ttl>` would make it 24.
#[derive(Clone, Copy)]
struct Meta {
    /// 0: the upstream named none and the cache has not yet given one.
    revision: u64,
    /// Means something only where `has_ttl`.
    ttl: Ttl,
    has_ttl: bool,
    encoding: Encoding,
}

impl Entry {
    /// Copies key and value into one allocation.
    ///
    /// # Panics
    /// When the key is longer than `u32::MAX` bytes; everything that reads a key from outside
    /// refuses it at [`MAX_KEY_BYTES`].
    pub fn new(key: &[u8], value: &[u8], ttl: Option<Ttl>) -> Self {
        Self::with_encoding(key, value, ttl, Encoding::of(value))
    }

    /// Like [`Entry::new`] for a caller who has already looked at the value.
    pub(crate) fn with_encoding(key: &[u8], value: &[u8], ttl: Option<Ttl>, encoding: Encoding) -> Self {
        debug_assert_eq!(encoding, Encoding::of(value));
        let length = u32::try_from(key.len()).expect("keys are bounded by MAX_KEY_BYTES").to_le_bytes();
        let meta = Meta { revision: 0, ttl: ttl.unwrap_or(Ttl(0)), has_ttl: ttl.is_some(), encoding };
        let parts = [&length, key, value];
        let total = PREFIX + key.len() + value.len();
        let mut small = [0; SMALL];
        if let Some(mut rest) = small.get_mut(..total) {
            for part in parts {
                let (into, after) = rest.split_at_mut(part.len());
                into.copy_from_slice(part);
                rest = after;
            }
            return Self(ThinArc::from_header_and_slice(meta, &small[..total]));
        }
        Self(ThinArc::from_header_and_slice(meta, &parts.concat()))
    }

    /// The same entry with its revision; in place when nobody else holds it.
    pub fn at(mut self, revision: Revision) -> Self {
        let stamped = self.0.with_arc_mut(|arc| match triomphe::Arc::get_mut(arc) {
            Some(inner) => {
                inner.header_mut().revision = revision.0;
                true
            }
            None => false,
        });
        if stamped {
            return self;
        }
        let meta = Meta { revision: revision.0, ..*self.meta() };
        Self(ThinArc::from_header_and_slice(meta, &self.0.slice))
    }

    fn meta(&self) -> &Meta {
        &self.0.header.header
    }

    fn key_end(&self) -> usize {
        let mut length = [0; PREFIX];
        length.copy_from_slice(&self.0.slice[..PREFIX]);
        PREFIX + u32::from_le_bytes(length) as usize
    }

    /// The key's bytes.
    pub fn key(&self) -> &[u8] {
        &self.0.slice[PREFIX..self.key_end()]
    }

    /// The key as a value of its own (a copy).
    pub fn to_key(&self) -> Key {
        Key::copy_from(self.key())
    }

    /// The value's bytes, exactly as the upstream gave them.
    pub fn value(&self) -> &[u8] {
        &self.0.slice[self.key_end()..]
    }

    /// The value as bytes of its own. A large one is shared: however many hold it, it is in memory once.
    pub fn value_bytes(&self) -> Bytes {
        match self.value().len() {
            ..=COPIED_VALUE => Bytes::copy_from_slice(self.value()),
            _ => Bytes::from_owner(OwnedValue(self.clone())),
        }
    }

    /// The revision that set this value, when one is known.
    pub fn revision(&self) -> Option<Revision> {
        NonZeroU64::new(self.meta().revision).map(|r| Revision(r.get()))
    }

    /// The upstream's time to live, when it gave one.
    pub fn ttl(&self) -> Option<Ttl> {
        Some(self.meta().ttl).filter(|_| self.meta().has_ttl)
    }

    /// How the value is written in a record.
    pub fn encoding(&self) -> Encoding {
        self.meta().encoding
    }

    /// Key plus value, in bytes: what the user stored, without our overhead.
    pub fn payload_bytes(&self) -> usize {
        self.0.slice.len() - PREFIX
    }

    /// What the digest reads.
    pub(super) fn fingerprinted(&self) -> &[u8] {
        &self.0.slice
    }

    /// Same key, value and ttl: an update from one to the other would change nothing for anyone.
    pub fn same_content(&self, other: &Self) -> bool {
        self.same_allocation(other) || (self.0.slice == other.0.slice && self.ttl() == other.ttl())
    }

    /// Whether both are the very same allocation.
    pub fn same_allocation(&self, other: &Self) -> bool {
        self.address() == other.address()
    }

    /// The address of the allocation: distinguishes entries that are alive at the same time.
    pub fn address(&self) -> usize {
        self.0.as_ptr() as usize
    }
}

/// The value of an entry, which it keeps.
struct OwnedValue(Entry);

impl AsRef<[u8]> for OwnedValue {
    fn as_ref(&self) -> &[u8] {
        self.0.value()
    }
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Entry({} = {} @ {:?})",
            self.key().escape_ascii(),
            self.value().escape_ascii(),
            self.revision()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_keeps_every_byte_and_is_stamped_without_touching_its_copies() {
        let entry = Entry::new(b"\xffk", b"", Some(Ttl(5)));
        assert_eq!((entry.key(), entry.value()), (&b"\xffk"[..], &b""[..]));
        assert_eq!((entry.revision(), entry.ttl()), (None, Some(Ttl(5))));
        let alone = entry.address();
        let entry = entry.at(Revision(3));
        assert_eq!((entry.revision(), entry.address()), (Some(Revision(3)), alone));
        let copy = entry.clone().at(Revision(4));
        assert_eq!((entry.revision(), copy.revision()), (Some(Revision(3)), Some(Revision(4))));
        assert!(entry.same_content(&copy) && !entry.same_allocation(&copy));
        assert!(!entry.same_content(&Entry::new(b"\xffk", b"", None)), "a ttl is content");
    }
}
