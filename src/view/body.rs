//! A body to send: shared bytes, in one part or in many.

use std::sync::Arc;

use bytes::Bytes;

/// Shared bytes in the order in which they are sent. A clone copies no byte, and a body of many
/// parts is never put together: whoever writes it writes the parts one after the other.
#[derive(Clone, Debug)]
pub struct Body {
    parts: Parts,
    /// Of all parts, in bytes.
    len: u64,
}

#[derive(Clone, Debug)]
enum Parts {
    One(Bytes),
    Many(Arc<[Bytes]>),
}

impl Body {
    /// A body of these parts.
    pub fn of_parts(parts: impl Into<Arc<[Bytes]>>) -> Self {
        let parts = parts.into();
        let len = parts.iter().map(|part| part.len() as u64).sum();
        Self { parts: Parts::Many(parts), len }
    }

    /// Length in bytes, as in `Content-Length`.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether there is nothing to send.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The parts in order.
    pub fn parts(&self) -> &[Bytes] {
        match &self.parts {
            Parts::One(bytes) => std::slice::from_ref(bytes),
            Parts::Many(parts) => parts,
        }
    }
}

impl From<Bytes> for Body {
    fn from(bytes: Bytes) -> Self {
        let len = bytes.len() as u64;
        Self { parts: Parts::One(bytes), len }
    }
}

impl From<Vec<u8>> for Body {
    fn from(bytes: Vec<u8>) -> Self {
        Bytes::from(bytes).into()
    }
}
