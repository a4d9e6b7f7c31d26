//! A key: any bytes.

use std::borrow::Borrow;
use std::fmt;

use bytes::Bytes;

/// A key is any byte string, compared byte by byte; the empty key is a key like any other.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Key(Bytes);

/// The most bytes of a refused key in a message.
const SHOWN_KEY_BYTES: usize = 120;

impl Key {
    /// The empty key.
    pub const EMPTY: Self = Self(Bytes::new());

    /// A key with these bytes.
    pub fn new(bytes: impl Into<Bytes>) -> Self {
        Self(bytes.into())
    }

    /// A key with a copy of these bytes.
    pub fn copy_from(bytes: &[u8]) -> Self {
        Self(Bytes::copy_from_slice(bytes))
    }

    /// The beginning of a key, for a message.
    pub(crate) fn shortened(bytes: &[u8]) -> Self {
        Self::copy_from(&bytes[..bytes.len().min(SHOWN_KEY_BYTES)])
    }

    /// The raw bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// A key hashes like its bytes, so a map of keys can be queried by bytes.
impl Borrow<[u8]> for Key {
    fn borrow(&self) -> &[u8] {
        &self.0
    }
}

impl From<&str> for Key {
    fn from(text: &str) -> Self {
        Self::copy_from(text.as_bytes())
    }
}

/// The key as ASCII text. All other bytes are escaped, so that no key can forge a log line.
impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.escape_ascii())
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({self})")
    }
}
